"""What pydantic finds wrong in a case, in our words: which key, what was expected there, and what came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ftcheck.errors import one_of, shown
from ftcheck.spec.declaration import KeyPath
from ftcheck.spec.fields import (
    CaseFields,
    CheckpointFields,
    DataFields,
    EarlyStoppingFields,
    GateFields,
    ResourcesFields,
    SeedRangeFields,
    SlicesFields,
    TaskFields,
)
from ftcheck.spec.trust import ELSEWHERE, RemoteCodeFields

_MODELS: Mapping[KeyPath, type[BaseModel]] = {
    (): CaseFields,
    ("checkpoint",): CheckpointFields,
    ("checkpoint", "trust_remote_code"): RemoteCodeFields,
    ("task",): TaskFields,
    ("data",): DataFields,
    ("early_stopping",): EarlyStoppingFields,
    ("resources",): ResourcesFields,
    ("seeds",): SeedRangeFields,
}
_GATE_MODELS: Mapping[int, type[BaseModel]] = {2: GateFields, 3: SlicesFields}
"""By the length of the path to it: gates.accuracy, gates.accuracy.slices."""
_BESIDE_GATES = CaseFields.model_fields.keys() - {"precision"}
"""Keys of a case that are no metric's name."""
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "callable_type": "a function",
}
_BOUNDS = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "too_short": "a list of {min_length} or more",
    "string_too_short": "a text that isn't empty",
}


def problems(
    error: ValidationError, raw: Mapping[str, Any], model: type[BaseModel] | None = None
) -> Iterator[tuple[KeyPath, str]]:
    """(path of the value in `raw`, what is wrong with it) for each mistake that pydantic found, once per path.

    `model` names the known keys of the top level where it isn't CaseFields.
    """
    seen: set[KeyPath] = set()
    for details in error.errors(include_url=False):
        path = _path_in(raw, details)
        if path not in seen:
            seen.add(path)
            yield path, _sentence(details, path, model)


def _path_in(raw: Any, details: ErrorDetails) -> KeyPath:
    """pydantic's location without the tags of unions and dictionary keys, which are no part of the value."""
    path: list[str | int] = []
    value = raw
    for part in details["loc"]:
        if part in value if isinstance(value, Mapping) else isinstance(value, list) and isinstance(part, int):
            value = value[part]
        elif details["type"] == "missing" and part == details["loc"][-1]:
            value = None
        else:
            continue
        path.append(part)
    return tuple(path)


def _sentence(details: ErrorDetails, path: KeyPath, model: type[BaseModel] | None) -> str:
    kind = details["type"]
    if kind == "extra_forbidden":
        return _unknown_key(path, model)
    if kind in ("missing", "complete"):
        return "is missing" if kind == "missing" else details["msg"]
    if kind == "literal_error":
        return _not_listed(details)
    if path[:1] == ("gates",) and len(path) == 2:
        if path[1] in _BESIDE_GATES:
            return _beside_gates(str(path[1]))
        return f"expected bounds, such as {{min: 0.9}}, got {said(details['input'])}"
    return f"{_expectation(details)}, got {said(details['input'])}"


def _expectation(details: ErrorDetails) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind in _BOUNDS:
        return f"expected {_BOUNDS[kind].format(**context)}"
    return f"expected {_EXPECTED[kind]}" if kind in _EXPECTED else details["msg"]


def _not_listed(details: ErrorDetails) -> str:
    """`expected` is pydantic's listing: 'a', 'b' or 'c'."""
    choices = str(details.get("ctx", {})["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
    if details["loc"][-1] == "[key]":
        return f"no such key; known: {', '.join(choices)}"
    return f"expected one of {', '.join(choices)}, got {said(details['input'])}"


def _unknown_key(path: KeyPath, model: type[BaseModel] | None) -> str:
    name = str(path[-1])
    if name == "trust_remote_code":
        return ELSEWHERE
    if path[0] == "gates" and model is None:
        if name in _BESIDE_GATES:
            return _beside_gates(name)
        return f"no such key; {one_of(name, _GATE_MODELS[len(path) - 1].model_fields)}"
    known = _below(model, path[:-1]) if model else _MODELS[path[:-1]]
    return f"no such key; {one_of(name, known.model_fields)}"


def _beside_gates(name: str) -> str:
    return f"no such key; `{name}` is a key of the case, beside `gates`"


def _below(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """The model of a group of options within `model`: `generation` of a task, which may be null, or one of a list."""
    for name in path:
        if isinstance(name, str) and name in model.model_fields:  # else an index, or a key of a mapping of models
            model = next(part for part in _parts(model.model_fields[name].annotation) if hasattr(part, "model_fields"))
    return model


def _parts(annotation: Any) -> Iterator[Any]:
    """A type, and those that it is made of."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def said(value: Any) -> str:
    """A wrong value as an error names it: what it is and of which kind, since `'3'` and `3` look alike in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"{shown(value, 60)!r} (text)"
    if isinstance(value, dict | list):
        kind = "mapping" if isinstance(value, dict) else "list"
        return f"a {kind}" if value else f"an empty {kind}"
    text = shown(repr(value), 60)
    return text if isinstance(value, int | float) else f"{text} ({type(value).__name__})"
