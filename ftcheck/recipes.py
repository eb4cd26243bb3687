"""What a baseline keeps of the case itself, as plain JSON: the values that `ftcheck bisect` puts back.

Paths are relative to the suite, and of a Hub name the commit that was used is kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ftcheck.errors import BaselineError, shown
from ftcheck.spec.case import Precision

if TYPE_CHECKING:
    from ftcheck.finetune import Job
    from ftcheck.results import Json


def recorded(job: Job) -> dict[str, Json]:
    """The recipe of a run's case. Raises IdentityError for a value that JSON has none for: there is no key either."""
    from ftcheck import keys  # 12 ms, which a collection needn't pay

    case, folder = job.case, job.case.suite.parent
    checkpoint, data = case.checkpoint, case.data
    found = {
        "checkpoint": {
            "path": _relative(checkpoint.path, folder) if checkpoint.local else checkpoint.path,
            "local": checkpoint.local,
            "revision": job.checkpoint_revision,
            "tokenizer": None if checkpoint.tokenizer is None else _relative(checkpoint.tokenizer, folder),
        },
        "data": {
            "kind": data.kind,
            "path": _relative(data.path, folder) if data.kind == "local" else data.path,
            "name": data.name,
            "revision": job.data_revision,
            "files": {split: [_relative(path, folder) for path in paths] for split, paths in data.files.items()},
            "columns": dict(data.columns),
            "splits": dict(data.splits),
            "holdout": dict(data.holdout),
            "limit": dict(data.limit),
            "options": dict(data.options),
        },
        "early_stopping": asdict(case.early_stopping) if case.early_stopping else None,
        "precision": case.precision,
        "techniques": {name: dict(options) for name, options in case.techniques.items()},
        "task_options": dict(case.task_options),
        "training": None if case.training is None else dict(case.training),
    }
    plain: dict[str, Json] = keys.plain_json(found, "recipe")
    return plain


class _Part(BaseModel):
    """Strict, so that no value becomes one of another kind."""

    model_config = ConfigDict(strict=True)


class _Checkpoint(_Part):
    path: str
    local: bool
    revision: str | None
    tokenizer: str | None


class _Data(_Part):
    kind: Literal["hub", "local", "reader", "callable"]
    path: str
    name: str | None
    revision: str | None
    files: dict[str, list[str]]
    columns: dict[str, str | None]
    splits: dict[str, str]
    holdout: dict[str, float]
    limit: dict[str, int]
    options: dict[str, Any]


class _Stopping(_Part):
    patience: int
    threshold: float


class _Recipe(_Part):
    checkpoint: _Checkpoint
    data: _Data
    early_stopping: _Stopping | None
    precision: Precision
    techniques: dict[str, dict[str, Any]] = {}
    task_options: dict[str, Any]
    training: dict[str, Any] | None


def checked(recipe: Mapping[str, Json]) -> dict[str, Any]:
    """A recipe as `recorded` makes it, out of a file that may have been edited by hand. Raises BaselineError."""
    try:
        return _Recipe.model_validate(dict(recipe)).model_dump()
    except ValidationError as error:
        first = error.errors()[0]
        where = shown(".".join(map(str, first["loc"])), 60)
        raise BaselineError(
            f"the baseline's recipe is none that ftcheck wrote ({where}: {shown(first['msg'])})"
        ) from None


def _relative(path: str, folder: Path) -> str:
    """A local path as seen from the suite; a Hub id stays as it is."""
    return Path(os.path.relpath(path, folder)).as_posix() if os.path.isabs(path) else path
