"""What faster arithmetic and smaller storage do to experiment D1's accuracies, on real data.

``python benchmarks/accuracy.py --data-dir DIR --weights FILE``: five classes of CIFAR-10, ResNet-50
at 32 px (flattened, as D1) and 64 px (averaged), linear SVM with C 12 on each split's own
standardization. Every variant runs from images to predictions; its accuracy is set against that of
plain fp32 stored as float32, image by image, with the paired bootstrap's 95 % interval. Writes
benchmarks/results/accuracy/PROCESSOR-CORES-DEVICE.json; ``suite.py --write-docs`` makes the table.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lines.limits import about, name_of

import featx
from featx.errors import FeatxError, UsageError
from featx.evaluate import paired_difference
from featx.extraction import Settings, make_settings
from featx.heads import LinearSVM
from featx.machine import device_name, n_cpus, pick_device

RESULTS = Path(__file__).parent / "results" / "accuracy"
CUTS = ("conv4_block6_out", "conv5_block3_out")
SIZES = {32: "flatten", 64: "avg"}
C = 12.0
REFERENCE = "fp32"
PLAIN = {"precision": "fp32", "storage": "float32", "channels_last": False, "fold": False}
VARIANTS: dict[str, dict[str, Any]] = {
    REFERENCE: {},
    "BatchNorm folded, channels-last": {"channels_last": True, "fold": True},
    "bf16": {"precision": "bf16"},
    "stored as float16": {"storage": "float16"},
    "all of these": {
        "channels_last": True, "fold": True, "precision": "bf16", "storage": "float16",
    },
}  # fmt: skip


def variants() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each variant's settings, those that this version of featx has; none of them twice."""
    known = {field.name for field in dataclasses.fields(Settings)}
    seen = []
    for name, changes in VARIANTS.items():
        settings = {key: value for key, value in (PLAIN | changes).items() if key in known}
        if settings not in seen:
            seen.append(settings)
            yield name, settings


def answers(
    backbone: Any, data: Any, store: Any, size: int, settings: Any
) -> dict[str, dict[str, np.ndarray]]:
    """Return, by cut and split, which images the head classifies correctly."""
    sets = {
        name: featx.extract_to_store(backbone, list(CUTS), split, store, settings)
        for name, split in data.splits.items()
    }
    found: dict[str, dict[str, np.ndarray]] = {}
    for cut in CUTS:
        of_cut = {name: by_cut[cut] for name, by_cut in sets.items()}
        scaled = {
            name: featx.Scaler.from_moments(one.moments).transform(one.read())
            for name, one in of_cut.items()
        }
        head = LinearSVM(C=C).fit(scaled["train"], of_cut["train"].y)
        found[cut] = {
            name: head.predict(scaled[name]) == of_cut[name].y for name in ("val", "test")
        }
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="ResNet-50's: a file or a tag")
    parser.add_argument("--limit", type=int, help="images a class and split: to try it")
    parser.add_argument("--train", type=int, help="training images a class; default all")
    parser.add_argument("--variant", action="append", help="these only, beside the reference")
    parser.add_argument("--only-size", type=int, choices=SIZES, help="one image size")
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda")
    parser.add_argument("--out", type=Path, help="the JSON file, instead of the machine's own")
    options = parser.parse_args()
    try:
        pick_device(options.device)
    except UsageError as error:
        parser.error(str(error))
    wanted = [REFERENCE, *(options.variant or VARIANTS)]
    if unknown := set(wanted) - set(VARIANTS):
        parser.error(f"--variant {unknown.pop()!r} is not known. Valid: {', '.join(VARIANTS)}")
    limit = {"train": options.train} if options.train else options.limit
    try:
        data = featx.load_dataset(
            "cifar5", data_dir=options.data_dir, val=5000, seed=0, limit=limit, download=False
        )
        backbone = featx.load_backbone("resnet50", options.weights, preprocess="torch")
    except FeatxError as error:
        parser.error(str(error))
    rows = []
    for size in [options.only_size] if options.only_size else SIZES:
        reference: dict[str, dict[str, np.ndarray]] = {}
        for name, changes in variants():
            if name not in wanted:
                continue
            start = time.monotonic()
            settings = make_settings(
                backbone, (32, 32), image_size=size, pool=SIZES[size], device=options.device,
                **changes,
            )  # fmt: skip
            with tempfile.TemporaryDirectory(prefix="featx-accuracy-") as folder:
                store = featx.FeatureStore(folder)
                correct = answers(backbone, data, store, size, settings)
            reference = reference or correct
            for cut, by_split in correct.items():
                row: dict[str, Any] = {"size": size, "cut": cut, "variant": name}
                for split, right in by_split.items():
                    apart = paired_difference(right, reference[cut][split])
                    row[split] = {
                        "accuracy": float(right.mean()), "n": len(right),
                        "difference": apart[0], "low": apart[1], "high": apart[2],
                    }  # fmt: skip
                rows.append(row)
                print(_line(row), flush=True)
            print(f"  ({time.monotonic() - start:.0f} s)", flush=True)
    # What it ran on, which need not be the best that is here.
    machine = about(n_cpus()) | {"device": device_name(str(settings.device))}
    found = {
        "machine": machine,
        "images": {name: len(split) for name, split in data.splits.items()},
        "weights": backbone.weights.tag,
        "pool": {str(size): pool for size, pool in SIZES.items()},
        "C": C,
        "rows": rows,
    }
    if options.out is None and (options.limit or options.only_size or options.variant):
        print("Not written: this is a part of it. --out FILE keeps it.")
        return
    keep(found, options.out or RESULTS / f"{name_of(machine)}.json")


def keep(found: dict[str, Any], path: Path) -> None:
    """Write what was found, and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"Written: {path}")


def _line(row: dict[str, Any]) -> str:
    each = [
        f"{split} {row[split]['accuracy']:.4f} ({100 * row[split]['difference']:+.2f} points)"
        for split in ("val", "test")
    ]
    return f"{row['size']} px, {row['cut']}, {row['variant']}: {', '.join(each)}"


if __name__ == "__main__":
    main()
