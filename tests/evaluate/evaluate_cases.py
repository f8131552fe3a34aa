"""A small valid record as plain JSON values, to be changed by a test."""

from __future__ import annotations

from typing import Any

from featx.evaluate import RunRecord, evaluate_predictions

CLASSES = {5: "dog", 6: "frog"}


def split_metrics(n_correct: int, n: int) -> dict[str, Any]:
    """Return the metrics of `n` samples of class 5, `n_correct` of them predicted as 5."""
    predicted = [5] * n_correct + [6] * (n - n_correct)
    return evaluate_predictions([5] * n, predicted, CLASSES).model_dump(mode="json")


def result(cut: str, **n_correct: int) -> dict[str, Any]:
    """Return a result with the given number of right predictions, of 10, by split."""
    splits = {split: split_metrics(k, 10) for split, k in n_correct.items()}
    return {
        "cut": cut,
        "head": "svm",
        "standardize": "train",
        "C": 12.0,
        "solver": "liblinear-dual",
        "n_iter": 31,
        "converged": True,
        "duality_gap": 1.25e-7,
        "objective": 0.1 + 0.2,
        "fit_s": 0.5,
        "splits": splits,
        "accuracy": {split: k / 10 for split, k in n_correct.items()},
    }


def cut(name: str, n_features: int) -> dict[str, Any]:
    return {
        "cut": name,
        "module": f"{name}.0",
        "aliases": [],
        "pool": "avg",
        "kind": "map",
        "shape": [n_features, 2, 2],
        "n_features": n_features,
        "multiply_adds": 10**12,
        "n_parameters": 7,
        "feature_bytes": 80,
        "keys": {"train": "ab"},
    }


def record_values(
    cuts: list[dict[str, Any]] | None = None, results: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return a valid record; by default of one cut."""
    return {
        "schema_version": 1,
        "featx_version": "0.1.0",
        "name": "a-run",
        "command": "featx run a-run",
        "created": "2026-01-02T03:04:05+00:00",
        "recipe": {"C": [0.1, 1.0], "deep": {"none": None, "text": "日本\u2028"}},
        "environment": {
            "python": "3.11.9",
            "platform": "Linux",
            "cpu": "?",
            "n_cpus": 2,
            "device": "cpu",
            "versions": {"torch": "2.13.0"},
        },
        "dataset": {
            "name": "two",
            "classes": {"5": "dog", "6": "frog"},
            "splits": {"test": {"n": 10, "counts": {"5": 10, "6": 0}, "digest": "00"}},
            "provenance": {"source": "two"},
        },
        "backbone": {
            "name": "resnet18",
            "library": "torchvision",
            "weights": "none",
            "source": "seed",
            "digest": "ff",
            "random": True,
            "preprocess": {"mean": [0.5]},
            "seed": 3,
        },
        "cuts": cuts or [cut("stage1", 4)],
        "results": results or [result("stage1", val=9, test=8)],
        "choices": [
            {
                "what": "C",
                "cut": "stage1",
                "on": "val",
                "candidates": [{"value": 0.1, "score": 0.9}, {"value": 1.0, "score": 0.8}],
                "chosen": 0.1,
                "edge": "low",
            }
        ],
        "timing": {"extract_s": 1.5},
        "notes": ["a note"],
    }


def make_record(*args: Any, **kwargs: Any) -> RunRecord:
    return RunRecord.model_validate(record_values(*args, **kwargs))
