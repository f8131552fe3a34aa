"""Render docs/results.md, its figures and the README's opening from the records under reports/.

Usage: python benchmarks/results.py [--check]

With --check nothing is written; exit code 1 when a page does not agree with the records, or a
figure is missing. Figures are not compared: their bytes change with matplotlib.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from published import depth, figures, others

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
PAGE = ROOT / "docs" / "results.md"
IMAGES = ROOT / "docs" / "images"
README = ROOT / "README.md"
CLAIMS = {"VGG16": "VGG16: the best earlier cut beats the last", "ResNet-50": "ResNet-50: the same"}


def facts(reports: Path = REPORTS) -> dict[str, Any]:
    """Return everything that the page says, from the records that are there."""
    found = depth.read_depth(reports)
    tested = {CLAIMS[name]: depth.intermediate_beats_last(each) for name, each in found.items()}
    tested["ResNet-50's best cut beats VGG16's"] = depth.resnet_beats_vgg(found)
    tested = {claim: tests for claim, tests in tested.items() if tests}
    plain, plain_records = depth.plain_claims(reports)
    costs = depth.cost_of_C(found)
    ten, d2 = others.read_sizes(reports, "d1-ten"), others.read_sizes(reports, "d2-input-size")
    networks = others.read_networks(reports)
    return {
        "depth": found,
        "depth_records": [record for each in found.values() for record in each.records],
        "published_rows": depth.published_rows(found),
        "tested": tested,
        "claims": depth.claims_by_size(tested) if tested else None,
        "plain": plain,
        "plain_records": plain_records,
        "missing_networks": [name for name in depth.NETWORKS if found and name not in found],
        "costs": costs,
        "cost_rows": [cost.cells() for cost in costs],
        "ten": ten,
        "ten_rows": ten.rows(others.TEN_PUBLISHED, 4) if ten else [],
        "networks": networks,
        "network_records": [each.record for each in networks.values()],
        "network_rows": [each.cells() for each in networks.values()],
        "crossing": others.crossing(networks) if networks else "",
        "missing_networks_runs": [name for name in others.NETWORKS if name not in networks],
        "d2": d2,
        "d2_rows": d2.rows(others.D2_PUBLISHED, 2) if d2 else [],
        "d2_words": _d2_words(d2) if d2 else "",
        "made_by": others.made_by,
    }


def _d2_words(d2: others.BySize) -> str:
    """Return what the input size does, in a sentence."""
    first, *larger = d2.test
    reached = f"It reaches {d2.test[first]:.3f} at {first} px"
    if not larger:
        return f"{reached}."
    gains = [f"{100 * (d2.test[size] - d2.test[first]):.0f}" for size in larger]
    return f"{reached}, and gains {depth.listed(gains)} points at {depth.listed(larger)} px."


def page(known: dict[str, Any]) -> str:
    """Return docs/results.md."""
    loader = FileSystemLoader(ROOT / "benchmarks" / "published")
    # Markdown, not HTML: nothing is escaped; names and figures come from our own records.
    jinja = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    text = jinja.get_template("results.md.j2").render(known)
    return re.sub(r"\n{3,}", "\n\n", text)


def opening(known: dict[str, Any]) -> str:
    """Return the README's picture and the three sentences beside it."""
    sentences = []
    if known["depth"]:
        picture = "![Test accuracy by cut, a line per input size](docs/images/d1-depth.png)"
        sentences += [_best_words(known["depth"]), _claim_words(known["tested"])]
    else:
        picture = (
            "![Test accuracy of a frozen ResNet-18 against input size]"
            "(docs/images/d2-input-size.png)"
        )
    if known["d2"]:
        sentences.append(
            "A linear head on a frozen ResNet-18 is not held back by depth, as experiment D2 has "
            f"it, but by 32 px inputs: {_lower(known['d2_words'])}"
        )
    if known["networks"]:
        sentences.append(known["crossing"])
    told = " ".join(sentence for sentence in sentences if sentence)
    more = (
        "[Results](docs/results.md): what was found on real images, each figure with its command."
    )
    return f"{picture}\n\n{told} {more}\n"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _best_words(found: dict[str, depth.Depth]) -> str:
    """Return the best cut of each network at every size that the picture shows, in a sentence."""
    shown = depth.shown_variants(found)
    if not shown:
        return ""
    first, last = min(shown), max(shown)
    parts = []
    for name, each in found.items():
        told = []
        for size in dict.fromkeys((first, last)):
            cut = each.best(shown[size])
            told.append(f"`{cut}` at {size} px ({each.scores[shown[size]][cut]['test']:.3f})")
        parts.append(f"{name}'s is {' and '.join(told)}")
    return f"Where do dog, frog, horse, ship and truck separate best? {'; '.join(parts)}."


def _claim_words(tested: dict[str, list[depth.Tested]]) -> str:
    tests = [t for claim, each in tested.items() if claim in CLAIMS.values() for t in each]
    if not tests:
        return ""
    holds = sum(t.verdict == "holds" for t in tests)
    return f"An intermediate cut beats the last one in {holds} of {len(tests)} variants tested."


def readme(text: str, known: dict[str, Any]) -> str:
    """Return README.md with its opening made anew."""
    pattern = r"(<!-- results -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda m: m[1] + opening(known) + m[2], text, flags=re.DOTALL)


def pictures(known: dict[str, Any]) -> dict[str, Any]:
    """Return what draws each figure of the page that there are records for."""
    drawn: dict[str, Any] = {}
    if known["depth"] and depth.shown_variants(known["depth"]):
        drawn["d1-depth.png"] = lambda: figures.draw_depth(known["depth"])
    if known["ten"]:
        drawn["ten-classes.png"] = lambda: figures.draw_by_size(
            known["ten"], others.TEN_PUBLISHED, "Ten classes, ResNet-50's penultimate layer",
            "published (ssl-transfer)", 4,
        )  # fmt: skip
    if known["networks"]:
        drawn["networks.png"] = lambda: figures.draw_networks(known["networks"])
    if known["d2"]:
        drawn["d2-input-size.png"] = lambda: figures.draw_by_size(
            known["d2"], others.D2_PUBLISHED, "A frozen ResNet-18 on CIFAR-10",
            "published (D2)", 2,
        )  # fmt: skip
    return drawn


def write() -> None:
    """Write the page, its figures and the README's opening."""
    known = facts()
    for name, draw in pictures(known).items():
        figures.save(draw(), IMAGES / name)
    PAGE.write_text(page(known))
    README.write_text(readme(README.read_text(), known))


def problems() -> list[str]:
    """Return what does not agree with the records."""
    known = facts()
    text = README.read_text()
    found = []
    if not PAGE.is_file() or PAGE.read_text() != page(known):
        found.append("docs/results.md")
    if readme(text, known) != text or "<!-- results -->" not in text:
        found.append("README.md")
    shown = re.findall(r"images/([\w-]+\.png)", page(known) + opening(known))
    return found + [f"docs/images/{name}" for name in set(shown) if not (IMAGES / name).is_file()]


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        write()
        return 0
    for name in problems():
        print(f"{name} does not agree with the records: make tables", file=sys.stderr)
    return 1 if problems() else 0


if __name__ == "__main__":
    sys.exit(main())
