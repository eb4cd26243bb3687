"""The JSON Schema for editors: what expands is valid, and the obvious mistakes are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ftcheck import catalogue
from ftcheck.spec import Catalogue
from ftcheck.spec.schema import DIALECT, json_schema
from ftcheck.suitefile import parse
from tests.spec.catalogue import CATALOGUE, cases, errors


def document(text: str) -> dict[str, Any]:
    """The whole value of a suite file, as an editor validates it."""
    first, *rest = parse(text.encode(), Path("a.ft.yaml"))
    return {
        "defaults": dict(first.defaults),
        "cases": {declaration.name: dict(declaration.fields) for declaration in (first, *rest)},
    }


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema(CATALOGUE)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


VALID = """\
defaults: {task: tagging, seeds: 3, data: {path: org/data, limit: 5}, checkpoint: {path: org/model}}
cases:
  short: {}
  long:
    checkpoint: {revision: main}
    task: {name: tagging, max_length: 64}
    data:
      name: x
      columns: {text: body, text_pair: null}
      splits: {train: "train[:5]"}
      holdout: {tune: 0.1}
      limit: {eval: 3}
    training: {learning_rate: 1e-4, eval_strategy: epoch, metric_for_best_model: loss, report_to: [x]}
    early_stopping: {patience: 2}
    precision: bf16
    seeds: [1, 2]
    metrics: [macro_f1]
    gates: {accuracy: {min: 0, max: 1}, macro_f1: null, "f1[a/b]": {min: 0.5}}
    keep_model: none
    marks: [slow, {skip: why}]
    description: all of it
  own: {task: "my_package.tasks:Mine"}
  own-with-options: {task: {name: "my_package.tasks:Mine", scheme: other}}
  fixed: {training: false, early_stopping: null}
  many:
    matrix:
      training.learning_rate: [1e-4, 1e-3]
      training.optim_args: {values: [a=1, b=2], ids: [a, b]}
      exclude: [{training.learning_rate: 1e-4, training.optim_args: a=1}]
      include: [{id: x, seeds: 1}]
"""


def test_what_expands_is_valid(validator: jsonschema.Draft202012Validator) -> None:
    assert len(cases(VALID)) == 9
    assert list(validator.iter_errors(document(VALID))) == []


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param("nonsense: 1", id="unknown-key"),
        pytest.param("task: taging", id="unknown-task"),
        pytest.param("task: {name: tagging, max_lenght: 5}", id="unknown-option"),
        pytest.param("training: {lerning_rate: 1}", id="unknown-training-field"),
        pytest.param("training: {seed: 1}", id="owned-training-field"),
        pytest.param("training: {learning_rate: fast}", id="training-type"),
        pytest.param("training: {eval_strategy: epochs}", id="training-choice"),
        pytest.param("training: true", id="training-true"),
        pytest.param("precision: fp8", id="precision"),
        pytest.param("seeds: 0", id="no-seeds"),
        pytest.param("seeds: [-1]", id="negative-seed"),
        pytest.param("gates: {accuracy: 0.9}", id="gate-number"),
        pytest.param("gates: {accuracy: {min: high}}", id="gate-text"),
        pytest.param("gates: {accuracy: {minimum: 1}}", id="gate-key"),
        pytest.param("gates: {nonsense: {min: 1}}", id="unknown-gate-metric"),
        pytest.param("metrics: [nonsense]", id="unknown-metric"),
        pytest.param("data: {path: o/d, holdout: 2}", id="holdout-range"),
        pytest.param("data: {path: o/d, splits: {test: x}}", id="split-role"),
        pytest.param("data: {path: o/d, colums: {}}", id="data-key"),
        pytest.param("early_stopping: {patience: 0}", id="patience"),
        pytest.param("matrix: {}", id="empty-matrix"),
        pytest.param("matrix: {seeds: 3}", id="axis-that-is-no-list"),
        pytest.param("matrix: {sedes: [1]}", id="axis-that-is-no-field"),
    ],
)
def test_the_obvious_mistakes_are_invalid(validator: jsonschema.Draft202012Validator, fields: str) -> None:
    """And `expand` refuses the same."""
    text = f"defaults: {{checkpoint: o/m, task: tagging, data: o/d}}\ncases:\n  c: {{{fields}}}\n"
    assert errors(text)
    assert list(validator.iter_errors(document(text)))


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({}, id="no-cases"),
        pytest.param({"cases": {}}, id="empty-cases"),
        pytest.param({"cases": {"a": {}}, "case": {}}, id="unknown-top-level-key"),
        pytest.param({"cases": {"a": []}}, id="case-that-is-a-list"),
    ],
)
def test_the_top_level(validator: jsonschema.Draft202012Validator, value: Any) -> None:
    assert list(validator.iter_errors(value))


@pytest.mark.parametrize(
    "known", [pytest.param(CATALOGUE, id="fake"), pytest.param(catalogue.installed(), id="installed")]
)
def test_the_schema_is_one_and_describes_every_field(known: Catalogue) -> None:
    schema = json_schema(known)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    described = schema["$defs"]["CaseFields"]["properties"]
    assert all("description" in field for field in described.values())
    assert "learning_rate" in described["training"]["anyOf"][0]["properties"]
    assert set(described["task"]["anyOf"][0]["enum"]) == {*known.tasks, None}
