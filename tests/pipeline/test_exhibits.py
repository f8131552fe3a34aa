"""What a run keeps beside its record, against the record and scikit-learn."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import featx
from featx.cache import FeatureSet, fsio
from featx.errors import CacheCorrupt, CacheWriteError
from featx.evaluate import Exhibits, RunRecord, read_exhibits, read_record
from featx.evaluate.predictions import read_predictions
from featx.pipeline import exhibits as making
from featx.pipeline import make_plan, prepare
from featx.pipeline.exhibits import chosen_rows
from featx.recipes import Recipe, make_recipe

BASE = {
    "backbone": "resnet18",
    "weights": "none",
    "dataset": "digits",
    "image_size": 32,
    "limit": 12,
    "stratified": True,
    "cuts": ["conv1_relu", "layer1"],
    "jobs": 1,
    "C": 0.01,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """One cache for the whole file: features are extracted once."""
    folder = tmp_path_factory.mktemp("exhibits")
    return {"cache_dir": str(folder / "cache"), "out": str(folder / "reports")}


def make(places: dict[str, str], **settings: object) -> Recipe:
    return make_recipe({**BASE, **places, **settings})


@pytest.fixture(scope="module")
def done(places) -> tuple[Recipe, RunRecord, Exhibits]:
    recipe = make(places, name="shown", head="logistic")
    record = featx.run(recipe)
    assert isinstance(record, RunRecord)
    exhibits = read_exhibits(recipe.report_path)
    assert exhibits is not None
    return recipe, record, exhibits


def test_cells_are_those_of_the_records_confusion_matrices(done) -> None:
    recipe, record, exhibits = done
    assert (exhibits.name, exhibits.created) == (record.name, record.created)
    assert exhibits.notes == []
    results = {result.cut: result for result in record.results}
    seen = {(shown.cut, shown.split) for shown in exhibits.results}
    assert seen == {(cut, split) for cut in BASE["cuts"] for split in ("val", "test")}
    for shown in exhibits.results:
        assert shown.head == "logistic"
        metrics = results[shown.cut].splits[shown.split]
        matrix = np.zeros((10, 10), int)
        for cell in shown.cells:
            matrix[cell.label, cell.predicted] = cell.n
        assert matrix.tolist() == metrics.confusion
        digest = record.dataset.splits[shown.split].digest
        predicted = read_predictions(recipe.report_path, shown.cut, shown.split, digest)
        for cell in shown.cells:
            assert {int(predicted[image.index]) for image in cell.images} == {cell.predicted}
        assert shown.reliability is not None
        # Accuracy over all bins is the accuracy.
        n = np.array(shown.reliability.n)
        assert n @ shown.reliability.accuracy / n.sum() == pytest.approx(metrics.accuracy, abs=1e-3)
        assert len(shown.curves) == 10


def test_tiles_show_the_images_themselves(done) -> None:
    recipe, _, exhibits = done
    splits = prepare(recipe).dataset.splits
    sheet = np.asarray(Image.open(recipe.report_path / exhibits.tiles.file).convert("RGB"))
    side, columns = exhibits.tiles.tile, exhibits.tiles.columns
    shown = list(exhibits.shown())
    assert len(shown) > 300
    pixels = {name: split.images.array for name, split in splits.items()}
    for split, image in shown:
        assert image.label == splits[split].y[image.index]
        row, column = image.tile // columns * side, image.tile % columns * side
        found = sheet[row : row + side, column : column + side]
        # Digits are so small that the sheet keeps them exactly.
        assert np.array_equal(found, pixels[split][image.index])


def test_maps_are_the_components_of_what_the_head_sees(done) -> None:
    recipe, _, exhibits = done
    prepared = prepare(recipe)
    sets = {(item.cut, item.split): item.key for item in make_plan(prepared).sets}
    assert [found.cut for found in exhibits.maps] == BASE["cuts"]
    for found in exhibits.maps:
        assert (found.split, found.method) == ("val", "pca")
        train = prepared.store.find(sets[found.cut, "train"])
        val = prepared.store.find(sets[found.cut, "val"])
        scaler = StandardScaler().fit(train.read().astype(np.float64))
        X = scaler.transform(val.read().astype(np.float64))
        model = PCA(2, svd_solver="full").fit(X)
        points = np.stack((found.x, found.y), axis=1)
        expected = model.transform(X)
        expected *= np.sign(np.sum(expected * points, axis=0))
        assert points == pytest.approx(expected, abs=2e-3)
        assert found.explained == pytest.approx(model.explained_variance_ratio_.sum(), abs=1e-4)
        assert [image.index for image in found.images] == list(range(120))
        assert all(image.predicted is not None for image in found.images)


def test_similarity_is_of_the_features_themselves(done) -> None:
    recipe, _, exhibits = done
    prepared = prepare(recipe)
    X, Y = (
        prepared.store.find(item.key).read().astype(np.float64)
        for item in make_plan(prepared).sets
        if item.split == "val"
    )
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    expected = np.linalg.norm(Y.T @ X) ** 2 / np.linalg.norm(X.T @ X) / np.linalg.norm(Y.T @ Y)
    found = exhibits.similarity
    assert (found.split, found.n, found.cuts) == ("val", 120, BASE["cuts"])
    assert found.matrix[0][1] == pytest.approx(expected, abs=1e-4)


def test_the_data_are_shown(done) -> None:
    _, record, exhibits = done
    assert list(exhibits.data.samples) == ["train", "val", "test"]
    assert [len(images) for images in exhibits.data.samples.values()] == [50, 50, 50]
    assert {(s.split, s.width, s.height, s.n) for s in exhibits.data.sizes} == {
        (name, 8, 8, split.n) for name, split in record.dataset.splits.items()
    }
    assert [d.n for d in exhibits.data.duplicates] == [0, 0, 0]


def test_the_same_run_gives_the_same_files(places, done) -> None:
    recipe, _, _ = done
    first = {p.name: p.read_bytes() for p in (recipe.report_path / "exhibits").iterdir()}
    before = json.loads((recipe.report_path / "exhibits.json").read_text())
    featx.run(recipe)
    after = json.loads((recipe.report_path / "exhibits.json").read_text())
    assert {p.name: p.read_bytes() for p in (recipe.report_path / "exhibits").iterdir()} == first
    assert {**before, "created": ""} == {**after, "created": ""}


def test_exhibits_can_be_left_out_and_old_ones_go(places) -> None:
    recipe = make(places, name="switched", cuts=["layer1"])
    record = featx.run(recipe)
    assert record.timing["exhibits_s"] > 0
    assert read_record(recipe.report_path) == record
    folder = recipe.report_path
    pictures = {p.name for p in (folder / "exhibits").iterdir()}
    assert "tiles.webp" in pictures
    assert any(name.startswith("heat-activation-test-") for name in pictures)
    off = make(places, name="switched", cuts=["layer1"], exhibits=False)
    record = featx.run(off)
    assert "exhibits_s" not in record.timing
    assert read_exhibits(folder) is None
    assert not (folder / "exhibits").exists()
    assert (folder / "report.md").is_file()


def test_without_exhibits_it_is_the_same_run(places) -> None:
    on, off = (make(places, exhibits=value) for value in (True, False))
    assert on.run_name == off.run_name


def test_a_part_that_fails_is_noted_and_loses_nothing_else(places, monkeypatch) -> None:
    read = FeatureSet.read

    def damaged(self, rows=None, dtype=np.float32):
        if rows is not None and self.key.module == "layer1" and not isinstance(rows, slice):
            raise CacheCorrupt("the shard is damaged.")
        return read(self, rows, dtype)

    monkeypatch.setattr(FeatureSet, "read", damaged)

    def no_memory(*arguments, **settings):
        raise MemoryError

    monkeypatch.setattr(making, "duplicates", no_memory)
    recipe = make(places, name="damaged")
    record = featx.run(recipe)
    found = read_exhibits(recipe.report_path)
    assert found.notes == [
        "The images: left out. there is not enough memory.",
        "Map of layer1: left out. the shard is damaged.",
        "Similarity of the cuts: left out. 1 of 2 cuts have no features: add all of them first.",
    ]
    assert [shown.cut for shown in found.maps] == ["conv1_relu"]
    assert found.similarity is None
    assert len(found.results) == 4
    assert found.tiles is not None
    assert read_record(recipe.report_path) == record


def test_other_errors_are_not_hidden_and_the_record_is_there(places, monkeypatch) -> None:
    def wrong(*arguments, **settings):
        raise ZeroDivisionError

    monkeypatch.setattr(making, "duplicates", wrong)
    recipe = make(places, name="wrong", cuts=["layer1"])
    with pytest.raises(ZeroDivisionError):
        featx.run(recipe)
    assert isinstance(read_record(recipe.report_path), RunRecord)
    assert read_exhibits(recipe.report_path) is None


def test_a_full_disk_keeps_the_record(places, monkeypatch) -> None:
    publish = fsio.publish

    def full(path: Path, data: bytes) -> None:
        if "tiles" in path.name:
            raise CacheWriteError(f"Cannot write '{path}': no space.")
        publish(path, data)

    monkeypatch.setattr(fsio, "publish", full)
    recipe = make(places, name="full", cuts=["layer1"])
    with pytest.raises(CacheWriteError, match="no space"):
        featx.run(recipe)
    assert isinstance(read_record(recipe.report_path), RunRecord)
    assert read_exhibits(recipe.report_path) is None


def test_a_cut_of_very_many_values_is_left_out_and_said(places, monkeypatch) -> None:
    monkeypatch.setattr(making, "_MOST_VALUES", 10_000)
    recipe = make(places, name="wide", cuts=["conv1_relu", "layer2"])
    featx.run(recipe)
    found = read_exhibits(recipe.report_path)
    assert [shown.cut for shown in found.maps] == ["conv1_relu"]
    assert found.notes == [
        "layer2: left out of similarity and maps. It has 128 values an image, 100 are looked at "
        "(--pool avg)."
    ]


def test_two_classes_and_no_validation(places, tmp_path) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_x": rng.integers(0, 256, (n, 40, 20, 3), dtype=np.uint8)
        for split, n in (("train", 30), ("test", 8))
    }
    arrays |= {"train_y": np.arange(30) % 2, "test_y": np.arange(8) % 2}
    arrays["test_x"][3] = arrays["train_x"][5]
    np.savez(tmp_path / "two.npz", **arrays)
    recipe = make(
        places, name="two", dataset=f"npz:{tmp_path / 'two.npz'}", val=0, limit=None,
        cuts=["layer1"],
    )  # fmt: skip
    record = featx.run(recipe)
    found = read_exhibits(recipe.report_path)
    # The record says that a test image is a training image, and the exhibits show which.
    assert "Of the test images 1 is" in [n.partition(" in the training")[0] for n in record.notes]
    assert found.notes == []
    assert [(d.first, d.second, d.n) for d in found.data.duplicates] == [("train", "test", 1)]
    assert [(result.split, len(result.curves)) for result in found.results] == [("test", 2)]
    assert "not calibrated" in found.results[0].reliability.probabilities
    assert found.maps[0].split == found.similarity.split == "test"
    ((first, second),) = found.data.duplicates[0].pairs
    assert (first.index, second.index) == (5, 3)
    assert (first.tile, second.tile) != (None, None)
    assert found.tiles.tile == 40
    sheet = Image.open(io.BytesIO((recipe.report_path / found.tiles.file).read_bytes()))
    assert sheet.width == 40 * found.tiles.columns


def test_a_map_needs_three_images(places, tmp_path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    np.savez(
        tmp_path / "few.npz", train_x=x[:10], train_y=np.arange(10) % 2, test_x=x[10:],
        test_y=np.arange(2),
    )  # fmt: skip
    recipe = make(
        places, name="few", dataset=f"npz:{tmp_path / 'few.npz'}", val=0, limit=None,
        cuts=["layer1"],
    )  # fmt: skip
    featx.run(recipe)
    found = read_exhibits(recipe.report_path)
    assert found.notes == ["Similarity and maps: left out. 2 images of test."]


def test_a_training_shows_its_network(tmp_path) -> None:
    recipe = make_recipe(
        {"task": "train", "network": "conv2", "dataset": "digits", "image_size": 16, "epochs": 1,
         "name": "net", "limit": 20, "out": str(tmp_path)}
    )  # fmt: skip
    record = featx.run(recipe)
    found = read_exhibits(recipe.report_path)
    assert [(r.cut, r.head, r.split) for r in found.results] == [
        ("", "network", "val"), ("", "network", "test")
    ]  # fmt: skip
    n_right = sum(c.n for c in found.results[1].cells if c.label == c.predicted)
    test = record.splits["test"]
    assert n_right / test.n == pytest.approx(test.accuracy)
    assert found.results[1].reliability.probabilities == "softmax of the network's outputs"
    assert (found.maps, found.similarity) == ([], None)
    assert found.tiles.n > 0
    assert read_record(recipe.report_path).timing["exhibits_s"] > 0


def test_rows_are_spread_over_a_split_in_few_runs_where_it_is_large() -> None:
    assert chosen_rows(10, 20, 1).tolist() == list(range(10))
    assert chosen_rows(100, 5, 1).tolist() == [0, 20, 40, 60, 80]
    large = chosen_rows(100_000, 500, 2**31)
    assert len(large) == 16 * (500 // 16)
    assert np.count_nonzero(np.diff(large) > 1) == 15
    assert len(np.unique(large)) == len(large)
    assert 0 <= large[0] <= large[-1] < 100_000
    assert large[-1] > 90_000
    assert len(chosen_rows(100_000, 3, 2**31)) == 3
    close = chosen_rows(510, 500, 2**31)
    assert len(np.unique(close)) == len(close)
    assert close.max() < 510
