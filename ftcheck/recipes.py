"""What a baseline keeps of the case itself, as plain JSON: the values that `ftcheck bisect` puts back.

Paths are relative to the suite, and of a Hub name the commit that was used is kept.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

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


def _relative(path: str, folder: Path) -> str:
    """A local path as seen from the suite; a Hub id stays as it is."""
    return Path(os.path.relpath(path, folder)).as_posix() if os.path.isabs(path) else path
