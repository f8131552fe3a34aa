"""What a report shows beside its numbers: made after the fits, kept beside the record."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from featx.analysis.cells import shown, spread
from featx.analysis.curves import rounded, softmax
from featx.analysis.data_facts import duplicates, samples, sizes
from featx.analysis.maps import FEWEST_POINTS, feature_map
from featx.analysis.results import Scored, result_exhibits
from featx.analysis.similarity import Similarity, rows_for
from featx.analysis.thumbnails import give_tiles
from featx.cache import fsio, fsread
from featx.errors import FeatxError
from featx.evaluate import EXHIBITS_FOLDER, EXHIBITS_NAME, Exhibits, ranking
from featx.evaluate.exhibits import MapExhibit, ShownImage, SimilarityExhibit
from featx.pipeline.heat_maps import heat_maps_of
from featx.progress import SILENT, Progress
from featx.report import write_record
from featx.scaling import scalers_for

if TYPE_CHECKING:
    from featx.cache import FeatureSet
    from featx.data import Dataset
    from featx.evaluate import RunRecord, TrainingRecord
    from featx.pipeline.fitting import CutFit
    from featx.pipeline.prepare import Prepared
    from featx.recipes import Recipe

Files = dict[str, bytes]
_T = TypeVar("_T")

# Points of a map; they are also the rows its components come from.
MAP_POINTS = 500

# Of all maps together: 2 MB of JSON.
_ALL_MAP_POINTS = 20_000
# 256 MB of float32, the features of one cut in memory; a cut of which this is not 100 rows is left
# out.
_MOST_VALUES = 2**26
_FEWEST_ROWS = 100
# Of larger sets a few runs of rows are read, not a shard for every row.
_READ_BYTES = 2**30
_RUNS = 16


class Parts:
    """Makes parts of the exhibits; one that fails is noted and left out, the others are made."""

    def __init__(self, exhibits: Exhibits, advance: Callable[[int], None]) -> None:
        self._notes, self._advance = exhibits.notes, advance

    def make(self, what: str, function: Callable[[], _T]) -> _T | None:
        """Return what a function makes; None, with a note, where it fails."""
        try:
            return function()
        except (FeatxError, MemoryError, OSError, RuntimeError, ValueError) as error:
            # The fits are done: whatever a library makes of a picture must not cost the report.
            reason = str(error) or "there is not enough memory."
            self._notes.append(f"{what}: left out. {reason}")
            return None
        finally:
            self._advance(1)


def keep_exhibits(
    record: RunRecord | TrainingRecord,
    recipe: Recipe,
    make: Callable[[], tuple[Exhibits, Files]],
) -> None:
    """Write a record, then its exhibits where the recipe asks for them.

    Those of an earlier run are removed first. The time goes into the record's timing, which is in
    the file when the report is written.

    Raises
    ------
    FeatxError
        If the disk refuses; the record comes before the exhibits.
    """
    folder = recipe.report_path
    remove_exhibits(folder)
    write_record(record, folder)
    if not recipe.exhibits:
        return
    start = time.perf_counter()
    exhibits, files = make()
    write_exhibits(folder, exhibits, files)
    record.timing["exhibits_s"] = time.perf_counter() - start


def make_exhibits(
    record: RunRecord,
    prepared: Prepared,
    features: Mapping[str, Mapping[str, FeatureSet]],
    fits: Mapping[str, CutFit],
    *,
    progress: Progress = SILENT,
) -> tuple[Exhibits, Files]:
    """Return what is shown of a probe.

    Parameters
    ----------
    record : RunRecord
        Of the finished run.
    prepared : Prepared
        What ran.
    features : mapping of str to mapping of str to FeatureSet
        By cut, then split.
    fits : mapping of str to CutFit
        By cut.
    progress : Progress, optional
        Hears what is done.

    Returns
    -------
    exhibits : Exhibits
        What could not be made is missing, and said in its notes.
    files : dict of str to bytes
        Pictures, by their path relative to the report's folder.
    """
    exhibits = Exhibits(name=record.name, created=record.created)
    dataset = prepared.dataset
    scored = [
        Scored(
            cut, fits[cut].fit.kind, split, dataset.splits[split].y,
            fits[cut].predictions[split], scores, fits[cut].fit.classes.tolist(),
        )
        for cut in prepared.points
        for split, scores in fits[cut].scores.items()
    ]  # fmt: skip
    best = [result.cut for result in ranking(record)] if scored else []
    scored.sort(key=lambda s: best.index(s.cut))
    # Results, images, similarity, heat maps, thumbnails; and a map per cut.
    with progress.task("exhibits", 5 + len(prepared.points), "parts") as advance:
        parts = Parts(exhibits, advance)
        _add_results_and_data(exhibits, dataset, scored, parts)
        _add_similarity_and_maps(exhibits, prepared, features, fits, parts)
        over_images = parts.make("Heat maps", lambda: heat_maps_of(prepared, fits, features))
        if over_images is not None:
            exhibits.heat_maps = over_images.exhibits
            exhibits.notes += over_images.notes
        files = _add_tiles(exhibits, dataset, parts)
        files |= over_images.files if over_images is not None else {}
    return exhibits, files


def training_exhibits(
    record: TrainingRecord,
    dataset: Dataset,
    scored: Sequence[Scored],
    progress: Progress = SILENT,
) -> tuple[Exhibits, Files]:
    """Return what is shown of a training: the images, and the cells and curves of its network."""
    exhibits = Exhibits(name=record.name, created=record.created)
    with progress.task("exhibits", 3, "parts") as advance:
        parts = Parts(exhibits, advance)
        _add_results_and_data(exhibits, dataset, scored, parts)
        files = _add_tiles(exhibits, dataset, parts)
    return exhibits, files


def write_exhibits(folder: Path, exhibits: Exhibits, files: Files) -> None:
    """Write exhibits into a report's folder: the pictures first, then the file that names them.

    Raises
    ------
    CacheWriteError
        If the disk refuses.
    """
    for name, data in files.items():
        fsio.make_folder((folder / name).parent)
        fsio.publish(folder / name, data)
    fsio.make_folder(folder)
    fsio.publish(folder / EXHIBITS_NAME, exhibits.model_dump_json(exclude_none=True).encode())


def remove_exhibits(folder: Path) -> None:
    """Remove the exhibits of an earlier run: the file, and the pictures in its folder."""
    fsio.remove_file(folder / EXHIBITS_NAME)
    pictures = folder / EXHIBITS_FOLDER
    for file in fsread.files(pictures):
        if file.name.endswith((".webp", ".png")):
            fsio.remove_file(pictures / file.name)
    fsio.remove_empty_folder(pictures)


def _add_results_and_data(
    exhibits: Exhibits, dataset: Dataset, scored: Sequence[Scored], parts: Parts
) -> None:
    """Add cells and curves of every result, and the facts about the images: two parts."""
    exhibits.results = parts.make("Errors and curves", lambda: result_exhibits(scored)) or []

    def look_at_images() -> None:
        data = exhibits.data
        data.samples, data.sizes = samples(dataset), sizes(dataset.splits)
        data.duplicates = duplicates(dataset.splits)

    parts.make("The images", look_at_images)


def _add_similarity_and_maps(
    exhibits: Exhibits,
    prepared: Prepared,
    features: Mapping[str, Mapping[str, FeatureSet]],
    fits: Mapping[str, CutFit],
    parts: Parts,
) -> None:
    """Add the similarity of the cuts and a map of each: a part per cut, and one.

    Validation images are shown where there are any, otherwise test images.
    """
    splits, method = prepared.dataset.splits, prepared.recipe.map_method
    split = next(name for name in ("val", "test", "train") if name in splits)
    sets = {cut: features[cut][split] for cut in prepared.points}
    wide = [c for c, found in sets.items() if found.n_features > _MOST_VALUES // _FEWEST_ROWS]
    for cut in wide:
        del sets[cut]
        exhibits.notes.append(
            f"{cut}: left out of similarity and maps. It has {prepared.points[cut].n_pooled:,} "
            f"values an image, {_MOST_VALUES // _FEWEST_ROWS:,} are looked at (--pool avg)."
        )
    n = len(splits[split])
    if not sets or n < FEWEST_POINTS:
        exhibits.notes.append(f"Similarity and maps: left out. {n} images of {split}.")
        return
    names, widths = list(sets), [found.n_features for found in sets.values()]
    most = min(rows_for(widths), _MOST_VALUES // max(widths))
    rows = chosen_rows(n, most, 4 * n * sum(widths))
    on_map = spread(len(rows), min(MAP_POINTS, max(100, _ALL_MAP_POINTS // len(sets))))
    similarity = Similarity(len(rows), widths)

    def look_at(cut: str) -> MapExhibit:
        # Read once for both.
        X = sets[cut].read(rows)
        similarity.add(names.index(cut), X)
        moments = {name: found.moments for name, found in features[cut].items()}
        scaler = scalers_for(prepared.recipe.standardize, moments)[split]
        # A map shows what the head sees; similarity is defined on what the network gives.
        seen = X[on_map] if scaler is None else scaler.transform(X[on_map])
        found = feature_map(seen, method, seed=prepared.recipe.seed)
        return MapExhibit(
            cut=cut,
            split=split,
            method=method,
            explained=found.explained,
            x=rounded(found.points[:, 0]),
            y=rounded(found.points[:, 1]),
            images=_with_predictions(rows[on_map], splits[split].y, fits[cut], split),
        )

    maps = [parts.make(f"Map of {cut}", partial(look_at, cut)) for cut in names]
    exhibits.maps = [found for found in maps if found is not None]

    def all_cuts() -> SimilarityExhibit:
        matrix = similarity.matrix()
        return SimilarityExhibit(
            split=split, n=len(rows), cuts=names, matrix=[rounded(row) for row in matrix]
        )

    exhibits.similarity = parts.make("Similarity of the cuts", all_cuts)


def chosen_rows(n: int, most: int, n_bytes: int) -> np.ndarray:
    """Return which rows of a split are looked at: evenly spread, in few runs where reading costs.

    Parameters
    ----------
    n : int
        Rows of the split.
    most : int
        Rows at most.
    n_bytes : int
        Bytes of all features of the split. Above 1 GB there are 16 runs of rows that follow each
        other, so that few shards are read.

    Returns
    -------
    ndarray of shape (n_chosen,), int64
        Ascending.
    """
    if n <= most or n_bytes <= _READ_BYTES:
        return spread(n, most)
    runs = spread(n, min(_RUNS, most))
    length = most // len(runs)
    return (runs[:, None] + np.arange(length)).ravel()


def _with_predictions(
    rows: np.ndarray, y: np.ndarray, fitted: CutFit, split: str
) -> list[ShownImage]:
    """Return images of a split with what the head made of them, where it saw that split."""
    if split not in fitted.scores:
        return [shown(int(i), y) for i in rows]
    confidence = np.zeros(len(y))
    confidence[rows] = softmax(fitted.scores[split][rows]).max(axis=1)
    return [shown(int(i), y, fitted.predictions[split], confidence) for i in rows]


def _add_tiles(exhibits: Exhibits, dataset: Dataset, parts: Parts) -> Files:
    """Give the shown images thumbnails; return the picture of them: a part."""
    images = {name: split.images for name, split in dataset.splits.items()}
    sheet = parts.make("Thumbnails", partial(give_tiles, exhibits, images))
    return {} if sheet is None else {sheet.about.file: sheet.data}
