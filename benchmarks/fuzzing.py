"""Damaged files without end, each read in a child process that is watched.

``python benchmarks/fuzzing.py --minutes 60 --seed 1`` reads damaged manifests, shards, exports, npz
and CIFAR-10 files and recipes. What is neither accepted nor refused with a message of featx is a
finding: another exception, a crash, more than 10 s of the processor, more than 1 GB of memory, a
file or a socket outside. Its file is kept (``--keep``); put into ``tests/hostile/findings`` it is
read again at the beginning of every run, also of the tests' short one. Exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
sys.dont_write_bytecode = True  # what is imported late would be written beside its source
sys.path.insert(0, str(REPO / "tests" / "hostile"))

from fuzz_loaders import Loader, make_loaders  # noqa: E402

import featx  # noqa: E402
from featx.errors import FeatxError  # noqa: E402

# A checkout may be called featx too: its benchmarks are not the package.
PACKAGE = Path(featx.__file__).parent

FileOf = Callable[[int], bytes]

BATCH = 200
CPU_S, WALL_S = 10, 300
ADDRESS_BYTES, RESIDENT_BYTES = 2**30, 400 * 2**20
KEPT_OF_A_KIND = 3

_REFUSED_EVENTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.Popen",
                   "os.system", "os.exec", "os.posix_spawn", "os.fork")  # fmt: skip
_PLACES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod")
# What reading itself reads: code that is imported late, the machine's memory, time zones.
_READABLE = (sys.prefix, sys.base_prefix, str(REPO), "/proc/", "/sys/", "/dev/", "/etc/localtime")


class Watch:
    """An audit hook that notes what is reached outside of a folder."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.tried: list[str] = []
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event in _REFUSED_EVENTS:
            self.tried.append(event)
        elif event in _PLACES or event == "open":
            path = args[0]
            if not isinstance(path, (str, os.PathLike)):
                return
            place = os.path.realpath(path)
            writes = event != "open" or bool(
                isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            inside = place.startswith(self.folder)
            if not inside and (writes or not place.startswith(_READABLE)):
                self.tried.append(f"{event} {place}")


def status_bytes(field: str) -> int:
    """Return a field of /proc/self/status in bytes."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.split(f"{field}:")[1].split()[0])


def read_one(loader: Loader, folder: Path, data: bytes, watch: Watch) -> list[str] | None:
    """Return the kind of a finding and what there is to say, or None for a file handled well."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    watch.tried.clear()
    try:
        loader.read(folder, data)
    except FeatxError:
        pass
    except BaseException as error:
        own = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).is_relative_to(PACKAGE)
        ]
        where = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "the harness"
        return [f"{type(error).__name__} at {where}", traceback.format_exc()]
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    if grown > RESIDENT_BYTES:
        return ["memory", f"{grown:,} bytes more were used"]
    if watch.tried:
        return [f"reached {watch.tried[0].split()[0]}", "\n".join(watch.tried)]
    return None


def child(
    loader: Loader, folder: Path, file_of: FileOf, numbers: range, at: mmap.mmap, results: Path,
    watch: Watch,
) -> None:  # fmt: skip
    """Read files of some numbers; stop behind the first finding."""
    warnings.simplefilter("ignore")
    limit = status_bytes("VmSize") + ADDRESS_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch.folder = os.path.realpath(folder)
    for number in numbers:
        at[:8] = struct.pack("<Q", number)
        used = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + CPU_S, resource.RLIM_INFINITY))
        finding = read_one(loader, folder, file_of(number), watch)
        if finding:
            results.write_text(json.dumps([number, *finding]))
            return


def batch(
    loader: Loader, folder: Path, file_of: FileOf, numbers: range, watch: Watch
) -> tuple[int, list[Any] | None]:
    """Read files in a child; return how many were read, and what was found at the last of them."""
    at = mmap.mmap(-1, 8)
    results = folder.with_suffix(".found")
    results.unlink(missing_ok=True)
    process = os.fork()
    if process == 0:
        code = 0
        try:
            child(loader, folder, file_of, numbers, at, results, watch)
        except BaseException:
            traceback.print_exc()
            code = 3
        os._exit(code)
    last, since = -1, time.monotonic()
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        (number,) = struct.unpack("<Q", at[:8])
        if done:
            break
        if number != last:
            last, since = number, time.monotonic()
        elif time.monotonic() - since > WALL_S:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return number - numbers.start + 1, [number, "hang", f"no end after {WALL_S} s"]
        time.sleep(0.01)
    if results.exists():
        return number - numbers.start + 1, json.loads(results.read_text())
    if os.WIFSIGNALED(status):
        kind = signal.Signals(os.WTERMSIG(status)).name
        kind = f"more than {CPU_S} s" if kind == "SIGXCPU" else f"crash ({kind})"
        return number - numbers.start + 1, [number, kind, "the process ended"]
    if status:
        raise RuntimeError(f"The harness itself failed in {folder}, file {number}.")
    return len(numbers), None


def check_seeds(loaders: dict[str, Loader], folder: Path) -> None:
    """Read every valid file; what is imported late is imported before the first fork."""
    for name, loader in loaders.items():
        for data in loader.seeds:
            # The archive holds no official files: that it is read to the end is all there is.
            archive = (
                contextlib.suppress(FeatxError) if "archive" in name else contextlib.nullcontext()
            )
            with archive:
                loader.read(folder, data)


class Figures:
    """What was read and found; prints a finding of a new kind at once."""

    def __init__(self, keep: Path) -> None:
        self.read: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.keep = keep

    @property
    def found(self) -> int:
        """Number of findings."""
        return sum(self.kinds.values())

    def add(self, name: str, n: int, finding: list[Any] | None, file_of: FileOf) -> None:
        """Count what a batch has read, and keep the file of its finding."""
        self.read[name] += n
        if finding is None:
            return
        number, kind, text = finding
        self.kinds[f"{name}: {kind}"] += 1
        if self.kinds[f"{name}: {kind}"] <= KEPT_OF_A_KIND:
            data = file_of(number)
            (self.keep / name).mkdir(parents=True, exist_ok=True)
            (self.keep / name / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        if self.kinds[f"{name}: {kind}"] == 1:
            print(f"FOUND in {name}, file {number}: {kind}\n{text}", flush=True)

    def table(self) -> Iterator[str]:
        """Yield the lines of a table of loaders."""
        yield "| loader | files | findings |"
        yield "|---|---:|---:|"
        for name, n in self.read.items():
            found = sum(c for kind, c in self.kinds.items() if kind.startswith(f"{name}: "))
            yield f"| {name} | {n:,} | {found} |"
        yield f"| all | {self.read.total():,} | {self.found} |"
        for kind, count in self.kinds.most_common():
            yield f"{count} x {kind}"


def fuzz(options: argparse.Namespace, folder: Path) -> int:
    """Read until the time or the files are over; print figures; return the number of findings."""
    os.fsync = lambda descriptor: None  # type: ignore[assignment] # nothing here is about power
    (folder / "seeds").mkdir()
    loaders = make_loaders(folder / "seeds")
    check_seeds(loaders, folder / "seeds")
    watch, figures = Watch(), Figures(options.keep)
    start = told = time.monotonic()
    for name, loader in loaders.items():
        (folder / name).mkdir()
        read_kept(name, loader, folder / name, options.findings / name, watch, figures)
    figures.read.clear()
    while True:
        for name, loader in loaders.items():
            first = figures.read[name]
            size = min(BATCH, options.files - first) if options.files else BATCH
            file_of = partial(loader.file, name, options.seed)
            done = batch(loader, folder / name, file_of, range(first, first + size), watch)
            figures.add(name, *done, file_of)
        elapsed = time.monotonic() - start
        if time.monotonic() - told > 60:
            told = time.monotonic()
            n, found = figures.read.total(), figures.found
            print(f"{elapsed / 60:.0f} minutes, {n:,} files, {found} findings", flush=True)
        full = options.files and min(figures.read.values()) >= options.files
        if full or (not options.files and elapsed > 60 * options.minutes):
            break
    print(f"\nseed {options.seed}, {elapsed / 60:.1f} minutes\n")
    print("\n".join(figures.table()))
    return figures.found


def read_kept(
    name: str, loader: Loader, folder: Path, kept: Path, watch: Watch, figures: Figures
) -> None:
    """Read the files that were findings once, each in a child of its own."""
    files = sorted(kept.iterdir()) if kept.is_dir() else []
    for number in range(len(files)):

        def file_of(i: int) -> bytes:
            return files[i].read_bytes()

        numbers = range(number, number + 1)
        figures.add(name, *batch(loader, folder, file_of, numbers, watch), file_of)


def main() -> None:
    """Fuzz."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--files", type=int, help="files per loader, instead of a time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=REPO / "tests" / "hostile" / "findings")
    parser.add_argument("--keep", type=Path, default=Path("fuzzing-findings"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="featx-fuzz-") as folder:
        sys.exit(1 if fuzz(options, Path(folder)) else 0)


if __name__ == "__main__":
    main()
