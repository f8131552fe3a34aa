"""Reading a record back, and ranking what it found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featx.errors import FeatxError
from featx.evaluate.records import SCHEMA_VERSION, ResultRecord, RunRecord

if TYPE_CHECKING:
    from pydantic import ValidationError

RECORD_NAME = "results.json"


def read_record(path: str | Path) -> RunRecord:
    """Read ``results.json``.

    Parameters
    ----------
    path : str or Path
        The file, or the report's folder.

    Raises
    ------
    FeatxError
        If there is no such file, it is no record, or its schema has another version.
    """
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
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version is None:
        raise FeatxError(f"{path} is not a record of featx: it has no 'schema_version'.")
    if version != SCHEMA_VERSION:
        raise FeatxError(
            f"{path} has schema version {version!r}; this featx reads version {SCHEMA_VERSION}. "
            "Use the featx that wrote it, or run the experiment again."
        )
    return _validate(path, data)


def _validate(path: Path, data: Any) -> RunRecord:
    from pydantic import ValidationError

    try:
        return RunRecord.model_validate(data)
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
