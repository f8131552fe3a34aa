"""What is removed from a cache, and what is not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from cache_cases import content, make_data, make_key, of_format, write

from featx.cache import FeatureStore, clean, fsread, locks, plan_cleaning
from featx.cache.locks import computing
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


# --- nothing outside of the cache, nothing that featx did not name


OLD = 3 * 3600


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A user's own folder, in which everything is old."""
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    for name in ("x-0123456789abcdef", "0123456789abcdef.lock"):
        (folder / name).touch()
    for path in folder.iterdir():
        age(path, OLD)
    return folder


def held(folder: Path) -> dict[str, tuple[str, float]]:
    return {path.name: (path.read_text(), path.stat().st_mtime) for path in folder.iterdir()}


@pytest.mark.parametrize("name", [".used", ".locks"])
def test_a_link_beside_the_entries_leads_to_nothing(
    store: FeatureStore, documents: Path, name: str
) -> None:
    before = held(documents)
    store.root.mkdir()
    (store.root / name).symlink_to(documents, target_is_directory=True)
    write(store, make_key(), *make_data())
    assert store.find(make_key()) is not None
    with computing(store.root, [make_key()]):
        pass
    assert store.gc() == []
    clean(store, plan_cleaning(store, max_bytes=0))
    assert store.entries() == []
    assert held(documents) == before


def test_a_mark_or_a_lock_that_is_a_link_changes_nothing_elsewhere(
    store: FeatureStore, documents: Path
) -> None:
    path = write(store, make_key(), *make_data()).path
    before = held(documents)
    mark, lock = store.root / ".used" / path.name, locks.lock_path(store.root, path.name[-16:])
    for target in (documents / "thesis.txt", documents / "new"):
        for link in (mark, lock):
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(target)
        assert store.find(make_key()) is not None
        with computing(store.root, [make_key()]) as waited:
            assert not waited
        assert held(documents) == before
        mark.unlink()
        lock.unlink()
    os.mkfifo(mark)
    assert store.find(make_key()) is not None


def test_files_with_other_names_stay(store: FeatureStore) -> None:
    entry = write(store, make_key(), *make_data()).path
    kept = [
        store.root / ".used" / "notes", store.root / ".locks" / "mine.lock",
        store.root / ".used" / "full-0123456789abcdef", entry / ".draft.tmp", entry / "a.h5",
    ]  # fmt: skip
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine" if path.name.startswith("full") else "")
        age(path, OLD)
    assert store.gc() == []
    assert all(path.exists() for path in kept)


# --- what is in use


def interrupted(store: FeatureStore) -> Path:
    """Leave a shard that no manifest lists, old enough to go."""
    X, y = make_data()
    with store.writer(make_key(), n_rows=len(X), n_features=X.shape[1]) as writer:
        writer.append(X[:8], y[:8])
    folder = store.path_for(make_key())
    (folder / "progress.json").unlink()
    (shard,) = folder.iterdir()
    age(shard, OLD)
    return shard


@pytest.mark.parametrize("seen_as", ["new", "listed"])
def test_a_shard_that_became_part_of_a_set_stays(store: FeatureStore, seen_as: str) -> None:
    shard = interrupted(store)
    planned = plan_cleaning(store)
    assert planned.orphans == [shard]
    found = write(store, make_key(), *make_data())
    if seen_as == "listed":  # by its name, whatever its time says
        age(shard, OLD)
    else:  # by its time, as the shard of a writer that has not listed it yet
        (found.path / "manifest.json").unlink()
    gone = clean(store, planned)
    assert (gone.orphans, gone.n_bytes) == ([], 0)
    assert shard.exists()


def test_what_a_run_has_locked_stays(store: FeatureStore) -> None:
    shard = interrupted(store)
    entry = write(store, make_key(split="test"), *make_data())
    planned = plan_cleaning(store, older_than_s=-60)
    with computing(store.root, [make_key(), make_key(split="test")]):
        gone = clean(store, planned)
        assert store.gc() == []
        assert (gone.orphans, gone.entries) == ([], [])
    assert shard.exists()
    assert content(entry)
    stray = locks.lock_path(store.root, "0" * 16)
    stray.touch()
    age(stray, OLD)
    with locks.unless_locked(store.root, "0" * 16):
        assert stray not in store.gc()
    clean(store, plan_cleaning(store, older_than_s=-60))
    assert store.entries() == []
    assert list((store.root / ".locks").iterdir()) == []


def test_an_entry_that_was_used_since_it_was_listed_stays(
    store: FeatureStore, three: list[Path]
) -> None:
    planned = plan_cleaning(store, older_than_s=5 * DAY)
    assert store.find(make_key(split="train")) is not None
    assert [entry.path for entry in clean(store, planned).entries] == [three[1]]
    assert three[0].exists()


# --- a cache on two disks


@pytest.fixture
def linked(store: FeatureStore, tmp_path: Path) -> Path:
    """Move the entries of a network to another place, and link their folder."""
    found = write(store, make_key(), *make_data())
    elsewhere = tmp_path / "other disk" / "resnet18"
    elsewhere.parent.mkdir()
    found.path.parent.rename(elsewhere)
    found.path.parent.symlink_to(elsewhere, target_is_directory=True)
    return elsewhere


def test_a_linked_folder_of_a_network_is_seen_as_a_run_sees_it(
    store: FeatureStore, linked: Path
) -> None:
    assert store.find(make_key()) is not None
    assert [info.problem for info in store.verify()] == [None]
    shard = next(linked.glob("*/0*.h5"))
    shard.write_bytes(bytes(shard.stat().st_size))
    (info,) = store.verify()
    assert info.problem is not None
    assert shard.name in info.problem


def test_only_what_is_known_to_be_an_entry_goes_behind_a_link(
    store: FeatureStore, linked: Path
) -> None:
    build = linked / "release-0123456789abcdef"
    build.mkdir()
    for name in ("manifest.json", ".cache.tmp", "app.js"):
        (build / name).write_text("{}")
        age(build / name, OLD)
    assert store.gc() == []
    gone = clean(store, plan_cleaning(store, max_bytes=0))
    assert [entry.key for entry in gone.entries] == [make_key()]
    assert sorted(path.name for path in build.iterdir()) == [
        ".cache.tmp",
        "app.js",
        "manifest.json",
    ]
    assert [path.name for path in linked.iterdir()] == [build.name]


def test_an_entry_that_is_a_link_stays(store: FeatureStore, tmp_path: Path) -> None:
    path = write(store, make_key(), *make_data()).path
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    orphan = path / "00009-0123456789abcdef.h5"
    orphan.touch()
    age(orphan, OLD)
    assert [info.problem for info in store.verify()] == [None]
    assert plan_cleaning(store, max_bytes=0).entries == []
    assert store.gc() == []
    store.remove(make_key())  # by its key: its files, not the link
    assert list(path.iterdir()) == []


def test_links_that_lead_nowhere_hide_nothing(store: FeatureStore) -> None:
    write(store, make_key(), *make_data())
    for name, target in (("loop", "loop"), ("gone", "nowhere"), ("again", ".")):
        (store.root / name).symlink_to(target)
        (store.path_for(make_key()).parent / f"{name}-{'0' * 16}").symlink_to(target)
    assert [info.key for info in store.verify() if not info.problem] == [make_key()]
    assert store.gc() == []


# --- entries of other formats


def test_only_entries_of_earlier_formats_go_as_such(store: FeatureStore, three: list[Path]) -> None:
    (three[1] / "manifest.json").write_text("damaged")
    for path, version in ((three[0], 1), (three[2], 3)):
        of_format(path, version)
    formats = [(info.format, info.damaged, info.other_format) for info in store.verify()]
    assert sorted(formats) == [(1, False, True), (2, True, False), (3, False, True)]
    planned = plan_cleaning(store, old_format=True)
    assert [entry.path for entry in planned.entries] == [three[0]]
    clean(store, planned)
    assert not three[0].exists()
    assert len(store.entries()) == 2
