"""JSON Schema of `*.ft.yaml`, for editors and for checks outside ftcheck."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from ftcheck.spec.case import READERS
from ftcheck.spec.catalogue import Catalogue
from ftcheck.spec.fields import CaseFields, keys_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"


class SuiteFields(BaseModel):
    """The top level of a suite file."""

    model_config = ConfigDict(extra="forbid", title="ftcheck suite", defer_build=True)

    defaults: Annotated[CaseFields | None, Field(description="What holds for every case that doesn't say otherwise.")]
    cases: Annotated[
        dict[str, CaseFields | None],
        Field(min_length=1, description="The cases by name; names become ids, so they should be file names."),
    ]


def json_schema(catalogue: Catalogue) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a suite file, with the tasks, metrics and training fields that `catalogue` knows.

    What defaults, matrix and files decide together is `expand`'s to check: here no field of a case is required.
    """
    schema = SuiteFields.model_json_schema()
    definitions = schema["$defs"]
    case = definitions["CaseFields"]
    case["required"] = []
    case["properties"] = {name: _nullable(field) for name, field in case["properties"].items()}
    case["properties"]["matrix"] = _matrix(keys_of(catalogue.techniques))
    case["properties"]["training"]["anyOf"] = [
        {
            "type": "object",
            "properties": dict(catalogue.training_schema()),
            "additionalProperties": False,
        },
        {"enum": [False, None]},
    ]
    for name in catalogue.techniques:
        technique = catalogue.technique(name).schema()
        definitions.update(technique.pop("$defs", {}))
        case["properties"][name] = _nullable(technique)
    own = {"type": "string", "pattern": catalogue.task_pattern()}
    case["properties"]["task"]["anyOf"] = [
        {"enum": [*sorted(catalogue.tasks), None]},
        own,
        *_tasks(catalogue, definitions),
        {"type": "object", "properties": {"name": own}, "required": ["name"]},
    ]
    metric = {"type": "string", "pattern": catalogue.metric_pattern()}
    case["properties"]["gates"] = {**case["properties"]["gates"], "propertyNames": metric}
    _first_of_type(case["properties"]["metrics"], "array")["items"] = metric
    definitions["DataFields"]["required"] = []
    definitions["DataFields"]["properties"]["path"]["examples"] = list(READERS)
    definitions["CheckpointFields"]["required"] = []
    definitions["EarlyStoppingFields"]["required"] = []
    definitions.pop("TaskFields", None)
    schema["required"] = ["cases"]
    return {"$schema": DIALECT, **schema}


def _nullable(field: dict[str, Any]) -> dict[str, Any]:
    """A field's schema that takes null too: it stands for not given."""
    described: dict[str, Any] = {key: field[key] for key in ("description", "default", "title") if key in field}
    rest = {key: value for key, value in field.items() if key not in described}
    choices = rest["anyOf"] if set(rest) == {"anyOf"} else [rest]
    if {"type": "null"} not in choices:
        choices = [*choices, {"type": "null"}]
    return {**described, "anyOf": choices}


def _first_of_type(field: dict[str, Any], type_: str) -> dict[str, Any]:
    found: dict[str, Any] = next(choice for choice in field["anyOf"] if choice.get("type") == type_)
    return found


def _tasks(catalogue: Catalogue, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    """`{name: ..., options}` for each task; the name may come from defaults. The options' own definitions join ours."""
    found = []
    for name in sorted(catalogue.tasks):
        options = catalogue.task(name).options.model_json_schema()
        definitions.update(options.pop("$defs", {}))
        found.append(
            {
                "type": "object",
                "properties": {"name": {"const": name}, **options.get("properties", {})},
                "additionalProperties": False,
            }
        )
    return found


def _matrix(known: Collection[str]) -> dict[str, Any]:
    fields = "|".join(known)
    settings = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": rf"^(?:(?:{fields})(?:\..+)?|id)$"},
    }
    values = {"type": "array", "minItems": 1}
    with_ids = {
        "type": "object",
        "properties": {"values": values, "ids": {"type": "array", "items": {"type": "string"}, "uniqueItems": True}},
        "required": ["values", "ids"],
        "additionalProperties": False,
    }
    return {
        "description": "Dotted paths of fields -> lists of values: one case for each combination.",
        "type": ["object", "null"],
        "minProperties": 1,
        "properties": {
            "include": {"description": "More combinations, one per entry.", "type": "array", "items": settings},
            "exclude": {
                "description": "Combinations to leave out: those with all values of an entry.",
                "type": "array",
                "items": settings,
            },
        },
        "patternProperties": {rf"^(?:{fields})(?:\..+)?$": {"anyOf": [values, with_ids]}},
        "additionalProperties": False,
    }
