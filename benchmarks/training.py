"""Training speed beside a plain PyTorch loop, and a frozen head on cached features beside images.

Usage: python benchmarks/training.py [--data-dir DIR] [--device cpu] [--repeats 5] [--images 5000]

Prints a Markdown table of ratios: medians of interleaved epochs in one process, so that what else
the machine does hits both sides. The plain loop is what tutorials write: torchvision's DataLoader
(with its fastest number of workers of 0 and one per core), per-image transforms (random crop with
padding, flip, tensor, normalize), the same network, optimizer and batch size.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from featx.data import load_dataset
from featx.machine import cpu_name, keep_freed_memory, n_cpus
from featx.pipeline import prepare_training
from featx.pipeline.train_inputs import image_inputs
from featx.pipeline.train_run import learner_and_inputs
from featx.recipes import make_recipe
from featx.torchvision_compat import import_torchvision
from featx.training import make_learner, train

BATCH = 64
NETWORKS = ("conv2", "cnn-a", "custom")


def plain_epoch(
    images: object, y: object, network: str, workers: int, device: str
) -> Callable[[], None]:
    """Return a function that trains one epoch the usual way."""
    import_torchvision()
    from torchvision.transforms import v2

    from featx.backbones.trainable import load_trainable

    transform = v2.Compose(
        [
            v2.ToImage(), v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.49,) * 3, (0.25,) * 3),
        ]
    )  # fmt: skip

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(y)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            return transform(images[i]), int(y[i])

    model = load_trainable(network, "none", n_classes=10, image_size=(32, 32)).model.to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    loader = torch.utils.data.DataLoader(Rows(), BATCH, shuffle=True, num_workers=workers)

    def epoch() -> None:
        model.train()
        for x, targets in loader:
            loss = torch.nn.functional.cross_entropy(model(x.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def featx_epoch(recipe: dict[str, object], *, cached: bool = True) -> Callable[[], None]:
    """Return a function that trains one epoch with featx; inputs are prepared before."""
    prepared = prepare_training(make_recipe(recipe))
    if cached:
        feed = learner_and_inputs(prepared, splits=("train",))
        learner, inputs = feed.learner, feed.inputs
    else:
        learner = make_learner(prepared.trainable, prepared.mode)
        inputs = image_inputs(prepared, splits=("train",))
    learner.module.to(prepared.device)

    def epoch() -> None:
        train(learner, inputs, prepared.settings, n_classes=10, image_size=prepared.input_size)

    return epoch


def seconds(work: Callable[[], None], device: str) -> float:
    """Return the time of one call."""
    start = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def medians(sides: dict[str, Callable[[], None]], repeats: int, device: str) -> dict[str, float]:
    """Return the median time of each side, all of them measured in turns, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, work in sides.items():
            took = seconds(work, device)
            if turn:
                times[name].append(took)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--weights", default="none", help="Of the frozen ResNet-18.")
    options = parser.parse_args()
    keep_freed_memory()
    limit = {"train": options.images // 10, "val": 1, "test": 1}
    split = load_dataset("cifar10", data_dir=options.data_dir, limit=limit).splits["train"]
    shared = {
        "task": "train", "dataset": "cifar10", "data_dir": options.data_dir, "limit": limit,
        "batch_size": BATCH, "epochs": 1, "schedule": "constant", "device": options.device,
    }  # fmt: skip
    print(
        f"{cpu_name()}, {n_cpus()} cores, {platform.system()}, torch {torch.__version__}, "
        f"{options.device}; {len(split):,} images of CIFAR-10, batches of {BATCH}, Adam; medians "
        f"of {options.repeats} epochs.\n"
    )
    print("| training | plain loop, images/s | featx, images/s | ratio |\n|---|---:|---:|---:|")
    images = split.images.array
    for network in NETWORKS:
        sides = {
            f"plain {workers}": plain_epoch(images, split.y, network, workers, options.device)
            for workers in (0, n_cpus())
        }
        sides["featx"] = featx_epoch({**shared, "network": network, "augment": ["flip", "crop"]})
        took = medians(sides, options.repeats, options.device)
        best = min(value for name, value in took.items() if name != "featx")
        _row(f"{network}, flip and crop", len(split), best, took["featx"])
    with tempfile.TemporaryDirectory() as cache:
        frozen = {
            **shared, "network": "resnet18", "mode": "frozen", "weights": options.weights,
            "preprocess": "torch", "image_size": 64, "cache_dir": str(Path(cache) / "cache"),
        }  # fmt: skip
        sides = {"images": featx_epoch(frozen, cached=False), "features": featx_epoch(frozen)}
        took = medians(sides, options.repeats, options.device)
    print("\n| frozen ResNet-18, 64 px | images/s | features/s | ratio |\n|---|---:|---:|---:|")
    _row("one epoch of its head", len(split), took["images"], took["features"])


def _row(name: str, n: int, before: float, after: float) -> None:
    print(f"| {name} | {n / before:,.0f} | {n / after:,.0f} | {before / after:.1f} |", flush=True)


if __name__ == "__main__":
    main()
