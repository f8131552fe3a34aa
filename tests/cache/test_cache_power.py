"""The power fails at any moment: whatever the disk then holds, no wrong row is accepted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cache_cases import content, make_data, make_key, three_chunks_a_shard, write
from campaign import note, rounds
from power_loss import Disk, Operation, Recorder, put, states

from featx.cache import FeatureStore
from featx.errors import CacheCorrupt

N_ROWS = 20  # three shards
_many_chunks = pytest.fixture(scope="module", autouse=True)(three_chunks_a_shard)


def recorded(tmp_path: Path, rebuild: bool) -> tuple[Path, list[Operation], bytes]:
    """Return folder and operations of a write, of a set that another one replaces or not."""
    root = tmp_path / "cache"
    root.mkdir()
    store = FeatureStore(root)
    recorder = Recorder(root)
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch.setattr)
        if rebuild:
            X, y = make_data(seed=1)
            write(store, make_key(), X[:N_ROWS], y[:N_ROWS])
        X, y = make_data()
        found = write(store, make_key(), X[:N_ROWS], y[:N_ROWS], rebuild=rebuild)
    assert store.verify()[0].problem is None
    return root, recorder.operations, found.read().tobytes()


@pytest.mark.parametrize("rebuild", [False, True])
def test_no_state_behind_a_power_loss_has_an_accepted_wrong_row(
    tmp_path: Path, rebuild: bool
) -> None:
    root, operations, right = recorded(tmp_path, rebuild)
    X, y = make_data()
    allowed = {right}
    if rebuild:
        # Until it is replaced, the older set is what was asked for then.
        allowed.add(make_data(seed=1)[0][:N_ROWS].tobytes())
    counted = {"states": 0, "complete": 0, "refused": 0, "resumed": 0}
    for number, (_, state) in enumerate(states(operations, rounds(2, 60), seed=4)):
        there = tmp_path / "after"
        there.mkdir()
        put(state, root, there)
        store = FeatureStore(there)
        counted["states"] += 1
        try:
            found = store.find(make_key())
            if found is not None:
                assert found.read().tobytes() in allowed, number
                counted["complete"] += 1
            resumed = write(store, make_key(), X[:N_ROWS], y[:N_ROWS])
            if not rebuild:
                assert resumed.read().tobytes() == right, number
            counted["resumed"] += 1
        except CacheCorrupt:
            counted["refused"] += 1
            rebuilt = write(store, make_key(), X[:N_ROWS], y[:N_ROWS], rebuild=True)
            assert rebuilt.read().tobytes() == right, number
        shutil.rmtree(there)
    assert counted["complete"] > 0
    assert counted["resumed"] > 0
    # Everything that a manifest lists was synced before the manifest.
    assert counted["refused"] == 0
    note("Power loss", rebuild=rebuild, wrong=0, **counted)


def test_a_file_is_certain_behind_the_syncs_of_itself_and_its_folder(tmp_path: Path) -> None:
    root, operations, right = recorded(tmp_path, rebuild=False)
    disk = Disk()
    for operation in operations:
        disk.follow(operation)
    assert disk.pending == {}
    after = tmp_path / "after"
    after.mkdir()
    put(
        {path: None if node is None else node.content for path, node in disk.certain.items()},
        root,
        after,
    )
    found = FeatureStore(tmp_path / "after").find(make_key())
    assert found is not None
    assert found.read().tobytes() == right
    assert content(found)


def test_without_syncs_wrong_states_would_be_seen(tmp_path: Path) -> None:
    """The simulation can fail: a writer that syncs nothing has states that are refused."""
    root, operations, _ = recorded(tmp_path, rebuild=False)
    unsynced = [operation for operation in operations if operation.kind != "sync"]
    refused = 0
    for _, state in states(unsynced, 30, seed=4):
        there = tmp_path / "after"
        there.mkdir()
        put(state, root, there)
        try:
            found = FeatureStore(there).find(make_key())
            if found is not None:
                content(found)
        except CacheCorrupt:
            refused += 1
        shutil.rmtree(there)
    assert refused > 0
