"""Files that mean harm are refused, or handled as documented; nothing is run or reached."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import note

import featx

HANDLED = {
    # What a decoder of images makes of them is an image, as it is without harm.
    "image: JPEG named PNG", "image: CMYK JPEG", "image: 16-bit PNG",
    "image: palette with transparency", "image: a link out of the folder",
    "image: a folder that links to itself", "image: markup and control characters as class names",
    # The first picture of them.
    "image: animated PNG", "image: animated WebP",
    # Names are made safe, markup is text.
    "recipe: a name that leaves the folder", "recipe: an absolute name",
    "recipe: a flag with markup", "recipe: a NUL in a path",
    # What is behind the links stays as it is.
    "cache: links out of it where featx keeps locks and times",
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    folder = tmp_path_factory.mktemp("hostile")
    # What Python and torch write for themselves is no file's doing.
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(featx.__file__).parent.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": str(folder),
        "TORCHINDUCTOR_CACHE_DIR": str(folder),
    }
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("corpus.py"), folder],
        capture_output=True, text=True, check=False, timeout=600, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_corpus_is_as_large_as_promised(outcomes: dict[str, list]) -> None:
    assert len(outcomes) >= 40


def test_every_file_is_refused_or_handled(outcomes: dict[str, list]) -> None:
    wrong = {
        name: came
        for name, (came, _) in outcomes.items()
        if not (came.startswith("refused: ") or (came == "handled" and name in HANDLED))
    }
    assert wrong == {}


def test_nothing_is_run_reached_or_written_outside(outcomes: dict[str, list]) -> None:
    assert {name: tried for name, (_, tried) in outcomes.items() if tried} == {}
    note("Hostile files, corpus", files=len(outcomes))


def test_messages_say_more_than_that_it_failed(outcomes: dict[str, list]) -> None:
    for name, (came, _) in outcomes.items():
        if came.startswith("refused: "):
            assert len(came) > 60, (name, came)
