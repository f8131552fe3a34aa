"""What was found, a question and a sentence each: the opening of docs/results.md and README.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from published.claims import Gain, Tested
from published.depth import Depth
from published.others import d2_short, head_words, ten_words
from published.words import listed, points


def in_short(
    depth: Mapping[str, Depth],
    earlier: Sequence[Tested],
    networks: Sequence[Tested],
    known: Mapping[str, Any],
) -> list[tuple[str, str]]:
    """Return what was found, the most important first: question and answer.

    Parameters
    ----------
    depth : mapping of str to Depth
        D1's variants by network.
    earlier, networks : sequence of Tested
        In each variant, whether an earlier cut beats the last one, and ResNet-50 VGG16.
    known : mapping of str to object
        What else was read: ``networks``, ``costs``, ``ten``, ``d2_whole``, ``d2_prepared``.
    """
    told = [
        ("Which layer?", layer_words(earlier)),
        ("Which network?", network_words(networks, depth)),
        ("Is a linear head enough?", head_words(known["networks"]) if known["networks"] else ""),
        ("What does a fixed C cost?", cost_words(known["costs"])),
        ("Is it right?", ten_words(known["ten"]) if known["ten"] else ""),
        ("And D2's 48 %?", d2_short(known["d2_whole"], known["d2_prepared"])),
    ]
    return [(question, answer) for question, answer in told if answer]


def layer_words(tested: Sequence[Tested]) -> str:
    """Return in how many variants an earlier cut beats the last, at the least and largest size."""
    shares = _by_size(tested)
    if not shares:
        return ""
    text = f"an earlier cut beats the last one in {_at_the_ends(shares)}"
    (held, n), (held_last, n_last) = shares[min(shares)], shares[max(shares)]
    if held > n / 2 and held_last < n_last / 2:
        return f"It depends on the size of the input: {text}."
    return f"{text[:1].upper()}{text[1:]}."


def network_words(tested: Sequence[Tested], depth: Mapping[str, Depth]) -> str:
    """Return in how many variants ResNet-50 beats VGG16, and what the best variant reaches."""
    shares = _by_size(tested)
    parts = [f"ResNet-50 beats VGG16 in {_at_the_ends(shares)}"] if shares else []
    if depth:
        parts.append(_best_words(depth))
    return f"{'; '.join(parts)}." if parts else ""


def _best_words(depth: Mapping[str, Depth]) -> str:
    """Return which network, cut and size validation chooses of all variants, and its test score."""
    scored = [
        (scores[cut]["val"], name, cut, variant, scores[cut]["test"])
        for name, each in depth.items()
        for variant, scores in each.scores.items()
        for cut in scores
    ]
    _, name, cut, variant, score = max(scored, key=lambda row: row[0])
    return (
        f"the best of all, chosen on validation, is `{cut}` of {name} at {variant.size} px with "
        f"{score:.3f} on test"
    )


def _by_size(tested: Sequence[Tested]) -> dict[int, tuple[int, int]]:
    """Return by input size in how many variants a claim holds, and of how many."""
    of = Counter(test.variant.size for test in tested)
    held = Counter(test.variant.size for test in tested if test.verdict == "holds")
    return {size: (held[size], of[size]) for size in sorted(of)}


def _at_the_ends(shares: Mapping[int, tuple[int, int]]) -> str:
    """Return the shares at the least and the largest size in words."""
    ends = dict.fromkeys((min(shares), max(shares)))
    (first, *rest) = [(shares[size], size) for size in ends]
    told = [f"{first[0][0]} of {first[0][1]} variants at {first[1]} px"]
    told += [f"{held} of {n} at {size} px" for (held, n), size in rest]
    return listed(told)


def cost_words(costs: Sequence[Gain]) -> str:
    """Return what a fixed C cost, in a sentence."""
    differences = [difference for cost in costs for difference in cost.differences]
    if not differences:
        return ""
    return (
        f"C chosen on validation instead of D1's C = 12 gives the SVM {points(median(differences))}"
        f" points in the middle and {points(max(differences))} at most."
    )
