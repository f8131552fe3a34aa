"""Charts as SVG: axes, lines, points, bars and a matrix, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from featx.report.labels import plain
from featx.text import human_bytes, human_count, human_seconds

N_COLOURS = 7
_CHARACTER = 6.4  # about the width of a character at the chart's font size of 11
_LINE = 14.0
_MOST_CELLS = 400
_TIMES = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 360_000)
_FORMATS = {"count": human_count, "bytes": human_bytes, "seconds": human_seconds}


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on pixels from `start` to `end`, evenly or by powers of ten."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, value = (map(math.log10, (self.low, self.high, value)) if self.log
                            else (self.low, self.high, value))  # fmt: skip
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Return round values within the scale, about six of them."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            for steps in ((1,), (1, 3), (1, 2, 5)):
                found = [s * 10.0**p for p in range(first, last + 1) for s in steps]
                found = [value for value in found if self.low <= value <= self.high]
                if len(found) >= 3:
                    break
            return found[:: max(1, math.ceil(len(found) / 6))] or [self.low, self.high]
        raw = (self.high - self.low) / 7 or 1.0
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def share_scale(values: Sequence[float], start: float, end: float) -> Scale:
    """Return a scale around shares (accuracies), within 0 and 1."""
    low, high = min(values), max(values)
    room = max(0.01, 0.08 * (high - low))
    return Scale(max(0.0, low - room), min(1.0, high + room), start, end)


@dataclass
class Chart:
    """A chart that grows part by part.

    `width` and `height` are in pixels, `label` is what it shows, in words.
    """

    width: float
    height: float
    label: str
    parts: list[Markup] = field(default_factory=list)

    def add(self, template: str, *values: object, **named: object) -> None:
        """Add a part; what is filled in is escaped."""
        self.parts.append(Markup(template).format(*values, **named))

    def text(
        self, x: float, y: float, text: str, anchor: str = "middle", turn: float = 0, kind: str = ""
    ) -> None:
        """Add a text at a place, turned by degrees."""
        turned = Markup(' transform="rotate({} {} {})"').format(turn, x, y) if turn else ""
        self.add('<text class="{}" x="{}" y="{}" text-anchor="{}"{}>{}</text>',
                 kind, round(x, 1), round(y, 1), anchor, turned, text)  # fmt: skip

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Add a line through points."""
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        self.add('<path class="line {}" d="{}"/>', kind, path)

    def point(self, x: float, y: float, kind: str, marker: int, title: str, r: float = 4.5) -> None:
        """Add a point with a title for the mouse; its form differs with the marker's number."""
        self.add('<path class="dot {}" d="{}"><title>{}</title></path>',
                 kind, marker_path(x, y, marker, r), plain(title, 300))  # fmt: skip

    def svg(self) -> Markup:
        """Return the chart as an SVG element with its text alternative."""
        return Markup(
            '<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {:g} {:g}" '
            'style="--w:{:g}px">{}</svg>'
        ).format(
            plain(self.label, 4000),
            self.width,
            self.height,
            self.width,
            Markup("").join(self.parts),
        )


def marker_path(x: float, y: float, marker: int, r: float = 4.5) -> str:
    """Return a circle, square, triangle or diamond around a place as an SVG path."""
    kind = marker % 4
    if kind == 0:
        return f"M{x - r:g} {y:g}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
    if kind == 1:
        s = 0.88 * r
        return f"M{x - s:.4g} {y - s:.4g}h{2 * s:g}v{2 * s:g}h{-2 * s:g}z"
    if kind == 2:
        return f"M{x:g} {y - 1.2 * r:.4g}l{1.1 * r:g} {2 * r:g}h{-2.2 * r:g}z"
    d = round(1.3 * r, 2)
    return f"M{x:g} {y - d:.4g}l{d} {d}l{-d} {d}l{-d} {-d}z"


def value_axis(chart: Chart, scale: Scale, left: float, right: float, title: str) -> None:
    """Draw the y axis: a pale line and a number at every tick, and what it counts."""
    for tick in scale.ticks():
        y = scale(tick)
        chart.add('<path class="grid" d="M{} {}H{}"/>', left, y, right)
        chart.text(left - 6, y + 4, f"{tick:.4g}", "end")
    middle = (scale.start + scale.end) / 2
    chart.text(14, middle, title, turn=-90, kind="title")


def number_axis(
    chart: Chart, scale: Scale, top: float, bottom: float, title: str, unit: str
) -> None:
    """Draw an x axis of numbers: ``count``, ``bytes``, ``seconds`` or plain ones."""
    shown = _FORMATS.get(unit, lambda value: f"{value:.4g}")
    round_times = [t for t in _TIMES if scale.low <= t <= scale.high] if unit == "seconds" else []
    for tick in round_times if len(round_times) > 1 else scale.ticks():
        x = scale(tick)
        chart.add('<path class="grid" d="M{} {}V{}"/>', x, top, bottom)
        chart.text(x, bottom + 16, shown(tick))
    chart.text((scale.start + scale.end) / 2, bottom + 36, title, kind="title")


def name_axis_height(names: Sequence[str], slot: float, limit: int = 24) -> float:
    """Return the pixels that `name_axis` needs below the chart."""
    longest = max(len(plain(name, limit)) for name in names)
    return 22.0 if longest * _CHARACTER < slot - 8 else longest * _CHARACTER * 0.75 + 16


def slots(names: Sequence[str], left: float, right: float) -> tuple[float, float]:
    """Return where the places of a name axis begin and how wide each is.

    Slanted names reach to the left of their places: the first one must not leave the chart.
    """
    slot = (right - left) / len(names)
    if name_axis_height(names, slot) > 22:
        left = max(left, min(150.0, max(len(plain(name)) for name in names) * 4.6 - slot / 2))
    return left, (right - left) / len(names)


def name_axis(
    chart: Chart, names: Sequence[str], places: Sequence[float], y: float, limit: int = 24
) -> None:
    """Write a name below every place: flat where all fit, else slanted and as many as fit."""
    slot = abs(places[-1] - places[0]) / max(1, len(places) - 1) if len(places) > 1 else 400.0
    shown = [plain(name, limit) for name in names]
    flat = max(map(len, shown)) * _CHARACTER < slot - 8
    every = 1 if flat else max(1, math.ceil(_LINE / slot))
    for i, (text, x) in enumerate(zip(shown, places, strict=True)):
        chart.add('<path class="axis" d="M{} {}v4"/>', x, y)
        if i % every == 0:
            if flat:
                chart.text(x, y + 17, text)
            else:
                chart.text(x + 3, y + 12, text, "end", turn=-48)


def legend(chart: Chart, entries: Sequence[tuple[str, int, str]], x: float, y: float) -> float:
    """Write a legend in lines from a place on; return the y below it.

    An entry is the class of its colour and line, its marker and its text.
    """
    start = x
    for kind, marker, text in entries:
        short = plain(text, 44)
        needed = 40 + len(short) * _CHARACTER
        if x > start and x + needed > chart.width:
            x, y = start, y + 18
        chart.line([(x, y - 4), (x + 22, y - 4)], kind)
        chart.point(x + 11, y - 4, kind, marker, text)
        chart.text(x + 28, y, short, "start")
        x += needed
    return y + 12


def matrix_chart(
    label: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    what: str,
) -> Markup:
    """Return a matrix of shares from 0 to 1 as coloured cells, with numbers where they fit."""
    side = max(9.0, min(46.0, 760.0 / max(1, len(columns))))
    high = max(12.0, min(side, 30.0)) if len(rows) <= 40 else 12.0
    left = 14 + max(len(plain(name)) for name in rows) * _CHARACTER
    slanted = max(len(plain(name)) for name in columns) * _CHARACTER * 0.72
    left = max(left, slanted)
    below = name_axis_height(columns, side)
    top = 8.0
    chart = Chart(left + side * len(columns) + 20, top + high * len(rows) + below + 10, label)
    cells = [
        (left + j * side, top + i * high, value, f"{plain(name)}, {plain(columns[j])}")
        for i, (name, row) in enumerate(zip(rows, values, strict=True))
        for j, value in enumerate(row)
        if value is not None
    ]
    for i, name in enumerate(rows):
        chart.text(left - 6, top + (i + 0.5) * high + 4, plain(name), "end")
    if len(cells) > _MOST_CELLS:
        _add_shades(chart, cells, side - 1, high - 1)
    else:
        for x, y, value, said in cells:
            _add_shades(
                chart, [(x, y, value, said)], side - 1, high - 1, f"{said}: {what} {value:.3f}"
            )
            if side >= 30:
                chart.text(x + side / 2, y + high / 2 + 4, f"{value:.2f}", kind="in")
    places = [left + (j + 0.5) * side for j in range(len(columns))]
    name_axis(chart, columns, places, top + high * len(rows))
    return chart.svg()


def _add_shades(
    chart: Chart,
    cells: Sequence[tuple[float, float, float, str]],
    width: float,
    height: float,
    title: str = "",
) -> None:
    """Add cells, all those of one shade as one path: ten thousand elements would be slow."""
    paths: dict[float, list[str]] = {}
    for x, y, value, _ in cells:
        shade = round(max(0.0, min(1.0, value)) * 25) / 25 if len(cells) > 1 else value
        paths.setdefault(shade, []).append(f"M{x:.4g} {y:g}h{width:.3g}v{height:.3g}h{-width:.3g}z")
    for shade, path in sorted(paths.items()):
        said = Markup("<title>{}</title>").format(title) if title else ""
        chart.add(
            '<path class="cell" d="{}" style="--v:{:.3g}">{}</path>', "".join(path), shade, said
        )
