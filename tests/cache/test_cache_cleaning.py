"""What is removed from a cache, and what is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from cache_cases import content, make_data, make_key, write

from featx.cache import FeatureStore, clean, fsread, plan_cleaning
from featx.errors import UnknownName, UsageError

DAY = 86_400.0


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def entry_used(store: FeatureStore, split: str, days: float) -> Path:
    """Write an entry that was last used some days ago."""
    path = write(store, make_key(split=split), *make_data()).path
    for file in path.iterdir():
        age(file, days * DAY)
    store.find(make_key(split=split))
    age(store.root / ".used" / path.name, days * DAY)
    return path


@pytest.fixture
def three(store: FeatureStore) -> list[Path]:
    return [entry_used(store, split, days) for split, days in
            (("train", 30), ("val", 10), ("test", 1))]  # fmt: skip


def test_entries_that_were_not_used_for_long_go(store: FeatureStore, three: list[Path]) -> None:
    found = plan_cleaning(store, older_than_s=5 * DAY)
    assert [entry.path for entry in found.entries] == three[:2]
    assert found.n_bytes == sum(entry.n_bytes for entry in found.entries)
    assert all(path.is_dir() for path in three)
    clean(store, found)
    assert [path.exists() for path in three] == [False, False, True]
    assert [info.problem for info in store.verify()] == [None]
    assert [path.name for path in (store.root / ".used").iterdir()] == [three[2].name]


def test_of_too_many_bytes_those_used_last_stay(store: FeatureStore, three: list[Path]) -> None:
    size = store.entries()[0].n_bytes
    assert plan_cleaning(store, max_bytes=3 * size).entries == []
    found = plan_cleaning(store, max_bytes=2 * size)
    assert [entry.path for entry in found.entries] == three[:1]
    assert len(plan_cleaning(store, max_bytes=0).entries) == 3


def test_a_use_makes_an_entry_young(store: FeatureStore, three: list[Path]) -> None:
    assert store.find(make_key(split="train")) is not None
    used = {info.path: info.used_s for info in store.entries()}
    assert time.time() - used[three[0]] < 60
    found = plan_cleaning(store, older_than_s=5 * DAY)
    assert [entry.path for entry in found.entries] == three[1:2]


def test_a_use_is_written_once_an_hour(store: FeatureStore, three: list[Path]) -> None:
    mark = store.root / ".used" / three[0].name
    age(mark, 1800)
    before = mark.stat().st_mtime
    store.find(make_key(split="train"))
    assert mark.stat().st_mtime == before


def test_only_leftovers_go_where_nothing_else_is_asked(
    store: FeatureStore, three: list[Path]
) -> None:
    orphan = three[0] / "00009-0123456789abcdef.h5"
    orphan.write_bytes(b"1234")
    stray = store.root / ".used" / "gone-0123456789abcdef"
    lock = store.root / ".locks" / "0123456789abcdef.lock"
    of_an_entry = lock.with_name(f"{three[0].name[-16:]}.lock")
    lock.parent.mkdir()
    for path in (stray, lock, of_an_entry):
        path.touch()
    for path in (orphan, stray, lock, of_an_entry):
        age(path, 2 * 3600)
    found = plan_cleaning(store)
    assert set(found.orphans) == {orphan, stray, lock}
    assert (found.entries, found.n_bytes) == ([], 4)
    clean(store, found)
    assert not any(path.exists() for path in (orphan, stray, lock))
    assert of_an_entry.exists()
    assert len(store.entries()) == 3


def test_what_only_a_stale_manifest_lists_goes_with_it(store: FeatureStore) -> None:
    X, y = make_data()
    key = make_key()
    with store.writer(key, n_rows=len(X), n_features=X.shape[1]) as writer:
        writer.append(X[:8], y[:8])
    path = store.path_for(key)
    stale = (path / "progress.json").read_bytes()
    other = write(store, key, *make_data(seed=3), rebuild=True)
    (path / "progress.json").write_bytes(stale)
    (path / "00000-0123456789abcdef.h5").write_bytes(b"listed by nothing")
    removed = {file.name for file in store.gc(older_than_s=-60)}
    assert {"progress.json", "00000-0123456789abcdef.h5"} <= removed
    assert store.gc(older_than_s=-60) == []
    assert content(other) == content(store.find(key))


def test_a_damaged_entry_can_be_cleaned_away(store: FeatureStore, three: list[Path]) -> None:
    (three[0] / "manifest.json").write_text("damaged")
    clean(store, plan_cleaning(store, max_bytes=0))
    assert store.entries() == []


def test_an_entry_is_found_by_the_beginning_of_its_name(
    store: FeatureStore, three: list[Path]
) -> None:
    assert store.entry("layer3.1-avg-val").path == three[1]
    assert store.entry(f"resnet18/{three[2].name}").path == three[2]
    with pytest.raises(
        UsageError, match=r"2 entries begin with 'layer3\.1-avg-t': resnet18/layer3"
    ):
        store.entry("layer3.1-avg-t")
    with pytest.raises(UnknownName, match=r"Entry 'layer4' is not in '.*cache'"):
        store.entry("layer4")


def test_the_nearest_entry_differs_least(store: FeatureStore, three: list[Path]) -> None:
    found = store.nearest(make_key(split="val", precision="bf16"))
    assert found is not None
    assert (found[0].path, found[1]) == (three[1], ["precision"])
    found = store.nearest(make_key(preprocess={"size": [64, 64]}))
    assert found is not None
    assert found[1] == ["preprocess.size", "preprocess.interpolation", "preprocess.mean"]
    assert FeatureStore(store.root / "none").nearest(make_key()) is None


def test_a_cache_that_cannot_be_written_to_keeps_no_time_of_use(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, make_key(), *make_data())

    def refuse(path: object, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert store.find(make_key()) is not None
    assert fsread.files(store.root / ".used") == []
