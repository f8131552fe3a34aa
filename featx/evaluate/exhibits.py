"""What a report shows beside its numbers: images, curves, maps. Kept beside ``results.json``.

A run writes ``exhibits.json`` and the pictures in ``exhibits/``; the page is made of these and the
record alone. Thumbnails of all kinds share one sheet: a picture of square tiles, row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from featx.evaluate.records import StrictRecord

EXHIBITS_NAME = "exhibits.json"
EXHIBITS_FOLDER = "exhibits"
RATE_RANGE_NAME = "lr-range.json"
EXHIBITS_VERSION: Literal[1] = 1


class TileSheet(StrictRecord):
    """Thumbnails in one picture.

    `file` is relative to the report's folder; `tile` is the side of a square tile in pixels;
    tile number t lies at column ``t % columns``, row ``t // columns``.
    """

    file: str
    tile: int = Field(ge=1)
    columns: int = Field(ge=1)
    n: int = Field(ge=0)


class ShownImage(StrictRecord):
    """An image of a split: its index there, its label, its tile (None where the budget ended).

    `score` is the share of confidence in what was predicted (softmax of the scores), from 0 to 1.
    """

    index: int
    label: int
    tile: int | None = None
    predicted: int | None = None
    score: float | None = None


class CellExhibit(StrictRecord):
    """Images of one cell of a confusion matrix, most confident first; `n` counts all of them."""

    label: int
    predicted: int
    n: int
    images: list[ShownImage]


class CurveExhibit(StrictRecord):
    """Precision against recall of one class, thinned out, from high to low thresholds.

    `average_precision` is that of all points (scikit-learn's ``average_precision_score``).
    """

    label: int
    recall: list[float]
    precision: list[float]
    average_precision: float


class ReliabilityExhibit(StrictRecord):
    """Confidence against accuracy, in bins of equal width from 0 to 1.

    Empty bins are left out. `ece` is the expected calibration error: the mean distance of a bin's
    accuracy from its confidence, weighted by its images (Guo et al., "On calibration of modern
    neural networks", ICML 2017). `probabilities` says where the confidences come from.
    """

    confidence: list[float]
    accuracy: list[float]
    n: list[int]
    ece: float
    probabilities: str


class ResultExhibit(StrictRecord):
    """What a head on a cut did on one split."""

    cut: str
    head: str
    split: str
    cells: list[CellExhibit] = Field(default_factory=list)
    curves: list[CurveExhibit] = Field(default_factory=list)
    reliability: ReliabilityExhibit | None = None


class SimilarityExhibit(StrictRecord):
    """Linear CKA between the features of cuts (Kornblith et al., ICML 2019)."""

    split: str
    n: int
    cuts: list[str]
    matrix: list[list[float]]


class MapExhibit(StrictRecord):
    """Features of one cut in two dimensions.

    `method` is ``pca``, ``umap`` or ``tsne``; `explained` the share of the variance that the two
    principal components hold (None for other methods).
    """

    cut: str
    split: str
    method: Literal["pca", "umap", "tsne"]
    explained: float | None = None
    x: list[float]
    y: list[float]
    images: list[ShownImage]


class DuplicateExhibit(StrictRecord):
    """Images in two splits; `n` of those of the second are in the first.

    `compared` says what was equal: all pixels, or all bytes of the files.
    """

    first: str
    second: str
    n: int
    compared: Literal["pixels", "files"] = "pixels"
    pairs: list[tuple[ShownImage, ShownImage]] = Field(default_factory=list)


class SizeExhibit(StrictRecord):
    """How many images of a split are of one size, in pixels."""

    split: str
    width: int
    height: int
    n: int


class DataExhibit(StrictRecord):
    """The images themselves: samples per split, duplicates, sizes."""

    samples: dict[str, list[ShownImage]] = Field(default_factory=dict)
    duplicates: list[DuplicateExhibit] = Field(default_factory=list)
    sizes: list[SizeExhibit] = Field(default_factory=list)


class HeatMapExhibit(StrictRecord):
    """Pictures of one image: what the network does with it at every cut.

    `what` is ``activation`` (mean over the channels), ``channel`` (one channel at each cut) or
    ``evidence`` (the head's score of a class, split over the places of the map). `files` are
    relative to the report's folder, by cut; `exact` says that the parts add up to the score.
    """

    what: Literal["activation", "channel", "evidence"]
    split: str
    image: ShownImage
    files: dict[str, str]
    about: dict[str, str] = Field(default_factory=dict)
    exact: bool = False


class RateRangeExhibit(StrictRecord):
    """What ``lr-range.json`` holds: a learning-rate range test in the report's folder.

    `rates` and `losses` (smoothed) have a value per step; `suggestion` is the rate at which the
    loss falls fastest, None if it never falls.
    """

    rates: list[float] = Field(min_length=1)
    losses: list[float]
    suggestion: float | None = None

    @model_validator(mode="after")
    def _a_loss_per_rate(self) -> RateRangeExhibit:
        if len(self.rates) != len(self.losses) or min(self.rates) <= 0:
            raise ValueError("expected as many losses as rates, and rates above 0")
        return self


class Exhibits(StrictRecord):
    """Everything that is shown of one run. `name` and `created` are its record's."""

    exhibits_version: Literal[1] = EXHIBITS_VERSION
    name: str
    created: str
    tiles: TileSheet | None = None
    results: list[ResultExhibit] = Field(default_factory=list)
    similarity: SimilarityExhibit | None = None
    maps: list[MapExhibit] = Field(default_factory=list)
    data: DataExhibit = Field(default_factory=DataExhibit)
    heat_maps: list[HeatMapExhibit] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    def shown(self) -> Iterator[tuple[str, ShownImage]]:
        """Yield every image that is shown, with its split; an image may come more than once."""
        for result in self.results:
            for cell in result.cells:
                yield from ((result.split, image) for image in cell.images)
        for map_ in self.maps:
            yield from ((map_.split, image) for image in map_.images)
        for split, images in self.data.samples.items():
            yield from ((split, image) for image in images)
        for found in self.data.duplicates:
            for first, second in found.pairs:
                yield found.first, first
                yield found.second, second
        for heat in self.heat_maps:
            yield heat.split, heat.image

    def files(self) -> list[str]:
        """Return the pictures that are named, relative to the report's folder."""
        sheet = [] if self.tiles is None else [self.tiles.file]
        return sheet + [file for heat in self.heat_maps for file in heat.files.values()]
