"""What crosses between host and device, and what is left when the loop is left."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import threading
import tracemalloc

import numpy as np
import pytest
import torch
from extraction_cases import CUTS, batches_at
from PIL import Image

import featx
from featx.backbones import Capture
from featx.data import ArrayImages, FileImages
from featx.errors import NonFiniteFeatures
from featx.extraction import make_settings
from featx.extraction.forward import geometry_while_decoding
from featx.extraction.transfer import Fetch


@pytest.mark.parametrize(
    ("side", "kind", "while_decoding"),
    [(32, "cpu", False), (48, "cpu", True), (48, "cuda", False), (100, "cuda", True)],
)
def test_large_files_are_made_smaller_while_they_are_decoded(
    backbone, tmp_path, side: int, kind: str, while_decoding: bool
) -> None:
    for i in range(2):
        Image.new("RGB", (side, side), (i, 0, 0)).save(tmp_path / f"{i}.png")
    files = FileImages(sorted(tmp_path.glob("*.png")))
    settings = make_settings(backbone, files.size, image_size=32)
    settings = dataclasses.replace(settings, device=torch.device(kind))
    assert (geometry_while_decoding(files, settings) is not None) is while_decoding


@pytest.fixture
def settings(backbone, images):
    return make_settings(backbone, images.shape[1:3], image_size="native", batch_size=4)


def test_only_pooled_values_and_one_flag_a_cut_reach_the_host(
    backbone, images, settings, monkeypatch
) -> None:
    crossed = []
    move, to_numpy = torch.Tensor.to, torch.Tensor.numpy

    def record_move(self, *args, **kwargs):
        if args and str(args[0]) == "cpu" and self.dtype != torch.uint8:
            crossed.append(self.numel() * self.element_size())
        return move(self, *args, **kwargs)

    def record_numpy(self):
        assert self.numel() * self.element_size() in crossed
        return to_numpy(self)

    monkeypatch.setattr(type(backbone), "to", lambda self, device: self)
    monkeypatch.setattr(torch.Tensor, "to", record_move)
    monkeypatch.setattr(torch.Tensor, "numpy", record_numpy)
    monkeypatch.setattr(torch.Tensor, "cpu", None)
    # Folding looks at the weights on the host, once and before any image.
    settings = dataclasses.replace(settings, fold=False)
    found = list(batches_at(backbone, CUTS, ArrayImages(images[:8]), settings, 4))
    pooled = sum(values.nbytes for _, features in found for values in features.values())
    assert sum(crossed) == pooled + len(found) * len(CUTS)


@pytest.mark.parametrize(
    ("value", "limit", "bad"),
    [
        (1.0, 1.0, False),
        (-1.0, 1.0, False),
        (1.5, 1.0, True),
        (-1.5, 1.0, True),
        (float("nan"), 1.0, True),
        (float("inf"), 3e38, True),
        (-float("inf"), 3e38, True),
    ],
)
def test_what_cannot_be_stored_is_found_wherever_it_is(value, limit, bad) -> None:
    for place in (0, 7, 14):
        values = torch.zeros(3, 5)
        values.view(-1)[place] = value
        found, cuts = Fetch({"good": torch.zeros(3, 5), "x": values}, limit).result()
        assert cuts == (["x"] if bad else [])
        np.testing.assert_array_equal(found["x"], values.numpy())


class FakeCuda(str):
    """The CPU under the name of a GPU."""

    type = "cuda"

    def __new__(cls) -> FakeCuda:
        return super().__new__(cls, "cpu")


class FakeStream:
    """Records the order of what a stream is asked for."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def record_event(self) -> FakeStream:
        self.log.append(f"{self.name} records")
        return self

    def wait_event(self, event: FakeStream) -> None:
        self.log.append(f"{self.name} waits for {event.name}")

    def synchronize(self) -> None:
        self.log.append(f"host waits for {self.name}")


@pytest.fixture
def cuda(monkeypatch) -> list[str]:
    """A CUDA whose streams run at once; what they were asked for, in order."""
    log: list[str] = []
    side, main = FakeStream(log, "side"), FakeStream(log, "main")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: log.append("pin") or self)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    return log


def test_a_gpus_loop_gives_the_same_rows_and_waits_where_it_must(
    backbone, images, settings, cuda, monkeypatch
) -> None:
    source = ArrayImages(images)
    # On a CPU alone small maps have an order of their own, and with it other last digits.
    settings = dataclasses.replace(settings, channels_last=False)
    wanted = list(batches_at(backbone, CUTS, source, settings, 4, start=8))
    monkeypatch.setattr(type(backbone), "to", lambda self, device: self)
    settings = dataclasses.replace(settings, device=FakeCuda())
    found = list(batches_at(backbone, CUTS, source, settings, 4, start=8))
    assert [row for row, _ in found] == [row for row, _ in wanted] == [8, 12, 16, 20]
    for (_, ours), (_, theirs) in zip(found, wanted, strict=True):
        for cut in CUTS:
            np.testing.assert_array_equal(ours[cut], theirs[cut])
    assert cuda.count("side records") == 4
    assert cuda.count("main waits for side") == cuda.count("pin") == 4


def running() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    # Those that normalize belong to the process, not to a pass.
    return [n for n in names if n.startswith("featx-") and not n.startswith("featx-normalize")]


def test_a_gpus_loop_left_early_leaves_no_thread_and_no_hook(
    backbone, images, settings, cuda, monkeypatch
) -> None:
    monkeypatch.setattr(type(backbone), "to", lambda self, device: self)
    settings = dataclasses.replace(settings, device=FakeCuda())
    batches = batches_at(backbone, CUTS, ArrayImages(images), settings, 4)
    next(batches)
    assert running()
    with pytest.raises(KeyboardInterrupt):
        batches.throw(KeyboardInterrupt())
    assert not running()
    assert not any(module._forward_hooks for module in backbone.model.modules())


def photos(folder, n: int) -> FileImages:
    for i in range(n):
        noise = np.random.default_rng(i).integers(0, 256, (20 + i, 30, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i:02}.png")
    return FileImages(sorted(folder.glob("*.png")))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, None])
def test_leaving_the_loop_ends_the_threads_and_removes_the_hooks(backbone, tmp_path, error) -> None:
    source = photos(tmp_path, 12)
    settings = make_settings(backbone, None, image_size=32, batch_size=2, workers=2)
    batches = batches_at(backbone, CUTS, source, settings, 2)
    next(batches)
    assert running()
    if error is None:
        batches.close()
    else:
        with pytest.raises(error):
            batches.throw(error())
    assert not running()
    assert not any(module._forward_hooks for module in backbone.model.modules())


def test_a_file_lost_on_the_way_is_named_and_ends_the_threads(backbone, tmp_path) -> None:
    source = photos(tmp_path, 12)
    assert source.size is None
    source.paths[7].unlink()
    settings = make_settings(backbone, None, image_size=32, batch_size=2, workers=2)
    with pytest.raises(featx.errors.DataError, match=r"07\.png cannot be decoded"):
        list(batches_at(backbone, CUTS, source, settings, 2))
    assert not running()


def test_an_error_of_the_network_ends_the_threads(backbone, tmp_path, monkeypatch) -> None:
    def fail(self, x):
        raise RuntimeError("a layer failed")

    source = photos(tmp_path, 6)
    settings = make_settings(backbone, None, image_size=32, batch_size=2, workers=2)
    monkeypatch.setattr(Capture, "__call__", fail)
    with pytest.raises(RuntimeError, match="a layer failed"):
        list(batches_at(backbone, CUTS, source, settings, 2))
    assert not running()


def test_the_row_that_cannot_be_stored_is_named_in_a_later_batch(backbone, images) -> None:
    settings = make_settings(
        backbone, images.shape[1:3], image_size="native", batch_size=4, storage="float16"
    )
    run = Capture.__call__
    calls = []

    def call(self, x):
        values = run(self, x)
        calls.append(len(x))
        if len(calls) == 3:
            with torch.inference_mode():
                values["layer4"][1, 5] = 1e6
        return values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Capture, "__call__", call)
        with pytest.raises(NonFiniteFeatures, match=r"gave 1000000\.0 in row 9 \(image 9\)"):
            list(batches_at(backbone, ["layer4"], ArrayImages(images), settings, 4))


@pytest.mark.parametrize("files", [False, True])
def test_memory_does_not_grow_with_the_number_of_images(backbone, tmp_path, files) -> None:
    """Python's and NumPy's allocations after 200 batches are those after 50.

    Tensors are not counted, but the objects that hold them are: 400 bytes a batch for features.
    """
    if files:
        source = photos(tmp_path, 4).take([0, 1, 2, 3] * 100)
        settings = make_settings(backbone, None, image_size=16, batch_size=2, workers=1)
    else:
        source = ArrayImages(np.zeros((400, 16, 16, 3), np.uint8))
        settings = make_settings(backbone, (16, 16), image_size="native", batch_size=2)
    held = {}
    tracemalloc.start()
    try:
        for row, _ in batches_at(backbone, ["layer1"], source, settings, 2):
            if row in (100, 398):
                gc.collect()
                held[row] = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held[398] - held[100] < 40_000
