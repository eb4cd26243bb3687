"""What the decorator and pytest's parametrize give goes through the same check as a suite file."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import SuiteErrors
from ftcheck.spec import Checkpoint, Declaration, expand
from tests.spec.catalogue import CATALOGUE


class Shade(enum.Enum):
    DARK = "fp32"


def test_the_decorators_arguments_come_through_the_same_check(tmp_path: Path) -> None:
    (tmp_path / "enc").mkdir()

    def rows() -> None: ...

    declaration = Declaration.of_function(
        "test_it",
        tmp_path / "test_a.py",
        7,
        {"checkpoint": tmp_path / "enc", "task": "tagging", "data": rows, "seeds": (1, 2), "precision": Shade.DARK},
    )
    (case,) = expand([declaration], CATALOGUE)
    assert (case.id, case.line, case.seeds, case.precision) == ("test_it", 7, (1, 2), "fp32")
    assert case.checkpoint == Checkpoint(path=str(tmp_path / "enc"), local=True)
    assert case.data.factory is rows
    assert case.data.kind == "callable"
    assert case.data.path.endswith(":test_the_decorators_arguments_come_through_the_same_check.<locals>.rows")


def test_errors_of_the_decorator_name_function_and_line() -> None:
    def needs(argument: int) -> None: ...

    declaration = Declaration.of_function(
        "test_it", Path("test_a.py"), 7, {"checkpoint": "o/m", "task": "tagging", "data": needs, "sede": object}
    )
    with pytest.raises(SuiteErrors) as caught:
        expand([declaration], CATALOGUE)
    assert str(caught.value).startswith("test_a.py:7 test_it.sede: no such key; did you mean seeds?")
    assert "must be callable without arguments: missing a required argument: 'argument'" in str(caught.value)


def declared(**fields: Any) -> Declaration:
    base = {"checkpoint": "o/m", "task": "tagging", "data": "o/d"}
    return Declaration.of_function("test_it", Path("/s/test_a.py"), 3, {**base, **fields})


def test_parametrize_replaces_a_field_whole() -> None:
    base = declared(training={"weight_decay": 0.1}, matrix={"seeds": [1, 2]})
    declaration = base.override({"training": {"learning_rate": 1}}, "fast")
    found = expand([declaration], CATALOGUE)
    assert [case.id for case in found] == ["test_it-1-fast", "test_it-2-fast"]
    assert [case.parameters for case in found] == [("1", "fast"), ("2", "fast")]
    assert all(case.training == {"learning_rate": 1} for case in found)
    assert base.overrides == {}


@pytest.mark.parametrize(
    ("fields", "id_", "expected"),
    [
        pytest.param(
            {"training": {"max_steps": 1}}, "training0", "gives training a positional id; give `ids`", id="positional"
        ),
        pytest.param(
            {"data": list}, "x-data1-3", "gives data a positional id; give `ids`", id="positional-among-others"
        ),
        pytest.param({"seeds": 2}, "2", "seeds is set by both `matrix` and parametrize", id="also-in-the-matrix"),
    ],
)
def test_what_parametrize_may_not_do(fields: dict[str, Any], id_: str, expected: str) -> None:
    with pytest.raises(SuiteErrors, match=expected):
        expand([declared(matrix={"seeds": [1]}).override(fields, id_)], CATALOGUE)


def test_a_text_that_ends_in_a_number_is_no_positional_id() -> None:
    (case,) = expand([declared().override({"checkpoint": "checkpoint0"}, "checkpoint0")], CATALOGUE)
    assert case.id == "test_it-checkpoint0"
