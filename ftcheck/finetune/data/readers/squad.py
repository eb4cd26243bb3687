"""SQuAD JSON, v1.1 and v2.0: `data[].paragraphs[].qas[]` as one row per question."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from ftcheck.errors import DataError, shown
from ftcheck.finetune.data import files


class Options(BaseModel):
    """What `data.options` may hold: nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def read(file: files.File, options: Options, wanted: Collection[str] | None) -> files.ReadFile:
    """Rows of `id`, `title`, `context`, `question`, `answers` {text, answer_start} and `is_impossible`.

    Raises DataError naming the question's id: an answer that isn't in its context where it is said to start, a question
    marked impossible that has answers, one that has neither, an id that occurs twice.
    """
    import pyarrow as pa

    schema = {
        "id": pa.string(),
        "title": pa.string(),
        "context": pa.string(),
        "question": pa.string(),
        "answers": pa.struct({"text": pa.list_(pa.string()), "answer_start": pa.list_(pa.int64())}),
        "is_impossible": pa.bool_(),
    }
    rows = list(_rows(file))
    columns = {name: [row[name] for row in rows] for name in schema}
    seen: set[str] = set()
    for row in rows:
        if row["id"] in seen:
            raise DataError(f"{file.shown} question {shown(row['id'])}: the id occurs twice")
        seen.add(row["id"])
    return files.ReadFile(
        table=files.table(columns, wanted, lambda row: f"{file.shown} question {shown(rows[row]['id'])}", schema),
        names=tuple(schema),
        shown=file.shown,
    )


def _rows(file: files.File) -> Iterator[dict[str, Any]]:
    try:
        root = json.loads(files.text(file))
    except json.JSONDecodeError as error:
        raise DataError(f"{file.shown}:{error.lineno}: no JSON: {error}") from None
    except RecursionError:
        raise DataError(f"{file.shown}: nested too deeply to be SQuAD") from None
    for a, article in enumerate(_get(root, "data", list, file, "the file")):
        for p, paragraph in enumerate(_get(article, "paragraphs", list, file, f"data[{a}]")):
            place = f"data[{a}].paragraphs[{p}]"
            context = _get(paragraph, "context", str, file, place)
            for q, question in enumerate(_get(paragraph, "qas", list, file, place)):
                yield _row(question, context, str(article.get("title", "")), file, f"{place}.qas[{q}]")


def _row(question: Any, context: str, title: str, file: files.File, place: str) -> dict[str, Any]:
    row_id = _get(question, "id", str, file, place)
    answers = _get(question, "answers", list, file, place)
    texts = [_get(answer, "text", str, file, f"{place}.answers") for answer in answers]
    starts = [_get(answer, "answer_start", int, file, f"{place}.answers") for answer in answers]
    impossible = bool(question.get("is_impossible", not answers))
    name = f"{file.shown} question {shown(row_id)}"
    if impossible == bool(answers):
        what = "is marked is_impossible but has answers" if answers else "has no answers but isn't marked is_impossible"
        raise DataError(f"{name} {what}")
    for text, start in zip(texts, starts, strict=True):
        found = context[start : start + len(text)] if start >= 0 else ""
        if found != text or not text:
            raise DataError(
                f"{name}: the answer {shown(repr(text), 60)} isn't in its context at {start}; "
                f"there stands {shown(repr(found), 60)}"
            )
    return {
        "id": row_id,
        "title": title,
        "context": context,
        "question": _get(question, "question", str, file, place),
        "answers": {"text": texts, "answer_start": starts},
        "is_impossible": impossible,
    }


def _get(value: Any, key: str, kind: type, file: files.File, place: str) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        words = {list: "a list", str: "text", int: "a number"}[kind]
        raise DataError(f"{file.shown} {place}: SQuAD has {words} under {key!r} here, not {shown(repr(found), 40)}")
    return found
