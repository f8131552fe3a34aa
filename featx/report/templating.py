"""What the templates of Markdown reports and pages share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def environment(
    package: str, filters: Mapping[str, Callable[..., Any]], *, autoescape: bool
) -> Environment:
    """Return an environment for the templates of a package; an undefined name is an error.

    Parameters
    ----------
    package : str
        Whose folder ``templates`` is read.
    filters : mapping of str to callable
        By name.
    autoescape : bool
        Whether what is filled in is escaped as HTML. Markdown has a filter of its own.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=autoescape,
    )
    made.filters |= filters
    return made
