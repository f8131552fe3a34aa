"""CIFAR-10's files: found, unpacked, downloaded, checked, and never executed."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featx.data import ArrayImages, cifar, load_dataset
from featx.errors import DataError, DownloadError

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def text(value: str) -> bytes:
    return b"U" + bytes([len(value)]) + value.encode()


def python2_pickle(data: np.ndarray, labels: list[int]) -> bytes:
    """Return {"data": data, "labels": labels} as Python 2 and its numpy wrote it."""
    raw = data.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    array += b"(K\x01M" + len(data).to_bytes(2, "little") + b"M\x00\x0c\x86"
    array += b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff"
    array += b"\xffK\x00tb\x89T" + len(raw).to_bytes(4, "little") + raw + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text("data") + array + text("labels") + listed + b"u."


def small_files() -> dict[str, bytes]:
    """Return the seven files with 20 images each."""
    names = b"](" + b"".join(text(name) for name in NAMES) + b"e"
    files = {"batches.meta": b"\x80\x02}(" + text("label_names") + names + b"u."}
    for i, name in enumerate((*cifar.TRAIN, cifar.TEST)):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 3072), dtype=np.uint8)
        files[name] = python2_pickle(pixels, list(range(10)) * 2)
    return files


def archive_of(members: Iterable[tuple[str, bytes | str]]) -> bytes:
    """Return a tar.gz; a text is the target of a symbolic link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Small files that count as the official ones."""
    files = small_files()
    for name, content in files.items():
        monkeypatch.setitem(cifar.FILES, name, hashlib.md5(content).hexdigest())
    return files


@pytest.fixture
def archive(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> bytes:
    content = archive_of((f"{cifar.FOLDER}/{name}", data) for name, data in files.items())
    monkeypatch.setattr(cifar, "ARCHIVE_MD5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(cifar, "ARCHIVE_SHA256", hashlib.sha256(content).hexdigest())
    return content


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def load(folder: Path, **options: Any) -> Any:
    return load_dataset("cifar10", data_dir=folder, val=0, **options)


@pytest.mark.parametrize("below", ["", cifar.FOLDER])
def test_the_data_folder_may_be_the_batches_or_hold_them(
    files: dict[str, bytes], tmp_path: Path, below: str
) -> None:
    write(tmp_path / below, files)
    dataset = load(tmp_path, download=False)
    assert dataset.classes == dict(enumerate(NAMES))
    train = dataset.splits["train"].images
    assert isinstance(train, ArrayImages)
    assert train.array.shape == (100, 32, 32, 3)
    # Row 25 of the training images is row 5 of the second batch: reds, greens, blues.
    pixels = np.random.default_rng(1).integers(0, 256, (20, 3072), dtype=np.uint8)[5]
    for channel in range(3):
        plane = pixels[channel * 1024 : (channel + 1) * 1024].reshape(32, 32)
        np.testing.assert_array_equal(train.array[25, :, :, channel], plane)
    np.testing.assert_array_equal(dataset.splits["test"].y, list(range(10)) * 2)


def test_an_archive_that_lies_there_is_unpacked(
    files: dict[str, bytes], archive: bytes, tmp_path: Path
) -> None:
    (tmp_path / cifar.ARCHIVE).write_bytes(archive)
    assert len(load(tmp_path, download=False).splits["train"]) == 100
    unpacked = {path.name: path.read_bytes() for path in (tmp_path / cifar.FOLDER).iterdir()}
    assert unpacked == files


def test_the_archive_is_downloaded_where_there_is_none(
    archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = write(tmp_path / "server", {cifar.ARCHIVE: archive}) / cifar.ARCHIVE
    monkeypatch.setattr(cifar, "URL", served.as_uri())
    assert len(load(tmp_path / "data").splits["test"]) == 20
    monkeypatch.setattr(cifar, "URL", (tmp_path / "nowhere.tar.gz").as_uri())
    assert len(load(tmp_path / "data").splits["test"]) == 20
    with pytest.raises(DownloadError, match=r"by hand and put it into .*other.*--data-dir"):
        load(tmp_path / "other")


def test_without_downloads_it_is_said_what_to_bring(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"downloads are off. Download https://.*kriz.*by hand"):
        load(tmp_path, download=False)


def test_a_wrong_archive_is_refused_and_nothing_unpacked(archive: bytes, tmp_path: Path) -> None:
    (tmp_path / cifar.ARCHIVE).write_bytes(archive + b"\0")
    with pytest.raises(DownloadError, match="not the right one: its MD5 is"):
        load(tmp_path, download=False)
    assert not (tmp_path / cifar.FOLDER).exists()


def test_only_the_expected_plain_files_leave_an_archive(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"untouched")
    members: list[tuple[str, bytes | str]] = [
        ("../secret", b"overwritten"),
        (f"{cifar.FOLDER}/../../secret", b"overwritten"),
        (str(secret), b"overwritten"),
        (f"{cifar.FOLDER}/data_batch_1", str(secret)),
        (f"{cifar.FOLDER}/readme.html", b"<html>"),
        ("data_batch_2", b"outside the folder"),
        *((f"{cifar.FOLDER}/{name}", data) for name, data in files.items()),
    ]
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(archive_of(members))
    # A tar may hold a name twice: the link that comes first is passed over.
    cifar.unpack(archive, tmp_path / "out" / cifar.FOLDER)
    assert secret.read_bytes() == b"untouched"
    (folder,) = (tmp_path / "out").iterdir()
    assert {path.name for path in folder.iterdir()} == set(files)
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_an_archive_that_lacks_a_file_or_is_cut_says_so(
    files: dict[str, bytes], archive: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(
        archive_of((f"{cifar.FOLDER}/{n}", c) for n, c in files.items() if n != "test_batch")
    )
    with pytest.raises(DataError, match=r"a\.tar\.gz lacks test_batch"):
        cifar.unpack(path, tmp_path / "out")
    path.write_bytes(archive[: len(archive) // 2])
    with pytest.raises(DataError, match="could not be unpacked"):
        cifar.unpack(path, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.part"))


def test_a_changed_file_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    write(tmp_path, files)
    content = bytearray(files["data_batch_3"])
    content[-50] ^= 1
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_3 is not the official file: its MD5 is"):
        load(tmp_path, download=False)


class Evil:
    """Runs a command when a careless reader unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_malicious_pickle_is_refused_and_not_executed(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    """Even with the right checksum."""
    marker = tmp_path / "executed"
    evil = pickle.dumps({"data": Evil(marker), "labels": []}, protocol=protocol)
    monkeypatch.setitem(cifar.FILES, "data_batch_2", hashlib.md5(evil).hexdigest())
    write(tmp_path, files | {"data_batch_2": evil})
    with pytest.raises(DataError, match=r"data_batch_2 is refused.*'posix.system'.*nothing of it"):
        load(tmp_path, download=False)
    assert not marker.exists()
    pickle.loads(evil)
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "global 'builtins.eval'"),
        (b"cnumpy.core.multiarray\nscalar\n.", "global 'numpy.core.multiarray.scalar'"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0bndarray.ctp\x93.", "global 'numpy.ndarray.ctp'"),
        (b"Pid\n.", "an object outside the file"),
        (b"cnumpy\ndtype\n(S'O'\ntR.", "a dtype of 'O'"),
        (b"\x80\x02}(", "is refused"),
        (b"", "is refused"),
        (b"].", "holds a list, not a dict"),
        (b"\x80\x02}U\x01acnumpy\nndarray\n)Rs.", "its array 'a' has no values"),
        (b"\x80\x02cnumpy\nndarray\n)R(K\x01)NNNtb.", "an array that is no rows of bytes"),
    ],
)
def test_whatever_is_not_a_plain_array_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        cifar.read_pickle(content, Path("data_batch_1"))


def test_numpy_does_not_see_what_a_file_says() -> None:
    """A dtype's state that numpy did not write itself can end the process."""
    pixels = np.arange(3072, dtype=np.uint8).reshape(1, -1)
    content = python2_pickle(pixels, [3])
    loaded = cifar.read_pickle(content, Path("x"))
    np.testing.assert_array_equal(loaded["data"], pixels)
    assert loaded["data"].dtype == np.uint8
    assert loaded["labels"] == [3]
    other = content.replace(b"(K\x03U\x01|NNNJ", b"(K\x03U\x01|NJ")
    assert other != content
    np.testing.assert_array_equal(cifar.read_pickle(other, Path("x"))["data"], pixels)
    assert np.dtype("u1") == np.uint8


@pytest.mark.real
def test_real_cifar10_equals_the_arrays_of_another_reader(
    shared_dir: Path, cifar_dir: Path
) -> None:
    npz = cifar_dir / "cifar10.npz"
    script = shared_dir / "data" / "unpack_cifar10.py"
    subprocess.run([sys.executable, str(script), str(cifar_dir), "--npz", str(npz)], check=True)
    dataset = load(cifar_dir, download=False)
    with np.load(npz) as arrays:
        assert list(dataset.classes.values()) == arrays["classes"].tolist()
        for name in ("train", "test"):
            split = dataset.splits[name]
            np.testing.assert_array_equal(split.images.array, arrays[f"{name}_x"])
            np.testing.assert_array_equal(split.y, arrays[f"{name}_y"])
    same = load_dataset(f"npz:{npz}", val=0)
    assert same.name == "npz:cifar10"
    assert same.splits["test"].digest == dataset.splits["test"].digest
