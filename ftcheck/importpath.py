"""Import paths, `package.module:attribute`: how a suite names a task or a metric of its own."""

from __future__ import annotations

import importlib
import os
import re
import traceback
from typing import Any, Final

from ftcheck.errors import one_of, shown

PATTERN: Final = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
"""A regular expression for one."""

_NOT_THEIRS: Final = ("<", os.path.dirname(__file__) + os.sep, os.path.dirname(importlib.__file__) + os.sep)
"""How the places of frames begin that say nothing to the user: made-up ones, ftcheck's, the import machinery's."""

_WHOLE: Final = re.compile(PATTERN, re.ASCII)


def is_one(text: str) -> bool:
    """Whether `text` has the form of an import path."""
    return _WHOLE.fullmatch(text) is not None


def load(path: str) -> Any:
    """What stands at an import path. Importing a module runs it.

    Python looks where it always does, in `sys.path`. Raises ValueError, in one sentence: the module can't be imported
    (why, and where in it), or has no such attribute.
    """
    name, _, attributes = path.partition(":")
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not error.name or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(_broken(name, error)) from error
        raise ValueError(
            f"there is no module {shown(name)} (Python finds no {shown(error.name)} in sys.path): install its package, "
            "or name the folder that holds it in pytest's `pythonpath`"
        ) from error
    except (Exception, SystemExit) as error:
        raise ValueError(_broken(name, error)) from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            names = [known for known in vars(found) if not known.startswith("_")]
            hint = f"; {one_of(attribute, names)}" if names else ""
            raise ValueError(f"{shown(name)} has no {shown(attribute)}{hint}")
        found = getattr(found, attribute)
    return found


def is_users(filename: str) -> bool:
    """Whether a frame of this file is the user's: none of ftcheck's, of an installed library's or made up."""
    return not filename.startswith(_NOT_THEIRS) and "site-packages" not in filename


def where(error: BaseException) -> str:
    """` at FILE:LINE`, the innermost place of the user's code that led to `error`, else of a library's; empty where it
    was raised by a call of ftcheck itself."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_NOT_THEIRS)
    ]
    if not frames:
        return ""
    own = [frame for frame in frames if is_users(frame.filename)]
    found = (own or frames)[-1]
    return f" at {shown(found.filename, 300)}:{found.lineno}"


def _broken(name: str, error: BaseException) -> str:
    place = f" at {shown(error.filename, 300)}:{error.lineno}" if isinstance(error, SyntaxError) else where(error)
    return f"importing {shown(name)} fails{place}: {type(error).__name__}: {shown(error, 300)}"
