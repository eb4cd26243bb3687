"""pytest marks, as a suite file writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftcheck.errors import shown
from ftcheck.spec.case import Mark
from ftcheck.spec.mistakes import said

_NOT_MARKS = {
    "parametrize": "use `matrix`",
    "usefixtures": "a suite's cases take no fixtures; write the case as a test function",
}


def read_mark(given: str | Mapping[str, Any]) -> Mark:
    """`slow`, `{skip: reason}`, `{xfail: {reason: ..., strict: true}}`, `{timeout: 600}`. Raises ValueError."""
    if isinstance(given, str):
        name, value = given, None
    elif len(given) == 1:
        ((name, value),) = given.items()
    else:
        raise ValueError(f"expected a mark's name, or one name and its arguments, got {said(given)}")
    if not name.isidentifier():
        raise ValueError(f"{shown(name, 60)!r} is no name of a mark")
    if name in _NOT_MARKS:
        raise ValueError(f"the mark {name} is not for suite files: {_NOT_MARKS[name]}")
    if name in ("skip", "xfail") and not isinstance(value, dict):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"a reason is needed: {{{name}: why}}")
        return Mark(name=name, kwargs={"reason": value})
    if name in ("skip", "xfail", "skipif") and not (isinstance(value, dict) and value.get("reason")):
        raise ValueError(f"a reason is needed: {{{name}: {{reason: why}}}}")
    match value:
        case None:
            return Mark(name=name)
        case dict():
            return Mark(name=name, kwargs=value)
        case list():
            return Mark(name=name, args=tuple(value))
    return Mark(name=name, args=(value,))
