"""Fashion-MNIST's IDX files."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from featx.data import idx, load_dataset
from featx.errors import DataError, DownloadError

Files = dict[str, bytes]


def idx_file(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def images(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 28, 28), dtype=np.uint8)


@pytest.fixture
def plain() -> Files:
    """Four small files, unpacked."""
    return {
        f"{prefix}-{kind}": idx_file(content)
        for prefix, n in (("train", 30), ("t10k", 20))
        for kind, content in (
            ("images-idx3-ubyte", images(n)),
            ("labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 10),
        )
    }


@pytest.fixture
def packed(plain: Files, monkeypatch: pytest.MonkeyPatch) -> Files:
    """The same, compressed, and counting as the official ones."""
    files = {name: gzip.compress(content, mtime=0) for name, content in plain.items()}
    for name, content in files.items():
        monkeypatch.setitem(idx.FILES, name, hashlib.md5(content).hexdigest())
    return {f"{name}.gz": content for name, content in files.items()}


def write(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("below", ["", "fashion-mnist", "FashionMNIST/raw"])
@pytest.mark.parametrize("compressed", [True, False])
def test_files_are_found_and_read(
    plain: Files, packed: Files, tmp_path: Path, below: str, compressed: bool
) -> None:
    write(tmp_path / below, packed if compressed else plain)
    dataset = load_dataset("fashion-mnist", data_dir=tmp_path, val=0, download=False)
    assert dataset.classes[8] == "bag"
    for name, n in (("train", 30), ("test", 20)):
        split = dataset.splits[name]
        np.testing.assert_array_equal(split.images.array, np.stack([images(n)] * 3, axis=-1))
        np.testing.assert_array_equal(split.y, np.arange(n) % 10)
    checks = dataset.provenance["origin"]["files_md5"]
    assert len(checks) == 4
    assert all((len(check) == 32) == compressed for check in checks.values())


def test_missing_files_are_downloaded(
    packed: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "server", packed)
    monkeypatch.setattr(idx, "URL", (tmp_path / "server").as_uri() + "/")
    data_dir = tmp_path / "data"
    dataset = load_dataset("fashion-mnist", data_dir=data_dir, val=0)
    assert len(dataset.splits["test"]) == 20
    assert sorted(path.name for path in (data_dir / "fashion-mnist").iterdir()) == sorted(packed)
    monkeypatch.setattr(idx, "URL", (tmp_path / "nowhere").as_uri() + "/")
    with pytest.raises(DownloadError, match="by hand and put it at"):
        load_dataset("fashion-mnist", data_dir=tmp_path / "other")
    with pytest.raises(DataError, match=r"downloads are off. Download .*by hand"):
        load_dataset("fashion-mnist", data_dir=tmp_path / "other", download=False)


def test_mnists_files_of_the_same_names_are_not_taken(packed: Files, tmp_path: Path) -> None:
    packed["t10k-images-idx3-ubyte.gz"] = gzip.compress(idx_file(images(20)), 1)
    write(tmp_path, packed)
    with pytest.raises(DataError, match="is not Fashion-MNIST's file: its MD5 is"):
        load_dataset("fashion-mnist", data_dir=tmp_path, download=False)


def test_a_compressed_file_that_is_none(
    packed: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"no gzip", packed["train-images-idx3-ubyte.gz"][:-9]):
        packed["train-images-idx3-ubyte.gz"] = content
        monkeypatch.setitem(idx.FILES, "train-images-idx3-ubyte", hashlib.md5(content).hexdigest())
        write(tmp_path, packed)
        with pytest.raises(DataError, match="cannot be unpacked"):
            load_dataset("fashion-mnist", data_dir=tmp_path, download=False)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(29, dtype=np.uint8) % 10, "has 30 images and .* 29 labels"),
        (np.arange(30, dtype=np.uint8) % 11, "30 labels up to 10"),
    ],
)
def test_images_and_labels_must_belong_together(
    plain: Files, tmp_path: Path, labels: np.ndarray, message: str
) -> None:
    write(tmp_path, plain | {"train-labels-idx1-ubyte": idx_file(labels)})
    with pytest.raises(DataError, match=message):
        load_dataset("fashion-mnist", data_dir=tmp_path, download=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing, expected 00000801"),
        (b"\x00\x00\x08\x03" + bytes(12), "begins with 00000803, expected 00000801"),
        (b"\x00\x00\x0d\x01" + bytes(4), "begins with 00000d01"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05" + bytes(4), "announces 5 values and holds 4"),
        (b"\x00\x00\x08\x01\xff\xff\xff\xff" + bytes(4), "announces 4294967295 values"),
    ],
)
def test_damaged_headers(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        idx.parse_idx(content, 1, "labels")
