"""Reading a record back, of whatever kind, and ranking what a probe found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from featx.errors import FeatxError
from featx.evaluate.exhibits import EXHIBITS_FOLDER, EXHIBITS_NAME, EXHIBITS_VERSION, Exhibits
from featx.evaluate.records import SCHEMA_VERSION, ResultRecord, RunRecord, StrictRecord
from featx.evaluate.training_records import ComparisonRecord, StudyRecord, TrainingRecord

if TYPE_CHECKING:
    from pydantic import ValidationError

RECORD_NAME = "results.json"

Record = RunRecord | TrainingRecord | StudyRecord | ComparisonRecord

_R = TypeVar("_R", bound=StrictRecord)

# A probe's record has no `kind`: it was the only one in version 1.
_PROBE_VERSIONS = (1, SCHEMA_VERSION)
_KINDS: dict[str, type[TrainingRecord | StudyRecord | ComparisonRecord]] = {
    "training": TrainingRecord,
    "study": StudyRecord,
    "comparison": ComparisonRecord,
}


def read_record(path: str | Path) -> Record:
    """Read ``results.json`` of any kind.

    Parameters
    ----------
    path : str or Path
        The file, or the report's folder.

    Returns
    -------
    RunRecord, TrainingRecord, StudyRecord or ComparisonRecord
        As its `kind` says; without one it is a probe's, a `RunRecord`.

    Raises
    ------
    FeatxError
        If there is no such file, it is no record, or its kind or schema version is not known.
    """
    path, data = _load(path)
    version, kind = data["schema_version"], data.get("kind")
    if version not in _PROBE_VERSIONS:
        raise FeatxError(
            f"{path} has schema version {version!r}; this featx reads versions "
            f"{_PROBE_VERSIONS[0]} and {_PROBE_VERSIONS[1]}. Use the featx that wrote it, or run "
            "the experiment again."
        )
    if kind is None:
        return _validate(path, data, RunRecord)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise FeatxError(
            f"{path} is a record of kind {kind!r}; this featx reads {', '.join(_KINDS)}, and a "
            "probe's, which has no kind. Use the featx that wrote it."
        )
    if version != SCHEMA_VERSION:
        raise FeatxError(
            f"{path} is a record of kind {kind!r} with schema version {version}, which had probes "
            f"only: expected version {SCHEMA_VERSION}. Run the experiment again."
        )
    return _validate(path, data, _KINDS[kind])


def read_run(path: str | Path) -> RunRecord:
    """Read the ``results.json`` of a probe.

    Parameters
    ----------
    path : str or Path
        The file, or the report's folder.

    Raises
    ------
    FeatxError
        As `read_record`, or if the record is of another kind: says of which.
    """
    record = read_record(path)
    if isinstance(record, RunRecord):
        return record
    raise FeatxError(
        f"{path} is the record of a {record.kind}; a probe's is needed here, as 'featx run' and "
        "'featx fit-svm' write it."
    )


def read_exhibits(folder: str | Path) -> Exhibits | None:
    """Read what a report shows beside its numbers.

    Parameters
    ----------
    folder : str or Path
        The report's folder.

    Returns
    -------
    Exhibits or None
        None where the run wrote none.

    Raises
    ------
    FeatxError
        If the file cannot be read, is no valid JSON or no exhibits, is of another version, or
        names pictures that are not there, lie in another folder or have no such tile.
    """
    path = Path(folder) / EXHIBITS_NAME
    advice = "Run the experiment again, or remove the file for a report without pictures."
    try:
        data = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FeatxError(
            f"{path} cannot be read: {error.strerror or error}. Check the disk and its permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        raise FeatxError(f"{path} is not valid JSON: {error}. {advice}") from error
    version = data.get("exhibits_version") if isinstance(data, dict) else None
    if version is None:
        raise FeatxError(f"{path} holds no exhibits: it has no 'exhibits_version'. {advice}")
    if version != EXHIBITS_VERSION:
        raise FeatxError(
            f"{path} has version {version!r}; this featx reads version {EXHIBITS_VERSION}. Use "
            "the featx that wrote it, or run the experiment again."
        )
    return _checked_exhibits(path, data, advice)


def _checked_exhibits(path: Path, data: dict[str, Any], advice: str) -> Exhibits:
    """Return exhibits whose pictures are where they must be, or raise what is wrong with them."""
    from pydantic import ValidationError

    try:
        exhibits = Exhibits.model_validate(data)
    except ValidationError as error:
        raise FeatxError(f"{path} holds no valid exhibits: {_problems(error)}. {advice}") from error
    for file in exhibits.files():
        # A page embeds these files: no other file of the machine may get into it.
        folder, _, name = file.partition("/")
        if folder != EXHIBITS_FOLDER or not _is_plain(name):
            raise FeatxError(
                f"{path} names the picture '{file}': expected one in {EXHIBITS_FOLDER}/. {advice}"
            )
        if not (path.parent / file).is_file():
            raise FeatxError(f"{path} names the picture '{file}', which is not there. {advice}")
    n_tiles = 0 if exhibits.tiles is None else exhibits.tiles.n
    for split, image in exhibits.shown():
        if image.tile is not None and not 0 <= image.tile < n_tiles:
            raise FeatxError(
                f"{path} gives image {image.index} of {split} the thumbnail {image.tile}; there "
                f"are {n_tiles}. {advice}"
            )
    return exhibits


def _is_plain(name: str) -> bool:
    """Return whether this names a file in a folder, not one elsewhere."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def _load(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Return the file, and the JSON object in it, which has a ``schema_version``."""
    path = Path(path)
    if path.is_dir():
        path = path / RECORD_NAME
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise FeatxError(
            f"There is no record to read at {path}: {error.strerror or error}. A report's folder "
            f"holds {RECORD_NAME}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise FeatxError(f"{path} is not valid JSON: {error}. Run the experiment again.") from error
    if not isinstance(data, dict) or data.get("schema_version") is None:
        raise FeatxError(f"{path} is not a record of featx: it has no 'schema_version'.")
    return path, data


def _validate(path: Path, data: Any, kind: type[_R]) -> _R:
    from pydantic import ValidationError

    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise FeatxError(
            f"{path} is not a valid record: {_problems(error)}. Run the experiment again."
        ) from error


def _problems(error: ValidationError, at_most: int = 3) -> str:
    """Return the first problems as ``results.0.C: Field required``."""
    items = error.errors(include_url=False, include_input=False, include_context=False)
    shown = [f"{'.'.join(map(str, item['loc'])) or 'record'}: {item['msg']}" for item in items]
    more = f", and {len(shown) - at_most} more" if len(shown) > at_most else ""
    return "; ".join(shown[:at_most]) + more


def work_seconds(record: Record) -> float:
    """Return how long a record's work took, extraction with it as far as that ran."""
    timing = record.timing
    if isinstance(record, StudyRecord):
        # What an early study found finished is in its rows alone.
        return max(timing.get("total_s", 0.0), sum(row.seconds for row in record.rows))
    if isinstance(record, ComparisonRecord):
        trained = sum(approach.train_s for approach in record.approaches)
        return max(timing.get("total_s", 0.0), trained)
    if isinstance(record, TrainingRecord):
        parts = (timing.get(name, 0.0) for name in ("read_s", "train_s", "evaluation_s"))
        return max(timing.get("loop_s", 0.0), sum(parts))
    return timing.get("extract_s", 0.0) + timing.get("fit_s", 0.0)


def ranking_split(record: RunRecord, split: str = "val") -> str:
    """Return the split that ranks the results: `split` where every result has it, else test.

    The test split decides nothing as long as there is a validation split; a caller that gets
    another split than it asked for says so.

    Raises
    ------
    FeatxError
        If the results share no split that could rank them.
    """
    shared = set.intersection(*(set(result.splits) for result in record.results))
    for candidate in (split, "val", "test"):
        if candidate in shared:
            return candidate
    raise FeatxError(
        f"The results of '{record.name}' share neither a validation nor a test split: they cannot "
        "be ranked."
    )


def ranking(record: RunRecord, split: str = "val") -> list[ResultRecord]:
    """Return the results, best first, by accuracy on a split.

    Parameters
    ----------
    record : RunRecord
        What to rank.
    split : str
        The split that ranks; `ranking_split` says which one did.

    Returns
    -------
    list of ResultRecord
        Of equal accuracies the one with fewer features stands first, then the earlier one.
    """
    used = ranking_split(record, split)
    features = {cut.cut: cut.n_features for cut in record.cuts}
    return sorted(record.results, key=lambda r: (-r.accuracy[used], features[r.cut]))
