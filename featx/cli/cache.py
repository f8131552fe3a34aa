"""``featx cache``: what is cached, and whether it is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from featx.cli.errors import FeatxCommand

if TYPE_CHECKING:
    from featx.cache import EntryInfo, FeatureStore

app = typer.Typer(
    no_args_is_help=True,
    help="List and verify cached features.  Example:  featx cache list",
)
CacheDir = Annotated[
    str | None, typer.Option("--cache-dir", help="The cache (FEATX_CACHE_DIR). Default: cache.")
]


@app.command("list", cls=FeatxCommand)
def list_entries(cache_dir: CacheDir = None) -> None:
    """List the feature sets of a cache.

    Example:  featx cache list --cache-dir cache
    """
    _print_entries(_store(cache_dir).entries())


@app.command(cls=FeatxCommand)
def verify(cache_dir: CacheDir = None) -> None:
    """Read every shard and check its digest; exit code 1 when one is not whole.

    Example:  featx cache verify
    """
    entries = _store(cache_dir).verify()
    _print_entries(entries)
    bad = [entry for entry in entries if entry.problem]
    if bad:
        from featx.errors import CacheCorrupt

        raise CacheCorrupt(
            f"{len(bad)} of {len(entries)} entries are not whole: "
            + "; ".join(f"{entry.path}: {entry.problem}" for entry in bad)
        )
    typer.echo(f"{len(entries)} entries, every digest agrees.")


@app.command(cls=FeatxCommand)
def gc(cache_dir: CacheDir = None) -> None:
    """Remove files that no manifest lists: what a killed run has left.

    Example:  featx cache gc
    """
    removed = _store(cache_dir).gc()
    for path in removed:
        typer.echo(f"removed {path}")
    typer.echo(f"{len(removed)} files removed.")


def _store(cache_dir: str | None) -> FeatureStore:
    from featx.cache import FeatureStore
    from featx.errors import UsageError
    from featx.recipes import Recipe

    path = Recipe(cache_dir=cache_dir).cache_path
    if not path.is_dir():
        raise UsageError(f"There is no cache at {path}. Give its folder: --cache-dir FOLDER")
    return FeatureStore(path)


def _print_entries(entries: list[EntryInfo]) -> None:
    from featx.cli.console import fitting_table, out
    from featx.text import human_bytes

    header = (
        "network", "weights", "images", "px", "module", "pooling", "split", "rows", "values",
        "bytes", "state",
    )  # fmt: skip
    rows = []
    for entry in entries:
        key = entry.key
        state = entry.problem or ("complete" if entry.complete else "incomplete")
        names = ("?",) * 7
        if key:
            size = key.preprocess.get("image_size") or "native"
            # The first digits of a digest tell weights and images apart, as in a report.
            digests = (key.weights_digest[:8], key.dataset_digest[:8])
            names = (key.backbone, *digests, str(size), key.module, key.pool, key.split)
        rows.append(
            (
                *names,
                f"{entry.n_rows:,}",
                f"{entry.n_features:,}",
                human_bytes(entry.n_bytes),
                state,
            )
        )
    total = human_bytes(sum(entry.n_bytes for entry in entries))
    console = out()
    spare = ("values", "rows", "images", "weights")
    title = f"{len(entries)} feature sets, {total}"
    console.print(
        fitting_table(console, title, header, rows, left=(0, 1, 2, 3, 4, 5, 6, 10), spare=spare)
    )
