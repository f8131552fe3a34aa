"""What a disk may hold after the power failed: recorded operations, replayed as far as it got.

A file's content is certain behind its last sync, a name behind the sync of its folder. Before that
anything may be there: of the content nothing, a beginning, zeros or all of it; of the names in a
folder those of the first operations (as a journal keeps them) or of any of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Inode:
    """A file: what was written to it, and how much of that was synced."""

    content: bytes = b""
    synced: int = 0


@dataclass
class Operation:
    """One change: `kind` is mkdir, create, write, sync, rename or unlink."""

    kind: str
    path: Path
    data: bytes = b""
    target: Path | None = None


@dataclass
class Recorder:
    """Records the operations of the os module under a folder while it lets them happen."""

    root: Path
    operations: list[Operation] = field(default_factory=list)
    _open: dict[int, Path] = field(default_factory=dict)

    def install(self, set_attribute: Callable[[Any, str, Any], None]) -> None:
        real = {name: getattr(os, name) for name in
                ("open", "write", "fsync", "replace", "unlink", "mkdir", "close")}  # fmt: skip

        def opened(path: Any, flags: int, *rest: Any, **more: Any) -> int:
            descriptor: int = real["open"](path, flags, *rest, **more)
            self._open[descriptor] = Path(path)
            if flags & os.O_CREAT:
                self._add("create", Path(path))
            return descriptor

        def written(descriptor: int, data: Any) -> int:
            n: int = real["write"](descriptor, data)
            self._add("write", self._open[descriptor], bytes(data[:n]))
            return n

        def synced(descriptor: int) -> None:
            self._add("sync", self._open[descriptor])

        def replaced(source: Any, target: Any, **more: Any) -> None:
            real["replace"](source, target, **more)
            self._add("rename", Path(source), target=Path(target))

        def unlinked(path: Any, **more: Any) -> None:
            real["unlink"](path, **more)
            self._add("unlink", Path(path))

        def made(path: Any, *rest: Any, **more: Any) -> None:
            real["mkdir"](path, *rest, **more)
            self._add("mkdir", Path(path))

        watched = {
            "open": opened, "write": written, "fsync": synced, "replace": replaced,
            "unlink": unlinked, "mkdir": made,
        }  # fmt: skip
        for name, function in watched.items():
            set_attribute(os, name, function)

    def _add(self, kind: str, path: Path, data: bytes = b"", target: Path | None = None) -> None:
        if path.is_relative_to(self.root):
            self.operations.append(Operation(kind, path, data, target))


class Disk:
    """Follows operations: what is certain, and what is still under way."""

    def __init__(self) -> None:
        self.certain: dict[Path, Inode | None] = {}
        self.pending: dict[Path, list[Operation]] = {}
        self._now: dict[Path, Inode | None] = {}
        self._nodes: dict[int, Inode] = {}

    def follow(self, operation: Operation) -> None:
        path = operation.path
        if operation.kind == "write":
            node = self._now[path]
            assert node is not None
            node.content += operation.data
        elif operation.kind == "sync":
            node = self._now.get(path)
            if isinstance(node, Inode):
                node.synced = len(node.content)
            else:
                for waiting in self.pending.pop(path, []):
                    self._apply(self.certain, waiting)
        else:
            if operation.kind == "create":
                self._nodes[id(operation)] = Inode()
            self._apply(self._now, operation)
            self.pending.setdefault(path.parent, []).append(operation)

    def _apply(self, names: dict[Path, Inode | None], operation: Operation) -> None:
        if operation.kind == "mkdir":
            names[operation.path] = None
        elif operation.kind == "create":
            names[operation.path] = self._nodes[id(operation)]
        elif operation.kind == "unlink":
            names.pop(operation.path, None)
        elif operation.path in names:
            assert operation.target is not None
            names[operation.target] = names.pop(operation.path)

    def after_power_loss(self, rng: random.Random) -> dict[Path, bytes | None]:
        """Return one of the states that may be found: content by path, None for a folder."""
        names = dict(self.certain)
        for waiting in self.pending.values():
            if rng.random() < 0.5:
                kept = waiting[: rng.randrange(len(waiting) + 1)]
            else:
                kept = [operation for operation in waiting if rng.random() < 0.5]
            for operation in kept:
                self._apply(names, operation)
        return {path: None if node is None else _found(node, rng) for path, node in names.items()}


def _found(node: Inode, rng: random.Random) -> bytes:
    if node.synced == len(node.content):
        return node.content
    rest = node.content[node.synced :]
    lost = rng.choice([b"", rest, bytes(len(rest)), rest[: rng.randrange(len(rest) + 1)]])
    return node.content[: node.synced] + lost


def states(
    operations: list[Operation], per_place: int, seed: int
) -> Iterator[tuple[int, dict[Path, bytes | None]]]:
    """Yield how many operations had begun, and a state, some for each of these numbers."""
    disk = Disk()
    rng = random.Random(seed)
    for place, operation in enumerate(operations, 1):
        disk.follow(operation)
        for _ in range(per_place):
            yield place, disk.after_power_loss(rng)


def put(state: dict[Path, bytes | None], root: Path, to: Path) -> None:
    """Write a state of a recorded folder to another one."""
    for path, content in sorted(state.items()):
        place = to / path.relative_to(root)
        # A folder that was lost takes its files with it.
        if not place.parent.is_dir():
            continue
        if content is None:
            place.mkdir()
        else:
            place.write_bytes(content)
