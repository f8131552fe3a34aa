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
    from featx.cli.console import out, table
    from featx.text import human_bytes

    header = ("network", "module", "pooling", "split", "rows", "values", "bytes", "state")
    rows = []
    for entry in entries:
        key = entry.key
        state = entry.problem or ("complete" if entry.complete else "incomplete")
        names = (key.backbone, key.module, key.pool, key.split) if key else ("?", "?", "?", "?")
        rows.append(
            (
                *names,
                f"{entry.n_rows:,}",
                f"{entry.n_features:,}",
                human_bytes(entry.n_bytes),
                state,
            )
        )
    out().print(table("", header, rows, left=(0, 1, 2, 3, 7)))
