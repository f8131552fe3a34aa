"""Uncompressed images of an npz file, if many bytes: read and checked by several threads.

An npz file is a zip archive of ``.npy`` files. NumPy reads them through `zipfile`, which copies
every byte twice and computes the checksum of the archive, all in one thread.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np

from featx.machine import n_cpus

# Smaller arrays take 5 ms.
_LEAST_BYTES = 8 * 2**20
# 4 to 16 MiB were alike, smaller and larger ones slower (0.9 GB, two threads).
_PIECE_BYTES = 8 * 2**20

# The local header of a member ends with the lengths of two fields that stand between it and the
# data (APPNOTE.TXT 6.3.10, 4.3.7).
_LOCAL_HEADER = struct.Struct("<26xHH")

# The polynomial of CRC-32 (ISO 3309), lowest power in the highest bit, as zlib has it.
_POLYNOMIAL = 0xEDB88320
_ONE = 0x80000000
_X8 = 0x00800000


def read_stored(path: Path, archive: zipfile.ZipFile, key: str) -> np.ndarray | None:
    """Return images of an npz file, where they are not compressed and have more than 8 MiB.

    Parameters
    ----------
    path : Path
        The file.
    archive : ZipFile
        The same, open.
    key : str
        Name of the array; that of its file in the archive has ``.npy`` at its end.

    Returns
    -------
    ndarray of uint8, or None
        The images; None for anything else, which NumPy shall read, or say what is wrong with it.

    Raises
    ------
    BadZipFile
        When the values do not agree with the archive's CRC-32.
    EOFError, OSError
        When the file ends early, or cannot be read.
    Exception
        What `zipfile` and NumPy raise for a member that cannot be opened, or a header that is none:
        see `featx.data.arrays`, which knows them all.
    """
    names = archive.namelist()
    if key in names or f"{key}.npy" not in names:
        return None
    info = archive.getinfo(f"{key}.npy")
    is_stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
    if not is_stored or info.file_size <= _LEAST_BYTES:
        return None
    with archive.open(info) as member:
        shape = _shape(member)
        head_bytes = member.tell()
        member.seek(0)
        crc = zlib.crc32(member.read(head_bytes))
    with path.open("rb") as file:
        file.seek(info.header_offset)
        start = info.header_offset + _LOCAL_HEADER.size
        start += sum(_LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))) + head_bytes
        end = file.seek(0, os.SEEK_END)
    n_bytes = info.file_size - head_bytes
    # What a header says must be what is there, before memory is asked for.
    if shape is None or np.prod(shape, dtype=object) != n_bytes or start + n_bytes > end:
        return None
    values = np.empty(n_bytes, dtype=np.uint8)
    starts = range(0, n_bytes, _PIECE_BYTES)
    pieces = [values[first : first + _PIECE_BYTES] for first in starts]
    n_threads = min(n_cpus(), len(pieces))
    with ThreadPoolExecutor(n_threads, thread_name_prefix="featx-read") as pool:
        found = pool.map(lambda first, piece: _fill(path, start + first, piece), starts, pieces)
        for piece, piece_crc in zip(pieces, found, strict=True):
            crc = combined_crc(crc, piece_crc, len(piece))
    if crc != info.CRC:
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {info.filename!r}")
    return values.reshape(shape)


def _shape(member: IO[bytes]) -> tuple[int, ...] | None:
    """Return the shape that a ``.npy`` file announces; None where it is not uint8 in C order."""
    magic = member.read(len(np.lib.format.MAGIC_PREFIX))
    member.seek(0)
    if magic != np.lib.format.MAGIC_PREFIX:
        return None
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    reader = readers.get(np.lib.format.read_magic(member))
    if reader is None:
        return None
    shape, fortran, dtype = reader(member)
    return None if fortran or dtype != np.uint8 else shape


def _fill(path: Path, offset: int, piece: np.ndarray) -> int:
    """Fill a piece of memory with a file from `offset` on, and return the CRC-32 of it."""
    memory = piece.data
    filled = 0
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while filled < len(memory):
            n = file.readinto(memory[filled:])
            if not n:
                raise EOFError(f"it ends {len(memory) - filled} bytes early")
            filled += n
    return zlib.crc32(memory)


def combined_crc(first: int, second: int, n_bytes: int) -> int:
    """Return the CRC-32 of two pieces of data one behind the other.

    A CRC is a remainder modulo a polynomial over two elements. Bits behind it multiply it by a
    power of x, so that CRC(AB) = CRC(A) x**(8 |B|) + CRC(B), as in zlib's `crc32_combine`.

    Parameters
    ----------
    first, second : int
        CRC-32 of each piece.
    n_bytes : int
        Length of the second one.
    """
    return _times(first, _power(n_bytes)) ^ second


def _times(a: int, b: int) -> int:
    """Return the product of two polynomials modulo that of CRC-32."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@lru_cache(maxsize=8)
def _power(n: int) -> int:
    """Return x**(8 n) modulo the polynomial of CRC-32."""
    power, square = _ONE, _X8
    while n:
        if n & 1:
            power = _times(power, square)
        square = _times(square, square)
        n >>= 1
    return power
