"""``featx cache``: what users ask a cache, and what it answers."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from featx.cache.locks import unless_locked
from featx.cli import app
from featx.cli.explaining import age_text, parse_age
from featx.errors import UsageError

SMALL = [
    "--backbone", "resnet18", "--weights", "none", "--dataset", "digits", "--image-size", "32",
    "--limit", "4", "--cut", "layer1",
]  # fmt: skip


def featx(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("filled") / "cache"
    result = featx("extract", *SMALL, "--cache-dir", str(cache))
    assert result.exit_code == 0, result.output
    return cache


def test_a_list_names_entries_as_they_are_asked_for(filled: Path) -> None:
    result = featx("cache", "list", "--cache-dir", str(filled))
    assert result.exit_code == 0, result.output
    names = [path.relative_to(filled).as_posix() for path in filled.glob("*/*-*")]
    assert len(names) == 3
    for name in names:
        assert name in result.stdout
    assert "last use" in result.stdout


def test_explain_says_what_is_there(filled: Path) -> None:
    result = featx("cache", "explain", *SMALL, "--cache-dir", str(filled))
    assert result.exit_code == 0, result.output
    assert result.stdout.count(": cached in ") == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--image-size", "40"], "preprocess.image_size: 32 there, 40 here"),
        (["--pool", "max"], "pool: avg there, max here"),
        (["--precision", "bf16"], "precision: fp32 there, bf16 here"),
        (["--storage", "float16"], "storage: float32 there, float16 here"),
        (["--seed", "1"], "weights_digest: "),
        (["--cut", "layer2"], "module: layer1 there, layer2 here"),
    ],
)
def test_explain_names_what_differs_from_the_nearest(
    filled: Path, words: list[str], said: str
) -> None:
    result = featx("cache", "explain", *SMALL, *words, "--cache-dir", str(filled))
    assert result.exit_code == 0, result.output
    assert said in squeezed(result.stdout)
    assert "not cached. Nearest is " in squeezed(result.stdout)


def test_explain_of_an_empty_cache(tmp_path: Path) -> None:
    result = featx("cache", "explain", *SMALL, "--cache-dir", str(tmp_path / "none"))
    assert result.exit_code == 0, result.output
    assert "train: not cached. The cache holds nothing yet." in squeezed(result.stdout)


def test_explain_goes_on_behind_damaged_entries(filled: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(filled, cache)
    (train,) = cache.glob("*/*-train-*")
    (val,) = cache.glob("*/*-val-*")
    (train / "manifest.json").write_bytes(b"{}")
    next(val.glob("0*.h5")).unlink()
    result = featx("cache", "explain", *SMALL, "--cache-dir", str(cache))
    assert result.exit_code == 1, result.output
    said = squeezed(result.stdout)
    assert re.search(r"layer1, train: its entry is damaged\. .*manifest\.json: it is not a", said)
    assert re.search(r"layer1, val: its entry is damaged\. .*the file is missing", said)
    assert "layer1, test: cached in" in said
    # The nearest is the one that is whole.
    assert said.count("Nearest is ") == said.count("split: test there") == 2
    assert "2 entries of the cache cannot be used." in squeezed(result.stderr)
    # What is damaged is not the nearest of another key.
    other = featx("cache", "explain", *SMALL, "--pool", "max", "--cache-dir", str(cache))
    assert other.exit_code == 1
    assert (
        squeezed(other.stdout).count(f"Nearest is {next(cache.glob('*/*-test-*')).parent.name}")
        == 3
    )


def test_what_is_there_is_replaced_only_when_it_is_asked_for(filled: Path, tmp_path: Path) -> None:
    entry = min(path.name for path in filled.glob("*/*-test-*"))
    file = tmp_path / "features.npz"
    file.write_text("mine")
    words = ["cache", "export", entry, str(file), "--cache-dir", str(filled)]
    result = featx(*words)
    assert result.exit_code == 2, result.output
    assert "is there already and was left as it is. Replace it: --force" in squeezed(result.stderr)
    assert file.read_text() == "mine"
    result = featx(*words, "--force")
    assert result.exit_code == 0, result.output
    other = tmp_path / "other"
    words = ["cache", "import", str(file), "--cache-dir", str(other)]
    assert featx(*words).exit_code == 0
    (shard,) = other.glob("*/*/0*.h5")
    shard.touch()
    before = shard.stat().st_mtime_ns
    result = featx(*words)
    assert result.exit_code == 0
    assert "is in the cache already and stays. Replace it: --force" in squeezed(result.stderr)
    assert shard.stat().st_mtime_ns == before
    shard.unlink()
    result = featx(*words)
    assert result.exit_code == 1
    assert "damaged entry of these features" in squeezed(result.stderr)
    assert featx(*words, "--force").exit_code == 0
    assert featx("cache", "verify", "--cache-dir", str(other)).exit_code == 0


def test_features_go_out_and_come_back(filled: Path, tmp_path: Path) -> None:
    name = min(path.name for path in filled.glob("*/*-test-*"))
    file = tmp_path / "features.npz"
    result = featx("cache", "export", name[:-10], str(file), "--cache-dir", str(filled))
    assert result.exit_code == 0, result.output
    assert "x 64 features and labels" in result.stdout
    with np.load(file) as parts:
        assert parts["features"].shape[1] == 64
    other = ["--cache-dir", str(tmp_path / "other")]
    result = featx("cache", "import", str(file), *other)
    assert result.exit_code == 0, result.output
    assert name in result.stdout
    assert featx("cache", "verify", *other).exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["export", "layer9", "x.npz"], "Entry 'layer9' is not in"),
        (["export", "layer1", "x.npz"], "3 entries begin with 'layer1'"),
        (["export", "ENTRY", "x.csv"], "has the ending '.csv': expected .npz, .h5 or .parquet"),
        (["import", "gone.npz"], "There is no file 'gone.npz' to import."),
        (["import", "."], "There is no file '.' to import."),
        (["gc", "--older-than", "soon"], "'soon' is no age: expected a number and s, m, h, d or w"),
        (["gc", "--max-bytes", "many"], "'many' is not a size in bytes."),
        (["explain", *SMALL, "--cut", "layer9"], "Cut 'layer9' is not in resnet18"),
    ],
)
def test_what_cannot_be_is_refused(filled: Path, words: list[str], said: str) -> None:
    entry = min(path.name for path in filled.glob("*/*-test-*"))
    words = [entry if word == "ENTRY" else word for word in words]
    result = featx("cache", *words, "--cache-dir", str(filled))
    assert result.exit_code == 2, result.output
    assert said in squeezed(result.stderr)


def test_entries_are_listed_before_they_are_removed(filled: Path, tmp_path: Path) -> None:
    cache = ["--cache-dir", str(tmp_path)]
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    then = time.time() - 40 * 86_400
    for path in tmp_path.rglob("*"):
        if path.is_file() and "-train-" in str(path):
            os.utime(path, (then, then))
    assert "0 files and 0 entries removed" in featx("cache", "gc", *cache).stdout
    asked = ["gc", "--older-than", "30d", *cache]
    result = featx("cache", *asked)
    assert result.exit_code == 0
    assert "Would be removed: 1 entry, " in squeezed(result.stdout)
    assert "Do it: --yes" in squeezed(result.stdout)
    assert len(list(tmp_path.glob("*/*-train-*"))) == 1
    result = featx("cache", *asked, "--yes")
    assert "0 files and 1 entry removed" in squeezed(result.stdout)
    assert list(tmp_path.glob("torch*/*-train-*")) == []
    assert len(list(tmp_path.glob("torch*/*-test-*"))) == 1


def test_entries_of_an_older_format_are_no_damage(filled: Path, tmp_path: Path) -> None:
    cache = ["--cache-dir", str(tmp_path)]
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    for entry in tmp_path.glob("torch*/*-*"):
        if "-test-" not in entry.name:
            # The key's digest holds the format: no run ever looks there.
            old = entry.rename(entry.with_name(f"{entry.name[:-16]}{'0' * 16}"))
            manifest = old / "manifest.json"
            manifest.write_bytes(manifest.read_bytes().replace(b"xxh3", b"sha256", 1))
    hint = "2 entries of an older format, which nothing reads any more: featx cache gc --old-format"
    verified = featx("cache", "verify", *cache)
    assert verified.exit_code == 0, verified.output
    assert hint in squeezed(verified.stdout)
    assert "1 entry, every digest agrees." in squeezed(verified.stdout)
    assert featx("cache", "list", *cache).stdout.count("format 1") == 2
    explained = featx("cache", "explain", *SMALL, *cache)
    assert explained.exit_code == 0, explained.output
    assert squeezed(explained.stdout).count("not cached. Nearest is ") == 2
    shutil.rmtree(next(tmp_path.glob("torch*/*-test-*")))
    explained = featx("cache", "explain", *SMALL, *cache)
    assert explained.exit_code == 0, explained.output
    assert f"The cache holds nothing yet. {hint}" in squeezed(explained.stdout)
    verified = featx("cache", "verify", *cache)
    assert verified.exit_code == 0
    assert "No entries to verify." in verified.stdout
    assert "agrees" not in verified.stdout
    asked = ["cache", "gc", "--old-format", *cache]
    assert "Would be removed: 2 entries, " in squeezed(featx(*asked).stdout)
    assert len(list(tmp_path.glob("torch*/*-*"))) == 2
    assert "0 files and 2 entries removed" in squeezed(featx(*asked, "--yes").stdout)
    assert list(tmp_path.glob("torch*/*-*")) == []


def test_a_cache_on_two_disks_is_verified_as_a_whole(filled: Path, tmp_path: Path) -> None:
    (network,) = {path.parent for path in filled.glob("torch*/*-*")}
    shutil.copytree(network, tmp_path / "other" / "disk")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / network.name).symlink_to(tmp_path / "other" / "disk")
    cache = ["--cache-dir", str(tmp_path / "cache")]
    assert "3 entries, every digest agrees." in squeezed(featx("cache", "verify", *cache).stdout)
    next((tmp_path / "other").glob("disk/*-test-*/0*.h5")).unlink()
    result = featx("cache", "verify", *cache)
    assert result.exit_code == 1
    assert "1 of 3 entries cannot be trusted." in squeezed(result.stderr)


def test_what_is_in_use_is_left(filled: Path, tmp_path: Path) -> None:
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    (entry,) = tmp_path.glob("torch*/*-test-*")
    asked = ["cache", "gc", "--max-bytes", "1", "--yes", "--cache-dir", str(tmp_path)]
    with unless_locked(tmp_path, entry.name[-16:]):
        result = featx(*asked)
    assert result.exit_code == 0, result.output
    said = squeezed(result.stdout)
    assert "0 files and 2 entries removed" in said
    assert "1 left, which another process uses or has removed." in said
    assert [path.name for path in tmp_path.glob("torch*/*-*")] == [entry.name]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90d", 90 * 86_400), ("1.5h", 5400), ("2w", 1_209_600), ("45 s", 45)]
)
def test_ages_are_read(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "-1d", "1y", "1 d ago", "١d"])
def test_other_ages_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no age"):
        parse_age(text)


def test_ages_are_told_in_whole_units() -> None:
    assert [age_text(s) for s in (0, 59, 60, 3599, 3600, 86_399, 86_400, 10**7)] == [
        "now", "now", "1 min", "59 min", "1 h", "23 h", "1 d", "115 d"
    ]  # fmt: skip
