"""Records of trainings, studies and comparisons that never ran, with honest metrics."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from report_cases import CIFAR5, make_metrics, named, simple_record

from featx.evaluate import (
    ApproachRecord,
    ComparisonRecord,
    Curve,
    EpochRecord,
    NetworkRecord,
    PairedRecord,
    SpreadRecord,
    StudyRecord,
    StudyRow,
    TrainingRecord,
    holm,
    mcnemar_exact,
    spread,
)

CIFAR10 = named(
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
)


def common(classes: dict[int, str], splits: tuple[str, ...]) -> dict[str, Any]:
    """Return what every kind of record has."""
    like = simple_record(classes)
    splits_of = {"val": like.dataset.splits["val"]}
    dataset = like.dataset.model_copy(
        update={"splits": {s: splits_of.get(s, like.dataset.splits["test"]) for s in splits}}
    )
    return {
        "featx_version": "0.1.0",
        "name": "a-run",
        "command": "featx train --network cnn-a",
        "created": "2026-01-02T03:04:05+00:00",
        "recipe": {"name": "a-run", "description": "How far does it get?", "seed": 3},
        "environment": like.environment,
        "dataset": dataset,
        "timing": {"train_s": 125.0},
        "notes": ["Read this first."],
    }


def make_network(**fields: object) -> NetworkRecord:
    values = {
        "name": "cnn-a",
        "library": "featx",
        "weights": "random",
        "source": "seed 3",
        "digest": "e" * 64,
        "random": True,
        "preprocess": {"mean": [0.5], "image_size": 32},
        "image_size": [32, 32],
        "n_parameters": 591_274,
        "n_trained": 591_274,
        "multiply_adds": 12_345_678,
    }
    return NetworkRecord.model_validate(values | fields)


def make_history(
    n: int, splits: tuple[str, ...] = ("train", "val", "test"), *, top5: bool = True, seed: int = 0
) -> list[EpochRecord]:
    """Return epochs whose loss falls and whose accuracy rises, with some noise."""
    rng = np.random.default_rng(seed)
    epochs = []
    for i in range(n):
        done = 1 - math.exp(-4 * (i + 1) / (n + 3))
        noise = dict(zip(splits, rng.normal(0, 0.01, len(splits)), strict=True))
        gain = {"train": 0.9, "val": 0.72, "test": 0.71}
        top1 = {s: 0.1 + done * (gain[s] - 0.1) + noise[s] for s in splits}
        epochs.append(
            EpochRecord(
                epoch=i + 1,
                learning_rate=1e-3 * (0.08 ** (i / max(1, n - 1))),
                loss={s: 2.3 * (1 - a) + 0.1 for s, a in top1.items()},
                top1=top1,
                top5={s: (1 + a) / 2 for s, a in top1.items()} if top5 else {},
                seconds=12.0 + i % 3,
                evaluation_s=1.5,
                images_per_s=3456.0,
                peak_memory_bytes=1_200_000_000,
                peak_gpu_bytes=None,
            )
        )
    return epochs


def make_training(
    n_epochs: int = 12,
    classes: dict[int, str] = CIFAR10,
    splits: tuple[str, ...] = ("train", "val", "test"),
    **fields: object,
) -> TrainingRecord:
    """Return a training whose last epoch but two (or the first) was kept."""
    metrics = {
        s: make_metrics(300, 80 + i, classes, i) for i, s in enumerate(splits) if s != "train"
    }
    if len(classes) > 5:
        metrics = {s: m.model_copy(update={"top5": 0.975}) for s, m in metrics.items()}
    values = common(classes, splits) | {
        "network": make_network(),
        "mode": "scratch",
        "settings": {"optimizer": "adam", "learning_rate": 0.001, "flip": True, "patience": None},
        "state": "finished",
        "history": make_history(n_epochs, splits, top5=len(classes) > 5),
        "best_epoch": max(1, n_epochs - 2),
        "kept_by": "val loss",
        "splits": metrics,
        "model_file": "model.safetensors",
        "model_bytes": 2_365_096,
    }
    return TrainingRecord.model_validate(values | fields)


def make_row(
    run: str, group: str, settings: dict[str, Any], score: float, **fields: object
) -> StudyRow:
    values = {
        "run": run,
        "group": group,
        "settings": settings,
        "seed": 3,
        "repeat": 1,
        "state": "finished",
        "n_parameters": 591_274,
        "multiply_adds": 12_345_678,
        "best_epoch": 14,
        "epochs_run": 19,
        "seconds": 95.0,
        "top1": {"val": score, "test": score - 0.01},
        "top5": {"val": (1 + score) / 2, "test": (1 + score) / 2 - 0.01},
        "folder": f"runs/{run}",
    }
    return StudyRow.model_validate(values | fields)


def make_study(rows: list[StudyRow], **fields: object) -> StudyRecord:
    """Return a study of these rows, with the spread of every group and a curve for every run."""
    repeats = max(row.repeat for row in rows)
    groups: dict[tuple[str, str], list[StudyRow]] = {}
    for row in rows:
        groups.setdefault((row.group, row.label), []).append(row)
    spreads = []
    for (group, label), members in groups.items():
        for metric in ("top1", "top5"):
            for split in ("val", "test"):
                values = [getattr(m, metric)[split] for m in members if split in getattr(m, metric)]
                if repeats > 1 and values:
                    s = spread(values)._asdict()
                    spreads.append(
                        SpreadRecord(
                            group=group, label=label, split=split, metric=metric, n=len(values), **s
                        )
                    )
    curves = []
    for number, row in enumerate(rows):
        if row.epochs_run and row.top1:
            history = make_history(row.epochs_run, ("train", "val"), seed=number)
            scale = row.top1.get("val", row.top1["test"]) / history[-1].top1["val"]
            top1 = [e.top1["val"] * scale for e in history]
            values = {"top1 val": top1, "loss val": [2.3 * (1 - a) for a in top1]}
            curves.append(Curve(run=row.run, group=row.group, values=values))
    names = dict.fromkeys(name for row in rows for name in row.settings)
    axes = {
        n: list(dict.fromkeys(str(r.settings[n]) for r in rows if n in r.settings)) for n in names
    }
    values = common(CIFAR10, ("train", "val", "test")) | {
        "task": "train",
        "axes": axes,
        "repeats": repeats,
        "rows": rows,
        "spreads": spreads,
        "curves": curves,
    }
    return StudyRecord.model_validate(values | fields)


def grid_rows() -> list[StudyRow]:
    """Return D3's 24 combinations; one variant does not learn, one run each diverges and fails."""
    rows = []
    networks = ["grid-relu", "grid-relu-bn", "grid-leaky-bn", "grid-leaky-bn-dropout"]
    optimizers = ["adam", "sgd momentum 0.5", "sgd momentum 0.9"]
    for i, (network, rate, optimizer) in enumerate(
        (n, r, o) for n in networks for r in (0.001, 0.005) for o in optimizers
    ):
        settings = {"network": network, "learning_rate": rate, "optimizer": optimizer}
        group = ", ".join(f"{k}={v}" for k, v in settings.items())
        fields: dict[str, Any] = {"epochs_run": 6 + i % 15, "best_epoch": 4 + i % 10}
        top1 = 0.55 + 0.2 * ((i * 7) % 24) / 24
        if network == "grid-relu":
            top1, fields["state"] = 0.1, "did not learn"
        elif i == 10:
            fields |= {"state": "diverged", "message": "loss NaN in step 12 of epoch 3, rate 0.005"}
            fields |= {"epochs_run": 3, "best_epoch": 2}
        elif i == 13:
            fields |= {"state": "failed", "message": "out of memory", "top1": {}, "top5": {}}
            fields |= {"epochs_run": None, "best_epoch": None}
        elif i % 7 == 3:
            fields["state"] = "still improving"
        rows.append(make_row(f"run-{i + 1:02d}", group, settings, top1, **fields))
    return rows


def repeated_rows(
    networks: tuple[str, ...] = ("cnn-a", "cnn-b", "cnn-c"), repeats: int = 5, epochs: int = 30
) -> list[StudyRow]:
    rng = np.random.default_rng(1)
    return [
        make_row(
            f"{network}-{repeat}",
            f"network={network}",
            {"network": network},
            0.6 - 0.1 * place + float(rng.normal(0, 0.015)),
            repeat=repeat,
            seed=repeat,
            epochs_run=epochs - repeat,
            n_parameters=591_274 + place,
        )
        for place, network in enumerate(networks)
        for repeat in range(1, repeats + 1)
    ]


PUBLISHED = {
    "cnn-a": {"top1": [54.9, 59.3, 62.6], "top5": [93.9, 94.3, 95.0]},
    "network=cnn-b": {"top1": [0.511, 0.529, 0.549]},
    "cnn-c": {"top1": 33.3, "top5": 76.9},
}


def make_approach(
    name: str, wrong: dict[str, int], kind: str = "probe", *, n: int = 1000, **fields: object
) -> ApproachRecord:
    splits = {
        s: make_metrics(n, k, CIFAR10, i).model_copy(update={"top5": 0.98})
        for i, (s, k) in enumerate(wrong.items())
    }
    values = {
        "name": name,
        "approach": kind,
        "what": "layer3",
        "settings": "svm, C = 12",
        "splits": splits,
        "train_s": 12.0,
        "extract_s": 30.0,
        "n_trained": 10_250,
        "multiply_adds": 12_345_678,
        "stored_bytes": 44_700_000,
        "folder": name,
    }
    return ApproachRecord.model_validate(values | fields)


def make_comparison(approaches: list[ApproachRecord], **fields: object) -> ComparisonRecord:
    """Return a comparison with every approach but the best paired with it on the test split."""
    chosen_on = "val" if all("val" in a.splits for a in approaches) else "test"
    best = max(approaches, key=lambda a: a.splits[chosen_on].accuracy)
    others = [a for a in approaches if a is not best]
    pairs = []
    for other in others:
        n = other.splits["test"].n
        gap = round((best.splits["test"].accuracy - other.splits["test"].accuracy) * n)
        pairs.append((20 + max(0, gap), 20 + max(0, -gap), gap / n))
    adjusted = holm([mcnemar_exact(a, b) for a, b, _ in pairs])
    tested = {best.name: best} | {
        other.name: other.model_copy(
            update={
                "against_best": PairedRecord(
                    difference=d,
                    low=d - 0.01,
                    high=d + 0.01,
                    only_best=a,
                    only_this=b,
                    p=mcnemar_exact(a, b),
                    p_adjusted=p,
                )
            }
        )
        for other, (a, b, d), p in zip(others, pairs, adjusted, strict=True)
    }
    values = common(CIFAR10, ("train", "val", "test")) | {
        "approaches": [tested[a.name] for a in approaches],
        "best": best.name,
        "chosen_on": chosen_on,
    }
    return ComparisonRecord.model_validate(values | fields)


def twelve_approaches() -> list[ApproachRecord]:
    """Return twelve approaches, some of the same time and accuracy."""
    probes = [
        make_approach(
            f"probe at conv{i}_block{i}_out",
            {"val": 200 - 9 * i, "test": 205 - 9 * i},
            train_s=2.0 + i,
        )
        for i in range(1, 7)
    ]
    return [
        *probes,
        make_approach("frozen head", {"val": 150, "test": 149}, "frozen", train_s=60.0),
        make_approach("LP-FT resnet18", {"val": 60, "test": 64}, "lp-ft", train_s=1250.0),
        make_approach("fine-tuned resnet18", {"val": 58, "test": 66}, "finetune", train_s=1300.0),
        make_approach(
            "fine-tuned resnet18 behind layer3.1, augmented with RandAugment and mixup",
            {"val": 75, "test": 66}, "finetune", train_s=1300.0,
        ),
        make_approach("cnn-a", {"val": 270, "test": 280}, "scratch", train_s=900.0, extract_s=0.0),
        make_approach("custom", {"val": 210, "test": 220}, "scratch", train_s=7300.0),
    ]  # fmt: skip


TRAININGS = {
    "12 epochs": make_training(),
    "1 epoch": make_training(1),
    "50 epochs": make_training(50, state="stopped early", mode="finetune"),
    "5 classes": make_training(8, CIFAR5),
    "no validation": make_training(9, splits=("train", "test"), kept_by="last epoch", best_epoch=9),
    "no test": make_training(9, splits=("train", "val")),
    "diverged": make_training(
        3, state="diverged", message="loss NaN in step 7 of epoch 4 at rate 0.1.", best_epoch=3
    ),
    "diverged at once": make_training(
        0, state="diverged", message="loss NaN in step 1", best_epoch=0, splits=("train", "val")
    ).model_copy(update={"splits": {}}),
    "long names": make_training(
        31, network=make_network(name="a_network_with_an_endless_name." * 5, frozen_up_to="layer3"),
        mode="frozen", features="cached",
    ),
}  # fmt: skip

_LONG = [
    {"network": "some-network-with-a-long-name", "augmentation": {"flip": True, "crop": 4, "n": i}}
    for i in range(9)
]

STUDIES = {
    "24 runs": make_study(grid_rows()),
    "3 groups of 5": make_study(repeated_rows()),
    "published": make_study(
        repeated_rows(),
        recipe={"name": "d4", "published": PUBLISHED},
    ),
    "1 run": make_study([make_row("only", "only", {}, 0.7)]),
    "1 epoch": make_study(
        [make_row(f"r{i}", f"g{i}", {"x": i}, 0.5, epochs_run=1) for i in range(3)]
    ),
    "6 groups": make_study(repeated_rows(tuple(f"net-{i}" for i in range(6)), 2)),
    "long names": make_study(
        [make_row(f"r{i}", f"g{i}" * 30, s, 0.4 + 0.02 * i) for i, s in enumerate(_LONG)]
    ),
    "60 runs": make_study(
        [make_row(f"r{i}", f"g{i}", {"rate": i / 7, "decay": i}, 0.3 + i / 200) for i in range(60)]
    ),
    "probes": make_study(
        [
            make_row(
                f"r{size}", f"image_size={size}", {"image_size": size}, 0.4 + size / 1000 - k / 50,
                label=f"layer{k}", n_parameters=None, multiply_adds=None, best_epoch=None,
                epochs_run=None, C=10.0**k / size, converged=(size, k) != (224, 4),
            )
            for size in (32, 64, 128, 224)
            for k in (2, 3, 4)
        ],
        task="probe",
    ),
    "all failed": make_study(
        [
            make_row(f"r{i}", f"g{i}", {"x": i}, 0.5, state="failed", message="no", top1={},
                     top5={},
                     epochs_run=None, best_epoch=None)
            for i in range(2)
        ]
    ),
}  # fmt: skip

COMPARISONS = {
    "12 approaches": make_comparison(twelve_approaches()),
    "2 approaches": make_comparison(twelve_approaches()[4:6]),
    "1 approach": make_comparison(twelve_approaches()[:1]),
    "no validation": make_comparison(
        [
            make_approach(f"a{i}", {"test": 100 + 40 * i}, train_s=0.0, extract_s=0.0)
            for i in range(3)
        ]
    ),
    "25 alike": make_comparison(
        [make_approach(f"probe {i}", {"val": 100, "test": 100}, train_s=5.0) for i in range(25)]
    ),
}
