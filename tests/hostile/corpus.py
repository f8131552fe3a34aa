"""Files that mean harm, and how they are read. A program of its own, run by test_hostile_files.

``python corpus.py FOLDER`` makes every file under FOLDER, reads it with featx while an audit hook
watches, and prints what came out as JSON: ``{name: [outcome, what was tried]}``. An outcome is
``refused: ErrorName: text``, ``handled`` or an error that featx did not mean.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, TiffImagePlugin  # noqa: F401
from xxhash import xxh3_128

from featx.backbones import load_backbone
from featx.cache import FeatureKey, FeatureStore, clean, import_features, plan_cleaning
from featx.cache.locks import computing
from featx.data import load_dataset
from featx.data.cifar import read_pickle, unpack
from featx.errors import FeatxError
from featx.evaluate import read_exhibits, read_record
from featx.heads import LinearHead
from featx.recipes import load_recipe, load_study, make_recipe
from featx.training.checkpoint import load_checkpoint

CASES: dict[str, Callable[[Path], object]] = {}


def case(name: str) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    def keep(function: Callable[[Path], object]) -> Callable[[Path], object]:
        assert name not in CASES
        CASES[name] = function
        return function

    return keep


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.target = str(folder / "TRIPWIRE")

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def folder_of(folder: Path, name: str, content: bytes) -> object:
    """Read a folder of images of which one is hostile, as a run would."""
    root = folder / "photos"
    for number in range(6):
        place = root / ("a" if number % 2 else "b")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number * 40, 0, 0)).save(place / f"{number}.png")
    (root / "a" / name).write_bytes(content)
    dataset = load_dataset(f"folder:{root}", val=0, test=2)
    return [list(split.images.batches(2)) for split in dataset.splits.values()]


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header claims a size, with next to nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


# --- images

NOISE = Image.effect_noise((64, 64), 90).convert("RGB")
IMAGES = {
    "zero bytes": ("x.png", b""),
    "pixel bomb": ("x.png", png_of(60_000, 60_000)),
    "a side of 2^31": ("x.png", png_of(2**31 - 1, 1)),
    "truncated PNG": ("x.png", saved(NOISE, "PNG")[:900]),
    "truncated JPEG": ("x.jpg", saved(NOISE, "JPEG")[:700]),
    "text named JPEG": ("x.jpg", b"<script>alert(1)</script>"),
    "script named PNG": ("x.png", b"#!/bin/sh\ntouch TRIPWIRE\n"),
    "JPEG named PNG": ("x.png", saved(Image.new("RGB", (8, 8)), "JPEG")),
    "CMYK JPEG": ("x.jpg", saved(Image.new("CMYK", (8, 8)), "JPEG")),
    "16-bit PNG": ("x.png", saved(Image.new("I;16", (8, 8), 40_000), "PNG")),
    "animated PNG": ("x.png", saved(Image.new("RGB", (8, 8)), "PNG", save_all=True,
                                    append_images=[Image.new("RGB", (8, 8), "red")])),
    "animated WebP": ("x.webp", saved(Image.new("RGB", (8, 8)), "WEBP", save_all=True,
                                      append_images=[Image.new("RGB", (8, 8), "red")])),
    "palette with transparency": ("x.png", saved(Image.new("P", (8, 8)), "PNG", transparency=0)),
    "a broken chunk": ("x.png", png_of(8, 8).replace(b"IDAT", b"IDAT"[::-1])),
    "EPS named JPEG": ("x.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n"),
    "SVG with an entity": ("x.png", b"<!DOCTYPE s [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>"),
}  # fmt: skip
for _name, (_file, _content) in IMAGES.items():
    case(f"image: {_name}")(
        lambda folder, file=_file, content=_content: folder_of(folder, file, content)
    )


@case("image: a link out of the folder")
def linked(folder: Path) -> object:
    secret = folder / "secret.png"
    Image.new("RGB", (8, 8), "red").save(secret)
    root = folder / "photos"
    for name in "ab":
        (root / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8)).save(root / name / f"{number}.png")
    (root / "a" / "link.png").symlink_to(secret)
    return load_dataset(f"folder:{root}", val=0, test=2)


@case("image: a folder that links to itself")
def endless(folder: Path) -> object:
    root = folder / "photos"
    for name in "ab":
        (root / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8)).save(root / name / f"{number}.png")
    (root / "a" / "again").symlink_to(root, target_is_directory=True)
    return load_dataset(f"folder:{root}", val=0, test=2)


@case("image: markup and control characters as class names")
def marked_up(folder: Path) -> object:
    root = folder / "photos"
    for name in ("<script>alert(1)<", "\u202eevil", "a\nb", "$(touch TRIPWIRE)"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8)).save(root / name / f"{number}.png")
    return load_dataset(f"folder:{root}", val=0, test=4, stratified=True)


# --- arrays


def npz(folder: Path, **arrays: Any) -> object:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return load_dataset(f"npz:{path}", val=0, test=2)


@case("npz: a pickled object")
def npz_pickle(folder: Path) -> object:
    bomb = np.array([Bomb(folder)], dtype=object)
    labels = np.zeros(1, int)
    return npz(folder, train_x=bomb, train_y=labels, test_x=bomb, test_y=labels)


def npz_of(folder: Path, header: bytes, data: bytes = b"") -> object:
    path = folder / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        magic = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header))
        for name in ("train_x", "train_y", "test_x", "test_y"):
            archive.writestr(f"{name}.npy", magic + header + data)
    return load_dataset(f"npz:{path}", val=0, test=2)


@case("npz: an absurd shape")
def npz_absurd(folder: Path) -> object:
    return npz_of(
        folder, b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000, 8, 8, 3)}\n"
    )


@case("npz: a header that is code")
def npz_code(folder: Path) -> object:
    return npz_of(folder, b"__import__('os').mkdir('TRIPWIRE')\n")


@case("npz: a zip bomb")
def npz_bomb(folder: Path) -> object:
    path = folder / "data.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("train_x", "train_y", "test_x", "test_y"):
            # Deflated to a thousandth: 10 kB each that claim to be 10 GB.
            header = npy("(50000000, 8, 8, 3)", "|u1")
            archive.writestr(f"{name}.npy", header + bytes(10_000_000))
    return load_dataset(f"npz:{path}", val=0, test=2)


@case("npz: an archive that unpacks to petabytes")
def npz_petabytes(folder: Path) -> object:
    path = folder / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("train_x", "train_y", "test_x", "test_y"):
            archive.writestr(f"{name}.npy", npy("(8, 8, 8)", "|u1", bytes(512)))
    data = path.read_bytes()
    # Both sizes of the last entry are beyond 32 bits: a field of 64 bits says them.
    place = data.rindex(b"PK\1\2")
    entry = bytearray(data[place:-22])
    entry[24:28] = b"\xff" * 4
    entry[30:32] = struct.pack("<H", 12)
    entry += struct.pack("<HHQ", 1, 8, 2**50)
    end = bytearray(data[-22:])
    end[12:16] = struct.pack("<I", struct.unpack("<I", end[12:16])[0] + 12)
    path.write_bytes(data[:place] + bytes(entry) + bytes(end))
    return load_dataset(f"npz:{path}", val=0, test=2)


@case("npz: a name that leaves the folder")
def npz_traversal(folder: Path) -> object:
    path = folder / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../TRIPWIRE.npy", b"x")
    return load_dataset(f"npz:{path}", val=0, test=2)


# --- CIFAR-10's archive


def cifar_archive(folder: Path, add: Callable[[tarfile.TarFile], None]) -> object:
    """Unpack an archive as if its digest, which is checked before, were the official one."""
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        add(archive)
    return unpack(folder / "cifar-10-python.tar.gz", folder / "out" / "data")


@case("tar: another archive than the official one")
def tar_other(folder: Path) -> object:
    (folder / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b" + bytes(100))
    return load_dataset("cifar10", data_dir=folder, download=False)


def member(name: str, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@case("tar: a path out of the folder")
def tar_traversal(folder: Path) -> object:
    return cifar_archive(folder, lambda tar: tar.addfile(member("../TRIPWIRE")))


@case("tar: a link to a file elsewhere")
def tar_link(folder: Path) -> object:
    info = member("cifar-10-batches-py/data_batch_1", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    return cifar_archive(folder, lambda tar: tar.addfile(info))


@case("tar: an absolute path")
def tar_absolute(folder: Path) -> object:
    return cifar_archive(folder, lambda tar: tar.addfile(member(str(folder / "TRIPWIRE"))))


@case("pickle: a batch that makes a folder, behind the check of its digest")
def cifar_unpickled(folder: Path) -> object:
    return read_pickle(pickle.dumps(Bomb(folder)), folder / "data_batch_1")


@case("pickle: a batch that makes a folder")
def cifar_pickle(folder: Path) -> object:
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    for name in ("batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (place / name).write_bytes(pickle.dumps(Bomb(folder)))
    return load_dataset("cifar10", data_dir=folder, download=False)


# --- weights, heads, checkpoints


@case("weights: a pickle")
def weights_pickle(folder: Path) -> object:
    (folder / "w.pth").write_bytes(pickle.dumps({"state_dict": Bomb(folder)}))
    return load_backbone("resnet18", str(folder / "w.pth"))


@case("weights: code in a .pt")
def weights_code(folder: Path) -> object:
    torch.save({"state_dict": Bomb(folder)}, folder / "w.pt")
    return load_backbone("resnet18", str(folder / "w.pt"))


def safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header


@case("weights: a safetensors header of 2^60 bytes")
def weights_header(folder: Path) -> object:
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    return load_backbone("resnet18", str(folder / "w.safetensors"))


@case("weights: safetensors that overlap and end elsewhere")
def weights_overlap(folder: Path) -> object:
    header = json.dumps(
        {"conv1.weight": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4]}}
    )
    (folder / "w.safetensors").write_bytes(safetensors(header.encode()) + bytes(4))
    return load_backbone("resnet18", str(folder / "w.safetensors"))


@case("head: a pickle")
def head_pickle(folder: Path) -> object:
    (folder / "h.safetensors").write_bytes(pickle.dumps(Bomb(folder)))
    return LinearHead.load(folder / "h.safetensors")


@case("head: a header without an end")
def head_header(folder: Path) -> object:
    (folder / "h.safetensors").write_bytes(safetensors(b'{"a":' + b"[" * 10_000))
    return LinearHead.load(folder / "h.safetensors")


@case("checkpoint: a pickle")
def checkpoint_pickle(folder: Path) -> object:
    torch.save({"state": Bomb(folder)}, folder / "checkpoint.pt")
    return load_checkpoint(folder / "checkpoint.pt", {})


# --- recipes and records


def recipe(folder: Path, text: str) -> object:
    (folder / "r.yaml").write_text(text)
    return load_recipe(folder / "r.yaml")


RECIPES = {
    "a tag that runs a command": "backbone: !!python/object/apply:os.mkdir ['TRIPWIRE']",
    "a tag that makes an object": "backbone: !!python/object/new:os.system ['true']",
    "10 MB of text": "description: " + "x" * 10_000_000,
    "a billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
    ),
    "a name that leaves the folder": "name: ../../TRIPWIRE",
    "an absolute name": "name: /TRIPWIRE",
    "a NUL in a path": 'backbone: "resnet18\\0"',
}
for _name, _text in RECIPES.items():
    case(f"recipe: {_name}")(lambda folder, text=_text: recipe(folder, text))


@case("recipe: deep nesting")
def deep_recipe(folder: Path) -> object:
    return recipe(folder, "[" * 100_000)


@case("recipe: deep nesting of mappings")
def deep_mappings(folder: Path) -> object:
    return recipe(folder, "{a: " * 100_000)


@case("recipe: a number of a million digits in base 60")
def long_number(folder: Path) -> object:
    return recipe(folder, "seed: " + "1:" * 400_000 + "1")


@case("study: a trillion runs")
def endless_study(folder: Path) -> object:
    (folder / "r.yaml").write_text("task: train\nnetwork: conv2\nrepeats: 1000000000000\n")
    return load_study(folder / "r.yaml")


@case("study: a billion laughs")
def study_laughs(folder: Path) -> object:
    (folder / "r.yaml").write_text(RECIPES["a billion laughs"])
    return load_study(folder / "r.yaml")


@case("recipe: a flag with markup")
def flag_markup(folder: Path) -> object:
    return make_recipe({"backbone": "[bold]resnet18[/bold]"})


@case("record: JSON without an end")
def record_deep(folder: Path) -> object:
    (folder / "results.json").write_text('{"schema_version":' + "[" * 200_000)
    return read_record(folder)


@case("record: numbers that are none")
def record_nan(folder: Path) -> object:
    (folder / "results.json").write_text('{"schema_version": 2, "name": NaN}')
    return read_record(folder)


@case("exhibits: a picture elsewhere")
def exhibits_elsewhere(folder: Path) -> object:
    tiles = {"file": "exhibits/../../secret", "tile": 8, "columns": 1, "n": 1}
    text = {"exhibits_version": 1, "name": "a", "created": "b", "tiles": tiles}
    (folder / "exhibits.json").write_text(json.dumps(text))
    return read_exhibits(folder)


# --- exported features

KEY = FeatureKey(
    backbone="net", weights_digest="w" * 64, dataset_digest="d" * 64, split="train", preprocess={},
    module="layer", pool="avg", storage="float32", precision="fp32",
    numerics="channels-last", device_kind="cpu",
    batch_size=4, shard_rows=8, versions="made 1.0",
).describe()  # fmt: skip


def exported_npz(folder: Path, about: object, labels: bytes, method: int = 0) -> object:
    """Import an archive with a text about itself and the given bytes as its labels."""
    path = folder / "f.npz"
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("featx.npy", "w") as file:
            np.save(file, np.array(about if isinstance(about, str) else json.dumps(about)))
        archive.writestr("labels.npy", labels, method)
        archive.writestr("features.npy", labels, method)
    return import_features(FeatureStore(folder / "cache"), path)


def npy(shape: str, descr: str = "<i8", data: bytes = b"") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@case("export: labels of an absurd shape")
def export_absurd(folder: Path) -> object:
    about = {"n_rows": 10**15, "n_features": 12, "key": KEY, "sha256": "0", "version": 2}
    return exported_npz(folder, about, npy("(1000000000000000,)"))


@case("export: a zip bomb")
def export_bomb(folder: Path) -> object:
    about = {"n_rows": 10**6, "n_features": 12, "key": KEY, "sha256": "0", "version": 2}
    labels = npy("(1000000,)", data=bytes(8_000_000))
    return exported_npz(folder, about, labels, zipfile.ZIP_DEFLATED)


@case("export: JSON without an end")
def export_deep(folder: Path) -> object:
    return exported_npz(folder, '{"version":2,"key":' + "[" * 200_000, npy("(8,)"))


@case("export: a text of terabytes")
def export_text(folder: Path) -> object:
    path = folder / "f.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("featx.npy", npy("()", "<U500000000"))
    return import_features(FeatureStore(folder / "cache"), path)


@case("export: encrypted")
def export_encrypted(folder: Path) -> object:
    path = folder / "f.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("featx.npy", npy("()", "<U9"))
    data = bytearray(path.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + flags] |= 1
    path.write_bytes(data)
    return import_features(FeatureStore(folder / "cache"), path)


@case("export: Parquet without lists")
def export_parquet(folder: Path) -> object:
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = json.dumps({"n_rows": 2, "n_features": 12, "key": KEY, "sha256": "0", "version": 2})
    table = pa.table({"features": [1.0, 2.0], "label": [0, 1]}).replace_schema_metadata(
        {"featx": about}
    )
    pq.write_table(table, folder / "f.parquet")
    return import_features(FeatureStore(folder / "cache"), folder / "f.parquet")


@case("export: Parquet of no columns a row")
def export_parquet_empty(folder: Path) -> object:
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = json.dumps({"n_rows": 1, "n_features": 0, "key": KEY, "sha256": "0", "version": 2})
    kind = pa.schema(
        [("features", pa.list_(pa.float32(), 0)), ("label", pa.int64())], {"featx": about}
    )
    pq.write_table(pa.table([[[]], [1]], schema=kind), folder / "f.parquet")
    return import_features(FeatureStore(folder / "cache"), folder / "f.parquet")


# --- HDF5


def hdf5(
    folder: Path, build: Callable[[h5py.File], None], n_rows: int = 8, n_features: int = 12
) -> object:
    path = folder / "f.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("labels", (n_rows,), "<i8")
        if n_rows == 8:
            file["labels"][:] = 1
        build(file)
        shape = {"n_rows": n_rows, "n_features": n_features}
        about = {**shape, "key": KEY, "sha256": "0", "version": 2}
        file.attrs["featx"] = np.bytes_(json.dumps(about))
    return import_features(FeatureStore(folder / "cache"), path)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((8, 12), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "features", (8, 12))
    file.create_virtual_dataset("features", layout)


HDF5 = {
    "an external link": lambda f: f.__setitem__("features", h5py.ExternalLink("/etc/passwd", "x")),
    "a soft link": lambda f: f.__setitem__("features", h5py.SoftLink("/labels")),
    "values in another file": lambda f: f.create_dataset(
        "features", (8, 12), "f4", external=[("/etc/passwd", 0, 384)]
    ),
    "a virtual dataset": virtual,
    "a group instead of values": lambda f: f.create_group("features"),
}
for _name, _build in HDF5.items():
    case(f"HDF5: {_name}")(lambda folder, build=_build: hdf5(folder, build))


@case("HDF5: an absurd shape that it says itself, in chunks")
def hdf5_absurd_chunks(folder: Path) -> object:
    def build(file: h5py.File) -> None:
        file.create_dataset("features", (10**9, 10**6), "f4", chunks=(1, 1000))

    return hdf5(folder, build, 10**9, 10**6)


@case("HDF5: an absurd shape that it says itself, without values")
def hdf5_absurd(folder: Path) -> object:
    def build(file: h5py.File) -> None:
        file.create_dataset("features", (10**9, 10**6), "f4")

    return hdf5(folder, build, 10**9, 10**6)


@case("HDF5: an unknown filter")
def unknown_filter(folder: Path) -> object:
    path = folder / "f.h5"
    with h5py.File(path, "w") as file:
        file["labels"] = np.arange(8)
        file.create_dataset("features", data=np.ones((8, 12), "f4"), compression="gzip")
        about = {"n_rows": 8, "n_features": 12, "key": KEY, "sha256": "0", "version": 2}
        file.attrs["featx"] = np.bytes_(json.dumps(about))
    # The filter's number stands in front of its name, with the name's length and flags between.
    data = bytearray(path.read_bytes())
    place = data.index(b"deflate\0") - 8
    assert data[place : place + 2] == struct.pack("<H", 1)
    data[place : place + 2] = struct.pack("<H", 31_999)
    path.write_bytes(data)
    with h5py.File(path) as file, pytest.raises(OSError, match=r"filter|plugin"):
        file["features"][:]
    return import_features(FeatureStore(folder / "cache"), path)


@case("HDF5: garbage behind the signature")
def hdf5_garbage(folder: Path) -> object:
    (folder / "f.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + os.urandom(2000))
    return import_features(FeatureStore(folder / "cache"), folder / "f.h5")


@case("cache: a manifest that names a file elsewhere")
def cache_manifest(folder: Path) -> object:
    content = {"schema": 2, "complete": True, "shards": [{"file": "../../../secret"}]}
    return cache_entry(folder, signed(json.dumps(content).encode()))


@case("cache: a manifest that is a pipe")
def cache_pipe(folder: Path) -> object:
    return cache_entry(folder, None)


@case("cache: a key that clears the screen")
def cache_screen(folder: Path) -> object:
    return cache_entry(folder, manifest_of({**KEY, "module": "a\x1b[2J\ud800"}))


@case("cache: a key without an end")
def cache_deep(folder: Path) -> object:
    data = json.dumps(json.loads(manifest_of({**KEY, "preprocess": {"a": 1}}))["manifest"])
    return cache_entry(
        folder, signed(data.replace('"a": 1', f'"a": {"[" * 985}{"]" * 985}').encode())
    )


@case("cache: a manifest of 17 MB")
def cache_long(folder: Path) -> object:
    return cache_entry(folder, signed(b"{" + b" " * (17 * 2**20) + b"}"))


@case("cache: a shard of a terabyte of nothing")
def cache_sparse(folder: Path) -> object:
    name = "00000-0123456789abcdef.h5"
    place = cache_folder(folder)
    with (place / name).open("wb") as file:
        file.truncate(2**40)
    shard = {"file": name, "size_bytes": 2**40, "digest": "0" * 32, "rows": 8}
    return cache_entry(folder, manifest_of(KEY, shards=[shard]))


@case("cache: links out of it where featx keeps locks and times")
def cache_links(folder: Path) -> object:
    mine, store = folder / "mine", FeatureStore(folder / "cache")
    mine.mkdir()
    for name in ("thesis.txt", "x-0123456789abcdef", "0123456789abcdef.lock"):
        (mine / name).touch()
        os.utime(mine / name, (0, 0))
    X, y = np.ones((8, 12), np.float32), np.zeros(8, int)
    key = FeatureKey(**KEY)
    for name in (".used", ".locks"):
        store.root.mkdir(exist_ok=True)
        (store.root / name).symlink_to(mine)
    with (
        computing(store.root, [key]),
        store.writer(key, n_rows=8, n_features=12) as writer,
    ):
        writer.append(X, y)
        writer.finish()
    found = store.find(key)
    clean(store, plan_cleaning(store, max_bytes=0))
    assert found is not None
    assert store.entries() == []
    assert {path.stat().st_mtime for path in mine.iterdir()} == {0}
    assert len(list(mine.iterdir())) == 3
    return found


def cache_folder(folder: Path) -> Path:
    """Return the folder of the entry of `KEY`."""
    entry = FeatureStore(folder / "cache").path_for(FeatureKey(**KEY))
    entry.mkdir(parents=True, exist_ok=True)
    return entry


def cache_entry(folder: Path, manifest: bytes | None) -> object:
    """Read a cache with one entry of this manifest (None: a pipe), as all commands do."""
    path = cache_folder(folder) / "manifest.json"
    if manifest is None:
        os.mkfifo(path)
    else:
        path.write_bytes(manifest)
    store = FeatureStore(folder / "cache")
    (listed,), (info,) = store.entries(), store.verify()
    clean(store, plan_cleaning(store))
    if listed.problem is None or info.problem is None or not info.problem.isprintable():
        raise AssertionError("it was believed")
    store.find(FeatureKey(**KEY))
    raise AssertionError("it was found")


def manifest_of(key: dict[str, Any], **changes: Any) -> bytes:
    """Return a manifest of an unfinished set, but signed as complete."""
    content = {"schema": 2, "complete": True, "key": key, "n_rows": 8, "n_features": 12,
               "shards": [], "summary": None}  # fmt: skip
    return signed(json.dumps(content | changes).encode())


def signed(inner: bytes) -> bytes:
    digest = xxh3_128(inner).hexdigest().encode()
    return b'{"xxh3":"%b","manifest":%b}\n' % (digest, inner)


# --- the watch

TRIED: list[str] = []
_WATCHED = ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.exec", "os.fork",
            "os.posix_spawn", "os.mkdir", "os.remove", "os.rename")  # fmt: skip


def watch(folder: Path) -> None:
    """Note whatever a file makes Python do that reading needs not."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event not in _WATCHED and event != "open":
            return
        path = args[0] if args else None
        if event == "open":
            writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if str(path) == "/etc/passwd":
                TRIED.append(f"read {path}")
            elif writes and isinstance(path, str) and not path.startswith((str(folder), "/dev/")):
                TRIED.append(f"write {path}")
        elif not str(path).startswith(str(folder)) or Path(str(path)).name == "TRIPWIRE":
            TRIED.append(f"{event} {path}")

    sys.addaudithook(hook)


def outcome(name: str, folder: Path) -> list[Any]:
    """Read one file; return what came out, and what was tried."""
    folder.mkdir(parents=True)
    TRIED.clear()
    try:
        CASES[name](folder)
        came = "handled"
    except FeatxError as error:
        came = f"refused: {type(error).__name__}: {str(error)[:300]}"
    except BaseException as error:
        came = f"{type(error).__name__}: {str(error)[:300]}"
    if (folder / "TRIPWIRE").exists() or Path("TRIPWIRE").exists():
        TRIED.append("the trip-wire was cut")
    return [came, list(TRIED)]


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    os.chdir(place)
    watch(place)
    found = {name: outcome(name, place / f"{i:02d}") for i, name in enumerate(CASES)}
    print(json.dumps(found))
