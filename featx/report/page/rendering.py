"""Pages through Jinja2: one file each, with style, script and data inside."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from featx.report.page.data import script_json
from featx.report.page.markup import kept, lines, name, sentence
from featx.report.templating import environment
from featx.report.text import SPLIT_NAMES

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, title: str, data: list[Any], **shown: Any) -> str:
    """Return a page as HTML that needs no other file.

    Parameters
    ----------
    template : str
        One that extends ``base.html.j2``.
    title : str
        Of the page.
    data : list
        What the page's script works on, one entry per run.
    **shown
        What the template shows.
    """
    script = _static("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(
            title=title,
            css=Markup(_static("page.css")),
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            data=script_json(data),
            **shown,
        )
    )


@functools.cache
def _static(file: str) -> str:
    return (files("featx.report.page") / "static" / file).read_text(encoding="utf-8")


@functools.cache
def _environment() -> Environment:
    filters = {
        "name": name,
        "kept": kept,
        "sentence": sentence,
        "lines": lines,
        "split_name": lambda split: SPLIT_NAMES.get(split, kept(split)),
    }
    return environment("featx.report.page", filters, autoescape=True)
