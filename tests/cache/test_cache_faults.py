"""A disk that refuses: every operation of a whole write fails once, and nothing is half there."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cache_cases import content, make_data, make_key, three_chunks_a_shard, write
from campaign import note, rounds
from faulty_disk import Disk

from featx.cache import (
    FeatureSet,
    FeatureStore,
    clean,
    export_features,
    fsio,
    fsread,
    import_features,
    plan_cleaning,
    streaming,
)
from featx.errors import CacheError, CacheWriteError

N_ROWS = 20  # three shards
_many_chunks = pytest.fixture(scope="module", autouse=True)(three_chunks_a_shard)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT, errno.EACCES)


def write_all(store: FeatureStore) -> FeatureSet:
    X, y = make_data()
    return write(store, make_key(), X[:N_ROWS], y[:N_ROWS])


@pytest.fixture(scope="module")
def right(_many_chunks: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, ...]:
    return content(write_all(FeatureStore(tmp_path_factory.mktemp("right"))))


def failing_with(number: int) -> Callable[..., Any]:
    def fail(real: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def interrupt(real: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    raise KeyboardInterrupt


def test_a_write_is_the_operations_that_are_expected(tmp_path: Path) -> None:
    disk = Disk(-1, interrupt)
    with pytest.MonkeyPatch.context() as patch:
        disk.install(patch.setattr)
        fsio.publish(tmp_path / "a", b"123")
    assert disk.calls == [
        "open", "write", "fsync", "close", "replace", "open", "fsync", "close"
    ]  # fmt: skip


def every_operation(tmp_path: Path, happens: Callable[[int], Callable[..., Any]]) -> Iterator[Any]:
    """Yield the store and what came out of a write, for a fault at each operation of it in turn."""
    at = 0
    while True:
        store = FeatureStore(tmp_path / f"{at:03d}")
        disk = Disk(at, happens(at))
        outcome: BaseException | None = None
        with pytest.MonkeyPatch.context() as patch:
            disk.install(patch.setattr)
            try:
                write_all(store)
            except (CacheWriteError, KeyboardInterrupt) as error:
                outcome = error
        if len(disk.calls) <= at:
            assert outcome is None
            # Three shards with their manifests, the summary, the last manifest: 8 files of 8, and
            # a shard has four writes more than one.
            assert at > 76
            return
        yield store, outcome
        at += 1


def assert_nothing_half_there(store: FeatureStore, right: tuple[bytes, ...]) -> None:
    for path in store.root.rglob("*"):
        assert not path.name.endswith(".tmp")
    assert all(info.problem is None for info in store.verify() if info.rows)
    found = store.find(make_key())
    assert found is None or content(found) == right
    done = store.progress(make_key())
    with store.writer(make_key(), n_rows=N_ROWS, n_features=12) as writer:
        assert writer.next_row == done
    assert content(write_all(store)) == right


# Every operation with every error, or with one of them each.
@pytest.mark.parametrize("first", range(rounds(1, len(ERRORS))))
def test_an_error_at_any_operation_leaves_nothing_half_there(
    tmp_path: Path, right: tuple[bytes, ...], first: int
) -> None:
    n_faults = 0
    for store, outcome in every_operation(
        tmp_path, lambda at: failing_with(ERRORS[(at + first) % len(ERRORS)])
    ):
        n_faults += 1
        assert isinstance(outcome, CacheWriteError)
        assert str(store.root) in str(outcome)
        assert isinstance(outcome.__cause__, OSError)
        assert str(outcome.__cause__.strerror) in str(outcome)
        assert_nothing_half_there(store, right)
        shutil.rmtree(store.root)
    note("A fault at every operation", kind="error", faults=n_faults, half_published=0)


def test_an_interrupt_at_any_operation_leaves_nothing_half_there(
    tmp_path: Path, right: tuple[bytes, ...]
) -> None:
    n_faults = 0
    for store, outcome in every_operation(tmp_path, lambda at: interrupt):
        n_faults += 1
        assert isinstance(outcome, KeyboardInterrupt)
        assert_nothing_half_there(store, right)
        shutil.rmtree(store.root)
    note("A fault at every operation", kind="interrupt", faults=n_faults, half_published=0)


def test_short_writes_are_continued(
    store: FeatureStore, right: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:1000]))
    assert content(write_all(store)) == right


def test_a_full_disk_says_what_was_needed_and_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    free = shutil.disk_usage(tmp_path)._replace(free=1234)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(
        CacheWriteError,
        match=r"Cannot write '.*/file': No space left.*Needed: 5,000 bytes, free: 1,234 bytes\. .*"
        "--cache-dir",
    ):
        fsio.publish(tmp_path / "file", bytes(5000))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_that_says_no_more_is_still_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(
        os, "write", Disk(0, failing_with(errno.ENOSPC))._watched("write", os.write)
    )
    monkeypatch.setattr(shutil, "disk_usage", silent)
    with pytest.raises(CacheWriteError, match=r"No space left on device\. Free some space"):
        fsio.publish(tmp_path / "file", b"1")
    with pytest.raises(CacheError, match="Input/output error"):
        fsread.free_bytes(tmp_path)


def test_a_temporary_file_that_cannot_be_removed_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        os, "replace", Disk(0, failing_with(errno.ENOSPC))._watched("r", os.replace)
    )
    monkeypatch.setattr(os, "unlink", Disk(0, failing_with(errno.EIO))._watched("u", os.unlink))
    with pytest.raises(CacheWriteError, match="No space left"):
        fsio.publish(tmp_path / "file", b"1")
    (left,) = fsread.files(tmp_path)
    assert left.name.endswith(fsio.TEMPORARY_SUFFIX)


def test_a_read_only_cache_serves_what_it_has(
    store: FeatureStore, right: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all(store)
    for name in ("write", "fsync", "replace", "unlink", "mkdir", "rmdir", "utime"):
        monkeypatch.setattr(os, name, Disk(0, failing_with(errno.EROFS))._watched(name, os.write))
    found = store.find(make_key())
    assert found is not None
    assert content(found) == right
    assert [info.problem for info in store.verify()] == [None]
    assert store.gc(older_than_s=0) == []
    with store.writer(make_key(), n_rows=N_ROWS, n_features=12) as writer:
        assert writer.next_row == N_ROWS
        assert content(writer.finish()) == right


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    store = FeatureStore(tmp_path / "cache")
    assert store.find(make_key()) is None
    assert store.entries() == []
    with pytest.raises(CacheWriteError, match=r"Cannot make '.*/cache/.*': (File|Not a)"):
        write_all(store)


def test_removing_says_what_could_not_be_removed(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = write_all(store)
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", Disk(0, failing_with(errno.EACCES))._watched("u", os.unlink))
        with pytest.raises(CacheWriteError, match=r"Cannot remove '.*manifest\.json'"):
            store.remove(make_key())
    assert store.find(make_key()) is not None
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", Disk(0, failing_with(errno.EACCES))._watched("r", os.rmdir))
        with pytest.raises(CacheWriteError, match=f"Cannot remove '{features.path}'"):
            store.remove(make_key())
    assert store.find(make_key()) is None


@pytest.mark.parametrize("target", ["open", "stat", "scandir"])
def test_a_disk_that_cannot_be_read_is_named(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    features = write_all(store)
    reads = {
        "open": [lambda: store.find(make_key())],
        "stat": [lambda: store.find(make_key())],
        "scandir": [store.entries, lambda: fsread.files(features.path)],
    }

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    place = os if target == "scandir" else Path
    with monkeypatch.context() as patch:
        patch.setattr(place, target, refuse)
        for read in reads[target]:
            with pytest.raises(CacheError, match=r"Cannot read '.*': Input/output error\."):
                read()
    assert content(features)


# --- what ends a write must leave it ended


def test_a_finish_that_failed_stays_failed(
    store: FeatureStore, right: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_data()
    replace = os.replace

    def full_once(source: Any, target: Any, **more: Any) -> None:
        if Path(target).name == "manifest.json":
            monkeypatch.setattr(os, "replace", replace)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target, **more)

    monkeypatch.setattr(os, "replace", full_once)
    with store.writer(make_key(), n_rows=N_ROWS, n_features=12) as writer:
        writer.append(X[:N_ROWS], y[:N_ROWS])
        with pytest.raises(CacheWriteError, match=r"manifest\.json': No space"):
            writer.finish()
        with pytest.raises(CacheError, match=f"closed; a new one goes on at row {N_ROWS}"):
            writer.finish()
    assert store.find(make_key()) is None
    assert content(write_all(store)) == right


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs a list of descriptors")
def test_a_second_interrupt_during_the_cleanup_leaves_no_file(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = make_data()
    stop = streaming.Background.stop
    times = []

    def interrupted(self: streaming.Background) -> None:
        stop(self)
        times.append(1)
        raise KeyboardInterrupt

    def stopped_twice() -> None:
        with store.writer(make_key(), n_rows=N_ROWS, n_features=12) as writer:
            writer.append(X[:12], y[:12])  # a shard, and a chunk of the next
            writer._disk.submit(int).result()
            raise KeyboardInterrupt

    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    threads = threading.active_count()
    monkeypatch.setattr(streaming.Background, "stop", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stopped_twice()
    assert len(times) == 2
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
    assert threading.active_count() == threads
    assert sorted(path.name[:5] for path in store.path_for(make_key()).iterdir()) == [
        "00000", "progr"
    ]  # fmt: skip


def test_what_is_free_is_measured_before_the_file_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    there: list[int] = []

    def measured(path: Path) -> Any:
        there.append(len(list(tmp_path.iterdir())))
        return usage

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(shutil, "disk_usage", measured)
    with pytest.raises(CacheWriteError, match="free: "):
        fsio.publish(tmp_path / "file", b"123")
    assert there == [1]
    assert list(tmp_path.iterdir()) == []


# --- all that changes a cache besides a run


def small(store: FeatureStore) -> FeatureSet:
    X, y = make_data()
    return write(store, make_key(), X[:8], y[:8])


def used_again(store: FeatureStore) -> None:
    """Find a set, and note when."""
    assert store.find(make_key()) is not None


def cleaned(store: FeatureStore) -> None:
    """Remove entries and what a killed writer has left."""
    clean(store, plan_cleaning(store, older_than_s=-60, orphan_age_s=-60))


TASKS = {
    "find": used_again,
    "remove": lambda store: store.remove(make_key()),
    "gc": cleaned,
    "export": lambda store: export_features(
        FeatureStore(store.root).find(make_key()), store.root.parent / "out" / "f.npz", force=True
    ),
    "import": lambda store: import_features(store, store.root.parent / "seed.h5", force=True),
}


# Errors and interrupts in turn, or each of them at every operation.
@pytest.mark.parametrize("first", range(rounds(1, 2)))
@pytest.mark.parametrize("task", TASKS)
def test_a_fault_in_any_other_operation_leaves_nothing_half_there(
    tmp_path: Path, task: str, first: int
) -> None:
    seed = small(FeatureStore(tmp_path / "seed" / "cache"))
    wanted = content(seed)
    (seed.path / ".00001.h5.7-a1.tmp").touch()
    export_features(seed, tmp_path / "seed" / "seed.h5")
    at = 0
    while True:
        folder = tmp_path / str(at)
        shutil.copytree(tmp_path / "seed", folder)
        store = FeatureStore(folder / "cache")
        disk = Disk(at, (failing_with(errno.EIO), interrupt)[(at + first) % 2])
        outcome: BaseException | None = None
        with pytest.MonkeyPatch.context() as patch:
            disk.install(patch.setattr)
            try:
                TASKS[task](store)
            except (CacheWriteError, KeyboardInterrupt) as error:
                outcome = error
        if len(disk.calls) <= at:
            assert outcome is None
            break
        if isinstance(outcome, CacheWriteError):
            assert str(folder) in str(outcome)
        found = store.find(make_key())
        assert found is None or content(found) == wanted
        assert found is not None or task not in ("export", "find")
        if task == "import" and found is None:
            assert store.progress(make_key()) == 0
        left = {path.name for path in folder.rglob("*.tmp")}
        assert left <= {".00001.h5.7-a1.tmp"}
        out = folder / "out" / "f.npz"
        if out.exists():
            assert content(import_features(FeatureStore(folder / "other"), out)) == wanted
        TASKS[task](store)
        found = store.find(make_key())
        assert found is None if task in ("gc", "remove") else content(found) == wanted
        shutil.rmtree(folder)
        at += 1
    assert at > {"find": 3, "remove": 12, "gc": 14, "export": 6, "import": 40}[task]
    note("A fault at every operation", kind=task, faults=at, half_published=0)
