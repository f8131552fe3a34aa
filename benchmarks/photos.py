"""A folder of photos to features of ResNet-18 at 224 px: featx beside ImageFolder and a DataLoader.

Usage: python benchmarks/photos.py [--folder DIR] [--images 300] [--repeats 5] [--threads 2]

DIR holds JPEGs in one folder per class; they are repeated until there are as many as asked. Without
it, pictures of 500 x 375 px are made whose spectrum is that of photos; with FEATX_TEST_SHARED set,
the photos of the tests are taken.

Prints one JSON line per comparison: "load" (files to network input) and "end to end" (files to
features, in featx with the check of all files that comes first). The peer is what tutorials write:
torchvision's transforms of the weights, a DataLoader with as many workers as featx has threads that
decode, and the network's forward pass under inference_mode. Medians of interleaved rounds, each
side in a process of its own. That both load the same bits is checked by "load", and a sample of
their features by "end to end".
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lines import made
from lines.workers import Side, SideFailed, check_agreement, interleaved, seconds
from PIL import Image
from preprocessing import check_bits, summary, timed_batches

from featx.data import TORCH, FileImages
from featx.torchvision_compat import import_torchvision

BATCH = 32
NETWORK = "resnet18"
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


def featx_batches(root: Path, workers: int) -> Iterator[torch.Tensor]:
    """Yield network input as extraction makes it."""
    images = FileImages(sorted(root.rglob("*.jpg")))
    for batch in images.batches(BATCH, geometry=TORCH.geometry, workers=workers):
        x = torch.from_numpy(batch)
        yield TORCH.to_input(x, "cpu", True, torch.channels_last)


def load_by_featx(root: str, workers: int) -> Callable[[], dict[str, Any]]:
    """Files to network input, by featx."""
    made.featx_memory()
    return timed_batches(lambda: featx_batches(Path(root), workers))


def load_by_peer(root: str, workers: int) -> Callable[[], dict[str, Any]]:
    """Files to network input, by ImageFolder and a DataLoader."""
    return timed_batches(lambda: peer_batches(Path(root), workers))


def features_by_featx(root: str, workers: int) -> Callable[[], dict[str, Any]]:
    """Files to features, by featx, from a folder that it has not seen."""
    import featx

    backbone = made.backbone(NETWORK)

    def extract() -> np.ndarray:
        images = FileImages(sorted(Path(root).rglob("*.jpg")))
        return featx.extract(backbone, CUT, images, batch_size=BATCH, workers=workers)[CUT]

    return _timed_features(extract)


def features_by_peer(root: str, workers: int) -> Callable[[], dict[str, Any]]:
    """Files to features, by a DataLoader and a plain forward pass."""
    model = made.backbone(NETWORK).model.eval()
    model.fc = torch.nn.Identity()

    def extract() -> np.ndarray:
        with torch.inference_mode():
            return torch.cat([model(x) for x in peer_batches(Path(root), workers)]).numpy()

    return _timed_features(extract)


def _timed_features(extract: Callable[[], np.ndarray]) -> Callable[[], dict[str, Any]]:
    def run() -> dict[str, Any]:
        took, features = made.timed(extract)
        return {"s": took, "samples": [made.sample(features)]}

    return run


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
    call = {"load": "load_by", "end to end": "features_by"}[what]
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "folder"
        root.mkdir()
        make_folder(root, folder, images)
        settings = {"root": str(root), "workers": threads}
        sides = {
            "featx": Side(f"photos:{call}_featx", settings),
            "ImageFolder": Side(f"photos:{call}_peer", settings, peer=True),
        }
        rounds = interleaved(sides, repeats, threads)
    if what == "load":
        check_bits(rounds)
    else:
        check_agreement(rounds)
    source = "photos" if folder else "smooth noise"
    about = {"images": images, "threads": threads, "source": source}
    return summary(f"photos, {what}", seconds(rounds)) | about


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = vars(parser.parse_args())
    try:
        for what in ("load", "end to end"):
            print(json.dumps(measure(what=what, **options)), flush=True)
    except SideFailed as failure:
        raise SystemExit(f"{failure}") from failure


if __name__ == "__main__":
    main()
