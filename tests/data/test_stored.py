"""Uncompressed images of an npz file, read by several threads."""

from __future__ import annotations

import io
import struct
import threading
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from npz_cases import arrays

from featx.data import load_dataset, stored
from featx.errors import DataError


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read arrays by threads from 64 bytes on, in pieces of 64."""
    monkeypatch.setattr(stored, "_LEAST_BYTES", 64)
    monkeypatch.setattr(stored, "_PIECE_BYTES", 64)


def read(path: Path, key: str) -> np.ndarray | None:
    with zipfile.ZipFile(path) as archive:
        return stored.read_stored(path, archive, key)


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=version)
    return buffer.getvalue()


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_crc_of_two_pieces_is_zlib_s(first: bytes, second: bytes) -> None:
    combined = stored.combined_crc(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)


def test_crc_behind_a_large_piece() -> None:
    first, second = b"featx", bytes(3 * 2**20 + 1)
    combined = stored.combined_crc(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)


def test_a_large_array_comes_back_as_numpy_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    x = np.random.default_rng(0).integers(0, 256, (60, 224, 224, 3), dtype=np.uint8)
    np.savez(path, y=np.arange(60), x=x)
    found = read(path, "x")
    assert found is not None
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.flags.writeable
    np.testing.assert_array_equal(found, x)
    assert read(path, "y") is None
    assert read(path, "z") is None


@pytest.mark.usefixtures("small_pieces")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(1, 90), st.sampled_from([(1, 0), (2, 0)]), st.binary(max_size=70))
def test_any_length_and_header(
    tmp_path: Path, n: int, version: tuple[int, int], comment: bytes
) -> None:
    x = np.random.default_rng(n).integers(0, 256, (n, 2, 1), dtype=np.uint8)
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        # As a field of the local header that its length has to be read of.
        info = zipfile.ZipInfo("x.npy")
        info.extra = struct.pack("<HH", 0xFEA7, len(comment)) + comment
        archive.writestr(info, npy(x, version))
    found = read(path, "x")
    assert found is not None
    np.testing.assert_array_equal(found, x)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize(
    ("content", "method"),
    [
        (npy(np.zeros((40, 4), np.uint8)), zipfile.ZIP_DEFLATED),
        (npy(np.zeros((40, 4), np.float32)), zipfile.ZIP_STORED),
        (npy(np.zeros((40, 4), np.int8)), zipfile.ZIP_STORED),
        (npy(np.asfortranarray(np.zeros((40, 4), np.uint8))), zipfile.ZIP_STORED),
        (npy(np.zeros(40, np.uint8), (3, 0)), zipfile.ZIP_STORED),
        (b"no array: " * 20, zipfile.ZIP_STORED),
        (npy(np.zeros(40, np.uint8))[:-1], zipfile.ZIP_STORED),
        (npy(np.zeros(40, np.uint8)) + b"\0", zipfile.ZIP_STORED),
    ],
)
def test_others_are_numpy_s(tmp_path: Path, content: bytes, method: int) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", content)
    assert read(path, "x") is None


@pytest.mark.usefixtures("small_pieces")
def test_the_name_without_an_ending_comes_first_as_for_numpy(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", npy(np.zeros(100, np.uint8)))
        archive.writestr("x", npy(np.ones(100, np.uint8)))
    assert read(path, "x") is None
    with np.load(path) as file:
        assert file["x"].all()


@pytest.mark.parametrize("at", [300, -(2**20)])
def test_a_flipped_bit_of_a_large_array_is_noticed(tmp_path: Path, at: int) -> None:
    path = tmp_path / "x.npz"
    x = np.zeros((8, 600, 700, 3), np.uint8)
    np.savez(path, **arrays(train_x=x))
    assert read(path, "train_x") is not None
    content = bytearray(path.read_bytes())
    content[at] ^= 16
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read: Bad CRC-32 for file 'train_x\.npy'"):
        load_dataset(f"npz:{path}", val=0)


@pytest.mark.usefixtures("small_pieces")
def test_a_header_of_petabytes_asks_for_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npz"
    head = io.BytesIO()
    form = {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
    np.lib.format.write_array_header_1_0(head, form)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", head.getvalue() + bytes(100))
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("x.npy")
        info.file_size = info.compress_size = head.tell() + 10**15
        monkeypatch.setattr(stored.np, "empty", lambda *_args, **_more: pytest.fail("memory"))
        assert stored.read_stored(path, archive, "x") is None


@pytest.mark.usefixtures("small_pieces")
def test_a_file_that_becomes_shorter_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(100))
    with pytest.raises(EOFError, match="it ends 28 bytes early"):
        stored._fill(path, 64, np.empty(64, np.uint8))


def outcome(path: Path) -> Any:
    """Return the digests of what a file holds, or that it was refused."""
    try:
        dataset = load_dataset(f"npz:{path}", val=0)
    except DataError:
        return "refused"
    return {name: split.digest for name, split in dataset.splits.items()}


# Of smaller members `zipfile` reads all, and checks it, before the first byte is asked for.
SIDE = 40


# NumPy takes a damaged header for one that Python 2 wrote, if it can be read as such.
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_damaged_files_are_refused_where_numpy_refuses_them(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays(SIDE))
    content = bytearray(path.read_bytes())
    directory = content.index(b"PK\x01\x02")
    for _ in range(data.draw(st.integers(0, 2))):
        start = data.draw(st.sampled_from([0, directory]))
        at = data.draw(st.integers(start, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        # A longer field behind the name of the first local header moves the data.
        (length,) = struct.unpack_from("<H", content, 28)
        struct.pack_into("<H", content, 28, (length + data.draw(st.integers(0, 40))) % 2**16)
    path.write_bytes(content)
    by_numpy = outcome(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "_LEAST_BYTES", 64)
        patch.setattr(stored, "_PIECE_BYTES", 1000)
        assert outcome(path) == by_numpy


@pytest.mark.usefixtures("small_pieces")
def test_a_length_of_the_directory_that_is_another_is_left_to_numpy(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays(SIDE))
    content = bytearray(path.read_bytes())
    # Of the first member, the length of its compressed bytes (APPNOTE.TXT 4.3.12).
    at = content.index(b"PK\x01\x02") + 20
    (length,) = struct.unpack_from("<I", content, at)
    struct.pack_into("<I", content, at, length - 5)
    path.write_bytes(content)
    assert read(path, "train_x") is None
    assert outcome(path) == "refused"


@pytest.mark.usefixtures("small_pieces")
def test_pieces_are_read_by_several_threads_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "n_cpus", lambda: 2)
    # Passes only if two threads are inside at once.
    both = threading.Barrier(2, timeout=20)
    fill = stored._fill

    def waiting(*args: Any) -> int:
        both.wait()
        return fill(*args)

    monkeypatch.setattr(stored, "_fill", waiting)
    path = tmp_path / "x.npz"
    x = np.arange(4 * 64, dtype=np.uint8)
    np.savez(path, x=x)
    found = read(path, "x")
    assert found is not None
    np.testing.assert_array_equal(found, x)
