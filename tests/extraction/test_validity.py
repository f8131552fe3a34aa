"""Features are finite or refused by name, and no hook outlives an error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from extraction_cases import CUTS, batches_at

import featx
from featx.backbones import Capture
from featx.data import Split
from featx.errors import NonFiniteFeatures, ShapeError
from featx.extraction import extract_to_store, make_settings
from featx.progress import Progress

PLAIN = {"fold": False, "channels_last": False}


@pytest.fixture(params=[{}, PLAIN], ids=["folded", "plain"])
def numerics(request):
    return request.param


@pytest.fixture
def settings(backbone, split, numerics):
    return make_settings(backbone, split.images.size, image_size="native", batch_size=4, **numerics)


def hooks_of(model: torch.nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def spoil(monkeypatch, image: int, cut: str, value: float) -> None:
    """Let the network give a value at a cut for one image."""
    run, seen = Capture.__call__, [0]

    def call(self, x):
        found = run(self, x)
        if seen[0] <= image < seen[0] + len(x):
            found[cut] = found[cut].clone()
            found[cut][image - seen[0], 3] = value
        seen[0] += len(x)
        return found

    monkeypatch.setattr(Capture, "__call__", call)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["memory", "cache"])
def test_what_is_not_finite_is_named_by_cut_row_and_image(
    backbone, split, store, settings, monkeypatch, value, where
) -> None:
    spoil(monkeypatch, 13, CUTS[1], value)
    named = split.images.in_split("train", "train").take(np.arange(22)[::-1])
    shown = rf"Cut '{CUTS[1]}' gave {value} in row 13 \(train image 13 \(source row 8\)\)"
    ways = {
        "memory": lambda: featx.extract(backbone, CUTS, named, image_size="native", batch_size=4),
        "cache": lambda: extract_to_store(
            backbone, CUTS, Split("train", named, split.y), store, settings
        ),
    }
    with pytest.raises(NonFiniteFeatures, match=shown):
        ways[where]()
    # What was finite before it may be in the cache; the image is not.
    assert all(info.rows <= 12 and not info.complete for info in store.entries())


def in_the_network(backbone, monkeypatch) -> None:
    def fail(x):
        raise RuntimeError("in the network")

    monkeypatch.setattr(backbone.model.layer2, "forward", fail)


def interrupted(backbone, monkeypatch) -> None:
    def stop(x):
        raise KeyboardInterrupt

    monkeypatch.setattr(backbone.model.layer2, "forward", stop)


def behind_the_network(backbone, monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("featx.extraction.forward._checked", fail)


def in_the_writer(backbone, monkeypatch) -> None:
    def fail(*args, **kwargs):
        raise OSError("disk")

    monkeypatch.setattr("featx.cache.FeatureWriter.append", fail)


@pytest.mark.parametrize(
    "trouble", [in_the_network, interrupted, behind_the_network, in_the_writer]
)
def test_no_hook_is_left_where_an_extraction_fails(
    backbone, split, store, settings, monkeypatch, trouble: Callable[..., None]
) -> None:
    # After a first batch, which looks at the network: the trouble is met by the extraction.
    next(batches_at(backbone, CUTS, split.images, settings, 4))
    assert hooks_of(backbone.model) == 0
    with monkeypatch.context() as patch:
        trouble(backbone, patch)
        with pytest.raises((RuntimeError, KeyboardInterrupt, ZeroDivisionError, OSError)) as kept:
            extract_to_store(backbone, CUTS, split, store, settings)
    # The error and its frames are still there: nothing waits for the collector.
    assert kept.value is not None
    assert hooks_of(backbone.model) == 0
    found = extract_to_store(backbone, CUTS, split, store, settings)
    assert hooks_of(backbone.model) == 0
    assert set(found) == set(CUTS)


@pytest.mark.parametrize("trouble", [in_the_network, interrupted, behind_the_network])
def test_no_hook_is_left_where_features_in_memory_fail(
    backbone, images, numerics, monkeypatch, trouble: Callable[..., None]
) -> None:
    featx.extract(backbone, CUTS, images[:4], image_size="native", batch_size=4, **numerics)
    with monkeypatch.context() as patch:
        trouble(backbone, patch)
        with pytest.raises((RuntimeError, KeyboardInterrupt, ZeroDivisionError)) as kept:
            featx.extract(backbone, CUTS, images, image_size="native", batch_size=4, **numerics)
    assert kept.value is not None
    assert hooks_of(backbone.model) == 0


def test_no_hook_is_left_where_the_first_look_fails(monkeypatch) -> None:
    backbone = featx.load_backbone("resnet18", "none")
    in_the_network(backbone, monkeypatch)
    with pytest.raises(ShapeError, match="in the network"):
        backbone.describe_cuts(CUTS, 32)
    assert hooks_of(backbone.model) == 0


def test_no_hook_is_left_where_the_listener_fails(backbone, images, numerics) -> None:
    class Interrupting(Progress):
        def task(self, *args, **kwargs):
            def advance(n: int) -> None:
                raise KeyboardInterrupt

            return nullcontext(advance)

    with pytest.raises(KeyboardInterrupt) as kept:
        featx.extract(
            backbone,
            CUTS,
            images,
            image_size="native",
            batch_size=4,
            progress=Interrupting(),
            **numerics,
        )
    assert kept.value is not None
    assert hooks_of(backbone.model) == 0


def test_no_hook_is_left_where_batches_are_not_read_to_the_end(
    backbone, split, settings, numerics
) -> None:
    batches = batches_at(backbone, CUTS, split.images, settings, 4)
    next(batches)
    # They are on a working copy, so that another pass may begin meanwhile.
    assert hooks_of(backbone.model) == 0
    batches.close()
    assert hooks_of(backbone.model) == 0
