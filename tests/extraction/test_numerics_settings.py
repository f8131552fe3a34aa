"""Settings of the forward pass: decided once, said in the key, threads and memory handled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from extraction_cases import CUTS

from featx import machine
from featx.errors import UsageError
from featx.extraction import cut_points, extract_to_store, feature_key, make_settings
from featx.extraction import forward as forward_module
from featx.extraction.forward import arithmetic

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def settings(backbone, split):
    return make_settings(backbone, split.images.size, image_size="native", batch_size=4)


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 sse", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu avx2 avx512f avx512bw", False),
        ("bugs\t\t: avx512_bf16", False),
    ],
)
def test_the_processor_says_whether_it_has_bf16(tmp_path, monkeypatch, line, has) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.cpu_has_bf16() is has
    assert machine.fast_precisions(CPU) == (("bf16",) if has else ())
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "none")
    assert not machine.cpu_has_bf16()


@pytest.mark.parametrize(
    ("major", "fast"), [(6, ()), (7, ("fp16",)), (8, ("bf16", "fp16")), (9, ("bf16", "fp16"))]
)
def test_a_gpu_says_what_its_tensor_cores_take(monkeypatch, major, fast) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    assert machine.fast_precisions(GPU) == fast


@pytest.mark.parametrize(
    ("precision", "allow", "fast", "picked"),
    [
        ("auto", (), ("bf16", "fp16"), "fp32"),
        ("auto", ("bf16",), ("bf16", "fp16"), "bf16"),
        ("auto", ("fp16",), ("bf16", "fp16"), "fp16"),
        ("auto", ("fp16", "bf16"), ("bf16", "fp16"), "bf16"),
        ("auto", ("bf16", "fp16"), (), "fp32"),
        ("fp32", (), ("bf16",), "fp32"),
        ("bf16", (), (), "bf16"),
    ],
)
def test_auto_never_goes_below_what_is_allowed(monkeypatch, precision, allow, fast, picked) -> None:
    monkeypatch.setattr(machine, "fast_precisions", lambda device: fast)
    assert machine.pick_precision(precision, allow, CPU) == picked


def test_the_key_says_all_that_changes_bits(backbone, split, settings) -> None:
    point = cut_points(backbone, ["layer1"], settings)["layer1"]

    def key(**changes):
        return feature_key(backbone, split, replace(settings, **changes), point, 4)

    kinds = [key(), key(channels_last=False), key(fold=False), key(precision="bf16")]
    kinds += [
        key(compile=True, compiled_for=("layer1",)),
        key(compile=True, compiled_for=("layer1", "layer2")),
    ]
    assert len({kind.digest for kind in kinds}) == len(kinds)
    assert key(threads=3) == key(auto_batch=7) == key()
    assert key().numerics == "channels-last, small maps channels-first, BatchNorm folded"
    assert key(precision="bf16").numerics == "channels-last, BatchNorm folded"
    assert kinds[-1].numerics.endswith("compiled for layer1 layer2")


def test_small_maps_have_their_order_where_it_was_measured_to_win(settings) -> None:
    assert settings.numerics.small_maps_first
    for other in (
        {"precision": "bf16"}, {"compile": True}, {"channels_last": False},
        {"device": torch.device("cuda")},
    ):  # fmt: skip
        assert not replace(settings, **other).numerics.small_maps_first


def test_channels_come_last_where_that_was_measured_to_win(settings) -> None:
    def order(**changes) -> bool:
        return replace(settings, **changes).numerics.channels_last

    assert order()
    assert all(order(device=GPU, precision=precision) for precision in ("bf16", "fp16"))
    assert not order(device=GPU)
    assert not order(device=GPU, precision="bf16", channels_last=False)
    assert replace(settings, device=GPU).numerics.parts() == ["channels-first", "BatchNorm folded"]


def test_threads_of_a_compiled_pass_are_in_its_key(backbone, split, settings) -> None:
    point = cut_points(backbone, ["layer1"], settings)["layer1"]

    def key(**changes):
        changed = replace(settings, **changes).of_pass([point])
        return feature_key(backbone, split, changed, point, 4).digest

    assert key(threads=2) == key(threads=3) == key()
    compiled = {key(compile=True), key(compile=True, threads=2), key(compile=True, threads=3)}
    assert len(compiled) == 3


def test_threads_are_in_the_key_where_they_may_change_digits(backbone, split, settings) -> None:
    points = cut_points(backbone, ["layer1", "avgpool", "fc"], settings)

    def key(cut, **changes):
        return feature_key(backbone, split, replace(settings, **changes), points[cut], 4)

    assert [points[cut].threads_matter for cut in points] == [False, False, True]
    for cut in ("layer1", "avgpool"):
        assert key(cut, threads=1) == key(cut, threads=2) == key(cut)
    assert len({key("fc", threads=n) for n in (None, 1, 2)}) == 3
    assert key("fc", threads=1).numerics.endswith("BatchNorm folded with 1 thread")
    assert key("fc").numerics.endswith("BatchNorm folded")
    # As the library built it, torch chooses what computes a convolution, by threads among others.
    plain = {"channels_last": False, "fold": False}
    assert key("layer1", **plain, threads=2).numerics == "channels-first with 2 threads"
    assert key("layer1", **plain).numerics == "channels-first"
    bf16 = {"precision": "bf16", "threads": 2}
    assert key("layer1", **plain, **bf16).numerics == "channels-first"
    on_gpu = {"device": GPU, "threads": 2}
    assert "thread" not in key("fc", **on_gpu).numerics + key("layer1", **plain, **on_gpu).numerics


@pytest.mark.parametrize(
    "wrong", [{"threads": 0}, {"threads": "many"}, {"batch_size": 0}, {"batch_size": 2.5}]
)
def test_numbers_that_cannot_be_are_refused(backbone, wrong: dict) -> None:
    (name,) = wrong
    with pytest.raises(UsageError, match=rf"{name} is .*give a number of at least 1, or 'auto'"):
        make_settings(backbone, (32, 32), **wrong)


def test_threads_are_set_for_the_pass_and_put_back(settings, monkeypatch) -> None:
    kept = []
    monkeypatch.setattr(forward_module, "keep_freed_memory", lambda: kept.append(True))
    before = torch.get_num_threads()
    with arithmetic(replace(settings, threads=before + 1)):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with arithmetic(settings):
        assert torch.get_num_threads() == before
    assert kept == [True, True]


def test_threads_change_no_bit(backbone, split, store, settings, tmp_path) -> None:
    from featx import FeatureStore

    one = extract_to_store(backbone, CUTS, split, store, replace(settings, threads=1))
    other = FeatureStore(tmp_path / "other")
    two = extract_to_store(backbone, CUTS, split, other, replace(settings, threads=2))
    for cut in CUTS:
        assert one[cut].key == two[cut].key
        assert np.array_equal(one[cut].read(), two[cut].read())


def test_a_compiled_run_goes_on_with_all_of_its_cuts(
    backbone, split, store, settings, monkeypatch
) -> None:
    """The last digits of a compiled pass may depend on its cuts: a part of them is no such pass."""
    from torch._dynamo.utils import counters

    passes: list[set[str]] = []

    def translate(function, **options):
        def run(x):
            counters["stats"]["unique_graphs"] += 1
            found = function(x)
            passes.append({len(value[0]) for value in found})
            return found

        return run

    monkeypatch.setattr(torch, "compile", translate)
    compiled = replace(settings, compile=True)
    first = extract_to_store(backbone, CUTS, split, store, compiled)
    whole = passes.copy()
    store.remove(first["layer1"].key)
    again = extract_to_store(backbone, CUTS, split, store, compiled)
    assert passes == whole * 2
    assert {64, 256, 512} in passes
    for cut in CUTS:
        assert np.array_equal(first[cut].read(), again[cut].read())
    alone = extract_to_store(backbone, ["layer1"], split, store, compiled)
    assert alone["layer1"].key != first["layer1"].key


def test_compile_without_a_compiler_says_what_is_missing(backbone, split, monkeypatch) -> None:
    monkeypatch.setattr("featx.extraction.settings.can_compile", lambda device: False)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler .*leave --compile out"):
        make_settings(backbone, split.images.size, image_size="native", compile=True)
