"""What a run says of its data, and that the test images reach nothing but the test figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import featx
from featx.errors import DataError
from featx.recipes import Recipe, make_recipe


def made(
    folder: Path, name: str, *, y: dict[str, list[int]] | None = None, exhibits: bool = True
) -> Recipe:
    """Return the recipe of a probe on images of two classes that differ a little in brightness."""
    labels = {"train": [0, 1] * 12, "val": [0, 1] * 6, "test": [0, 1] * 5} | (y or {})
    arrays = {}
    for number, (split, of_split) in enumerate(labels.items()):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 128, (len(of_split), 32, 32, 3))
        arrays[f"{split}_x"] = (pixels + np.array(of_split)[:, None, None, None]).astype("u1")
        arrays[f"{split}_y"] = np.array(of_split)
    np.savez(folder / "images.npz", **arrays)
    return make_recipe(
        {"backbone": "conv2", "weights": "none", "dataset": f"npz:{folder / 'images.npz'}",
         "cuts": ["pool1", "fc1"], "image_size": 32, "C": [0.01, 1], "standardize": "train",
         "name": name, "exhibits": exhibits, "cache_dir": str(folder / "cache"),
         "out": str(folder / "reports")}
    )  # fmt: skip


def change(folder: Path, how: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Write other arrays in the place of those that are there."""
    with np.load(folder / "images.npz") as file:
        arrays = dict(file)
    how(arrays)
    np.savez(folder / "images.npz", **arrays)


def test_test_images_reach_neither_scaler_nor_head_nor_choice(tmp_path: Path) -> None:
    """The same training with poisoned test images: all that is fitted is the same bit for bit."""
    fitted, validated, tested = [], [], []
    for name in ("clean", "poisoned"):
        recipe = made(tmp_path, name, exhibits=False)
        if name == "poisoned":
            change(tmp_path, lambda arrays: arrays.update(test_x=255 - arrays["test_x"] // 9))
        record = featx.run(recipe)
        heads = sorted((recipe.report_path / "heads").glob("*.safetensors"))
        assert len(heads) == 2
        arrays = {head.name: load_file(head) for head in heads}
        fitted.append(
            {(h, name): a.tobytes() for h, found in arrays.items() for name, a in found.items()}
        )
        rows = record.model_dump()["results"]
        tested.append([row["splits"].pop("test") for row in rows])
        for row in rows:
            del row["accuracy"]["test"], row["fit_s"], row["all_fits_s"]
        predictions = load_file(recipe.report_path / "predictions.safetensors")
        own = {key: value.tobytes() for key, value in predictions.items() if "test" not in key}
        assert own
        validated.append((rows, record.choices, own))
    # Mean and deviation of the scaler, weights and intercept of the head.
    assert len(fitted[0]) >= 8
    assert fitted[0] == fitted[1]
    assert validated[0] == validated[1]
    # The poison has arrived where it belongs, and there was something to get wrong.
    assert tested[0] != tested[1]
    assert validated[0][0][0]["splits"]["val"]["accuracy"] < 1


def test_images_of_the_training_split_in_the_test_split_are_counted(tmp_path: Path) -> None:
    recipe = made(tmp_path, "twice")

    def repeat(arrays: dict[str, np.ndarray]) -> None:
        arrays["test_x"][[2, 5, 7]] = arrays["train_x"][[4, 4, 1]]

    change(tmp_path, repeat)
    featx.run(recipe)
    for name in ("index.html", "report.md"):
        text = (recipe.report_path / name).read_text()
        assert text.count("Of the test images 3 are in the training split as well") == 1
    without = made(tmp_path, "plainly", exhibits=False)
    change(tmp_path, repeat)
    notes = featx.run(without).notes
    assert any(note.startswith("Of the test images 3 are in") for note in notes)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ({"train": [0] * 24, "val": [0] * 12, "test": [0] * 10}, r"only one class \('0'\)"),
        ({"test": [0] * 10}, r"no image in a split: '1' \(18 in all\) in test"),
        ({"train": [1] * 24}, r"no image in a split: '0' \(11 in all\) in train"),
        ({"val": [2] * 12}, r"'2' \(12 in all\) in train and test"),
    ],
)
def test_classes_that_are_missing_are_named(
    tmp_path: Path, y: dict[str, list[int]], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        featx.run(made(tmp_path, "missing", y=y))
    assert not (tmp_path / "cache").exists()
