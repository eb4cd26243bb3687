"""What a class must be to serve as a task."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from ftcheck.errors import shown
from ftcheck.tasks import BUILT_IN, Task

_ATTRIBUTES = ("name", "columns", "auto_class", "options")


def problem(found: Any, listed_as: str | None) -> str:
    """What keeps an object from being a task's class, in one sentence; empty where nothing does. `listed_as` is what
    ftcheck or an entry point calls it."""
    if not isinstance(found, type) or not issubclass(found, Task):
        what = "a class" if isinstance(found, type) else f"a {type(found).__name__}"
        return f"it is {what}, no subclass of ftcheck.Task"
    missing = [*sorted(found.__abstractmethods__), *(name for name in _ATTRIBUTES if not hasattr(found, name))]
    if missing:
        return f"it lacks what every task must have: {', '.join(missing)}"
    return _name_problem(found.name, listed_as) or _options_problem(found.options)


def _name_problem(name: Any, listed_as: str | None) -> str:
    if not isinstance(name, str) or not name.strip():
        return f"its name must be text, got {shown(repr(name))}"
    if listed_as is not None and name != listed_as:
        return f"its entry point is called {shown(listed_as, 60)}, but its name is {shown(name, 60)}: make them one"
    if listed_as is None and name in BUILT_IN:
        return f"its name {name} is that of a task of ftcheck: choose another"
    return ""


def _options_problem(options: Any) -> str:
    if not isinstance(options, type) or not issubclass(options, BaseModel):
        return f"its options must be a pydantic model (a class), got {shown(repr(options))}"
    needed = [name for name, field in options.model_fields.items() if field.is_required()]
    if needed:
        return f"its options need defaults: {', '.join(needed)} {'has' if len(needed) == 1 else 'have'} none"
    if not options.model_config.get("frozen") or options.model_config.get("extra") != "forbid":
        return 'its options need model_config = ConfigDict(frozen=True, extra="forbid")'
    return ""
