"""A folder of photos to features of ResNet-18 at 224 px: featx beside ImageFolder and a DataLoader.

Usage: python benchmarks/photos.py [--folder DIR] [--images 300] [--repeats 5] [--threads 2]

DIR holds JPEGs in one folder per class; they are repeated until there are as many as asked. Without
it, pictures of 500 x 375 px are made whose spectrum is that of photos; with FEATX_TEST_SHARED set,
the photos of the tests are taken.

Prints one JSON line per comparison: "load" (files to network input) and "end to end" (files to
features, in featx with the check of all files that comes first). The peer is what tutorials write:
torchvision's transforms of the weights, a DataLoader with as many workers as featx has threads that
decode, and the network's forward pass under inference_mode. Medians of interleaved rounds in one
process; both load the same bits, which is checked.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from preprocessing import summary

import featx
from featx.backbones import Backbone
from featx.data import TORCH, FileImages
from featx.machine import keep_freed_memory
from featx.torchvision_compat import import_torchvision

BATCH = 32
CUT = "avgpool"


def made_picture(seed: int) -> Image.Image:
    """Return a picture whose amplitudes fall with the frequency, as those of photos do."""
    rng = np.random.default_rng(seed)
    height, width = 375, 500
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    channels = []
    for _ in range(3):
        spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / np.maximum(frequency, 1e-3)
        values = np.fft.irfft2(spectrum, (height, width))
        channels.append(np.clip(128 + 50 * values / values.std(), 0, 255).astype(np.uint8))
    return Image.fromarray(np.stack(channels, axis=-1))


def make_folder(root: Path, source: Path | None, images: int) -> None:
    """Fill `root` with one folder of `images` JPEGs: links to those of `source`, or made ones."""
    folder = root / "photos"
    folder.mkdir()
    if source is None:
        source = root.parent / "made"
        source.mkdir()
        for i in range(20):
            made_picture(i).save(source / f"{i:02}.jpg", quality=90)
    found = sorted(source.rglob("*.jpg"))
    for i in range(images):
        (folder / f"{i:06}.jpg").symlink_to(found[i % len(found)].resolve())


def peer_batches(root: Path, workers: int) -> Iterator[torch.Tensor]:
    """Yield network input as ImageFolder and a DataLoader give it."""
    import_torchvision()
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

    transform = Compose(
        [Resize(256), CenterCrop(224), ToTensor(), Normalize(TORCH.mean, TORCH.std)]
    )
    loader = torch.utils.data.DataLoader(
        ImageFolder(str(root), transform), BATCH, num_workers=workers
    )
    for x, _ in loader:
        yield x


def featx_batches(images: FileImages, workers: int) -> Iterator[torch.Tensor]:
    """Yield network input as extraction makes it."""
    for batch in images.batches(BATCH, geometry=TORCH.geometry, workers=workers):
        x = torch.from_numpy(batch)
        yield TORCH.to_input(x, "cpu", True, torch.channels_last)


def peer_features(model: torch.nn.Module, root: Path, workers: int) -> np.ndarray:
    """Return the features by a plain forward pass."""
    with torch.inference_mode():
        return torch.cat([model(x) for x in peer_batches(root, workers)]).numpy()


def featx_features(backbone: Backbone, root: Path, workers: int) -> np.ndarray:
    """Return the features by featx, from a folder that it has not seen."""
    images = FileImages(sorted(root.rglob("*.jpg")))
    return featx.extract(backbone, CUT, images, batch_size=BATCH, workers=workers)[CUT]


def measure(
    *,
    quick: bool = False,
    threads: int = 2,
    folder: Path | None = None,
    images: int = 300,
    repeats: int = 5,
    what: str = "end to end",
) -> dict[str, Any]:
    """Return seconds of featx and of its peer, and the ratio with the least and the most seen."""
    if quick:
        images, repeats = min(images, 64), min(repeats, 3)
    if folder is None and (shared := os.environ.get("FEATX_TEST_SHARED")):
        folder = Path(shared) / "data" / "photos"
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory() as work:
            root = Path(work) / "folder"
            root.mkdir()
            make_folder(root, folder, images)
            took = _rounds(root, what, repeats, threads)
    finally:
        torch.set_num_threads(before)
    source = "photos" if folder else "smooth noise"
    return summary(f"photos, {what}", took, images, threads) | {"source": source}


def _rounds(root: Path, what: str, repeats: int, workers: int) -> dict[str, list[float]]:
    """Return side -> seconds of each round."""
    backbone = featx.load_backbone("resnet18", "none", seed=0)
    files = FileImages(sorted(root.rglob("*.jpg")))
    # Both start with the files in the system's memory.
    files.headers  # noqa: B018
    if what == "load":
        for ours, theirs in zip(
            featx_batches(files, workers), peer_batches(root, workers), strict=True
        ):
            if not torch.equal(ours, theirs):
                raise SystemExit("featx' pixels are not torchvision's")
        sides = {
            "featx": lambda: sum(1 for _ in featx_batches(files, workers)),
            "ImageFolder": lambda: sum(1 for _ in peer_batches(root, workers)),
        }
    else:
        model = featx.load_backbone("resnet18", "none", seed=0).model.eval()
        model.fc = torch.nn.Identity()
        ours, theirs = featx_features(backbone, root, workers), peer_features(model, root, workers)
        if np.linalg.norm(ours - theirs) > 1e-3 * np.linalg.norm(theirs):
            raise SystemExit("featx' features are not the peer's")
        sides = {
            "featx": lambda: featx_features(backbone, root, workers),
            "ImageFolder": lambda: peer_features(model, root, workers),
        }
    took: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats):
        # In turns, and each first as often.
        for name, run in list(sides.items())[:: 1 if turn % 2 == 0 else -1]:
            start = time.perf_counter()
            run()
            took[name].append(time.perf_counter() - start)
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = vars(parser.parse_args())
    for what in ("load", "end to end"):
        print(json.dumps(measure(what=what, **options)), flush=True)


if __name__ == "__main__":
    main()
