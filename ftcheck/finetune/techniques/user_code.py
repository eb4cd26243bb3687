"""Code of the user's that takes part in a training: named by import path, part of the key, its failures explained."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ftcheck import importpath
from ftcheck.errors import FtcheckError, IdentityError, TechniqueError, TrainingError, shown
from ftcheck.spec.fields import import_path


def _one(value: Any) -> Any:
    found = import_path(value)
    if isinstance(found, str) and not importpath.is_one(found):
        raise PydanticCustomError("own", "expected an import path, package.module:name")
    return found


ImportPath = Annotated[str, BeforeValidator(_one), Field(pattern=f"^{importpath.PATTERN}$")]
"""`package.module:name`; in a Python suite also the function or class itself."""


def problem(path: str) -> str:
    """What is wrong with an import path, in one sentence; empty where nothing is. Nothing is imported but packages."""
    from ftcheck.keys import modules

    module = path.partition(":")[0]
    if modules.file(module) is not None:
        return ""
    return (
        f"there is no module {shown(module)} in sys.path: install its package, or name the folder that holds it in "
        "pytest's `pythonpath`"
    )


def load(path: str) -> Any:
    """What stands at an import path. Raises TechniqueError."""
    try:
        return importpath.load(path)
    except ValueError as error:
        raise TechniqueError(f"{shown(path, 200)}: {error}") from None


def identity(path: str) -> Mapping[str, Any]:
    """What a result depends on: the source of what is the user's, as `source_identity` reads it, or a library's
    version. Raises TechniqueError, IdentityError."""
    from ftcheck.keys import modules
    from ftcheck.keys.source import source_identity

    found = load(path)
    module = str(getattr(found, "__module__", path.partition(":")[0]))
    if not modules.is_own(module):
        return {"name": path, "library": modules.library(module)}
    try:
        return source_identity(found)
    except IdentityError as error:
        raise IdentityError(f"{shown(path, 200)}: {error}") from None


@contextmanager
def explained(paths: Sequence[str]) -> Iterator[None]:
    """An exception that comes out of the user's code, as one error that says where; no other is touched, nor is memory
    that ran out."""
    from ftcheck.finetune.predict import out_of_memory

    try:
        yield
    except FtcheckError:
        raise
    except Exception as error:
        way = _way(error)
        if not paths or not way or out_of_memory(error):
            raise
        what = shown(paths[0], 200) if len(paths) == 1 else "the case's own code"
        raise TrainingError(
            f"{what} fails{importpath.where(error)}: {type(error).__name__}: {shown(error, 400)}" + "".join(way)
        ) from error


def _way(error: BaseException) -> list[str]:
    """The user's frames on the way to where it failed, outermost first: `\\n  FILE:LINE in NAME: source`."""
    return [
        f"\n  {shown(frame.filename, 300)}:{frame.lineno} in {frame.name}: {shown(frame.line or '', 200)}"
        for frame in traceback.extract_tb(error.__traceback__)
        if importpath.is_users(frame.filename)
    ]
