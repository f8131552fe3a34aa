"""Ten classes and D2's input sizes: facts of their records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featx.evaluate import StudyRecord, StudyRow, newcombe_interval
from featx.heads import NAMED_GRIDS
from featx.recipes import load_study
from published.experiments import record_of
from published.sources import published_at
from published.words import listed, points, with_interval

# ssl-transfer's supervised ResNet-50 on CIFAR-10, at this size.
TEN_PUBLISHED = published_at("d1-ten", 224)
# D2's figure, at the size of its images.
D2_PUBLISHED = published_at("d2-input-size", 32)
D2_TRAINING = 0.50
# It tests on all of CIFAR-10's test images.
D2_TESTED = 10_000
STRIDE = 32


@dataclass(frozen=True)
class BySize:
    """A study over input sizes: accuracy on test by size."""

    record: StudyRecord
    test: dict[int, float]

    @property
    def n(self) -> int:
        return self.record.dataset.splits["test"].n

    @property
    def n_train(self) -> int:
        return self.record.dataset.splits["train"].n

    def rows(self, published: tuple[int, float], digits: int) -> list[list[str]]:
        """Return a row per size: the map that the last layer sees, accuracy, the published one."""
        return [
            [
                f"{size} px",
                f"{max(1, size // STRIDE)} x {max(1, size // STRIDE)}",
                with_interval(score, self.n),
                f"{published[1]:.{digits}f}" if size == published[0] else "",
            ]
            for size, score in self.test.items()
        ]


def sizes_not_run(sizes: BySize) -> list[int]:
    """Return the input sizes of a study's recipe that its record does not hold."""
    whole = load_study(sizes.record.name).axes["image_size"]
    return [size for size in whole if size not in sizes.test]


def ten_rows(ten: BySize) -> list[list[str]]:
    """Return a row per size of the ten classes, with the C that was chosen."""
    chosen = {row.settings["image_size"]: row.C for row in ten.record.rows}
    return [
        [*cells[:2], f"{chosen[size]:g}", *cells[2:]]
        for size, cells in zip(ten.test, ten.rows(TEN_PUBLISHED, 4), strict=True)
    ]


def ten_values(ten: BySize) -> str:
    """Return how many values of C a probe of the ten classes chose among."""
    C = ten.record.recipe["C"]
    tried = NAMED_GRIDS[C] if isinstance(C, str) else C
    return f"{len(tried)} values from {min(tried):g} to {max(tried):g}"


def ten_words(ten: BySize) -> str:
    """Return what the probe of all ten classes reaches beside the published figure."""
    size, published = TEN_PUBLISHED
    least, n = min(ten.test), ten.n
    if size not in ten.test:
        largest = max(ten.test)
        return (
            f"The usual probe of all ten classes reaches {ten.test[largest]:.3f} on test at "
            f"{largest} px; {published:.4f} is published at {size} px, which was not run yet."
        )
    score = ten.test[size]
    low, high = newcombe_interval(round(score * n), n, round(published * n), n)
    verdict = "not told apart" if low <= 0 <= high else "told apart"
    text = (
        f"The usual probe of all ten classes reaches {score:.3f} on test at {size} px, where "
        f"{published:.4f} is published ({points(score - published)} points, {points(low)} to "
        f"{points(high)} by Newcombe's interval: {verdict})"
    )
    return text + (f"; at {least} px it reaches {ten.test[least]:.3f}." if least != size else ".")


def d2_short(d2: BySize | None, whole: StudyRecord | None, prepared: StudyRecord | None) -> str:
    """Return in a sentence what becomes of D2's figure; nothing where its section has nothing."""
    size, published = D2_PUBLISHED
    if d2 is None or whole is None:
        return ""
    ours = best_on_validation(whole).top1["test"]
    text = (
        f"D2's {100 * published:.0f} % on a frozen ResNet-18 at {size} px is {100 * ours:.0f} % "
        "here"
    )
    row = _as_for_caffe(prepared)
    if prepared is None or row is None:
        return f"{text}."
    test = row.top1["test"]
    reason = "a candidate for the reason" if _agrees(prepared, row) else "which does not explain it"
    return (
        f"{text}; with images prepared as for Caffe's weights it is {100 * test:.0f} % in one run, "
        f"{reason}."
    )


def d2_words(d2: BySize, whole: StudyRecord | None, prepared: StudyRecord | None = None) -> str:
    """Return what the input size does to D2's frozen network, in sentences.

    `whole` is D2's own set-up, on all images; the sizes were compared on some. `prepared` has it
    with images as other weights expect them.
    """
    size, published = D2_PUBLISHED
    told = []
    if whole is not None:
        best = best_on_validation(whole)
        away = 100 * (best.top1["test"] - published)
        told.append(
            f"On all {whole.dataset.splits['train'].n:,} training images it reaches "
            f"{best.top1['test']:.3f} at {size} px, {abs(away):.0f} points "
            f"{'above' if away >= 0 else 'below'} the published figure."
        )
    first, *larger = d2.test
    if larger:
        gains = [points(d2.test[each] - d2.test[first]) for each in larger]
        told.append(
            f"Larger inputs, at the same depth, give {listed(gains)} points at {listed(larger)} px "
            f"over {d2.test[first]:.3f} at {first} px, with {d2.n_train:,} training images."
        )
    if whole is not None:
        row = _as_for_caffe(prepared)
        told.append(
            "Why the published figure is another stays unexplained."
            if prepared is None or row is None
            else _prepared_words(prepared, row)
        )
    return " ".join(told)


def _as_for_caffe(prepared: StudyRecord | None) -> StudyRow | None:
    """Return the row whose images are prepared for Caffe's weights, None without its accuracy."""
    rows = prepared.rows if prepared is not None else []
    found = [row for row in rows if row.settings["preprocess"] == "caffe" and row.top1]
    return found[0] if found else None


def _agrees(prepared: StudyRecord, row: StudyRow) -> bool:
    """Return whether D2's figure and a row's may be of equally good classifiers."""
    n = prepared.dataset.splits["test"].n
    low, high = newcombe_interval(
        round(row.top1["test"] * n), n, round(D2_PUBLISHED[1] * D2_TESTED), D2_TESTED
    )
    return low <= 0 <= high


def _prepared_words(prepared: StudyRecord, row: StudyRow) -> str:
    """Return what D2's head reaches on images that are prepared for Caffe's weights."""
    curve = next(curve for curve in prepared.curves if curve.run == row.run)
    on_training = curve.values["top1 train"][(row.best_epoch or 1) - 1]
    begins = (
        "A candidate for the published figure is images prepared for other weights: as for"
        if _agrees(prepared, row)
        else "Images prepared for other weights do not give the published figure: as for"
    )
    return (
        f"{begins} Caffe's (BGR, 0 to 255, less the means) the same head reaches "
        f"{row.top1['val']:.3f} on validation, {row.top1['test']:.3f} on test and "
        f"{on_training:.3f} on training images as they are trained on, where the source has about "
        f"{D2_PUBLISHED[1]:.2f} on test and {D2_TRAINING:.2f} on training images. It is one run, "
        "and how the source prepares images is not known."
    )


def d2_rows(d2: BySize, whole: StudyRecord | None) -> list[list[str]]:
    """Return a row for D2's own set-up, and one per size on fewer images."""
    rows = []
    if whole is not None:
        own = BySize(whole, {D2_PUBLISHED[0]: best_on_validation(whole).top1["test"]})
        rows = own.rows(D2_PUBLISHED, 2)
    # The published figure stands beside the set-up that it belongs to.
    rows += [[*cells[:-1], "" if rows else cells[-1]] for cells in d2.rows(D2_PUBLISHED, 2)]
    trained = [each.dataset.splits["train"].n for each in ([whole] if whole else [])]
    trained += [d2.n_train] * len(d2.test)
    return [[*cells[:2], f"{n:,}", *cells[2:]] for cells, n in zip(rows, trained, strict=True)]


def best_on_validation(study: StudyRecord) -> StudyRow:
    """Return the row of a study that validation chooses."""
    return max((row for row in study.rows if row.top1), key=lambda row: row.top1["val"])


def read_study(reports: Path, name: str) -> StudyRecord | None:
    record = record_of(reports / name)
    return record if isinstance(record, StudyRecord) else None


def read_sizes(reports: Path, name: str) -> BySize | None:
    record = read_study(reports, name)
    if record is None:
        return None
    test = {r.settings["image_size"]: r.top1["test"] for r in record.rows if "test" in r.top1}
    return BySize(record, dict(sorted(test.items()))) if test else None
