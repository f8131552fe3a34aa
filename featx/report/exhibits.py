"""Reading what stands beside a record: ``exhibits.json`` and the pictures it names."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from featx.errors import FeatxError
from featx.evaluate.exhibits import (
    EXHIBITS_FOLDER,
    EXHIBITS_NAME,
    RATE_RANGE_NAME,
    Exhibits,
    RateRangeExhibit,
)
from featx.evaluate.reading import read_exhibits
from featx.evaluate.records import RunRecord
from featx.evaluate.training_records import TrainingRecord

if TYPE_CHECKING:
    from featx.evaluate.reading import Record

# What a browser shows as a picture, by the first bytes of the file.
_KINDS = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"RIFF", "webp"))


@dataclass(frozen=True)
class Beside:
    """What was found beside a record: exhibits or None, their folder, what a reader must know.

    `rates` is the range test of a training, where one was run into the same folder.
    """

    exhibits: Exhibits | None = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()
    rates: RateRangeExhibit | None = None

    def picture(self, file: str) -> bytes:
        """Return the bytes of a picture that the exhibits name; `FeatxError` if there is none."""
        assert self.folder is not None
        folder, path = self.folder / EXHIBITS_FOLDER, self.folder / file
        # Links in the folder may lead elsewhere.
        if not path.resolve().is_relative_to(folder.resolve()):
            raise FeatxError(
                f"{self.folder / EXHIBITS_NAME} names the picture '{file}', which is not in its "
                f"folder '{EXHIBITS_FOLDER}'. {_AGAIN}"
            )
        try:
            return path.read_bytes()
        except OSError as error:
            raise FeatxError(
                f"There is no picture to read at {path}: {error.strerror or error}. "
                f"{self.folder / EXHIBITS_NAME} names it. {_AGAIN}"
            ) from error


_AGAIN = f"Run the experiment again, or remove {EXHIBITS_NAME} to have a page without images."


def read_beside(folder: str | Path, record: Record) -> Beside:
    """Read the exhibits of a record from its report's folder.

    Parameters
    ----------
    folder : str or Path
        The report's folder.
    record : RunRecord, TrainingRecord, StudyRecord or ComparisonRecord
        What the exhibits must be of.

    Returns
    -------
    Beside
        Without exhibits where there is no file; where they are of another run there is a note
        that says so.

    Raises
    ------
    FeatxError
        If the file is damaged, or contradicts the record or itself.
    """
    folder = Path(folder)
    beside = _read_exhibits(folder, record)
    if not isinstance(record, TrainingRecord):
        return beside
    rates, notes = _read_rates(folder)
    return dataclasses.replace(beside, rates=rates, notes=(*beside.notes, *notes))


def _read_rates(folder: Path) -> tuple[RateRangeExhibit | None, tuple[str, ...]]:
    """Return the range test in a folder, or None and a note where it cannot be read."""
    path = folder / RATE_RANGE_NAME
    try:
        return RateRangeExhibit.model_validate_json(path.read_bytes()), ()
    except FileNotFoundError:
        return None, ()
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        return None, (f"The range test is left out: {RATE_RANGE_NAME} cannot be read ({reason}).",)


def _read_exhibits(folder: Path, record: Record) -> Beside:
    """Return the exhibits of a record, a note where they are another one's."""
    path = folder / EXHIBITS_NAME
    exhibits = read_exhibits(folder)
    if exhibits is None:
        return Beside()
    if (exhibits.name, exhibits.created) != (record.name, record.created):
        return Beside(
            notes=(
                f"Images and curves are left out: {EXHIBITS_NAME} is of the run '{exhibits.name}' "
                f"of {exhibits.created}, this record of '{record.name}' of {record.created}.",
            )
        )
    problem = next(_contradictions(exhibits, record), None)
    if problem is not None:
        raise FeatxError(f"{path} contradicts itself or its record: {problem}. {_AGAIN}")
    return Beside(exhibits, folder, tuple(exhibits.notes))


def data_uri(picture: bytes, name: str) -> str:
    """Return a picture as a ``data:`` address; `FeatxError` if it is no PNG, JPEG or WebP."""
    kind = next((kind for start, kind in _KINDS if picture.startswith(start)), None)
    if kind is None:
        raise FeatxError(f"The picture '{name}' is neither PNG, JPEG nor WebP. {_AGAIN}")
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _contradictions(exhibits: Exhibits, record: Record) -> Iterator[str]:
    """Say what a page could not show: unknown labels, cuts, tiles, lists of unequal length."""
    classes = record.dataset.classes
    for _, image in exhibits.shown():
        for label in (image.label, image.predicted):
            if label is not None and label not in classes:
                yield f"an image has the label {label}, the classes are {list(classes)}"
    for result in exhibits.results:
        labels = {cell.label for cell in result.cells} | {c.predicted for c in result.cells}
        unknown = (labels | {curve.label for curve in result.curves}) - set(classes)
        if unknown:
            yield f"a result names the label {min(unknown)}, the classes are {list(classes)}"
        if any(len(curve.recall) != len(curve.precision) for curve in result.curves):
            yield f"a curve of '{result.cut}' has unequal numbers of recalls and precisions"
    for drawn in exhibits.maps:
        if not len(drawn.x) == len(drawn.y) == len(drawn.images):
            yield f"the map of '{drawn.cut}' has unequal numbers of places and images"
    if isinstance(record, RunRecord):
        results = {(r.cut, r.head) for r in record.results}
        for result in exhibits.results:
            if (result.cut, result.head) not in results:
                yield f"it shows '{result.cut}' with the head '{result.head}', which has no result"
    like = exhibits.similarity
    if like and [len(row) for row in like.matrix] != [len(like.cuts)] * len(like.cuts):
        yield "the similarities are not a square of as many rows as cuts"
