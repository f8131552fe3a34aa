"""The machine featx runs on: devices, memory, processor, versions."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import UsageError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
ALL_GPUS = "cuda:all"
_ONE_DEVICE = f"{', '.join(DEVICES)}, cuda:N"
_SEVERAL = f"'cuda:0,cuda:1', '{ALL_GPUS}' or 'cpu,cpu'"
_SEVERAL_DEVICES = f"{_ONE_DEVICE}; several: {_SEVERAL}"
_GPU = re.compile(r"cuda:(0|[1-9][0-9]{0,3})\Z")
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "scikit-learn",
    "numpy",
    "h5py",
    "pillow",
    "safetensors",
)
CPUINFO = Path("/proc/cpuinfo")
# What Linux calls processors that multiply bf16 by themselves: x86 (AVX-512, AMX) and Arm.
_BF16_FLAGS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))
CGROUP = Path("/sys/fs/cgroup")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def available_devices() -> list[str]:
    """Return the kinds of device torch can use here, the best first."""
    import torch

    found = ["cuda"] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def pick_device(device: str = "auto") -> torch.device:
    """Return the device that is asked for, or the best there is.

    Raises
    ------
    UsageError
        When the device is not one of `DEVICES` (``cuda:1`` is fine too) or not on this machine.
    """
    if device == ALL_GPUS or "," in device:
        raise UsageError(
            f"Device '{device}' names several: only extraction is divided among devices. Give one: "
            f"{_ONE_DEVICE}."
        )
    return _pick(device, _ONE_DEVICE)


def _pick(device: str, valid: str) -> torch.device:
    """Return one device; `valid` is what messages call valid here."""
    import torch

    gpu = _GPU.match(device)
    if device not in DEVICES and not gpu:
        raise UsageError(f"Device '{device}' is not known. Valid: {valid}.")
    found = available_devices()
    if device == "auto":
        return torch.device(found[0])
    if ("cuda" if gpu else device) not in found:
        raise UsageError(_not_available(device))
    if gpu and int(gpu[1]) >= torch.cuda.device_count():
        here = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        raise UsageError(f"Device '{device}' is not here. Valid: {', '.join(here)}, or auto.")
    return torch.device(device)


def _not_available(device: str) -> str:
    import torch

    return (
        f"Device '{device}' is not available here; torch {torch.__version__} sees "
        f"{', '.join(available_devices())}. Use --device auto."
    )


def pick_devices(devices: str = "auto") -> list[torch.device]:
    """Return the devices that are asked for: one as `pick_device`, ``cuda:0,cuda:1``, ``cuda:all``.

    Raises
    ------
    UsageError
        When one of them is not valid or not here, or they are of different kinds.
    """
    import torch

    if devices == ALL_GPUS:
        if "cuda" not in available_devices():
            raise UsageError(_not_available(devices))
        return [torch.device(f"cuda:{index}") for index in range(torch.cuda.device_count())]
    names = [name.strip() for name in devices.split(",")]
    if len(names) == 1:
        return [_pick(names[0], _SEVERAL_DEVICES)]
    if wrong := [name for name in names if name not in ("cpu", "mps") and not _GPU.match(name)]:
        raise UsageError(
            f"Devices '{devices}': '{wrong[0]}' cannot be one of several. Valid: {_SEVERAL}."
        )
    found = [_pick(name, _SEVERAL_DEVICES) for name in names]
    twice = [name for name in names if names.count(name) > 1 and name != "cpu"]
    if twice:
        raise UsageError(f"Devices '{devices}' name {twice[0]} twice. Give each once.")
    if len({device.type for device in found}) > 1:
        raise UsageError(
            f"Devices '{devices}' are of several kinds, and each kind has other last digits. "
            "Give devices of one kind: cuda:0,cuda:1 or cuda:all."
        )
    return found


def first_device(devices: str) -> str:
    """Return the one of several devices that heads are fitted on; one is itself."""
    return "cuda" if devices == ALL_GPUS else devices.partition(",")[0].strip()


def device_name(device: str) -> str:
    """Return a device for a record: ``cuda (NVIDIA H100)``, ``cpu``."""
    import torch

    kind = device.partition(":")[0]
    return f"{device} ({torch.cuda.get_device_name(device)})" if kind == "cuda" else device


def devices_of(kind: str) -> list[str]:
    """Return the devices of a kind with their names: ``cuda:0 (NVIDIA H100)``; else the kind."""
    import torch

    count = torch.cuda.device_count() if kind == "cuda" else 0
    return [device_name(f"{kind}:{index}") for index in range(count)] or [kind]


def device_names(devices: Sequence[torch.device]) -> str:
    """Return the devices of an extraction for a record: ``cuda:0 (...), cuda:1 (...)``."""
    return ", ".join(device_name(str(device)) for device in devices)


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    if CPUINFO.is_file():
        match = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)
        if match:
            return match.group(1).strip()
    return platform.processor() or platform.machine()


def cpu_has_bf16() -> bool:
    """Return whether the processor multiplies bf16 by itself; False where the system is silent.

    Without it torch computes bf16 in software, several times slower than fp32.
    """
    if not CPUINFO.is_file():
        return False
    lines = re.findall(r"^(?:flags|Features)\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)
    return any(_BF16_FLAGS & set(line.split()) for line in lines)


def fast_precisions(device: torch.device) -> tuple[str, ...]:
    """Return the precisions that a device computes faster than fp32, the best first.

    bf16 comes before fp16 because it cannot overflow where fp32 does not.
    """
    import torch

    if device.type == "cpu":
        return ("bf16",) if cpu_has_bf16() else ()
    if device.type == "cuda":
        # Tensor cores take fp16 from Volta on (7.0), bf16 from Ampere on (8.0).
        major = torch.cuda.get_device_capability(device)[0]
        return ("bf16", "fp16") if major >= 8 else ("fp16",) if major == 7 else ()
    return ()


def pick_precision(precision: str, allow: Collection[str], device: torch.device) -> str:
    """Return the precision that is asked for; of ``auto`` the fastest that is allowed here.

    Parameters
    ----------
    precision : {"auto", "fp32", "bf16", "fp16"}
        What was asked.
    allow : collection of str
        Precisions below fp32 that ``auto`` may take; without any it is fp32 everywhere.
    device : torch.device
        Where it will run.
    """
    if precision != "auto":
        return precision
    return next((fast for fast in fast_precisions(device) if fast in allow), "fp32")


def can_compile(device: torch.device) -> bool:
    """Return whether torch.compile finds what it needs: a C++ compiler, or Triton for a GPU."""
    import importlib.util
    import shutil

    if device.type == "cuda":
        return importlib.util.find_spec("triton") is not None
    compilers = (os.environ.get("CXX") or "", "g++", "clang++", "cl")
    return any(shutil.which(name) for name in compilers if name)


@contextlib.contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """Let torch compute with `n` threads while the ``with`` block lasts; None changes nothing."""
    import torch

    before = torch.get_num_threads()
    if n is not None:
        torch.set_num_threads(n)
    try:
        yield
    finally:
        if n is not None:
            torch.set_num_threads(before)


def user_cache_dir() -> Path:
    """Return featx' folder in the user's cache folder (XDG_CACHE_HOME)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "featx"


def n_cpus() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory_bytes() -> int:
    """Return the bytes of memory a new job may take: the free ones, within a container's limit."""
    found = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
        if match:
            found.append(int(match.group(1)) * 1024)
    limit = CGROUP / "memory.max"
    if limit.is_file() and (text := limit.read_text().strip()) != "max":
        used = int((CGROUP / "memory.current").read_text())
        # Pages of files count as used but are given back when memory is wanted.
        stat = (CGROUP / "memory.stat").read_text()
        cached = re.findall(r"^(?:active|inactive)_file (\d+)", stat, re.MULTILINE)
        found.append(max(0, int(text) - used + sum(map(int, cached))))
    if not found and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(found) if found else 8 * 10**9


def parse_bytes(text: str | int) -> int:
    """Return a size such as ``8GB``, ``500 MB`` or ``1.5e9`` in bytes (powers of 1000).

    Raises
    ------
    UsageError
        When it is not a positive size.
    """
    match = re.fullmatch(
        r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)(?:i?B)?\s*", str(text), re.IGNORECASE
    )
    try:
        size = int(float(match.group(1)) * _UNITS[match.group(2).upper()]) if match else 0
    except ValueError:
        size = 0
    if size <= 0:
        raise UsageError(f"'{text}' is not a size in bytes. Write it like 8GB, 500MB or 1000000.")
    return size


def versions() -> dict[str, str]:
    """Return the versions of the packages that matter to a result; absent ones are left out."""
    return {name: version for name in PACKAGES if (version := _version(name)) is not None}


@functools.cache
def _version(package: str) -> str | None:
    """Return the version of a package: read once, as a key for each cut and batch size asks."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def peak_memory_bytes() -> int | None:
    """Return the most memory this process has held so far; None where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return peak if platform.system() == "Darwin" else peak * 1024


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next allocation, for the rest of the process.

    By default each large tensor is mapped and unmapped, and the page faults cost a network on a
    CPU a tenth to a third of its speed. Does nothing on other systems.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    import ctypes

    m_trim_threshold, m_mmap_max = -1, -4
    libc = ctypes.CDLL(None)
    libc.mallopt(m_mmap_max, 0)
    libc.mallopt(m_trim_threshold, 2**31 - 1)


def prefer_huge_pages() -> None:
    """Let torch ask Linux for pages of 2 MiB, unless the environment already says whether.

    Sets ``THP_MEM_ALLOC_ENABLE``, which counts where no tensor has been made yet: torch reads it
    with its first one. Networks with large maps gain on a CPU (decision 0023).
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


@contextlib.contextmanager
def plain_fp32() -> Iterator[None]:
    """Keep fp32 what it says while the ``with`` block lasts, whatever the caller has set.

    cuDNN would round fp32 convolutions to TF32's 10 bits by default.
    """
    import torch

    cudnn, matmul = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = cudnn
        torch.set_float32_matmul_precision(matmul)
