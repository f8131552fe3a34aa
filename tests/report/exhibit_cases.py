"""Exhibits of runs that never ran: consistent with a record's confusion matrices, with pictures."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
from PIL import Image

from featx.evaluate import RunRecord
from featx.evaluate.exhibits import (
    EXHIBITS_NAME,
    CellExhibit,
    CurveExhibit,
    DataExhibit,
    DuplicateExhibit,
    Exhibits,
    HeatMapExhibit,
    MapExhibit,
    ReliabilityExhibit,
    ResultExhibit,
    ShownImage,
    SimilarityExhibit,
    SizeExhibit,
    TileSheet,
)

TILE, COLUMNS = 32, 20


def make_exhibits(
    record: RunRecord,
    *,
    n_tiles: int = 400,
    per_cell: int = 4,
    n_points: int = 60,
    n_curve: int = 20,
    most_cells: int = 400,
) -> Exhibits:
    """Return exhibits whose cells are those of the record's matrices; tiles are numbered along."""
    rng = np.random.default_rng(0)
    labels = list(record.dataset.classes)
    cuts = [cut.cut for cut in record.cuts]
    taken = 0

    def tile() -> int:
        nonlocal taken
        taken += 1
        return (taken - 1) % n_tiles

    def cell(i: int, j: int, n: int) -> CellExhibit:
        images = [
            ShownImage(
                index=1000 * i + 10 * j + k,
                label=labels[i],
                predicted=labels[j],
                tile=tile(),
                score=round(0.99 - 0.1 * k, 3),
            )
            for k in range(min(n, per_cell))
        ]
        return CellExhibit(label=labels[i], predicted=labels[j], n=n, images=images)

    results = []
    for result in record.results:
        for split, metrics in result.splits.items():
            places = (
                (i, j, n) for i, row in enumerate(metrics.confusion) for j, n in enumerate(row) if n
            )
            cells = [cell(*place) for place in itertools.islice(places, most_cells)]
            recall = np.linspace(0, 1, n_curve)
            curves = [
                CurveExhibit(
                    label=label,
                    recall=recall.tolist(),
                    precision=(1 - recall ** (2 + place % 7) * 0.6).tolist(),
                    average_precision=0.9,
                )
                for place, label in enumerate(labels)
            ]
            bins = (np.arange(10) + 0.5) / 10
            reliability = ReliabilityExhibit(
                confidence=bins.tolist(),
                accuracy=(bins**1.3).tolist(),
                n=[10 * (i + 1) for i in range(10)],
                ece=0.0625,
                probabilities="softmax of the scores",
            )
            results.append(
                ResultExhibit(
                    cut=result.cut,
                    head=result.head,
                    split=split,
                    cells=cells,
                    curves=curves,
                    reliability=reliability,
                )
            )
    far = np.abs(np.subtract.outer(range(len(cuts)), range(len(cuts)))) / len(cuts)
    maps = []
    for cut in cuts:
        own = rng.integers(0, len(labels), n_points)
        centre = rng.normal(0, 3, (len(labels), 2))[own] + rng.normal(0, 1, (n_points, 2))
        images = [
            ShownImage(index=i, label=labels[k], predicted=labels[k], tile=tile(), score=0.5)
            for i, k in enumerate(own.tolist())
        ]
        maps.append(
            MapExhibit(
                cut=cut,
                split="test",
                method="pca",
                explained=0.42,
                x=centre[:, 0].tolist(),
                y=centre[:, 1].tolist(),
                images=images,
            )
        )
    samples = [ShownImage(index=i, label=label, tile=i) for i, label in enumerate(labels)]
    return Exhibits(
        name=record.name,
        created=record.created,
        tiles=TileSheet(file="exhibits/tiles.png", tile=TILE, columns=COLUMNS, n=n_tiles),
        results=results,
        similarity=SimilarityExhibit(split="test", n=500, cuts=cuts, matrix=(1 - far).tolist()),
        maps=maps,
        data=DataExhibit(
            samples={"train": samples},
            duplicates=[
                DuplicateExhibit(
                    first="train", second="test", n=3, pairs=[(samples[0], samples[1])]
                )
            ],
            sizes=[SizeExhibit(split="train", width=32, height=32, n=60)],
        ),
        heat_maps=[
            HeatMapExhibit(
                what="evidence",
                split="test",
                image=samples[0],
                files={cut: f"exhibits/heat-{i}.png" for i, cut in enumerate(cuts[:4])},
                about={cuts[0]: "score 1.25"},
                exact=True,
            )
        ],
        notes=["Images are a sample."],
    )


def picture(width: int, height: int, seed: int = 0) -> bytes:
    """Return a PNG of smooth colours, different for every seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(1, height // 16), max(1, width // 16), 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(data, "PNG")
    return data.getvalue()


def put_exhibits(exhibits: Exhibits, folder: Path) -> None:
    """Write exhibits and their pictures into a report's folder."""
    (folder / "exhibits").mkdir(parents=True, exist_ok=True)
    (folder / EXHIBITS_NAME).write_text(exhibits.model_dump_json())
    if exhibits.tiles is not None:
        rows = -(-exhibits.tiles.n // exhibits.tiles.columns)
        sheet = picture(TILE * exhibits.tiles.columns, TILE * rows)
        (folder / exhibits.tiles.file).write_bytes(sheet)
    for heat in exhibits.heat_maps:
        for seed, file in enumerate(heat.files.values()):
            (folder / file).write_bytes(picture(96, 96, seed))
