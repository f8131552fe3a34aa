"""The heat maps of a run: of its own images and heads, bounded, and honest of what is left out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from featx.evaluate.exhibits import Exhibits
from featx.pipeline import extract_all, fit_cuts, heat_maps, prepare_fit
from featx.pipeline.fitting import CutFit
from featx.pipeline.heat_maps import HeatMaps, heat_maps_of, random_rows
from featx.pipeline.prepare import Prepared
from featx.recipes import make_recipe

BASE = {
    "backbone": "resnet18",
    "weights": "none",
    "dataset": "digits",
    "image_size": 32,
    "limit": 8,
    "stratified": True,
    "C": 0.01,
    "jobs": 1,
    "device": "cpu",
}


def run(folder: Path, **settings: object) -> tuple[Prepared, dict[str, CutFit], HeatMaps]:
    recipe = make_recipe({**BASE, "cache_dir": str(folder), "out": str(folder), **settings})
    prepared = prepare_fit(recipe)
    features = extract_all(prepared)
    fits = fit_cuts(features, recipe, prepared.store, prepared.dataset.classes)
    return prepared, fits, heat_maps_of(prepared, fits, features)


@pytest.mark.parametrize(
    ("pool", "standardize"), [("avg", "train"), ("flatten", "per-split"), ("max", "none")]
)
def test_evidence_is_of_what_the_run_predicted(tmp_path: Path, pool: str, standardize: str) -> None:
    prepared, fits, found = run(
        tmp_path, cuts=["layer2", "layer3"], pool=pool, standardize=standardize
    )
    evidence = [exhibit for exhibit in found.exhibits if exhibit.what == "evidence"]
    assert len(evidence) == 4
    for exhibit in evidence:
        index = exhibit.image.index
        assert exhibit.exact
        assert exhibit.split == "test"
        assert exhibit.image.label == prepared.dataset.splits["test"].y[index]
        for cut, fitted in fits.items():
            scores = fitted.scores["test"][index]
            said = re.match(r"(.*): score (\S+) = ", exhibit.about[cut])
            assert said is not None
            assert said[1] == fitted.head.class_names[int(scores.argmax())]
            assert float(said[2]) == pytest.approx(scores.max(), rel=1e-2)
        predicted = {int(fitted.predictions["test"][index]) for fitted in fits.values()}
        assert exhibit.image.predicted == (predicted.pop() if len(predicted) == 1 else None)


def test_what_is_shown_fits_the_schema_and_is_small(tmp_path: Path) -> None:
    _, _, found = run(tmp_path, cuts=["layer1", "layer2"])
    Exhibits(name="x", created="now", heat_maps=found.exhibits, notes=found.notes)
    kinds = [(exhibit.what, exhibit.image.index) for exhibit in found.exhibits]
    # Four images of four classes; channels of the first one only.
    assert [what for what, _ in kinds].count("channel") == 1
    assert kinds[1] == ("channel", kinds[0][1])
    assert len({exhibit.image.label for exhibit in found.exhibits}) == 4
    assert len(found.files) == 2 * (4 + 1 + 4)
    assert sum(len(data) for data in found.files.values()) < 18 * 20_000
    assert found.notes == []


def test_cuts_without_a_map_and_cuts_beyond_the_limit_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heat_maps, "MAX_CUTS", 2)
    _, _, found = run(tmp_path, cuts=["layer1", "layer2", "layer3", "fc"])
    assert {tuple(exhibit.files) for exhibit in found.exhibits} == {("layer1", "layer3")}
    notes = " ".join(found.notes)
    assert "No heat map: Cut 'fc' of resnet18 is a vector of 1000 values" in notes
    assert "2 of the 3 cuts, evenly over the depth. Left out: 'layer2'." in notes


def test_a_pooling_without_places_leaves_the_evidence_out(tmp_path: Path) -> None:
    _, _, found = run(tmp_path, cuts=["layer3"], pool="gem")
    assert {exhibit.what for exhibit in found.exhibits} == {"activation", "channel"}
    assert any(note.startswith("Class evidence is left out. A head on") for note in found.notes)


def test_random_rows_are_of_as_many_classes_as_there_are(tmp_path: Path) -> None:
    recipe = make_recipe({**BASE, "cuts": ["layer1"], "cache_dir": str(tmp_path)})
    split = prepare_fit(recipe).dataset.splits["train"]
    rows = random_rows(split, 12, seed=1)
    assert rows == random_rows(split, 12, seed=1) != random_rows(split, 12, seed=2)
    assert len(set(rows)) == 12
    assert sorted(split.y[rows[:10]]) == list(range(10))
    assert len(random_rows(split, 10**6, seed=0)) == len(np.unique(random_rows(split, 10**6, 0)))
