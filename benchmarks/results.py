"""Render docs/results.md, its figures and the README's opening from the records under reports/.

Usage: python benchmarks/results.py [--check]

With --check nothing is written; exit code 1 when a page does not agree with the records, or a
figure is missing. Figures are not compared: their bytes change with matplotlib.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from published import claims, depth, figures, others, sources
from published.words import listed, points

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "reports"
PAGE = ROOT / "docs" / "results.md"
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
    networks, d2_whole = others.read_networks(reports), others.read_study(reports, "d2-frozen")
    d2_prepared = others.read_study(reports, "d2-frozen-preprocess")
    classes = sources.class_records(reports)
    known = {
        "depth": found,
        "depth_records": [record for each in found.values() for record in each.records],
        "published_rows": depth.published_rows(found),
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
        "ten_words": others.ten_words(ten) if ten else "",
        "ten_not_run": others.sizes_not_run(ten) if ten else [],
        "networks": networks,
        "network_records": [each.record for each in networks.values()],
        "network_rows": [each.cells() for each in networks.values()],
        "approaches": others.approach_rows(networks) if networks else None,
        "crossing": others.crossing(networks) if networks else "",
        "network_notes": others.notes_on_probes(networks),
        "missing_networks_runs": [name for name in others.NETWORKS if name not in networks],
        "d2": d2,
        "d2_rows": others.d2_rows(d2, d2_whole) if d2 else [],
        "d2_words": others.d2_words(d2, d2_whole, d2_prepared) if d2 else "",
        "d2_records": [each for each in (d2_whole, d2_prepared, d2.record if d2 else None) if each],
        "made_by": others.made_by,
    }
    return known | {"short": in_short(known)}


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
    """Return the README's picture and the sentences beside it: three at most."""
    name, alt = (
        ("d1-depth.png", "Test accuracy by cut, a line per input size")
        if known["shown"]
        else ("d2-input-size.png", "Test accuracy of a frozen ResNet-18 against input size")
    )
    more = (
        "[Results](docs/results.md): what was found on real images, each figure with its command."
    )
    return f"![{alt}](docs/images/{name})\n\n{' '.join(known['short'][:3])}\n\n{more}\n"


def in_short(known: dict[str, Any]) -> list[str]:
    """Return what was found, a sentence or two each, the most important first."""
    told = [_best_words(known), _claim_words(known["tested"])]
    if known["networks"]:
        told.append(f"Against fine-tuning all of ResNet-50 at 64 px: {_lower(known['crossing'])}")
    if known["costs"]:
        told.append(_cost_words(known["costs"]))
    if known["ten"]:
        told.append(known["ten_words"])
    if known["d2"]:
        told.append(f"A linear layer on a frozen ResNet-18 (D2): {_lower(known['d2_words'])}")
    return [sentence for sentence in told if sentence]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _best_words(known: dict[str, Any]) -> str:
    """Return each network's best cut at the largest size that is shown, and its best variant."""
    shown = known["shown"]
    if not shown:
        return ""
    size = max(shown)
    parts = []
    for name, each in known["depth"].items():
        variant = shown[size]
        cut, last = each.best(variant), each.cuts[-1]
        text = f"`{cut}` of {name} ({each.scores[variant][cut]['test']:.3f} on test"
        answers = each.answers.get(variant, {})
        if cut != last and {cut, last} <= set(answers):
            gain = claims.pair(answers[cut], answers[last])
            text += (
                f", {points(gain.difference)} points, {points(gain.low)} to {points(gain.high)}, "
                "beside the last cut"
            )
            text += ": not told apart" if gain.low <= 0 <= gain.high else ""
        parts.append(f"{text})")
    n = known["depth_records"][0].dataset.splits["train"].n
    best = [_best_variant_words(each) for each in known["depth"].values()]
    return (
        f"At {size} px, with {n:,} training images and averaged features of dog, frog, horse, ship "
        f"and truck, validation prefers {listed(parts)}; of all variants run it prefers "
        f"{listed(best)}."
    )


def _best_variant_words(each: depth.Depth) -> str:
    """Return a network's best cut of all variants on validation, with its variant and score."""
    variant = max(each.scores, key=lambda v: each.scores[v][each.best(v)]["val"])
    cut = each.best(variant)
    return f"{each.network}'s `{cut}` with {variant} ({each.scores[variant][cut]['test']:.3f})"


def _claim_words(tested: dict[str, list[claims.Tested]]) -> str:
    """Return in how many variants the two claims of D1 hold, in a sentence."""
    both = {
        "an earlier cut beats the last one": [
            t for claim, each in tested.items() if claim in CLAIMS.values() for t in each
        ],
        "ResNet-50 beats VGG16": tested.get(BETTER, []),
    }
    parts = []
    for claim, tests in both.items():
        counts = Counter(t.verdict for t in tests)
        if tests:
            parts.append(
                f"{claim} in {counts['holds']} of {len(tests)} variants tested "
                f"({_size_words(tests)}the reverse in {counts['reversed']})"
            )
    return f"D1's two claims: {'; '.join(parts)}." if parts else ""


def _size_words(tests: list[claims.Tested]) -> str:
    """Return in how many variants of each input size a claim holds; nothing of a single size."""
    sizes = sorted({test.variant.size for test in tests})
    if len(sizes) == 1:
        return ""
    told = []
    for size in sizes:
        verdicts = [test.verdict for test in tests if test.variant.size == size]
        told.append(f"{verdicts.count('holds')} of {len(verdicts)} at {size} px")
    return f"{listed(told)}; "


def _cost_words(costs: list[claims.Gain]) -> str:
    """Return what a fixed C cost, in a sentence."""
    differences = [d for cost in costs for d in cost.differences]
    better = sum(cost.better for cost in costs)
    return (
        f"C chosen on validation instead of C = 12 gives the SVM {points(median(differences))} "
        f"points in the middle, {points(max(differences))} at most; it is better in {better} of "
        f"{len(differences)} pairs."
    )


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
