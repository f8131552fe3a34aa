"""Write the real features that benchmarks/heads.py measures on.

Usage: python benchmarks/head_features.py OUT --data-dir DIR --resnet18 FILE --resnet50 FILE

CIFAR-10 through ResNet-18 (64 px, pooled) and CIFAR-10's five classes of experiment D1 through
ResNet-50 (32 px, flattened at three stages; the last one for all ten classes as well), as
OUT/NAME.npz with X (float32) and y.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import featx
from featx.data import load_dataset

# name: dataset, images a class, backbone, cut, pixels a side, pooling
FEATURES = {
    "r18-layer4": ("cifar10", 2000, "resnet18", "layer4", 64, "avg"),
    "r50-conv5": ("cifar5", 4000, "resnet50", "conv5_block3_out", 32, "flatten"),
    "r50-conv5-ten": ("cifar10", 2000, "resnet50", "conv5_block3_out", 32, "flatten"),
    "r50-conv4": ("cifar5", 4000, "resnet50", "conv4_block6_out", 32, "flatten"),
    "r50-conv2": ("cifar5", 600, "resnet50", "conv2_block3_out", 32, "flatten"),
}


def main() -> None:
    """Extract what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data-dir")
    parser.add_argument("--resnet18", default="IMAGENET1K_V1")
    parser.add_argument("--resnet50", default="IMAGENET1K_V1")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, (dataset, n, network, cut, size, pool) in FEATURES.items():
        path = options.out / f"{name}.npz"
        if path.exists():
            continue
        limit = {"train": n, "val": 1, "test": 1}
        split = load_dataset(dataset, data_dir=options.data_dir, limit=limit).splits["train"]
        backbone = featx.load_backbone(network, getattr(options, network), preprocess="torch")
        X = featx.extract(backbone, [cut], split.images, image_size=size, pool=pool)[cut]
        np.savez(path, X=np.asarray(X).reshape(len(X), -1), y=split.y)
        print(path, X.shape, flush=True)


if __name__ == "__main__":
    main()
