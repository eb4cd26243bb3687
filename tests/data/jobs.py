"""A Job around some Data, and files to read: what the tests of this room share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftcheck import tasks
from ftcheck.finetune import Job
from ftcheck.finetune.data import Loaded, load
from ftcheck.spec import Case, Checkpoint, Data

ROWS = "text,label\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(20))
FEW = "text,label\nt1,a\nt2,b\n"


def job(
    data: Data,
    task: str = "text-classification",
    *,
    trains: bool = True,
    options: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Job:
    case = Case(
        id="case",
        suite=Path("/suite/test_case.py"),
        line=1,
        checkpoint=Checkpoint(path="/checkpoint", local=True),
        task=task,
        task_options=tasks.get(task).options(**(options or {})).model_dump(),
        data=data,
        training={} if trains else None,
    )
    return Job(**{"case": case, "seed": 1, "device": "cpu", "precision": "fp32", **fields})


def read(reader: str, files: Mapping[str, Path], task: str = "text-classification", **fields: Any) -> Loaded:
    """Load files by split through a reader."""
    paths = {split: (str(path),) for split, path in files.items()}
    return load(job(Data(kind="reader", path=reader, files=paths, **fields), task))


def write(folder: Path, **contents: str | bytes) -> dict[str, Path]:
    """One file per split, named after it."""
    found = {}
    for split, content in contents.items():
        path = folder / f"{split}.data"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        found[split] = path
    return found
