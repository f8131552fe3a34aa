"""``featx demo``: the main job in a minute, on data and weights that come with packages."""

from __future__ import annotations

from typing import Any

from featx.cli.options import PANELS, takes_recipe


@takes_recipe(PANELS["Places"])
def demo(settings: dict[str, Any]) -> None:
    """Run the demo: EfficientNet-Lite0 cut at several layers, on 1,797 real handwritten digits.

    Needs no download: the images come with scikit-learn, the ImageNet weights with a package.

    Example:  featx demo --out /tmp/reports
    """
    from featx.cli.running import run_and_print
    from featx.recipes import load_recipe, shipped_recipes

    run_and_print(load_recipe(shipped_recipes()["demo"], settings))
