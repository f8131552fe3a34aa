"""Render docs/results.md, docs/results-d1.md, figures and README's opening from reports/.

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
from published import (
    claims,
    commands,
    depth,
    figures,
    networks,
    others,
    short,
    sources,
    trainings,
)

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
# By page: its template.
PAGES = {"docs/results.md": "results.md.j2", "docs/results-d1.md": "results-d1.md.j2"}
IMAGES = ROOT / "docs" / "images"
README = ROOT / "README.md"
CLAIMS = {name: f"{name}: the best earlier cut beats the last" for name in depth.NETWORKS}
BETTER = "ResNet-50's best cut beats VGG16's"


def facts(reports: Path = REPORTS) -> dict[str, Any]:
    """Return everything that the page says, from the records that are there."""
    found = depth.read_depth(reports)
    tested = {CLAIMS[name]: claims.intermediate_beats_last(each) for name, each in found.items()}
    tested[BETTER] = claims.resnet_beats_vgg(found)
    tested = {claim: tests for claim, tests in tested.items() if tests}
    plain, plain_records = claims.plain_claims(reports)
    costs, heads = claims.gains_of_chosen_C(found), claims.gains_of_logistic(found)
    ten, d2 = others.read_sizes(reports, "d1-ten"), others.read_sizes(reports, "d2-input-size")
    compared, d2_whole = networks.read_networks(reports), others.read_study(reports, "d2-frozen")
    d2_prepared = others.read_study(reports, "d2-frozen-preprocess")
    classes = sources.class_records(reports)
    known = {
        "depth": found,
        "depth_records": [record for each in found.values() for record in each.records],
        "published_rows": depth.published_rows(found),
        "rounded": depth.rounded_words(found),
        "best_rows": depth.best_rows(found),
        "class_rows": sources.class_rows(classes),
        "class_notes": sources.class_notes(classes),
        "class_records": list(classes.values()),
        "tested": tested,
        "claims": claims.claims_by_size(tested) if tested else None,
        "choices": claims.claims_by_choice(tested) if tested else None,
        "one_variant": depth.one_variant_for_all(found),
        "shown": depth.shown_variants(found),
        "plain": plain,
        "plain_records": plain_records,
        "missing_networks": [
            name for name in (depth.VGG16, depth.RESNET50) if found and name not in found
        ],
        "costs": costs,
        "cost_rows": [cost.cells() for cost in costs],
        "head_rows": [gain.cells() for gain in heads],
        "ten": ten,
        "ten_rows": others.ten_rows(ten) if ten else [],
        "ten_values": others.ten_values(ten) if ten else "",
        "ten_not_run": others.sizes_not_run(ten) if ten else [],
        "networks": compared,
        "network_records": [each.record for each in compared.values()],
        "network_rows": [each.cells() for each in compared.values()],
        "network_setting": networks.setting(compared) if compared else "",
        "approaches": networks.approach_rows(compared) if compared else None,
        "network_notes": networks.notes_on_probes(compared),
        "more_epochs": networks.notes_on_epochs(compared),
        "missing_networks_runs": [name for name in networks.NETWORKS if name not in compared],
        "grid": trainings.grid_rows(reports),
        "scratch": (trainings.HEADER, trainings.training_rows(reports, "../reports")),
        "d2": d2,
        "d2_rows": others.d2_rows(d2, d2_whole) if d2 else [],
        "d2_whole": d2_whole,
        "d2_prepared": d2_prepared,
        "d2_words": others.d2_words(d2, d2_whole, d2_prepared) if d2 else "",
        "d2_records": [each for each in (d2_whole, d2_prepared, d2.record if d2 else None) if each],
        "made_by": commands.made_by,
    }
    earlier = {name: tested.get(claim, []) for name, claim in CLAIMS.items() if name in found}
    return known | {"short": short.in_short(found, earlier, tested.get(BETTER, []), known)}


def page(known: dict[str, Any], name: str = "docs/results.md") -> str:
    """Return a page of `PAGES`."""
    loader = FileSystemLoader(ROOT / "benchmarks" / "published")
    # Markdown, not HTML: nothing is escaped; names and figures come from our own records.
    jinja = Environment(
        loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    text = jinja.get_template(PAGES[name]).render(known)
    return re.sub(r"\n{3,}", "\n\n", text)


def opening(known: dict[str, Any]) -> str:
    """Return the README's picture and the sentences beside it: three at most."""
    name, alt = (
        ("d1-depth.png", "Test accuracy by cut, a line per input size")
        if known["shown"]
        else ("d2-input-size.png", "Test accuracy of a frozen ResNet-18 against input size")
    )
    more = (
        "[Results](docs/results.md): what was found on real images, each figure with its command."
    )
    said = [f"- **{question}** {answer}" for question, answer in known["short"][:3]]
    lead = ""
    if known["depth_records"]:
        n = known["depth_records"][0].dataset.splits["train"].n
        lead = (
            f"Five classes of CIFAR-10, {n:,} training images where nothing else is said; a "
            "variant is one choice of pooling, standardization, head and C:\n\n"
        )
    lines = "\n".join(said)
    return f"![{alt}](docs/images/{name})\n\n{lead}{lines}\n\n{more}\n"


def readme(text: str, known: dict[str, Any]) -> str:
    """Return README.md with its opening made anew."""
    pattern = r"(<!-- results -->\n).*?(<!-- end -->)"
    return re.sub(pattern, lambda m: m[1] + opening(known) + m[2], text, flags=re.DOTALL)


def pictures(known: dict[str, Any]) -> dict[str, Any]:
    """Return what draws each figure of the page that there are records for."""
    drawn: dict[str, Any] = {}
    if known["shown"]:
        drawn["d1-depth.png"] = lambda: figures.draw_depth(known["depth"])
    if len(known["ten_rows"]) > 1:
        drawn["ten-classes.png"] = lambda: figures.draw_by_size(
            known["ten"], others.TEN_PUBLISHED, "Ten classes, ResNet-50's penultimate layer",
            "published (ssl-transfer)", 4,
        )  # fmt: skip
    if known["networks"]:
        drawn["networks.png"] = lambda: figures.draw_networks(known["networks"])
    if known["d2"]:
        drawn["d2-input-size.png"] = lambda: figures.draw_by_size(
            known["d2"], others.D2_PUBLISHED,
            f"A frozen ResNet-18, {known['d2'].n_train:,} training images of CIFAR-10",
            "published (D2)", 2,
        )  # fmt: skip
    return drawn


def write() -> None:
    """Write the page, its figures and the README's opening."""
    known = facts()
    for name, draw in pictures(known).items():
        figures.save(draw(), IMAGES / name)
    for name in PAGES:
        (ROOT / name).write_text(page(known, name))
    README.write_text(readme(README.read_text(), known))


def problems() -> list[str]:
    """Return what does not agree with the records."""
    known = facts()
    pages = {name: page(known, name) for name in PAGES}
    found = [n for n, p in pages.items() if not (ROOT / n).is_file() or (ROOT / n).read_text() != p]
    text = README.read_text()
    if readme(text, known) != text or "<!-- results -->" not in text:
        found.append("README.md")
    shown = re.findall(r"images/([\w-]+\.png)", "".join(pages.values()) + opening(known))
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
