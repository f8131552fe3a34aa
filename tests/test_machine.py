"""Devices, memory, sizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featx.errors import UsageError
from featx.machine import (
    available_devices,
    available_memory_bytes,
    cpu_name,
    device_names,
    devices_of,
    first_device,
    n_cpus,
    parse_bytes,
    pick_device,
    pick_devices,
    versions,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8e9),
        ("8 G", 8e9),
        ("1.5k", 1500),
        ("1e3", 1000),
        (4096, 4096),
        ("2TB", 2e12),
        ("7MiB", 7e6),
    ],
)
def test_sizes(text: str | int, size: float) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-3GB", "0", "eight", "1.2.3GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="8GB"):
        parse_bytes(text)


@given(st.integers(1, 10**15))
def test_a_plain_number_is_itself(n: int) -> None:
    assert parse_bytes(n) == n


def test_the_cpu_is_always_there() -> None:
    assert available_devices()[-1] == "cpu"
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type == available_devices()[0]


@pytest.mark.parametrize(
    "name",
    ["gpu", "cuda:x", "", "cpu:", "cuda:", "cpu:0", "auto:5", "cuda:01", "cuda:\u0663", " cpu"],
)
def test_an_unknown_device_lists_the_valid_ones(name: str) -> None:
    with pytest.raises(UsageError, match="Valid: auto, cpu, cuda, mps"):
        pick_device(name)


def test_an_absent_device_says_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.machine.available_devices", lambda: ["cpu"])
    with pytest.raises(UsageError, match=r"sees cpu\. Use --device auto"):
        pick_device("cuda")


def test_several_devices_are_given_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.machine.available_devices", lambda: ["cuda", "cpu"])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert pick_devices("cpu, cpu") == [torch.device("cpu")] * 2
    assert pick_devices("cuda:2,cuda:0") == [torch.device("cuda:2"), torch.device("cuda:0")]
    assert pick_devices("cuda:all") == [torch.device(f"cuda:{k}") for k in range(3)]
    assert pick_devices("auto") == [torch.device("cuda")]
    with pytest.raises(UsageError, match=r"'cuda:3' is not here\. Valid: cuda:0, .*cuda:2, or"):
        pick_devices("cuda:0,cuda:3")
    with pytest.raises(UsageError, match=r"'cuda:0,cpu' are of several kinds.*cuda:all"):
        pick_devices("cuda:0,cpu")
    with pytest.raises(UsageError, match=r"'cuda:1,cuda:1' name cuda:1 twice"):
        pick_devices("cuda:1,cuda:1")
    for devices, wrong in (
        ("cuda,cuda:1", "cuda"), ("cuda:all,cuda:1", "cuda:all"), ("auto,auto", "auto"),
        ("cuda:0,", ""), ("cpu:3,cpu:3", "cpu:3"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=rf"'{devices}': '{wrong}' cannot be one of several"):
            pick_devices(devices)
    for devices in ("cuda:0,cuda:1", "cuda:all"):
        with pytest.raises(UsageError, match=rf"'{devices}' names several: only extraction"):
            pick_device(devices)
    firsts = [first_device(devices) for devices in ("cuda:1,cuda:0", "cuda:all", "auto")]
    assert firsts == ["cuda:1", "cuda", "auto"]


def test_every_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: f"card of {device}")
    assert devices_of("cuda") == ["cuda:0 (card of cuda:0)", "cuda:1 (card of cuda:1)"]
    assert devices_of("cpu") == ["cpu"]
    assert device_names([torch.device("cuda:1"), torch.device("cpu")]) == (
        "cuda:1 (card of cuda:1), cpu"
    )


def test_all_gpus_where_there_is_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featx.machine.available_devices", lambda: ["cpu"])
    with pytest.raises(UsageError, match=r"'cuda:all' is not available here.*Use --device auto"):
        pick_devices("cuda:all")


def test_an_unknown_device_is_told_what_the_command_takes() -> None:
    several = r"several: 'cuda:0,cuda:1', 'cuda:all' or 'cpu,cpu'\.$"
    with pytest.raises(UsageError, match=rf"'gpu' is not known. Valid: auto.*{several}"):
        pick_devices("gpu")
    assert pick_devices(" cpu") == [torch.device("cpu")]
    with pytest.raises(
        UsageError, match=r"'gpu' is not known. Valid: auto, cpu, cuda, mps, cuda:N\.$"
    ):
        pick_device("gpu")


def test_a_containers_limit_counts_but_not_its_file_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("featx.machine.CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    stat = "anon 100000\nfile 800000\ninactive_file 500000\nactive_file 250000\n"
    (tmp_path / "memory.stat").write_text(stat)
    assert available_memory_bytes() == 1_000_000 - 900_000 + 750_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory_bytes() > 10**7


def test_the_machine_is_described() -> None:
    assert available_memory_bytes() > 10**8
    assert n_cpus() >= 1
    assert cpu_name()
    assert versions()["torch"] == torch.__version__
