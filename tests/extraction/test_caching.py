"""`extract_to_store`: found again, resumed to the same bits, never mixed up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from extraction_cases import CUTS, limit_batches

import featx
import featx.errors
from featx.backbones import Capture
from featx.errors import BudgetExceeded
from featx.extraction import (
    check_budget,
    cut_points,
    extract_to_store,
    feature_key,
    make_settings,
    plan_split,
)


@pytest.fixture
def settings(backbone, split):
    return make_settings(backbone, split.images.size, image_size="native", batch_size=4)


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch) -> None:
    """Shards of 8 rows, and of 4 for the widest cut: cuts get out of step, as real ones do."""
    monkeypatch.setattr(
        "featx.cache.shard_rows_for",
        lambda n_features, batch, storage: max(batch, 4 if n_features > 256 else 8),
    )


def count_batches(monkeypatch, fail_at: int | None = None) -> list[int]:
    calls: list[int] = []
    run = Capture.__call__

    def call(self, x):
        if fail_at is not None and len(calls) == fail_at:
            raise KeyboardInterrupt
        calls.append(len(x))
        return run(self, x)

    monkeypatch.setattr(Capture, "__call__", call)
    return calls


def test_other_poolings_come_out_of_the_same_pass_bit_for_bit(
    backbone, split, store, settings, monkeypatch, tmp_path
) -> None:
    others = ["grid:2", "flatten"]
    cuts = CUTS[:2]
    alone = {
        pool: extract_to_store(
            backbone, cuts, split, type(store)(tmp_path / pool),
            dataclasses.replace(settings, pool=pool),
        )
        for pool in (settings.pool, *others)
    }  # fmt: skip
    calls = count_batches(monkeypatch)
    found = {settings.pool: extract_to_store(backbone, cuts, split, store, settings, also=others)}
    n_batches = -(-len(split) // 4)
    assert len(calls) == n_batches
    for pool in others:
        pooled = dataclasses.replace(settings, pool=pool)
        found[pool] = extract_to_store(backbone, cuts, split, store, pooled)
    # What was computed with the first is found by the others, under the same keys.
    assert len(calls) == n_batches
    for pool, sets in alone.items():
        assert list(found[pool]) == cuts
        for cut in cuts:
            assert found[pool][cut].key == sets[cut].key
            assert np.array_equal(found[pool][cut].read(), sets[cut].read())
    assert len({sets[cuts[0]].n_features for sets in found.values()}) == 3


def test_a_pooling_that_is_asked_for_twice_is_computed_once(
    backbone, split, store, settings, monkeypatch
) -> None:
    calls = count_batches(monkeypatch)
    also = [settings.pool, "grid:2", "grid:02"]
    found = extract_to_store(backbone, CUTS[:2], split, store, settings, also=also)
    assert list(found) == CUTS[:2]
    assert len(calls) == -(-len(split) // 4)
    assert len(store.entries()) == 4


def test_an_interrupted_pass_of_several_poolings_goes_on(
    backbone, split, store, settings, monkeypatch
) -> None:
    with monkeypatch.context() as stopped:
        count_batches(stopped, fail_at=3)
        with pytest.raises(KeyboardInterrupt):
            extract_to_store(backbone, CUTS, split, store, settings, also=["max"])
    extract_to_store(backbone, CUTS, split, store, settings, also=["max"])
    pooled = dataclasses.replace(settings, pool="max")
    found = extract_to_store(backbone, CUTS, split, store, pooled)
    wanted = featx.extract(
        backbone, CUTS, split.images, image_size="native", batch_size=4, pool="max"
    )
    for cut in CUTS:
        assert np.array_equal(found[cut].read(), wanted[cut])


def test_a_compiled_pass_computes_nothing_for_later_runs(
    backbone, split, store, settings, monkeypatch
) -> None:
    asked: list[list[str]] = []

    def stop(backbone, points, *args, **kwargs):
        asked.append(list(points))
        raise KeyboardInterrupt

    monkeypatch.setattr("featx.extraction.caching.batches_of_all_devices", stop)
    for compiled in (False, True):
        with pytest.raises(KeyboardInterrupt):
            extract_to_store(
                backbone, CUTS[:1], split, store,
                dataclasses.replace(settings, compile=compiled), also=["max"],
            )  # fmt: skip
    assert asked == [["layer1", "layer1 (max)"], ["layer1"]]


def test_cached_features_are_those_in_memory(backbone, split, store, settings, images) -> None:
    found = extract_to_store(backbone, CUTS, split, store, settings)
    wanted = featx.extract(backbone, CUTS, images, image_size="native", batch_size=4)
    for cut in CUTS:
        assert np.array_equal(found[cut].read(), wanted[cut])
        assert np.array_equal(found[cut].y, split.y)
        np.testing.assert_allclose(found[cut].moments.mean, wanted[cut].mean(0), rtol=1e-5)
        np.testing.assert_allclose(found[cut].moments.var, wanted[cut].var(0), rtol=1e-4)


def test_a_second_call_does_no_work(backbone, split, store, settings, monkeypatch) -> None:
    first = extract_to_store(backbone, CUTS, split, store, settings)
    calls = count_batches(monkeypatch)
    again = extract_to_store(backbone, CUTS, split, store, settings)
    assert calls == []
    for cut in CUTS:
        assert np.array_equal(first[cut].read(), again[cut].read())


def test_only_the_missing_cut_is_computed(backbone, split, store, settings, monkeypatch) -> None:
    extract_to_store(backbone, CUTS[:1], split, store, settings)
    calls = count_batches(monkeypatch)
    extract_to_store(backbone, CUTS, split, store, settings)
    # One pass of 22 images for both missing cuts.
    assert calls == [4, 4, 4, 4, 4, 2]


@pytest.mark.parametrize("fail_at", [0, 1, 2, 3, 5])
def test_an_interrupted_run_resumes_to_the_same_bits(
    backbone, split, store, settings, monkeypatch, tmp_path, fail_at
) -> None:
    undisturbed = extract_to_store(
        backbone, CUTS, split, featx.FeatureStore(tmp_path / "other"), settings
    )
    with monkeypatch.context() as patch:
        count_batches(patch, fail_at)
        with pytest.raises(KeyboardInterrupt):
            extract_to_store(backbone, CUTS, split, store, settings)
    with monkeypatch.context() as patch:
        calls = count_batches(patch)
        resumed = extract_to_store(backbone, CUTS, split, store, settings)
    # At most one shard (8 rows, 2 batches) is computed again.
    assert len(calls) <= 6 - fail_at + 1
    for cut in CUTS:
        assert np.array_equal(resumed[cut].read(), undisturbed[cut].read())
        assert np.array_equal(resumed[cut].moments.m2, undisturbed[cut].moments.m2)
        assert np.array_equal(resumed[cut].y, split.y)


def test_a_run_that_halved_its_batches_is_found_again(backbone, split, store, monkeypatch) -> None:
    settings = make_settings(backbone, split.images.size, image_size="native")
    with monkeypatch.context() as patch:
        limit_batches(patch, 5)
        extract_to_store(backbone, CUTS, split, store, settings)
    calls = count_batches(monkeypatch)
    found = extract_to_store(backbone, CUTS, split, store, settings)
    assert calls == []
    assert {features.key.batch_size for features in found.values()} == {4}
    assert len(store.entries()) == len(CUTS)


def test_memory_that_runs_out_leaves_what_an_earlier_run_published(
    backbone, split, store, settings, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        count_batches(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            extract_to_store(backbone, CUTS, split, store, settings)
    before = [entry.rows for entry in store.entries()]
    assert sum(before) > 0
    with monkeypatch.context() as patch:
        limit_batches(patch, 2)
        with pytest.raises(featx.FeatxError, match="Out of memory"):
            extract_to_store(backbone, CUTS, split, store, settings)
    assert [entry.rows for entry in store.entries()] == before


def test_what_float16_cannot_hold_is_refused_with_the_image(split, store) -> None:
    loud = featx.load_backbone("resnet18", "none")
    with torch.no_grad():
        loud.model.layer1[1].bn2.weight.fill_(1e6)
    settings = make_settings(loud, split.images.size, image_size="native", storage="float16")
    with pytest.raises(featx.errors.NonFiniteFeatures, match=r"image \d.*--storage float32"):
        extract_to_store(loud, ["layer1"], split, store, settings)


def test_rebuild_computes_anew(backbone, split, store, settings, monkeypatch) -> None:
    extract_to_store(backbone, CUTS, split, store, settings)
    calls = count_batches(monkeypatch)
    extract_to_store(backbone, CUTS, split, store, settings, rebuild=True)
    assert sum(calls) == 22


def test_float16_storage_keeps_half_the_bytes(backbone, split, store, settings) -> None:
    whole = extract_to_store(backbone, CUTS, split, store, settings)["layer1"]
    half_settings = dataclasses.replace(settings, storage="float16")
    half = extract_to_store(backbone, CUTS, split, store, half_settings)["layer1"]
    assert np.array_equal(half.read(), whole.read().astype(np.float16).astype(np.float32))


def test_an_alias_and_its_module_share_an_entry(backbone, split, store, settings) -> None:
    def key(cut):
        point = cut_points(backbone, [cut], settings)[cut]
        return feature_key(backbone, split, settings, point, 4)

    assert key("conv4_block2_out") == key("layer3.1")
    assert key("layer3.0") != key("layer3.1")


def test_the_key_follows_what_changes_numbers_and_nothing_else(
    backbone, split, settings, images
) -> None:
    point = cut_points(backbone, ["layer1"], settings)["layer1"]

    def digest(split=split, settings=settings, network=backbone, point=point):
        return feature_key(network, split, settings, point, 4).digest

    change = dataclasses.replace
    others = {
        "weights": digest(network=featx.load_backbone("resnet18", "none", seed=4)),
        "labels": digest(split=change(split, y=split.y[::-1].copy())),
        "split": digest(split=change(split, name="val")),
        "order": digest(split=split.take(np.arange(22)[::-1])),
        "size": digest(settings=change(settings, preprocess=settings.preprocess.with_size(64))),
        "pool": digest(point=change(point, pool="max")),
        "precision": digest(settings=change(settings, precision="bf16")),
        "storage": digest(settings=change(settings, storage="float16")),
        "device": digest(settings=change(settings, device=torch.device("cuda"))),
    }
    assert len({digest(), *others.values()}) == len(others) + 1
    assert digest(settings=change(settings, workers=3)) == digest()
    renamed = change(settings.preprocess, name="other")
    assert digest(settings=change(settings, preprocess=renamed)) == digest()


def test_a_plan_says_what_is_there(backbone, split, store, settings, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        count_batches(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            extract_to_store(backbone, CUTS, split, store, settings)
    points = cut_points(backbone, CUTS, settings)
    plan = plan_split(backbone, points, split, store, settings)
    assert {cut: item.rows_done for cut, item in plan.items()} == {
        "layer1": 8, "conv4_block2_out": 8, "avgpool": 12,
    }  # fmt: skip
    assert [item.cached for item in plan.values()] == [False] * 3
    extract_to_store(backbone, CUTS, split, store, settings)
    plan = plan_split(backbone, points, split, store, settings)
    assert [item.cached for item in plan.values()] == [True] * 3
    rebuilt = plan_split(backbone, points, split, store, settings, rebuild=True)
    assert [item.cached for item in rebuilt.values()] == [False] * 3


def test_what_does_not_fit_is_refused_before_it_starts(backbone, split, store, monkeypatch) -> None:
    settings = make_settings(backbone, split.images.size, image_size="native", pool="flatten")
    points = cut_points(backbone, CUTS, settings)
    plan = list(plan_split(backbone, points, split, store, settings).values())
    check_budget(plan, points, store, 10**9)
    with pytest.raises(BudgetExceeded, match=r"on their way .*--memory-budget.*--pool avg"):
        check_budget(plan, points, store, 1000)
    monkeypatch.setattr(type(store), "free_bytes", lambda self: 10_000)
    with pytest.raises(BudgetExceeded, match=r"10 kB is free on the disk.* --pool avg"):
        check_budget(plan, points, store, 10**9)
    pooled = make_settings(backbone, split.images.size, image_size="native", pool="avg")
    points = cut_points(backbone, CUTS, pooled)
    plan = list(plan_split(backbone, points, split, store, pooled).values())
    with pytest.raises(BudgetExceeded, match="Use fewer images"):
        check_budget(plan, points, store, 10**9)


def test_a_resumed_run_has_room_for_the_shard_that_it_reads(backbone, split, store) -> None:
    settings = make_settings(
        backbone, split.images.size, image_size="native", pool="flatten", batch_size=4
    )
    points = cut_points(backbone, CUTS, settings)
    plan = list(plan_split(backbone, points, split, store, settings).values())
    chunks = least_budget(plan, points, store)
    begun = [dataclasses.replace(item, rows_done=1) for item in plan]
    # One at a time: the largest of them, of float32 values and a label of 8 bytes a row.
    largest = max(item.key.shard_rows * (4 * item.n_features + 8) for item in plan)
    assert all(item.key.shard_rows <= item.n_rows for item in plan)
    assert least_budget(begun, points, store) == chunks + largest
    done = [dataclasses.replace(item, rows_done=item.n_rows) for item in plan]
    assert least_budget(done, points, store) == 1


def least_budget(plan, points, store) -> int:
    """Return the least memory that is allowed, by halving."""
    low, high = 0, 2**40
    while high - low > 1:
        middle = (low + high) // 2
        try:
            check_budget(plan, points, store, middle)
            high = middle
        except BudgetExceeded:
            low = middle
    return high


@pytest.mark.parametrize("width", [63, 65])
def test_a_set_of_another_width_than_the_cut_is_refused(
    backbone, split, store, settings, width
) -> None:
    points = cut_points(backbone, ["layer1"], settings)
    key = plan_split(backbone, points, split, store, settings)["layer1"].key
    with store.writer(key, n_rows=len(split), n_features=width) as writer:
        writer.append(np.ones((len(split), width), np.float32), split.y)
        writer.finish()
    assert points["layer1"].n_pooled == 64
    with pytest.raises(featx.errors.CacheCorrupt, match=f"x {width} values instead of .* x 64"):
        extract_to_store(backbone, ["layer1"], split, store, settings)
