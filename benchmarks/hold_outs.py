"""What faster arithmetic does to D1's accuracies over several random hold-outs.

``python benchmarks/hold_outs.py --data-dir DIR --weights FILE``: as accuracy.py, five classes of
CIFAR-10, ResNet-50 at 32 px (flattened) and 64 px (averaged), linear SVM with C 12, every split
standardized by itself. One hold-out of 5,000 validation images cannot tell 0.2 points from chance;
here each seed draws another one, and the heads of both arithmetics are fitted on the rest. Writes
benchmarks/results/hold-outs/PROCESSOR-CORES-DEVICE.json; ``suite.py --write-docs`` tells it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accuracy import CUTS, PLAIN, REFERENCE, SIZES, VARIANTS, C, keep
from lines.limits import about, name_of

import featx
from featx.data.splits import hold_out
from featx.errors import FeatxError
from featx.extraction import make_settings
from featx.heads import LinearSVM
from featx.machine import device_name, n_cpus
from featx.scaling import Moments

RESULTS = Path(__file__).parent / "results" / "hold-outs"
HELD_OUT = 5000

Features = dict[str, npt.NDArray[Any]]


def features(backbone: Any, data: Any, settings: Any) -> dict[str, Features]:
    """Return by cut the features of all training and test images."""
    with tempfile.TemporaryDirectory(prefix="featx-hold-outs-") as folder:
        store = featx.FeatureStore(folder)
        sets = {
            name: featx.extract_to_store(backbone, list(CUTS), split, store, settings)
            for name, split in data.splits.items()
        }
        return {cut: {name: of[cut].read() for name, of in sets.items()} for cut in CUTS}


def scaled(X: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return features standardized with their own statistics."""
    return featx.Scaler.from_moments(Moments.of(X)).transform(X)


def accuracies(
    X: Features, y: Features, train: npt.NDArray[np.int64], val: npt.NDArray[np.int64]
) -> dict[str, float]:
    """Return the accuracy on validation and test of a head fitted on some of the rows."""
    head = LinearSVM(C=C).fit(scaled(X["train"][train]), y["train"][train])
    sides = {"val": (X["train"][val], y["train"][val]), "test": (X["test"], y["test"])}
    return {
        split: float((head.predict(scaled(rows)) == labels).mean())
        for split, (rows, labels) in sides.items()
    }


def differences(
    both: dict[str, dict[str, Features]], y: Features, seeds: range, held_out: int
) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yield cut, seed, and by split what the variant's accuracy is over the reference's."""
    plain, fast = both.values()
    for seed in seeds:
        train, val = hold_out(y["train"], held_out, split="val", stratified=False, seed=seed)
        for cut in CUTS:
            of_plain = accuracies(plain[cut], y, train, val)
            of_fast = accuracies(fast[cut], y, train, val)
            yield cut, seed, {split: of_fast[split] - of_plain[split] for split in of_plain}


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="ResNet-50's: a file or a tag")
    parser.add_argument(
        "--variant", default="bf16", choices=[v for v in VARIANTS if v != REFERENCE],
        help="what stands against plain fp32",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=5, help="hold-outs")
    parser.add_argument("--limit", type=int, help="images a class and split: to try it")
    parser.add_argument("--out", type=Path, help="the JSON file, instead of the machine's own")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds {options.seeds}: an interval needs at least 2.")
    try:
        data = featx.load_dataset(
            "cifar5", data_dir=options.data_dir, val=0, limit=options.limit, download=False
        )
        backbone = featx.load_backbone("resnet50", options.weights, preprocess="torch")
    except FeatxError as error:
        parser.error(str(error))
    y = {name: split.y for name, split in data.splits.items()}
    held_out = HELD_OUT if options.limit is None else len(y["train"]) // 5
    rows = []
    for size, pool in SIZES.items():
        start = time.monotonic()
        both = {}
        for name in (REFERENCE, options.variant):
            settings = make_settings(
                backbone, (32, 32), image_size=size, pool=pool, **(PLAIN | VARIANTS[name])
            )
            both[name] = features(backbone, data, settings)
        for cut, seed, apart in differences(both, y, range(options.seeds), held_out):
            rows.append({"size": size, "cut": cut, "seed": seed, **apart})
            words = ", ".join(f"{split} {100 * value:+.2f}" for split, value in apart.items())
            print(f"{size} px, {cut}, seed {seed}: {words} points", flush=True)
        print(f"  ({time.monotonic() - start:.0f} s)", flush=True)
    machine = about(n_cpus()) | {"device": device_name(str(settings.device))}
    found = {
        "machine": machine, "variant": options.variant, "held_out": held_out,
        "images": {name: len(split) for name, split in data.splits.items()},
        "weights": backbone.weights.tag, "C": C, "rows": rows,
    }  # fmt: skip
    if options.out is None and options.limit:
        print("Not written: this is a part of it. --out FILE keeps it.")
        return
    keep(found, options.out or RESULTS / f"{name_of(machine)}.json")


if __name__ == "__main__":
    main()
