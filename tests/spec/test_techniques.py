"""Techniques in suites: their keys, short forms, matrices and mistakes; cases that need each other's models."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from ftcheck.errors import SuiteErrors
from ftcheck.finetune.techniques import Options, Technique
from ftcheck.spec import Case, Facts, TechniqueFacts, expand, link
from ftcheck.spec.schema import json_schema
from ftcheck.suitefile import parse
from tests.spec.catalogue import FakeCatalogue


class PolishOptions(Options):
    level: int = Field(default=1, ge=1)
    until: str | None = None


class Polish(Technique):
    name = "polish"
    description = "Make it shine."
    options = PolishOptions
    short = "level"
    parent = "until"

    @classmethod
    def parent_problem(cls, case: Case, parent: Case) -> str:
        return "not that one" if parent.id == "dull" else ""


class Catalogue(FakeCatalogue):
    techniques: Collection[str] = ("polish",)

    def technique(self, name: str) -> TechniqueFacts:
        assert name == "polish"
        return Polish

    def technique_problems(self, facts: Facts) -> Iterator[tuple[tuple[str | int, ...], str]]:
        if facts.streaming:
            yield ("polish",), "can't polish a stream"


HEAD = "defaults: {checkpoint: org/model, task: tagging, data: org/data}\ncases:\n"


def cases(text: str) -> list[Case]:
    found = expand(parse((HEAD + text).encode(), Path("/suites/a.ft.yaml")), Catalogue())
    return link(found, Catalogue())


def errors(text: str) -> list[str]:
    with pytest.raises(SuiteErrors) as caught:
        cases(text)
    return [f"{error.location.line} {error.location.key}: {error.message}" for error in caught.value.errors]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("{level: 2}", {"level": 2, "until": None}, id="options"),
        pytest.param("{}", {"level": 1, "until": None}, id="defaults-filled-in"),
        pytest.param("3", {"level": 3, "until": None}, id="short-form"),
    ],
)
def test_options_are_complete(value: str, expected: dict[str, Any]) -> None:
    (case,) = cases(f"  c: {{polish: {value}}}\n")
    assert case.techniques == {"polish": expected}


def test_null_takes_a_default_back() -> None:
    (case,) = cases("  c: {polish: null}\n")
    assert case.techniques == {}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            "polish: {level: 0}", "3 cases.c.polish.level: expected a number of at least 1, got 0", id="range"
        ),
        pytest.param(
            "polish: {levle: 1}", "3 cases.c.polish.levle: no such key; did you mean level?", id="unknown-option"
        ),
        pytest.param("polish: much", "3 cases.c.polish: expected a whole number, got 'much' (text)", id="short-form"),
        pytest.param("polsh: 1", "3 cases.c.polsh: no such key; did you mean polish?", id="unknown-technique"),
        pytest.param(
            "polish: 1, training: {max_steps: 3}, data: {path: org/data, streaming: true}",
            "3 cases.c.polish: can't polish a stream",
            id="facts",
        ),
    ],
)
def test_mistakes_are_named_where_they_are(fields: str, expected: str) -> None:
    assert errors(f"  c: {{{fields}}}\n") == [expected]


def test_a_matrix_sets_options() -> None:
    found = cases("  c: {polish: {level: 1}, matrix: {polish.level: [1, 2]}}\n")
    assert [(case.id, case.techniques["polish"]["level"]) for case in found] == [("c-1", 1), ("c-2", 2)]


def test_a_case_knows_the_cases_whose_models_it_needs() -> None:
    last, middle, first = cases(
        "  last: {polish: {until: 'case:middle'}}\n  middle: {polish: {until: 'case:first'}}\n  first: {}\n"
    )
    assert last.parents == {"polish": middle}
    assert middle.parents == {"polish": first}
    assert first.parents == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "  c: {polish: {until: 'case:other'}}\n  others: {}\n",
            ["3 c.polish: no case of this file has the id 'other'; did you mean others?"],
            id="unknown",
        ),
        pytest.param(
            "  c: {polish: {until: 'case:c'}}\n",
            ["3 c.polish: cases need each other's models in a circle: c → c"],
            id="itself",
        ),
        pytest.param(
            "  a: {polish: {until: 'case:b'}}\n  b: {polish: {until: 'case:a'}}\n",
            ["4 b.polish: cases need each other's models in a circle: a → b → a"],
            id="circle",
        ),
        pytest.param(
            "  c: {polish: {until: 'case:fixed'}}\n  fixed: {training: false}\n",
            ["3 c.polish: fixed trains nothing (`training: false`): name its checkpoint instead"],
            id="untrained",
        ),
        pytest.param(
            "  c: {polish: {until: 'case:dull'}}\n  dull: {}\n",
            ["3 c.polish: not that one"],
            id="the-technique-says-no",
        ),
    ],
)
def test_a_model_that_cannot_be_had_is_an_error(text: str, expected: list[str]) -> None:
    assert errors(text) == expected


def test_the_schema_knows_techniques_and_their_short_forms() -> None:
    properties = json_schema(Catalogue())["$defs"]["CaseFields"]["properties"]
    plain, options, null = properties["polish"]["anyOf"]
    assert (plain["type"], plain["minimum"]) == ("integer", 1)
    assert set(options["properties"]) == {"level", "until"}
    assert null == {"type": "null"}
    assert properties["polish"]["description"] == "Make it shine."


@pytest.mark.parametrize(
    ("fields", "measured_with"),
    [
        pytest.param("gates: {sparsity: {min: 0.4}}", "sparsity: it is measured with prune", id="sparsity"),
        pytest.param(
            "gates: {latency_p50_seconds: {max: 0.1}}", "latency_p50_seconds: it is measured with export", id="latency"
        ),
        pytest.param(
            "peft: lora, gates: {parity_difference: {max: 0.1}}",
            "parity_difference: it is measured with export, with quantization: qat or post, and with peft: "
            "{parity: merged}",
            id="adapter-alone",
        ),
        pytest.param("metrics: [adapter_bytes]", "adapter_bytes: it is measured with peft", id="metric"),
        pytest.param("prune: 0.4, gates: {sparsity: {min: 0.4}}", "", id="pruned"),
        pytest.param("peft: {method: lora, parity: merged}, gates: {parity_difference: {max: 0.1}}", "", id="merged"),
        pytest.param("export: onnx, metrics: [latency_p95_seconds, parity_difference]", "", id="exported"),
        pytest.param("prune: {amont: 0.4}, gates: {sparsity: {min: 0.4}}", "amont", id="mistake-elsewhere"),
    ],
)
def test_a_cost_that_no_run_of_the_case_has_is_refused(fields: str, measured_with: str) -> None:
    from tests.techniques.trainings import case_of, mistakes

    if not measured_with:
        assert case_of(fields).techniques
        return
    found = mistakes(fields)
    assert any(measured_with in message for message in found)
    assert sum("is measured with" in message for message in found) == ("is measured with" in measured_with)
