"""What was found, a question and a sentence each: the opening of docs/results.md and README.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from published.claims import Gain, Tested
from published.depth import Depth, Variant
from published.networks import head_words
from published.others import d2_short, ten_words
from published.words import listed, points


def in_short(
    depth: Mapping[str, Depth],
    earlier: Mapping[str, Sequence[Tested]],
    networks: Sequence[Tested],
    known: Mapping[str, Any],
) -> list[tuple[str, str]]:
    """Return what was found, the most important first: question and answer.

    Parameters
    ----------
    depth : mapping of str to Depth
        D1's variants by network.
    earlier : mapping of str to sequence of Tested
        By network, whether an earlier cut beats the last one in each variant.
    networks : sequence of Tested
        Whether ResNet-50 beats VGG16 in each variant.
    known : mapping of str to object
        What else was read: ``networks``, ``costs``, ``ten``, ``d2``, ``d2_whole``, ``d2_prepared``.
    """
    told = [
        ("Which layer?", layer_words(earlier)),
        ("Which network?", network_words(networks, depth)),
        ("Is a linear head enough?", head_words(known["networks"])),
        ("What does a fixed C cost?", cost_words(known["costs"])),
        ("Does it agree with a published probe?", ten_words(known["ten"]) if known["ten"] else ""),
        ("And D2's 48 %?", d2_short(known["d2"], known["d2_whole"], known["d2_prepared"])),
    ]
    return [(question, answer) for question, answer in told if answer]


def layer_words(earlier: Mapping[str, Sequence[Tested]]) -> str:
    """Return in how many variants of each network an earlier cut beats the last, or loses to it.

    At the least and the largest size, of the variants that were run at both.
    """
    ends = {network: _ends(tested) for network, tested in earlier.items() if tested}
    if not ends or len({tuple(shares) for shares in ends.values()}) > 1:
        # Other sizes of each network cannot stand in one sentence.
        return ""
    sizes = list(next(iter(ends.values())))
    if not sizes:
        return ""
    told = []
    for size in sizes:
        of_size = {name: shares[size] for name, shares in ends.items()}
        held = _counted({name: (share.held, share.n) for name, share in of_size.items()})
        lost = _counted({name: (share.lost, share.n) for name, share in of_size.items()})
        told.append(
            f"at {size} px an earlier cut beats the last one in {held}, and loses in {lost}"
        )
    text = f"{'; '.join(told)}."
    least, largest = sizes[0], sizes[-1]
    turns = all(s[least].held > s[least].n / 2 > s[largest].held for s in ends.values())
    return f"An earlier one for small images: {text}" if turns else f"A{text[1:]}"


def _counted(shares: Mapping[str, tuple[int, int]]) -> str:
    """Return in how many variants of which network something is so."""
    if not any(count for count, _ in shares.values()):
        return "none"
    first, *rest = [f"{count} of {n}" for count, n in shares.values()]
    words = [f"{first} variants", *rest]
    return listed([f"{said} of {name}" for said, name in zip(words, shares, strict=True)])


def network_words(tested: Sequence[Tested], depth: Mapping[str, Depth]) -> str:
    """Return in how many variants ResNet-50 beats VGG16, and what the best variant reaches."""
    if len(depth) < 2:
        return ""
    best = f"The best variant of all, chosen on validation, is {_best_words(depth)}."
    if not tested:
        return best
    shares = _ends(tested)
    if not shares:
        return best
    told = [f"{share.held} of {share.n} variants at {size} px" for size, share in shares.items()]
    return f"ResNet-50 beats VGG16 in {listed(told)}. {best}"


def _best_words(depth: Mapping[str, Depth]) -> str:
    """Return which network, cut and size validation chooses of all variants, and its test score."""
    best = {name: each.best_variant() for name, each in depth.items()}
    name = max(best, key=lambda n: depth[n].scores[best[n][0]][best[n][1]]["val"])
    variant, cut = best[name]
    score = depth[name].scores[variant][cut]["test"]
    return f"`{cut}` of {name} at {variant.size} px with {score:.3f} on test"


@dataclass(frozen=True)
class _Share:
    """In how many variants a claim holds, and is reversed, of how many."""

    held: int
    lost: int
    n: int


def _ends(tested: Sequence[Tested]) -> dict[int, _Share]:
    """Return the shares at the least and the largest size, of the variants that are at both."""
    by_size: dict[int, dict[Variant, str]] = {}
    for test in tested:
        of_size = by_size.setdefault(test.variant.size, {})
        of_size[replace(test.variant, size=0)] = test.verdict
    ends = [by_size[size] for size in {min(by_size): None, max(by_size): None}]
    both = set.intersection(*map(set, ends))
    found = {}
    for size in sorted({min(by_size), max(by_size)}):
        verdicts = Counter(by_size[size][variant] for variant in both)
        found[size] = _Share(verdicts["holds"], verdicts["reversed"], len(both))
    return found if both else {}


def cost_words(costs: Sequence[Gain]) -> str:
    """Return what a fixed C cost, in a sentence."""
    differences = [difference for cost in costs for difference in cost.differences]
    if not differences:
        return ""
    return (
        "C chosen on validation instead of D1's C = 12 changes the SVM's accuracy by "
        f"{points(median(differences))} points in the median ({points(min(differences))} to "
        f"{points(max(differences))})."
    )
