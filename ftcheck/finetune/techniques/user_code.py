"""Code of the user's that takes part in a training: named by import path, part of the key, its failures explained."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator, Mapping, Sequence
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
    that ran out, or a data loader's worker that died."""
    from ftcheck.finetune.memory import out_of_memory
    from ftcheck.finetune.workers import died

    try:
        yield
    except FtcheckError:
        raise
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if importpath.is_users(f.filename)]
        if not paths or not frames or out_of_memory(error) or died(error):
            raise
        # Outermost first, as in a traceback.
        way = [f"{shown(f.filename, 300)}:{f.lineno} in {f.name}: {shown(f.line or '', 200)}" for f in frames]
        raise TrainingError(
            f"{_among(paths, {frame.filename for frame in frames})} fails{importpath.where(error)}: "
            f"{type(error).__name__}: {shown(error, 400)}" + "".join(f"\n  {line}" for line in way)
        ) from error


def _among(paths: Sequence[str], files: Collection[str]) -> str:
    """The first of `paths` whose module is one of `files`; else what they are together."""
    from ftcheck.keys import modules

    found = (path for path in paths if str(modules.file(path.partition(":")[0])) in files)
    return next((shown(path, 200) for path in found), "code of the case's own")
