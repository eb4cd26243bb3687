"""The results file: every CaseResult under a versioned schema."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ftcheck
from ftcheck import plainfiles
from ftcheck.report.files import write_whole
from ftcheck.results import SCHEMA_VERSION, CaseResult

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def write(path: str | Path, results: Sequence[CaseResult], *, complete: bool, missing: Sequence[str] = ()) -> None:
    """Write `results` to `path`, a result a line, whole or not at all. NaN and infinities become null, since JSON has
    none.

    `complete` is False where the session did not finish, and `missing` then names the cases (node ids) that were to be
    measured and have no result. Raises UsageError where `path` can't be written.
    """
    ordered = sorted(results, key=lambda result: result.nodeid)
    written(path, map(line, ordered), complete=complete, missing=missing)


def line(result: CaseResult) -> str:
    """A result as it stands in the file."""
    return json.dumps(finite(result.to_json()), allow_nan=False)


def written(path: str | Path, lines: Iterable[str], *, complete: bool, missing: Sequence[str]) -> str:
    """The same of results that are each a `line` already, by node id. Returns the moment that the file names."""
    created = now()
    head = {
        "schema": SCHEMA_VERSION,
        "ftcheck": ftcheck.__version__,
        "created": created,
        "complete": complete,
        "missing": list(missing),
    }
    write_whole(Path(path), _pieces(head, lines), "--ft-json")
    return created


def now() -> str:
    """As a results file has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _pieces(head: dict[str, Any], lines: Iterable[str]) -> Iterator[str]:
    yield json.dumps(head, indent=1).removesuffix("\n}")
    yield ',\n "results": ['
    for place, text in enumerate(lines):
        yield f"{',' if place else ''}\n  {text}"
    yield "\n ]\n}\n"


def as_read(result: CaseResult) -> CaseResult:
    """The result as it comes out of a file: itself, unless it has numbers that JSON doesn't have."""
    plain = result.to_json()
    known = finite(plain)
    return result if known == plain else _result(known)


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a results file. Where a number is NaN or infinite, the file has null."""
    case = _adapter().json_schema(ref_template="#/$defs/{model}")
    definitions = case.pop("$defs")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"ftcheck results, schema {SCHEMA_VERSION}",
        "type": "object",
        "required": ["schema", "ftcheck", "created", "complete", "results"],
        "properties": {
            "schema": {"const": SCHEMA_VERSION},
            "ftcheck": {"type": "string", "description": "The version that wrote the file."},
            "created": {"type": "string", "format": "date-time"},
            "complete": {"type": "boolean", "description": "False where the session did not finish."},
            "missing": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Node ids of the cases that were to be measured and have no result.",
            },
            "results": {"type": "array", "items": {"$ref": "#/$defs/CaseResult"}},
        },
        "$defs": {name: _nullable_numbers(found) for name, found in {**definitions, "CaseResult": case}.items()},
    }


def _nullable_numbers(found: Any) -> Any:
    if isinstance(found, dict):
        if found.get("type") == "number":
            return {**found, "type": ["number", "null"]}
        return {key: _nullable_numbers(value) for key, value in found.items()}
    return [_nullable_numbers(value) for value in found] if isinstance(found, list) else found


def finite(value: Any) -> Any:
    """Builtins as JSON has them: None for NaN and infinities, lists for tuples."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


READABLE = (1, SCHEMA_VERSION)
"""Schemas that `load` reads. What the first did not have yet is empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A results file."""

    results: list[CaseResult]
    complete: bool
    """False where the session did not finish."""
    missing: tuple[str, ...]
    """Node ids of the cases that were to be measured and have no result; none where the session was killed before it
    knew them, and of older files."""
    created: str
    version: str
    """Of the ftcheck that wrote it."""


def read(path: Path) -> list[CaseResult]:
    """The results in a file that `write` wrote. Raises UsageError for one that is none."""
    return load(path).results


def load(path: Path) -> Document:
    """A file that `write` wrote, of this schema or an older one. Raises UsageError for one that is none."""
    from ftcheck.errors import UsageError, shown

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{shown(path)} can't be read: {error.strerror or error}") from None
    return parse(content, path)


def parse(content: bytes, path: Path) -> Document:
    """What stands in the results file at `path`. Raises UsageError for one that is none."""
    from ftcheck.errors import UsageError, shown

    try:
        document = plainfiles.json_of(content, finite=True)
        version = document["schema"]
        if version not in READABLE:
            raise UsageError(
                f"{shown(path)} has schema {shown(version)}, this version of ftcheck reads "
                f"{READABLE[0]} to {READABLE[-1]}: write it anew (--ft-json)"
            )
        return Document(
            results=[_result(result) for result in document["results"]],
            complete=bool(document["complete"]),
            missing=tuple(str(nodeid) for nodeid in document.get("missing", ())),
            created=str(document["created"]),
            version=str(document["ftcheck"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{shown(path)} is no results file (--ft-json writes them): {type(error).__name__}: {shown(error)}"
        ) from None


def _result(value: Any) -> CaseResult:
    """Raises ValueError where `value` is none: each field must have its type. A number that is null was NaN or infinite
    (JSON has neither) and becomes NaN."""
    from pydantic import ValidationError

    try:
        result = _adapter().validate_python(value)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            *path, last = found["loc"] or ("",)
            if found["type"] != "float_type" or found["input"] is not None:
                raise ValueError(f"{'.'.join(map(str, found['loc']))}: {found['msg']}") from None
            part = value
            for key in path:
                part = part[key]
            part[last] = math.nan
        result = _adapter().validate_python(value)
    _check(result)
    return result


def _check(result: CaseResult) -> None:
    """Raise ValueError where what reports put side by side doesn't fit together."""
    names = {metric.name for metric in result.metrics}
    for metric in result.metrics:
        if len(metric.per_seed) != len(result.seeds):
            raise ValueError(f"{metric.name} has {len(metric.per_seed)} values for {len(result.seeds)} seeds")
    for gate in result.gates:
        if gate.comparison is not None and gate.metric not in names:
            raise ValueError(f"a gate compares {gate.metric}, which isn't among the metrics")
    found = result.breakdown
    if found is not None and found.confusion is not None:
        confusion, wide = found.confusion, len(found.confusion.classes) + 1
        for table in (confusion.now, confusion.then or confusion.now):
            if len(table) != wide - 1 or any(len(row) != wide for row in table):
                raise ValueError("the confusion matrix isn't one of its classes")
    if found is not None and found.power is not None:
        power, rows, (examples, seeds) = found.power, found.power.detectable, found.power.now
        if (
            examples not in power.examples
            or seeds not in power.seeds
            or len(rows) != len(power.seeds)
            or any(len(row) != len(power.examples) for row in rows)
        ):
            raise ValueError("the power curve isn't one of its seeds and examples")


@cache
def _adapter() -> TypeAdapter[CaseResult]:
    from pydantic import TypeAdapter

    return TypeAdapter(CaseResult)
