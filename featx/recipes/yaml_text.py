"""YAML that others wrote: its depth, size and numbers are bounded before values are made of it."""

from __future__ import annotations

import re
from typing import Any

MAX_DEPTH = 20
"""Lists and mappings inside each other; a recipe has 4."""

MAX_NODES = 10_000
"""Values, lists and mappings; the largest recipe that comes with featx has under 200."""

# Python reads long numbers in quadratic time; base 60 ("1:30:00") is a part of YAML 1.1.
_MAX_DIGITS = 100
_NUMBER = re.compile(r"[-+]?[0-9][0-9a-fA-Fx_:.]*")


def read_yaml(text: str) -> Any:
    """Return the value of a YAML text, in plain Python types.

    Raises
    ------
    ValueError
        When it is not valid YAML, has tags other than YAML's own, an anchor's alias, more than
        `MAX_DEPTH` levels or `MAX_NODES` values, or a number that is too long.
    """
    import yaml

    # libyaml's parser, where PyYAML was built with it: ten times as fast.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check(yaml.parse(text, loader))
        return yaml.load(text, loader)
    except (
        yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
        RecursionError,
    ) as error:  # fmt: skip
        # PyYAML's constructors raise all of these for a text that does not fit its tag.
        raise ValueError(str(error)) from error


def _check(events: Any) -> None:
    """Refuse what would take long or much to build, seeing it piece by piece."""
    import yaml

    depth = 0
    for number, event in enumerate(events):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            raise ValueError(f"it has an alias, *{event.anchor}: write its value out")
        elif isinstance(event, yaml.ScalarEvent):
            value = event.value
            if len(value) > _MAX_DIGITS and _NUMBER.fullmatch(value):
                raise ValueError(f"it has a number of {len(value)} digits")
        if depth > MAX_DEPTH:
            raise ValueError(f"it has more than {MAX_DEPTH} lists or mappings inside each other")
        if number > 2 * MAX_NODES:
            raise ValueError(f"it has more than {MAX_NODES} values")
