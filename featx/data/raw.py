"""What a source is asked and what it gives, before filter, hold-out and limit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featx.data.images import Images


@dataclass(frozen=True)
class Request:
    """What a source is asked.

    Attributes
    ----------
    path : str
        What stands behind the colon of ``folder:PATH``; empty for sources without a path.
    data_dir : Path
        Where files are looked for and downloaded to.
    download : bool
        Whether missing files may be fetched.
    """

    path: str
    data_dir: Path
    download: bool


@dataclass(frozen=True, eq=False)
class Part:
    """Images of one part of a source, and their labels (n,), int64."""

    images: Images
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class Raw:
    """What a source gives.

    Attributes
    ----------
    name : str
        The dataset's name.
    classes : dict of int to str
        Label -> name, labels ascending.
    parts : dict of str to Part
        ``"train"``, and ``"val"`` and ``"test"`` where the source has them.
    origin : dict
        JSON-able: where it comes from, checksums.
    stratify_test : bool
        Whether a test split that has to be drawn is stratified whatever the caller asks.
    """

    name: str
    classes: dict[int, str]
    parts: dict[str, Part]
    origin: dict[str, Any] = field(default_factory=dict)
    stratify_test: bool = False
