"""The figure of one image's heat maps: a column per cut, a row per kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from featx.analysis.overlays import overlay, shown_at
from featx.report.canvas import new_figure, png
from featx.report.labels import fit_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from featx.analysis.heatmaps import HeatMap

# Cuts beside each other; more go below.
_COLUMNS = 5
_PANEL_INCHES = 2.0
# Title above and caption below a panel.
_TEXT_INCHES = 0.75
# Pixels at a panel's longer side before it is drawn: twice those it gets.
_PANEL_PX = 480
_ROW_NAMES = {
    "activation": "mean over channels",
    "channel": "one channel",
    "evidence": "evidence for a class",
    "grad-cam": "Grad-CAM",
}
_HOW = "Each map has its own range of colours: dark blue is its lowest value, yellow its highest."
_HOW_EVIDENCE = " Evidence: orange speaks for the class, blue against it."


def heat_figure(image: np.ndarray, maps: Sequence[HeatMap], title: str) -> bytes:
    """Return the maps of one image as PNG.

    Parameters
    ----------
    image : ndarray of shape (H, W, 3), uint8
        As the network sees it.
    maps : sequence of HeatMap
        Kind by kind, each in order of depth.
    title : str
        What the image is called.
    """
    cuts = list(dict.fromkeys(heat_map.cut for heat_map in maps))
    blocks = [cuts[first : first + _COLUMNS] for first in range(0, len(cuts), _COLUMNS)]
    rows = _rows(maps, blocks)
    n_columns = max(len(block) for block in blocks) + 1
    width = n_columns * _PANEL_INCHES + 0.3
    shape = image.shape[0] / image.shape[1]
    figure, axes = new_figure(
        width, len(rows) * (_PANEL_INCHES * shape + _TEXT_INCHES) + 0.7, len(rows), n_columns
    )
    figure.suptitle(fit_lines(title, width - 0.5, 11.0, 1), fontsize=11, parse_math=False)
    how = _HOW + (_HOW_EVIDENCE if any(heat_map.signed for heat_map in maps) else "")
    figure.supxlabel(fit_lines(how, width - 0.5, 8.0, 4), fontsize=8)
    shown = shown_at(image, _PANEL_PX)
    for one in axes:
        one.set_axis_off()
    _draw(axes[0], shown, "the image", "")
    for number, row in enumerate(rows):
        for place, heat_map in enumerate(row, number * n_columns + 1):
            colours = overlay(shown, heat_map.values, signed=heat_map.signed)
            _draw(axes[place], colours, heat_map.cut, heat_map.about)
        first = axes[number * n_columns + 1]
        first.set_ylabel(_ROW_NAMES[row[0].what], fontsize=8)
    return png(figure)


def _rows(maps: Sequence[HeatMap], blocks: Sequence[Sequence[str]]) -> list[list[HeatMap]]:
    """Return the maps as rows: those of one kind at the cuts of one block, in order."""
    kinds = list(dict.fromkeys(heat_map.what for heat_map in maps))
    rows = [
        [heat_map for heat_map in maps if heat_map.what == what and heat_map.cut in block]
        for block in blocks
        for what in kinds
    ]
    return [row for row in rows if row]


def _draw(axes: Axes, pixels: np.ndarray, title: str, caption: str) -> None:
    axes.set_axis_on()
    axes.imshow(pixels)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(fit_lines(title, _PANEL_INCHES - 0.2, 9.0, 2), fontsize=9, parse_math=False)
    axes.set_xlabel(fit_lines(caption, _PANEL_INCHES - 0.2, 7.0, 4), fontsize=7, parse_math=False)
