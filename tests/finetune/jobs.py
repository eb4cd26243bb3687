"""Jobs over rows in memory: what the tests of this room share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from ftcheck import tasks
from ftcheck.finetune import Job
from ftcheck.finetune.data import Loaded, RoleRows
from ftcheck.spec import Case, Checkpoint, Data

Row = Mapping[str, Any]


def job(
    task: str,
    path: Path,
    *,
    options: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    trains: bool = True,
    **fields: Any,
) -> Job:
    """A job for a case; `fields` are those of Job or of Case."""
    chosen = tasks.get(task).options(**(options or {})).model_dump()
    of_job = {name: fields.pop(name) for name in list(fields) if name in Job.__dataclass_fields__}
    case = Case(
        **{
            "id": "case",
            "suite": Path("/suite/test_case.py"),
            "line": 1,
            "checkpoint": Checkpoint(path=str(path), local=True),
            "task": task,
            "task_options": chosen,
            "data": Data(kind="callable", path="rows"),
            "training": {"report_to": "none", **(training or {})} if trains else None,
            "metrics": tasks.get(task).default_metrics(chosen),
            **fields,
        }
    )
    return Job(**{"case": case, "seed": 1, "device": "cpu", "precision": "fp32", **of_job})


def loaded(**roles: Sequence[Row] | datasets.Dataset) -> Loaded:
    """Rows by role, as `data.load` would give them."""
    found = {}
    for role, rows in roles.items():
        dataset = (
            rows if isinstance(rows, datasets.Dataset) else datasets.Dataset.from_list([dict(row) for row in rows])
        )
        hashes = [str(row) for row in dataset]
        found[role] = RoleRows(
            dataset=dataset,
            index=range(len(dataset)),
            place=[f"{role}.csv:{row}" for row in range(len(dataset))].__getitem__,
            hashes=hashes,
            digest=str(hash(tuple(hashes))),
        )
    return Loaded(roles=found, notes=())


NOUNS = ("cat", "dog", "bird", "fish", "sun", "moon")
VERBS = {"runs": "moves", "sees": "moves", "sleeps": "rests", "eats": "rests"}

TEXTS: list[Row] = [
    {"text": f"{'the old ' * (place % 3)}{noun} {verb}", "label": label}
    for place, noun in enumerate(NOUNS)
    for verb, label in VERBS.items()
]
"""24 texts of different lengths, two classes."""

SENTENCES: list[Row] = [
    {
        "tokens": [name, verb, "in", city, "."][: 5 - place % 2],
        "tags": ["B-PER", "O", "O", "B-LOC", "O"][: 5 - place % 2],
    }
    for place, name in enumerate(("Ann", "Bob", "Eve"))
    for verb in ("runs", "sleeps", "eats", "sees")
    for city in ("Paris", "Rome")
]
"""24 sentences of different lengths, three tags."""

CITIES = ("Paris", "Rome", "Berlin", "Oslo")


def question(name: str, city: str, *, answerable: bool = True, tail: str = "") -> Row:
    """One question: where somebody is."""
    context = f"{name} sleeps in {city} . The old cat runs .{tail}"
    given = {"text": [city], "answer_start": [context.index(city)]} if answerable else {"text": [], "answer_start": []}
    return {
        "id": f"{name}-{city}-{answerable}",
        "question": f"where does {name} sleep" if answerable else "who eats the fish",
        "context": context,
        "answers": given,
    }


QUESTIONS: list[Row] = [question(name, city) for name in ("Ann", "Bob", "Eve") for city in CITIES]
UNANSWERABLE: list[Row] = [question(name, city, answerable=False) for name in ("Ann", "Bob") for city in CITIES[:2]]

ROWS: Mapping[str, list[Row]] = {
    "text-classification": TEXTS,
    "token-classification": SENTENCES,
    "question-answering": QUESTIONS,
}
"""Rows of each task to train on."""

DOCUMENTS: list[Row] = [
    {"document": f"{'the old ' * (place % 3)}{noun} {verb}", "summary": f"{noun} {'. ' * (place % 2)}{kind}"}
    for place, noun in enumerate(NOUNS)
    for verb, kind in (("runs", "new"), ("sleeps", "old"))
]
"""12 sources of different lengths, and what is to be written of them."""
