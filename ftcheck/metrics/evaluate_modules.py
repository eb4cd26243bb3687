"""Metrics of Hugging Face `evaluate`: `evaluate:./metrics/mine`, `evaluate:NAME@COMMIT`, with `[FIELD]` of its result.

A module is Python code that `evaluate` runs. So one on the Hub must be pinned to a commit, and is taken from the local
Hub cache only, where somebody who has looked at it has put it. (`evaluate.load` by name runs the newest copy that it
finds where it can't reach the revision.)
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ftcheck.errors import IdentityError, MetricError, MissingExtraError, one_of, shown
from ftcheck.metrics import Context, Definition, Input
from ftcheck.metrics.own import BOUNDS, Computed, fingerprint

if TYPE_CHECKING:
    from ftcheck.metrics import Metric
    from ftcheck.metrics.own import Compute

PREFIX: Final = "evaluate:"

_LOCAL: Final = (".", "/", "~")
_ON_HUB: Final = re.compile(r"(?P<repository>[\w.-]+(?:/[\w.-]+)?)@(?P<commit>[0-9a-f]{40})", re.ASCII)
_NAME: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)?(?:@.*)?", re.ASCII)


def define(name: str, default: Input, folder: Path | None) -> Definition:
    """The metric `evaluate:...`, computed from `default`; a relative path starts at `folder`.

    Raises MissingExtraError without `evaluate`, and MetricError for a module that isn't pinned, or isn't there.
    """
    if util.find_spec("evaluate") is None:
        raise MissingExtraError(shown(name), "evaluate", "evaluate")
    script = _script(name, (folder or Path()).absolute())
    return Definition(
        name=name,
        input=default,
        takes_argument=True,
        summary=f"the evaluate module {script.stem}",
        make=partial(_make, script),
        bounds=BOUNDS["unbounded"],
        fingerprint=_fingerprint(name, script),
    )


def _script(name: str, folder: Path) -> Path:
    """The module's Python file."""
    place = name.removeprefix(PREFIX)
    if not place.startswith(_LOCAL):
        return _cached_script(name, place)
    path = Path(os.path.abspath(folder / os.path.expanduser(place)))
    script = path / f"{path.name}.py" if path.is_dir() else path
    if script.suffix != ".py" or not script.is_file():
        raise MetricError(
            f"{shown(name)}: {shown(script, 300)} does not exist; give a Python file, or a folder with one of its name"
        )
    return script


def _cached_script(name: str, place: str) -> Path:
    """The file of a module on the Hub, in the local Hub cache."""
    from ftcheck.keys.hub import cache_dir

    match = _ON_HUB.fullmatch(place)
    if match is None:
        pinned = f"pin it, {PREFIX}{place.partition('@')[0]}@COMMIT with the 40 digits of a commit"
        what = "runs code from the Hub" if _NAME.fullmatch(place) else "is neither a name on the Hub nor a path"
        raise MetricError(f"{shown(name)} {what}: {pinned}, or give the path of a copy (./{shown(place, 40)})")
    repository, commit = match["repository"], match["commit"]
    if "/" not in repository:
        repository = f"evaluate-metric/{repository}"
    folder = cache_dir() / "--".join(["spaces", *repository.split("/")]) / "snapshots" / commit
    script = folder / f"{repository.rpartition('/')[2]}.py"
    if not script.is_file():
        raise MetricError(
            f"{shown(name)} is not in the local Hub cache {shown(cache_dir(), 300)}: look at its code, then fetch it "
            f"with `hf download {repository} --repo-type space --revision {commit}`"
        )
    return script


def _fingerprint(name: str, script: Path) -> str:
    """Of the code: the module's folder where it has one of its own, else its file; and the versions of libraries."""
    from ftcheck.keys.files import file_digest
    from ftcheck.keys.modules import libraries

    own = script.parent.name == script.stem or not name.removeprefix(PREFIX).startswith(_LOCAL)
    files = sorted(script.parent.rglob("*.py")) if own else [script]
    try:
        code = {path.relative_to(script.parent).as_posix(): file_digest(path) for path in files}
        used = {top: version for path in files for top, version in libraries(path).items()}
    except (OSError, IdentityError) as error:
        raise MetricError(f"{shown(name)}: {shown(error, 300)}") from None
    return fingerprint({"code": code, "libraries": used, "evaluate": metadata.version("evaluate")})


def _make(script: Path, known: Definition, argument: str | None, context: Context) -> Metric:
    name = known.name if argument is None else f"{known.name}[{argument}]"
    return Computed(
        name=name,
        signature="|".join([known.signature, known.input, *([argument] if argument else [])]),
        ready=partial(_ready, name, script, argument),
        greater_is_better=known.greater_is_better,
        scale="unbounded",
    )


@contextmanager
def _ready(name: str, script: Path, field: str | None) -> Iterator[Compute]:
    """The module's `compute`, reduced to one field. It keeps its data in memory, and what files it needs in a folder
    that is gone afterwards."""
    import evaluate

    with tempfile.TemporaryDirectory(prefix="ftcheck-") as folder:
        try:
            module = evaluate.load(str(script), cache_dir=folder, keep_in_memory=True)
        except Exception as error:
            raise MetricError(f"{name} can't be loaded: {type(error).__name__}: {shown(error, 400)}") from error
        single = _takes_single_references(module)

        def compute(predictions: Sequence[Any], references: Sequence[Any]) -> Any:
            given = _single(name, references) if single else references
            try:
                result = module.compute(predictions=predictions, references=given)
            except Exception as error:
                first = str(error).partition("\n")[0]
                raise MetricError(f"{name}: compute() raises {type(error).__name__}: {shown(first, 400)}") from error
            return _picked(name, result, field, len(references))

        yield compute


def _takes_single_references(module: Any) -> bool:
    """Whether each reference is one value, in every form that the module takes."""
    from datasets import Value

    forms = module.features if isinstance(module.features, list) else [module.features]
    return all(isinstance(form.get("references"), Value) for form in forms)


def _single(name: str, references: Sequence[Any]) -> Sequence[Any]:
    """References that are lists of one, as that one."""
    if not all(isinstance(accepted, list | tuple) for accepted in references):
        return references
    for example, accepted in enumerate(references):
        if len(accepted) != 1:
            raise MetricError(f"{name} takes one reference for each example, and example {example} has {len(accepted)}")
    return [accepted[0] for accepted in references]


def _picked(name: str, result: Any, field: str | None, examples: int) -> Any:
    """The field of a result; without one its only number, or its only list of a number for each example."""
    if not isinstance(result, Mapping):
        raise MetricError(f"{name}: compute() must return a dict, got {shown(repr(result))}")
    if field is not None:
        if field not in result:
            raise MetricError(f'{name}: compute() returns no "{shown(field)}"; {one_of(field, map(str, result))}')
        return result[field]
    numbers = [key for key, value in result.items() if _length(value) is None]
    fields = numbers or [key for key, value in result.items() if _length(value) == examples]
    if len(fields) != 1:
        there = shown(", ".join(map(str, result)), 400)
        raise MetricError(f"{name}: compute() returns {there}: say which, {name}[{shown(next(iter(result), 'FIELD'))}]")
    return result[fields[0]]


def _length(value: Any) -> int | None:
    """How many numbers a value is: None for one by itself, -1 for what isn't any."""
    import numpy as np

    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return -1
    return None if array.ndim == 0 else len(array) if array.ndim == 1 else -1
