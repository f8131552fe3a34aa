"""Valid files with seeded damage: bytes, numbers, pieces, and values of JSON."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

# Where lengths and offsets of all formats here go wrong: around 0 and around powers of two.
NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 4096, 65535, 65536, 2**24, 2**31 - 1, 2**31,
           2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
VALUES = (None, True, False, 0, -1, 1, 0.5, 1e308, 10**12, 2**63, 10**40, "", "x", "../../TRIPWIRE",
          "/TRIPWIRE", "\0", "é\u202e", "x" * 2000, [], {}, [[]], {"": None}, [1, "a", None],
          float("nan"), float("-inf"))  # fmt: skip


def mutated(seeds: Sequence[bytes], tokens: Sequence[bytes], rng: random.Random) -> bytes:
    """Return one of the seeds with 1 to 8 damages."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        rng.choice(_DAMAGES)(data, rng, seeds, tokens)
    return bytes(data)


def mutated_json(seeds: Sequence[bytes], tokens: Sequence[bytes], rng: random.Random) -> bytes:
    """Return one of the seeds, which are JSON, with 1 to 4 of its values or names changed."""
    value = json.loads(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2, 4))):
        value = _changed(value, rng)
    return json.dumps(value, separators=(",", ":"), ensure_ascii=rng.random() < 0.5).encode(
        errors="surrogatepass"
    )


def _changed(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one place inside it replaced, dropped, doubled or moved."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        what = rng.random()
        if what < 0.08:
            return {key: inner for key, inner in value.items() if key != name}
        if what < 0.16:
            return {**value, rng.choice(("x", "", name + "x", "__class__")): value[name]}
        if what < 0.22:
            return {**value, name: value[rng.choice(list(value))]}
        return {**value, name: _changed(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        what = rng.random()
        if what < 0.15:
            return value[:at] + value[at + 1 :]
        if what < 0.3:
            return value[:at] + value[at : at + 1] * rng.choice((2, 3, 300)) + value[at + 1 :]
        return [*value[:at], _changed(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int) and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, -value, value * 2, rng.choice(NUMBERS)))
    if isinstance(value, str) and rng.random() < 0.4:
        return rng.choice((value[1:], value + "0", value.upper(), value[::-1]))
    return rng.choice(VALUES)


def _flip(data: bytearray, rng: random.Random, *_: object) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random, *_: object) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _number(data: bytearray, rng: random.Random, *_: object) -> None:
    size = rng.choice((2, 4, 8))
    at = rng.randrange(len(data) + 1)
    number = rng.choice(NUMBERS) % (1 << 8 * size)
    data[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))


def _cut(data: bytearray, rng: random.Random, *_: object) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _drop(data: bytearray, rng: random.Random, *_: object) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 8, 64, 512))]


def _double(data: bytearray, rng: random.Random, *_: object) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = data[at : at + rng.choice((1, 4, 30, 500))] * rng.choice((1, 2, 40))


def _run(data: bytearray, rng: random.Random, *_: object) -> None:
    at, length = rng.randrange(len(data) + 1), rng.choice((2, 16, 200))
    data[at : at + length] = bytes([rng.choice((0, 0xFF, 0x5B, 0x20))]) * length


def _token(
    data: bytearray, rng: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes]
) -> None:
    if tokens:
        at = rng.randrange(len(data) + 1)
        data[at : at + rng.choice((0, 0, 1, 8))] = rng.choice(tokens)


def _splice(
    data: bytearray, rng: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes]
) -> None:
    other = rng.choice(seeds)
    start = rng.randrange(len(other) + 1)
    at, length = rng.randrange(len(data) + 1), rng.choice((4, 40, 400))
    data[at : at + length] = other[start : start + length]


_DAMAGES: tuple[Callable[..., None], ...] = (
    _flip, _flip, _set, _set, _number, _number, _cut, _drop, _double, _run, _token, _token, _splice,
)  # fmt: skip
