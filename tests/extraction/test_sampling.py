"""A sampled rate counts what passed and nothing else, and keeps nothing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from featx.errors import FeatxError
from featx.extraction import cut_points, make_settings, sample_rate, sampling


@pytest.fixture
def settings(backbone, split):
    return make_settings(backbone, split.images.size, image_size="native", batch_size=4)


@pytest.fixture
def points(backbone, settings):
    return cut_points(backbone, ["layer1", "layer2"], settings)


def batches(monkeypatch, sizes: list[int], seconds: list[float]) -> list[int]:
    """Let a pass give batches that take so long each; return where each batch went out."""
    now = 0.0
    out: list[int] = []

    def passing(backbone, points, images, settings, batch_size):
        nonlocal now
        for n, took in zip(sizes, seconds, strict=True):
            now += took
            out.append(n)
            yield len(out), {cut: np.zeros((n, 2), np.float32) for cut in points}

    monkeypatch.setattr(sampling, "batches_of_all_devices", passing)
    monkeypatch.setattr(sampling, "time", SimpleNamespace(perf_counter=lambda: now))
    return out


def test_two_batches_only_warm_up_and_the_last_which_is_small_does_not_count(
    backbone, points, split, settings, monkeypatch
) -> None:
    batches(monkeypatch, [4, 4, 4, 4, 4, 2], [100.0, 50.0, 1.0, 1.0, 1.0, 9.0])
    rate = sample_rate(backbone, points, split, settings)
    assert (rate.images_per_s, rate.n_images) == (12 / 3, 12)


def test_it_ends_with_the_batch_that_fills_the_time(
    backbone, points, split, settings, monkeypatch
) -> None:
    out = batches(monkeypatch, [4, 4, 4, 4, 4, 2], [9.0, 9.0, 2.0, 2.0, 2.0, 2.0])
    rate = sample_rate(backbone, points, split, settings, seconds=3.0)
    assert (rate.images_per_s, rate.n_images) == (8 / 4, 8)
    assert len(out) == 4


def test_several_devices_warm_up_with_two_batches_each(
    backbone, points, split, settings, monkeypatch
) -> None:
    two = replace(settings, batch_size=2, more_devices=(settings.device,))
    batches(monkeypatch, [2] * 11, [7.0] * 4 + [1.0] * 7)
    rate = sample_rate(backbone, points, split, two, seconds=99)
    assert (rate.images_per_s, rate.n_images) == (14 / 7, 14)


@pytest.mark.parametrize("batch_size", [22, 21, 8])
def test_of_few_batches_all_pass_twice(
    backbone, points, split, settings, monkeypatch, batch_size
) -> None:
    sizes = [22] if batch_size == 22 else [batch_size] * (22 // batch_size) + [22 % batch_size]
    out = batches(monkeypatch, sizes, [7.0] * len(sizes))
    rate = sample_rate(
        backbone, points, split, replace(settings, batch_size=batch_size), seconds=99
    )
    assert (rate.images_per_s, rate.n_images) == (22 / (7 * len(sizes)), 22)
    assert out == sizes * 2


@pytest.mark.parametrize("batch_size", [4, 32])
def test_the_pass_is_that_of_an_extraction(backbone, points, split, settings, batch_size) -> None:
    rate = sample_rate(backbone, points, split, replace(settings, batch_size=batch_size))
    assert rate.n_images == (12 if batch_size == 4 else 22)
    assert 0 < rate.images_per_s < 1e6
    assert not any(module._forward_hooks for module in backbone.model.modules())


def test_smaller_batches_where_memory_is_short(
    backbone, points, split, settings, monkeypatch
) -> None:
    asked: list[int] = []
    real = sampling.batches_of_all_devices

    def short(backbone, points, images, settings, batch_size):
        asked.append(batch_size)
        if batch_size > 4:
            raise MemoryError
        return real(backbone, points, images, settings, batch_size)

    monkeypatch.setattr(sampling, "batches_of_all_devices", short)
    auto = replace(settings, batch_size="auto", auto_batch=16)
    assert sample_rate(backbone, points, split, auto).n_images == 12
    assert asked == [16, 8, 4]
    with pytest.raises(FeatxError, match="Out of memory on cpu with batches of 16"):
        sample_rate(backbone, points, split, replace(settings, batch_size=16))
