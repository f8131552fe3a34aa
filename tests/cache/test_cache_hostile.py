"""One entry that is not what it seems: it is refused by name, and hides no other."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cache_cases import make_data, make_key, write
from xxhash import xxh3_128

from featx.cache import FeatureStore
from featx.errors import CacheCorrupt, CacheError, UsageError


@pytest.fixture
def good(store: FeatureStore) -> Path:
    return write(store, make_key(split="test"), *make_data()).path


@pytest.fixture
def entry(store: FeatureStore, good: Path) -> Path:
    return write(store, make_key(), *make_data()).path


def forge(entry: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a manifest says, under a digest that agrees."""
    path = entry / "manifest.json"
    inner = json.loads(path.read_bytes())["manifest"]
    change(inner)
    sign(path, json.dumps(inner).encode())


def sign(path: Path, inner: bytes) -> None:
    digest = xxh3_128(inner).hexdigest().encode()
    path.write_bytes(b'{"xxh3":"%b","manifest":%b}\n' % (digest, inner))


def assert_only_that_one_is_refused(store: FeatureStore, entry: Path, good: Path) -> None:
    with pytest.raises(CacheError, match=entry.name):
        store.find(make_key())
    for infos in (store.entries(), store.verify()):
        problems = {info.path: info.problem for info in infos}
        assert set(problems) == {entry, good}
        assert problems[good] is None
        assert str(problems[entry]).isprintable()
        assert problems[entry]
    assert store.gc(older_than_s=-60) == []
    assert store.nearest(make_key()) is not None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["manifest.json", "0*.h5", "summary-*.h5"])
def test_a_pipe_is_no_file_and_is_not_waited_for(
    store: FeatureStore, entry: Path, good: Path, name: str
) -> None:
    path = min(entry.glob(name))
    path.unlink()
    os.mkfifo(path)
    assert_only_that_one_is_refused(store, entry, good)


def test_a_pipe_that_came_after_the_set_was_found_is_not_waited_for(
    store: FeatureStore, entry: Path
) -> None:
    found = store.find(make_key())
    assert found is not None
    shard = min(entry.glob("0*.h5"))
    shard.unlink()
    os.mkfifo(shard)
    with pytest.raises(CacheError, match=shard.name):
        found.read()


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\nb", "\ud800", "a\u202eb", "\x00"])
def test_a_key_that_no_terminal_should_print_is_refused(
    store: FeatureStore, entry: Path, good: Path, text: str
) -> None:
    with pytest.raises(UsageError, match="printable"):
        make_key(module=text)
    forge(entry, lambda inner: inner["key"].update(module=text))
    assert_only_that_one_is_refused(store, entry, good)


@pytest.mark.parametrize("depth", [400, 985, 3000])
def test_preprocessing_without_an_end_is_refused(
    store: FeatureStore, entry: Path, good: Path, depth: int
) -> None:
    data = (entry / "manifest.json").read_bytes()
    nested = b'{"size":%b1%b}' % (b"[" * depth, b"]" * depth)
    inner = json.dumps(json.loads(data)["manifest"]).encode()
    place = inner.index(b'"preprocess": ') + len(b'"preprocess": ')
    sign(entry / "manifest.json", inner[:place] + nested + inner[inner.index(b"}", place) + 1 :])
    assert_only_that_one_is_refused(store, entry, good)


@pytest.mark.parametrize("size", [2**40, 2**21])
def test_a_shard_of_terabytes_of_nothing_is_refused(
    store: FeatureStore, entry: Path, good: Path, size: int
) -> None:
    shard = min(entry.glob("0*.h5"))
    try:
        with shard.open("r+b") as file:
            file.truncate(size)
    except OSError:
        pytest.skip("no sparse files here")
    forge(entry, lambda inner: inner["shards"][0].update(size_bytes=size))
    assert_only_that_one_is_refused(store, entry, good)
    with pytest.raises(CacheCorrupt, match=rf"cannot have 8 rows in {size} bytes"):
        store.find(make_key())


def test_a_manifest_of_more_than_16_mb_is_none(
    store: FeatureStore, entry: Path, good: Path
) -> None:
    path = entry / "manifest.json"
    inner = json.dumps(json.loads(path.read_bytes())["manifest"]).encode()
    sign(path, inner[:-1] + b" " * (2**24 - len(inner) - 100) + b"}")
    assert store.find(make_key()) is not None
    sign(path, inner[:-1] + b" " * 2**24 + b"}")
    assert_only_that_one_is_refused(store, entry, good)
    with path.open("r+b") as file:
        file.truncate(2**40)
    assert_only_that_one_is_refused(store, entry, good)


def test_folders_with_names_that_featx_does_not_give_are_no_entries(
    store: FeatureStore, good: Path
) -> None:
    for name in ("\x1b[31mred", "a b", "日本"):
        (good.parent / f"{name}-{'0' * 16}").mkdir()
        (store.root / name / f"layer-{'0' * 16}").mkdir(parents=True)
    assert [info.path for info in store.verify()] == [good]
    assert store.gc(older_than_s=-60) == []


def test_a_set_of_another_shape_than_is_wanted_is_refused(store: FeatureStore, good: Path) -> None:
    key = make_key(split="test")
    assert store.find(key, (44, 12)) is not None
    for shape in ((44, 13), (43, 12)):
        wanted = f"it holds 44 x 12 values instead of {shape[0]} x {shape[1]}"
        with pytest.raises(CacheCorrupt, match=rf"manifest\.json: {wanted}"):
            store.find(key, shape)
