"""Run one published experiment from the data on, into reports/, and render what is made of it.

``make reproduce EXPERIMENT=d1``, or ``python benchmarks/reproduce.py d1 [--data-dir DIR]
[--weights-dir DIR]``; ``list`` lists the experiments, and ``--some image_size=32,64`` runs a part
of a study, which can be completed later. Before anything runs it says what will, and how long each
took last time on which machine. What is complete here is skipped, so that the same command goes on
after an interruption. Images come from DIR or are downloaded (FEATX_DATA_DIR is heeded); weights
come from files ``NETWORK.TAG*.safetensors`` of DIR, or are downloaded.

Everything goes through ``featx run``. With ``--limit`` (images a class) the results are of no use
beside the published ones: they go to build/reproduce, and no page is rendered.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import results
import tables
import yaml
from published.answers import write_answers
from published.experiments import (
    EXPERIMENTS,
    Places,
    Run,
    chosen_runs,
    chosen_settings,
    command_of,
    forget,
    hardware_of,
    progress_of,
    record_of,
    refuse_unvaried,
)

from featx.errors import FeatxError, UsageError
from featx.evaluate import work_seconds
from featx.recipes import load_study
from featx.text import human_seconds

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
SHORT = ROOT / "build" / "reproduce"
INTERRUPTED = 130


def main() -> int:
    """Run what of an experiment is not complete yet; say what is wrong in a line."""
    try:
        return reproduce()
    except FeatxError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


def reproduce() -> int:
    """Run what of an experiment is not complete yet."""
    args = _arguments()
    if args.experiment == "list":
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:<13} {experiment.about}")
            print(f"{'':<13} reports: {', '.join(run.report for run in experiment.runs)}")
        return 0
    out = args.out or (SHORT if args.limit is not None else REPORTS)
    places = Places(args.data_dir, args.weights_dir, args.cache_dir, out)
    some: dict[str, list[Any]] = {}
    for name, values in args.some:
        some.setdefault(name, []).extend(values)
    refuse_unvaried(EXPERIMENTS[args.experiment].runs, list(some))
    runs = chosen_runs(EXPERIMENTS[args.experiment], args.only or (), some)
    for name in args.only or ():
        if name not in [run.report for run in runs]:
            print(f"{name}: skipped, it has nothing of what --some asks for.")
    if args.weights_dir is not None and not args.weights_dir.is_dir():
        raise UsageError(f"--weights-dir {args.weights_dir} is no folder.")
    work = []
    for run in runs:
        settings = chosen_settings(run, places, limit=args.limit, some=some)
        study = load_study(run.recipe, settings)
        done, of = progress_of(study)
        print(_plan(run, out, 0 if args.again else done, of))
        if args.again or done < of:
            work.append((run, settings, study))
    if args.dry_run:
        return 0
    failed = []
    for run, settings, study in work:
        if args.again:
            forget(study)
        elif study.is_single and study.recipe.task == "train":
            settings = {**settings, "resume": True}  # noqa: PLW2901
        start = time.monotonic()
        code = _featx(command_of(run, settings))
        if code == INTERRUPTED:
            print(
                "Interrupted; the same command goes on with what is missing. `make tables` renders "
                "what is there."
            )
            return code
        if code:
            failed.append(run.report)
        else:
            try:
                write_answers(out / run.report)
            except FeatxError as error:
                print(f"Error: {error}", file=sys.stderr)
                failed.append(run.report)
                continue
            print(f"{run.report}: done in {human_seconds(time.monotonic() - start)}.")
    if out.resolve() == REPORTS:
        results.write()
        tables.write()
        print("Rendered docs/results.md, docs/results-d1.md, figures and the tables of README.md.")
    if failed:
        print(f"Failed: {', '.join(failed)}; the reasons stand above.", file=sys.stderr)
    return 1 if failed else 0


def _plan(run: Run, out: Path, done: int, of: int) -> str:
    """Return what is to be done for a run, and what the record that is there took."""
    state = "complete, skipped" if done == of else f"{done} of {of} done" if done else "to run"
    record = record_of(out / run.report) or record_of(REPORTS / run.report)
    if record is None:
        return f"{run.report}: {state}; there is no record to say how long it takes."
    images = record.dataset.splits["train"].n
    took = human_seconds(work_seconds(record))
    return (
        f"{run.report}: {state}; last time {took} on {hardware_of(record)}, with {images:,} "
        f"training images (featx run {run.recipe})."
    )


def _featx(words: list[str]) -> int:
    """Run featx' command line; Ctrl-C is left to it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *_python_path()])}
    with subprocess.Popen([sys.executable, "-m", "featx", *words], env=environment) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            return INTERRUPTED


def _python_path() -> list[str]:
    return [part for part in [os.environ.get("PYTHONPATH", "")] if part]


def _some(text: str) -> tuple[str, list[Any]]:
    """Return ``image_size=32,64`` as a field and its values."""
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise argparse.ArgumentTypeError(f"'{text}' is not FIELD=VALUE,VALUE: image_size=32,64")
    return name, [yaml.safe_load(part) for part in values.split(",")]


def _folder(name: str) -> Path | None:
    return Path(os.environ[name]) if os.environ.get(name) else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=("list", *EXPERIMENTS))
    parser.add_argument("--data-dir", type=Path, help="where CIFAR-10 is, or goes")
    parser.add_argument(
        "--weights-dir",
        type=Path,
        default=_folder("FEATX_WEIGHTS_DIR"),
        help="weight files NETWORK.TAG*.safetensors (FEATX_WEIGHTS_DIR)",
    )
    parser.add_argument("--cache-dir", type=Path, help="where features are cached")
    parser.add_argument("--out", type=Path, help="where reports go; default: reports")
    parser.add_argument("--only", nargs="+", help="these reports of the experiment alone")
    parser.add_argument("--limit", type=int, help="images a class, for a short run")
    parser.add_argument(
        "--some",
        type=_some,
        action="append",
        default=[],
        metavar="FIELD=VALUE,VALUE",
        help="only some values of what a study varies: image_size=32,64",
    )
    parser.add_argument("--again", action="store_true", help="run what is complete, too")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
