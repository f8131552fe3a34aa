"""What the machine and its GPU can do at most: convolutions per precision, memory, disk."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lines import made

# Channels in and out, kernel, side of the map, images: shapes of VGG and ResNet at which oneDNN is
# at its best, each some 4 to 15 GFLOP.
SHAPES = ((128, 128, 3, 28, 32), (256, 256, 3, 14, 32), (64, 64, 3, 56, 32), (512, 512, 3, 14, 16))
# A GPU wants more images at a time.
ON_GPU = 16


def has_bf16() -> bool:
    """Return whether the processor multiplies bfloat16 itself."""
    path = Path("/proc/cpuinfo")
    return path.is_file() and "avx512_bf16" in path.read_text()


def status(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split(f"{field}:")[1].split()[0])


def convolution(
    precision: str = "fp32", shapes: int = len(SHAPES), device: str = "cpu"
) -> Callable[[], dict[str, Any]]:
    """The highest rate of `SHAPES` in both memory orders, in GFLOP/s; fp32 is not TF32."""
    import torch

    from featx.machine import plain_fp32

    made.featx_memory()
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    jobs = []
    for n_in, n_out, kernel, side, n_on_cpu in SHAPES[:shapes]:
        n = n_on_cpu * (ON_GPU if device == "cuda" else 1)
        for order in (torch.contiguous_format, torch.channels_last):
            conv = torch.nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=False)
            conv = conv.to(device, dtype, memory_format=order)
            x = torch.randn(n, n_in, side, side).to(device, dtype).contiguous(memory_format=order)
            jobs.append((2e-9 * n_in * n_out * kernel**2 * side**2 * n, conv, x))

    def run() -> dict[str, Any]:
        best, start = 0.0, time.perf_counter()
        with torch.inference_mode(), plain_fp32():
            for gflop, conv, x in jobs:
                # The first one reorders weights and touches memory.
                for _ in range(3):
                    began = time.perf_counter()
                    conv(x)
                    _wait_for(device)
                    best = max(best, gflop / (time.perf_counter() - began))
        return {"s": time.perf_counter() - start, "gflops": best}

    return run


def memory_copy(
    n_bytes: int, device: str = "cpu", upload: bool = False
) -> Callable[[], dict[str, Any]]:
    """Copying a block that is larger than the caches, in GB copied a second.

    Within a device's memory, or to it from memory that the processor has pinned.
    """
    import torch

    target = torch.zeros(n_bytes // 4, device=device)
    source = torch.ones(n_bytes // 4).pin_memory() if upload else torch.ones_like(target)

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        target.copy_(source, non_blocking=True)
        _wait_for(device)
        seconds = time.perf_counter() - start
        return {"s": seconds, "gb_per_s": n_bytes / seconds / 1e9}

    return run


def _wait_for(device: str) -> None:
    """Wait until a GPU has done what it was given; a processor has."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def disk(folder: str, n_bytes: int) -> Callable[[], dict[str, Any]]:
    """Writing a file and waiting for the disk, then reading it without the system's copy."""
    path = Path(folder) / "disk.bin"
    block = os.urandom(1 << 22)

    def run() -> dict[str, Any]:
        start = time.perf_counter()
        with path.open("wb") as file:
            for _ in range(n_bytes // len(block)):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
            # Without this the next line would read from memory.
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        written = time.perf_counter()
        with path.open("rb", buffering=0) as file:
            while file.read(len(block)):
                pass
        ended = time.perf_counter()
        path.unlink()
        size = n_bytes // len(block) * len(block) / 1e9
        return {
            "s": ended - start,
            "write_gb_per_s": size / (written - start),
            "read_gb_per_s": size / (ended - written),
        }

    return run


def about(threads: int) -> dict[str, Any]:
    """Return what the machine is; nothing that names it."""
    import torch

    from featx.machine import available_memory_bytes, cpu_name, device_name, n_cpus, versions

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {
        "processor": cpu_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "avx512_bf16": has_bf16(),
        "cores": n_cpus(),
        "threads": threads,
        "memory_gb": round(available_memory_bytes() / 1e9),
        "device": device_name(device),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def name_of(machine: dict[str, Any]) -> str:
    """Return a file's name for a machine: processor, cores, device."""
    device = machine["device"].partition("(")[2].strip(")") or machine["device"]
    words = f"{machine['processor']} {machine['cores']} cores {device}".lower()
    return "-".join("".join(c if c.isalnum() else " " for c in words).split())


def sides_of(folder: Path, quick: bool, gpu: bool) -> dict[str, Any]:
    """Return what is measured, by the names of the limits."""
    from lines.workers import Side

    large = 1 << (26 if quick else 29)
    shapes = 1 if quick else len(SHAPES)

    def side(call: str, **settings: Any) -> Side:
        return Side(f"lines.limits:{call}", settings)

    sides = {
        "convolution fp32": side("convolution", precision="fp32", shapes=shapes),
        "memory copy": side("memory_copy", n_bytes=large),
        "disk": side("disk", folder=str(folder), n_bytes=large),
    }
    if has_bf16():
        sides["convolution bf16"] = side("convolution", precision="bf16", shapes=shapes)
    if gpu:
        for precision in ("fp32", "bf16"):
            how = {"precision": precision, "shapes": shapes, "device": "cuda"}
            sides[f"GPU convolution {precision}"] = side("convolution", **how)
        sides["GPU memory copy"] = side("memory_copy", n_bytes=large, device="cuda")
        sides["GPU upload"] = side("memory_copy", n_bytes=large, device="cuda", upload=True)
    return sides


def measured(folder: Path, repeats: int, threads: int, quick: bool) -> dict[str, Any]:
    """Measure all of it: the processor's limits, and a GPU's where there is one."""
    import torch

    from lines.workers import interleaved

    sides = sides_of(folder, quick, torch.cuda.is_available())
    rounds = interleaved(sides, repeats, threads)
    found: dict[str, Any] = {"rounds": rounds}
    for name in dict.fromkeys(["convolution fp32", "convolution bf16", *sides]):
        each = rounds.get(name, [])
        if name == "disk":
            for way in ("write", "read"):
                found[f"disk {way}"] = statistics.median(one[f"{way}_gb_per_s"] for one in each)
        else:
            field = "gflops" if "convolution" in name else "gb_per_s"
            found[name] = statistics.median(one[field] for one in each) if each else None
    return found
