"""Records of runs that never ran: any classes, cuts, heads and splits, with honest metrics."""

from __future__ import annotations

import numpy as np

from featx.evaluate import (
    BackboneRecord,
    CandidateRecord,
    ChoiceRecord,
    CutRecord,
    DatasetRecord,
    EnvironmentRecord,
    ResultRecord,
    RunRecord,
    SplitMetrics,
    SplitRecord,
    evaluate_predictions,
)

CIFAR5 = {5: "dog", 6: "frog", 7: "horse", 8: "ship", 9: "truck"}


def make_metrics(n: int, n_wrong: int, classes: dict[int, str], seed: int = 0) -> SplitMetrics:
    """Return the metrics of `n` predictions of which exactly `n_wrong` are wrong."""
    rng = np.random.default_rng(seed)
    labels = np.array(list(classes))
    truth = np.arange(n) % len(labels)
    predicted = truth.copy()
    wrong = rng.choice(n, n_wrong, replace=False)
    predicted[wrong] = (truth[wrong] + rng.integers(1, len(labels), n_wrong)) % len(labels)
    return evaluate_predictions(labels[truth], labels[predicted], classes)


def make_cut(name: str, position: int) -> CutRecord:
    return CutRecord(
        cut=name,
        module=f"layer{position}.0",
        aliases=[name],
        pool="avg",
        kind="map",
        shape=[64 * (position + 1), 8, 8],
        n_features=64 * (position + 1),
        multiply_adds=1_234_567 * (position + 1),
        n_parameters=98_765 * (position + 1),
        feature_bytes=2_560_000 * (position + 1),
        keys={"train": "a" * 64},
    )


def make_result(
    cut: str, wrong: dict[str, int], classes: dict[int, str], *, n: int = 200, **fields: object
) -> ResultRecord:
    """Return a result with `wrong[split]` wrong predictions of `n` on every split."""
    splits = {
        split: make_metrics(n, n_wrong, classes, seed=number)
        for number, (split, n_wrong) in enumerate(wrong.items())
    }
    values = {
        "cut": cut,
        "head": "svm",
        "standardize": "train",
        "C": 12.0,
        "solver": "liblinear-primal",
        "n_iter": 1234,
        "converged": True,
        "duality_gap": 3.2e-6,
        "objective": 17.5,
        "fit_s": 65.0,
        "head_file": "heads/x.safetensors",
        "splits": splits,
        "accuracy": {split: metrics.accuracy for split, metrics in splits.items()},
    }
    return ResultRecord.model_validate(values | fields)


def make_record(
    results: list[ResultRecord], classes: dict[int, str] = CIFAR5, **fields: object
) -> RunRecord:
    """Return a record with these results; cuts stand in the order of their first result."""
    names = dict.fromkeys(result.cut for result in results)
    splits = ["train", *results[0].splits]
    values = {
        "featx_version": "0.1.0",
        "name": "a-run",
        "command": "featx fit-svm --name a-run --cut layer1",
        "created": "2026-01-02T03:04:05+00:00",
        "recipe": {"name": "a-run", "description": "Which cut is best?", "seed": 3},
        "environment": EnvironmentRecord(
            python="3.11.7",
            platform="Linux x86_64",
            cpu="A Processor",
            n_cpus=2,
            device="cpu",
            versions={"torch": "2.13.0"},
        ),
        "dataset": DatasetRecord(
            name="cifar5",
            classes=classes,
            splits={
                split: SplitRecord(
                    n=sum(range(10, 10 + len(classes))),
                    counts={label: 10 + i for i, label in enumerate(classes)},
                    digest=f"{number}" * 64,
                )
                for number, split in enumerate(splits)
            },
            provenance={
                "splits": {
                    "train": {"from": "the source's own"},
                    "val": {"from": "held out of train", "rule": "random", "images": 60, "seed": 3},
                },
                "limit_per_class": {"train": 10, "val": None},
            },
        ),
        "backbone": BackboneRecord(
            name="resnet50",
            library="torchvision",
            weights="IMAGENET1K_V1",
            source="torchvision",
            digest="d" * 64,
            random=False,
            preprocess={"mean": [0.485, 0.456], "image_size": 64, "resize_size": None},
        ),
        "cuts": [make_cut(name, position) for position, name in enumerate(names)],
        "results": results,
        "choices": [
            ChoiceRecord(
                what="C",
                cut=results[0].cut,
                on="val",
                candidates=[
                    CandidateRecord(value=0.01, score=0.75),
                    CandidateRecord(value=12.0, score=0.875),
                ],
                chosen=12.0,
                edge="high",
            )
        ],
        "timing": {"extract_s": 125.0, "images_per_s": 1234.0},
        "notes": ["Read this first."],
    }
    return RunRecord.model_validate(values | fields)


def simple_record(classes: dict[int, str] = CIFAR5, n_cuts: int = 3, **fields: object) -> RunRecord:
    """Return a record of one head on some cuts, each later one better, over 200 images."""
    results = [
        make_result(f"conv{i + 2}_block{i + 3}_out", {"val": 60 // (i + 1), "test": 50 // (i + 1)},
                    classes)
        for i in range(n_cuts)
    ]  # fmt: skip
    return make_record(results, classes, **fields)


def named(names: list[str]) -> dict[int, str]:
    return dict(enumerate(names))


def with_accuracies(cuts: list[str], wrong: list[dict[str, int]], n: int = 400) -> RunRecord:
    """Return a record with the given number of wrong predictions per cut and split."""
    return make_record([make_result(c, w, CIFAR5, n=n) for c, w in zip(cuts, wrong, strict=True)])


_RESNET_CUTS = [f"conv{stage}_block{block}_out" for stage in (2, 3, 4, 5) for block in (1, 3, 6)]

CASES: dict[str, RunRecord] = {
    "2 classes": simple_record(named(["cat", "dog"])),
    "5 classes": simple_record(),
    "10 classes": simple_record(named([f"class {i}" for i in range(10)])),
    "100 classes": simple_record(named([f"some class {i}" for i in range(100)]), n_cuts=2),
    "long names": simple_record(named([f"a very long name of class number {i}" for i in range(7)])),
    "wide letters": simple_record(named(["W" * (3 + i) for i in range(12)])),
    "other scripts": simple_record(named(["犬", "גמל", "собака", "कुत्ता", "perro", "قطة", "$x^2$"])),
    "hostile names": simple_record(
        named(
            [
                "a|b",
                "<script>alert(1)</script>",
                "[x](http://y)",
                "`code`",
                "two\nlines",
                "*b*",
                "&lt;",
            ]
        ),
        name="run <b>x</b>",
    ),
    "1 cut": simple_record(n_cuts=1),
    "1 cut, all right": with_accuracies(["layer4"], [{"val": 0, "test": 0}]),
    "12 cuts near 1": with_accuracies(
        _RESNET_CUTS, [{"val": i % 3, "test": i % 2} for i in range(12)]
    ),
    "12 cuts spread": with_accuracies(
        _RESNET_CUTS, [{"val": 400 - 36 * i, "test": 390 - 34 * i} for i in range(12)]
    ),
    "40 cuts": with_accuracies(
        [f"features.denseblock{i % 4}.denselayer{i}.norm1" for i in range(40)],
        [{"val": 200 - 4 * i, "test": 190 - 4 * i} for i in range(40)],
    ),
    "long cuts": with_accuracies(
        [f"features.denseblock3.denselayer{i}.norm1" for i in range(4)],
        [{"val": 40, "test": 50 + i} for i in range(4)],
    ),
    "no validation": with_accuracies(["a", "b"], [{"test": 30}, {"test": 80}]),
    "2 heads": make_record(
        [
            make_result(cut, {"val": 20 + i, "test": 25 + i}, CIFAR5, head=head)
            for cut in ("layer1", "layer2")
            for i, head in enumerate(("svm", "logistic"))
        ]
    ),
}
