"""The HTML report: one self-contained file. `view` makes what the template shows; nothing is computed in the template.

The file loads nothing, and its content security policy lets nothing run but its own script. Whatever isn't markup of
ours is escaped, and characters that a reader can't see are shown as escapes.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

    from ftcheck.report.jsonfile import Document

LONGEST = 1000
"""Characters of a text that nothing else limits."""


def page(document: Document) -> str:
    """The report of a session, or of a results file: the same values make the same text."""
    return "".join(pieces(document))


def pieces(document: Document) -> Iterator[str]:
    """The same, a case at a time: a page of thousands isn't held in memory."""
    from markupsafe import Markup

    from ftcheck.report import charts
    from ftcheck.report.html.view import report

    style, script = charts.STYLE + _asset("style.css"), _asset("script.js")
    made = _template().generate(
        report=report(document),
        style=Markup(style),  # noqa: S704  ours, and so is the script
        script=Markup(script),  # noqa: S704
        policy=f"default-src 'none'; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'",
    )
    return map(str, made)  # Markup would escape what it is added to


def write(path: str | os.PathLike[str], document: Document) -> None:
    """Write the page to `path`, whole or not at all. Raises UsageError where it can't be written."""
    from ftcheck.report.files import write_whole

    write_whole(Path(path), pieces(document), "--ft-html")


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_visible
    )
    return environment.from_string(_asset("page.html.j2"))


def _visible(value: Any) -> Any:
    """What the template prints: text, never much of it, with an escape for every character that a reader can't see."""
    from ftcheck.report.html.texts import cut, visible

    return visible(cut(value, LONGEST)) if type(value) is str else value


@cache
def _asset(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """As a content security policy names an inline style or script."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
