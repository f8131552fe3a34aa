"""``featx cache``: what is cached, whether it is whole, what may go, and files for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featx.cli.errors import FeatxCommand
from featx.cli.options import EXTRACT_FIELDS, recipe_from_flags, takes_recipe

if TYPE_CHECKING:
    from featx.cache import EntryInfo, FeatureStore

app = typer.Typer(
    no_args_is_help=True,
    help="List, verify, explain, clean, export and import cached features.  "
    "Example:  featx cache list",
)
CacheDir = Annotated[
    str | None, typer.Option("--cache-dir", help="The cache (FEATX_CACHE_DIR). Default: cache.")
]


@app.command("list", cls=FeatxCommand)
def list_entries(cache_dir: CacheDir = None) -> None:
    """List the feature sets of a cache, with their age and when they were last used.

    Example:  featx cache list --cache-dir cache
    """
    store = _store(cache_dir)
    _print_entries(store, store.entries())


@app.command(cls=FeatxCommand)
def verify(cache_dir: CacheDir = None) -> None:
    """Read every shard and check its digest; exit code 1 when one is not whole.

    Entries of another version of the cache's format are counted, not read: they are no damage.

    Example:  featx cache verify
    """
    from featx.cli.console import ConsoleProgress
    from featx.cli.explaining import other_formats
    from featx.text import counted

    store = _store(cache_dir)
    entries = store.verify(progress=ConsoleProgress())
    _print_entries(store, entries)
    read = [entry for entry in entries if not entry.other_format]
    bad = [entry for entry in read if entry.problem]
    if text := other_formats(entries):
        typer.echo(text)
    if bad:
        from featx.errors import CacheCorrupt

        raise CacheCorrupt(
            f"{len(bad)} of {counted(len(read), 'entry', 'entries')} cannot be trusted.\n"
            + "\n".join(_problem_lines(bad))
        )
    typer.echo(
        f"{counted(len(read), 'entry', 'entries')}, every digest agrees."
        if read
        else "No entries to verify."
    )


@takes_recipe(EXTRACT_FIELDS)
def explain(settings: dict[str, Any]) -> None:
    """Say which features a run would find, and why it would not find the others.

    Takes the options of featx extract. What is not cached is set beside the undamaged features
    whose key differs least. Damaged entries are named; exit code 1 when there is one.

    Example:  featx cache explain --backbone resnet50 --cut layer3.5 --dataset cifar5
    """
    recipe = recipe_from_flags(settings)
    from featx.cli.console import out
    from featx.cli.explaining import explained
    from featx.pipeline import plan_sets, prepare

    prepared = prepare(recipe, measure=False)
    for line in explained(prepared.store, plan_sets(prepared, tell_damage=True)):
        out().print(line, soft_wrap=True)
    bad = [entry for entry in prepared.store.entries() if entry.damaged]
    if bad:
        from featx.errors import CacheCorrupt
        from featx.text import counted

        raise CacheCorrupt(
            f"{counted(len(bad), 'entry', 'entries')} of the cache cannot be used.\n"
            + "\n".join(_problem_lines(bad))
        )


app.command("explain", cls=FeatxCommand)(explain)


@app.command(cls=FeatxCommand)
def gc(
    cache_dir: CacheDir = None,
    older_than: Annotated[
        str, typer.Option(help="Remove entries that were last used longer ago: 90d, 12h.")
    ] = "",
    max_bytes: Annotated[
        str, typer.Option(help="Keep the entries used last, as many as fit: 20GB.")
    ] = "",
    old_format: Annotated[
        bool,
        typer.Option("--old-format", help="Remove entries in an earlier version of the format."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove entries; without it they are only listed.")
    ] = False,
) -> None:
    """Remove what a killed run has left; and entries, if you say which.

    Files that no manifest lists go at once. Entries are listed first, and removed with --yes, if
    they are not in use.

    Example:  featx cache gc --older-than 90d
    """
    from featx.cache import clean, plan_cleaning
    from featx.cli.explaining import parse_age
    from featx.machine import parse_bytes
    from featx.text import counted, human_bytes

    store = _store(cache_dir)
    found = plan_cleaning(
        store,
        older_than_s=parse_age(older_than) if older_than else None,
        max_bytes=parse_bytes(max_bytes) if max_bytes else None,
        old_format=old_format,
    )
    if found.entries and not yes:
        _print_entries(store, found.entries)
        n_bytes = human_bytes(sum(entry.n_bytes for entry in found.entries))
        entries = counted(len(found.entries), "entry", "entries")
        typer.echo(f"Would be removed: {entries}, {n_bytes}. Do it: --yes")
        return
    gone = clean(store, found)
    for path in (*gone.orphans, *(entry.path for entry in gone.entries)):
        typer.echo(f"removed {path}")
    typer.echo(
        f"{counted(len(gone.orphans), 'file', 'files')} and "
        f"{counted(len(gone.entries), 'entry', 'entries')} removed, {human_bytes(gone.n_bytes)}."
    )
    left = len(found.orphans) + len(found.entries) - len(gone.orphans) - len(gone.entries)
    if left:
        typer.echo(f"{left} left, which another process uses or has removed.")


@app.command(cls=FeatxCommand)
def export(
    entry: Annotated[str, typer.Argument(help="Name of an entry, or its beginning (cache list).")],
    file: Annotated[Path, typer.Argument(help="The file: .npz, .h5 or .parquet.")],
    cache_dir: CacheDir = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write cached features into one file that other tools open; every shard is verified.

    Example:  featx cache export resnet50/layer3.5-avg-train features.npz
    """
    from featx.cache import export_features
    from featx.errors import CacheCorrupt
    from featx.text import human_bytes

    store = _store(cache_dir)
    info = store.entry(entry)
    found = store.find(info.key) if info.key and info.complete else None
    if found is None:
        raise CacheCorrupt(
            info.problem
            or f"Entry '{store.name_of(info.path)}' cannot be exported: {info.rows:,} of "
            f"{info.n_rows:,} rows are there. The featx extract that began it goes on with it."
        )
    export_features(found, file, force=force)
    size = human_bytes(file.stat().st_size)
    typer.echo(f"{file}: {found.n_samples:,} x {found.n_features:,} features and labels, {size}.")


@app.command("import", cls=FeatxCommand)
def import_file(
    file: Annotated[Path, typer.Argument(help="A file that featx cache export wrote.")],
    cache_dir: CacheDir = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace features of the same kind that are cached.")
    ] = False,
) -> None:
    """Put exported features into a cache, where runs find them; their content is checked.

    Features that are cached already stay, unless --force is given.

    Example:  featx cache import features.npz --cache-dir cache
    """
    from featx.cache import FeatureStore, import_features
    from featx.cli.console import ConsoleProgress
    from featx.recipes import Recipe

    store = FeatureStore(Recipe(cache_dir=cache_dir).cache_path)
    found = import_features(store, file, force=force, progress=ConsoleProgress())
    typer.echo(f"{store.name_of(found.path)}: {found.n_samples:,} x {found.n_features:,} features.")


def _problem_lines(bad: list[EntryInfo]) -> list[str]:
    """Return a line per damaged entry; most problems name the entry themselves."""
    return [
        str(entry.problem)
        if str(entry.path) in str(entry.problem)
        else f"{entry.path}: {entry.problem}."
        for entry in bad
    ]


def _store(cache_dir: str | None) -> FeatureStore:
    from featx.cache import FeatureStore
    from featx.errors import UsageError
    from featx.recipes import Recipe

    path = Recipe(cache_dir=cache_dir).cache_path
    if not path.is_dir():
        raise UsageError(f"There is no cache at {path}. Give its folder: --cache-dir FOLDER")
    return FeatureStore(path)


def _print_entries(store: FeatureStore, entries: list[EntryInfo]) -> None:
    import time

    from featx.cli.console import fitting_table, out
    from featx.cli.explaining import age_text
    from featx.text import counted, human_bytes

    header = (
        "entry", "weights", "images", "px", "rows", "values", "bytes", "age", "last use", "state",
    )  # fmt: skip
    rows = []
    now = time.time()
    for entry in entries:
        key = entry.key
        state = entry.problem or (
            "complete" if entry.complete else f"incomplete: {entry.rows:,} rows"
        )
        if entry.other_format:
            state = f"format {entry.format}"
        about: tuple[str, ...] = ("?",) * 3
        if key:
            size = key.preprocess.get("image_size") or "native"
            # The first digits of a digest tell weights and images apart, as in a report.
            about = (key.weights_digest[:8], key.dataset_digest[:8], str(size))
        rows.append(
            (
                store.name_of(entry.path),
                *about,
                f"{entry.n_rows:,}",
                f"{entry.n_features:,}",
                human_bytes(entry.n_bytes),
                age_text(now - entry.changed_s),
                age_text(now - entry.used_s),
                state,
            )
        )
    total = human_bytes(sum(entry.n_bytes for entry in entries))
    console = out()
    spare = ("values", "rows", "age", "px", "images", "weights")
    title = f"{counted(len(entries), 'feature set', 'feature sets')}, {total}"
    console.print(fitting_table(console, title, header, rows, left=(0, 1, 2, 3, 9), spare=spare))
