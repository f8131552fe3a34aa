"""A pass over several devices: the bits of one device, in order, and no process left behind."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import featx
import featx.extraction.settings as settings_module
from featx.backbones import load_backbone
from featx.data import ArrayImages, FileImages, Split
from featx.errors import FeatxError, NonFiniteFeatures, UsageError
from featx.extraction import extract, extract_to_store, make_settings, processes
from featx.extraction.processes import batches_of_all_devices
from featx.extraction.settings import cut_points
from featx.progress import Progress

CUTS = ["relu2", "fc1"]
N = 22


@pytest.fixture(scope="module")
def small():
    return load_backbone("cnn-a", "none", seed=3)


@pytest.fixture
def started(monkeypatch) -> list[subprocess.Popen]:
    """The processes that a test starts."""
    found: list[subprocess.Popen] = []

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            if kwargs.get("stdin"):
                found.append(self)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    return found


def one_pass(backbone, images, *, devices="cpu,cpu", start=0, batch_size=4):
    source = ArrayImages(images)
    settings = make_settings(backbone, source.size, device=devices, batch_size=batch_size)
    points = cut_points(backbone, CUTS, settings)
    return batches_of_all_devices(backbone, points, source, settings, batch_size, start=start)


def test_several_processes_give_the_bits_of_one_in_order(small, images, started) -> None:
    alone = dict(one_pass(small, images, devices="cpu"))
    assert not started
    divided = list(one_pass(small, images, devices="cpu,cpu,cpu"))
    assert len(started) == 3
    assert [row for row, _ in divided] == list(alone) == [0, 4, 8, 12, 16, 20]
    for row, features in divided:
        assert list(features) == CUTS
        for cut in CUTS:
            assert np.array_equal(features[cut], alone[row][cut])
    assert all(process.returncode is not None for process in started)


def test_an_interrupted_set_is_gone_on_with_by_other_numbers_of_devices(
    small, images, store, started, monkeypatch
) -> None:
    monkeypatch.setattr("featx.cache.shard_rows_for", lambda n_features, batch, storage: 8)
    split = Split("train", ArrayImages(images), np.arange(N, dtype=np.int64) % 3)
    # Dividing the cores would set another number of threads, which fc1 has in its key.
    one, two = (
        make_settings(small, (32, 32), device=device, batch_size=4, threads=1)
        for device in ("cpu", "cpu,cpu")
    )
    whole = extract_to_store(small, CUTS, split, store, one)
    kept = {cut: found.read() for cut, found in whole.items()}
    for found in whole.values():
        assert found.key.device_kind == "cpu"
        store.remove(found.key)
    real = processes.batches_of_all_devices

    def cut_short(*args, **kwargs):
        for number, batch in enumerate(real(*args, **kwargs)):
            if number == 3:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr("featx.extraction.caching.batches_of_all_devices", cut_short)
        with pytest.raises(KeyboardInterrupt):
            extract_to_store(small, CUTS, split, store, one)
    assert [store.progress(found.key) for found in whole.values()] == [8, 8]
    again = extract_to_store(small, CUTS, split, store, two)
    # Rows 8 to 22 in batches of 4.
    assert len(started) == 2
    for cut in CUTS:
        assert again[cut].key == whole[cut].key
        assert np.array_equal(again[cut].read(), kept[cut])
        assert np.array_equal(again[cut].y, split.y)


def test_more_devices_than_batches_start_no_idle_process(small, images, started) -> None:
    assert len(list(one_pass(small, images, devices="cpu,cpu", batch_size=32))) == 1
    assert not started


def test_an_error_names_the_image_of_the_whole_set(images) -> None:
    backbone = load_backbone("cnn-a", "none", seed=3)
    # Without a mean black is 0 and stays so; white overflows.
    backbone.preprocess = dataclasses.replace(backbone.preprocess, mean=(0.0, 0.0, 0.0))
    with torch.no_grad():
        for conv in ("conv1", "conv2"):
            backbone.model.get_submodule(conv).weight *= 1e30
            backbone.model.get_submodule(conv).bias.zero_()
    source = ArrayImages(np.zeros_like(images))
    source.array[13] = 255
    with pytest.raises(NonFiniteFeatures, match=r"Cut 'relu2' gave .* in row 13 \(image 13\)"):
        extract(backbone, CUTS, source, device="cpu,cpu", batch_size=4)


def test_a_process_that_is_killed_is_an_error_that_says_so(small, images, started) -> None:
    batches = one_pass(small, np.concatenate([images] * 40), batch_size=8)
    next(batches)
    os.kill(started[1].pid, signal.SIGKILL)
    with pytest.raises(FeatxError, match=r"computed on cpu ended with signal SIGKILL\. .*memory"):
        list(batches)
    assert all(process.returncode is not None for process in started)


def test_ctrl_c_and_an_early_end_leave_no_process(small, images, started) -> None:
    batches = one_pass(small, np.concatenate([images] * 40), batch_size=8)
    next(batches)
    # Ctrl-C reaches every process of a terminal: these wait for the one that reads them.
    for process in started:
        os.kill(process.pid, signal.SIGINT)
    next(batches)
    assert all(process.poll() is None for process in started)
    batches.close()
    assert all(process.returncode is not None for process in started)


def begin_with(monkeypatch, *lines: str) -> None:
    """Let the processes run some lines first, with the worker imported as `w`."""
    script = "\n".join(["import featx.extraction.worker as w", *lines, "w.main()"])
    monkeypatch.setattr(processes, "_SCRIPT", script)


def test_short_memory_in_a_process_halves_the_batches(small, images, monkeypatch) -> None:
    begin_with(
        monkeypatch,
        "real = w.forward_batches",
        "def short(*args):",
        "    if args[4] > 4: raise MemoryError('no')",
        "    yield from real(*args)",
        "w.forward_batches = short",
    )
    warned: list[str] = []

    class Ears(Progress):
        def warn(self, text: str) -> None:
            warned.append(text)

    monkeypatch.setitem(settings_module.AUTO_BATCH, "cpu", 8)
    found = extract(small, CUTS, images, device="cpu,cpu", progress=Ears())
    alone = extract(small, CUTS, images, device="cpu", batch_size=4)
    assert all(np.array_equal(found[cut], alone[cut]) for cut in CUTS)
    assert warned == ["Out of memory with batches of 8 images; trying 4."]


def test_an_error_comes_back_with_its_traceback_whatever_it_is(small, images, monkeypatch) -> None:
    begin_with(
        monkeypatch,
        "class Odd(Exception):",
        "    def __init__(self, a, b): super().__init__(a)",
        "def fail(*args):",
        "    raise Odd('broken', 2)",
        "w.forward_batches = fail",
        "print('hello from a library', flush=True)",
    )
    with pytest.raises(RuntimeError, match="Odd: broken") as caught:
        list(one_pass(small, images))
    assert "in fail" in caught.value.__notes__[0]


def test_the_working_directory_is_not_imported_from(small, images, tmp_path, monkeypatch) -> None:
    (tmp_path / "featx").mkdir()
    (tmp_path / "featx" / "__init__.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    # As of an installed program: nothing of its search path is the working directory.
    monkeypatch.setattr("sys.path", [str(Path(featx.__file__).parent.parent), *sys.path[1:]])
    assert len(list(one_pass(small, images))) == 6


def test_what_cannot_be_sent_is_said(images) -> None:
    class Own(ArrayImages):
        def take(self, indices):
            return Own(self.array[indices])

    backbone = load_backbone("cnn-a", "none", seed=3)
    with pytest.raises(UsageError, match=r"cannot be sent to the process of another device: .*Own"):
        extract(backbone, CUTS, Own(images), device="cpu,cpu", batch_size=4)


def test_files_of_many_sizes_through_a_network_of_torchvision(backbone, images, tmp_path) -> None:
    for number, image in enumerate(images):
        side = 24 + number
        Image.fromarray(image).resize((side, side + 3)).save(tmp_path / f"{number:02d}.png")
    source = FileImages(sorted(tmp_path.glob("*.png")))
    wanted = {"image_size": 32, "batch_size": 4, "workers": 2}
    alone = extract(backbone, "layer1", source, device="cpu", **wanted)
    divided = extract(backbone, "layer1", source, device="cpu,cpu", **wanted)
    assert np.array_equal(divided["layer1"], alone["layer1"])


def test_processes_divide_the_cores(small, monkeypatch) -> None:
    monkeypatch.setattr("featx.extraction.settings.n_cpus", lambda: 8)
    two = make_settings(small, (32, 32), device="cpu,cpu", decodes=True)
    assert (two.threads, two.workers, len(two.devices)) == (4, 4, 2)
    one = make_settings(small, (32, 32), device="cpu", decodes=True)
    assert (one.threads, one.workers, len(one.devices)) == (None, 8, 1)
    assert make_settings(small, (32, 32), device="cpu,cpu", threads=3).threads == 3
