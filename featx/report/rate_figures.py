"""The figure of a learning-rate range test."""

from __future__ import annotations

from collections.abc import Sequence

from featx.report.canvas import png


def rate_range_png(
    rates: Sequence[float], losses: Sequence[float], suggestion: float | None
) -> bytes:
    """Return the smoothed loss over the learning rate, with the suggested rate marked, as PNG.

    Parameters
    ----------
    rates, losses : sequence of float
        One per step.
    suggestion : float or None
        Marked with a line.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context("default"):
        figure = Figure(figsize=(7.0, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(rates, losses, color="#0072B2", linewidth=1.8)
        axes.set_xscale("log")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss, smoothed")
        axes.grid(alpha=0.3)
        if suggestion is not None:
            axes.axvline(
                suggestion, color="#D55E00", linestyle="--",
                label=f"falls fastest at {suggestion:.2g}",
            )  # fmt: skip
            axes.legend()
        return png(figure)
