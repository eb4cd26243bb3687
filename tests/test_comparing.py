"""How operands are matched and judged where no statistics are needed for it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ftcheck.comparing import FailOn, compare
from ftcheck.errors import UsageError
from ftcheck.operands import Operand, Side, aligned
from ftcheck.ranking import rank
from tests.report.results import metric


def side(case: str = "c", value: float = 0.9, *, suite: str = "s", **fields: Any) -> Side:
    defaults: dict[str, Any] = {"folder": "f", "device": "cpu", "described": "1 run"}
    return Side(name=(suite, case), values={"accuracy": metric(value=value)}, **{**defaults, **fields})


def operand(*sides: Side, one_case: bool = False) -> Operand:
    return Operand(name="x", described="a results file", sides=sides, one_case=one_case)


def test_two_suites_of_one_name_are_told_apart_by_their_folders_on_all_sides() -> None:
    twice, once = operand(side(folder="f"), side(folder="g", value=0.5)), operand(side(folder="g"))
    found = compare(*aligned([twice, once]))
    assert [(row.case, row.a) for row in found.rows] == [("g::s::c", 0.5)]
    assert found.vanished == ("f::s::c",)


def test_cases_that_nothing_tells_apart_are_refused() -> None:
    with pytest.raises(UsageError, match="several cases f::s::c"):
        aligned([operand(side(), side())])


@pytest.mark.parametrize(
    ("before", "after", "pairs"),
    [
        pytest.param(["cpu", "cuda"], ["cuda"], [(1, "cuda")], id="common"),
        pytest.param(["cpu", "cuda"], ["cpu", "cuda"], [(0, "cpu"), (1, "cuda")], id="both"),
        pytest.param(["cpu"], ["cuda"], [(0, "cuda")], id="none-in-common"),
    ],
)
def test_sides_are_compared_on_one_kind_of_device(
    before: list[str], after: list[str], pairs: list[tuple[int, str]]
) -> None:
    a = operand(*(side(device=name, value=index) for index, name in enumerate(before)))
    found = compare(a, operand(*(side(device=name) for name in after)))
    assert [(row.a, row.device) for row in found.rows] == pairs
    assert any("A is of cpu, B of cuda" in note for note in found.notes) == (not set(before) & set(after))


@pytest.mark.parametrize("value", [math.nan, math.inf], ids=["nan", "infinite"])
def test_no_finite_value_fails_a_margin(value: float) -> None:
    found = compare(operand(side()), operand(side(value=value)), fail_on=[FailOn.parse("accuracy:-50pt")])
    assert found.rows[0].decision == "fail"
    assert found.failed(strict=False)


def test_a_metric_that_is_gone_fails_and_a_cost_does_not() -> None:
    full = {"accuracy": metric(), "macro_f1": metric("macro_f1"), "train_seconds": metric("train_seconds", 41.0)}
    before = Side(name=("s", "c"), folder="f", device="cpu", described="", values=full)
    found = compare(operand(before), operand(side()))
    assert {row.metric: row.status for row in found.rows} == {
        "accuracy": "value",
        "macro_f1": "gone",
        "train_seconds": "value",
    }
    assert found.failed(strict=False)
    assert not compare(operand(side()), operand(before)).failed(strict=True), "new ones are welcome"


def test_one_case_on_either_side_is_compared_whatever_its_name() -> None:
    found = compare(operand(side("a"), one_case=True), operand(side("b", 0.8), one_case=True))
    assert [(row.case, round(row.delta, 6)) for row in found.rows] == [("s::a → s::b", -0.1)]
    with pytest.raises(UsageError, match="no case in common"):
        compare(operand(side("a"), one_case=True), operand(side("b")))


def test_ranks_without_statistics_are_unknown_and_other_definitions_incomparable() -> None:
    other = Side(
        name=("s", "c"), folder="f", device="cpu", described="", values={"accuracy": metric(value=0.7, signature="2")}
    )
    (found,) = rank([operand(side(value=0.8)), operand(side()), operand(other), operand(side("d"))])[:1]
    assert found.places == ("unknown", "best", "incomparable", "")
    assert found.values[:3] == (0.8, 0.9, 0.7)


def test_the_least_is_best_where_less_is_better() -> None:
    sides = [
        Side(
            name=("s", "c"),
            folder="f",
            device="cpu",
            described="",
            values={"perplexity": metric("perplexity", value, greater_is_better=False)},
        )
        for value in (math.nan, 9.0, 8.0)
    ]
    assert rank([operand(one) for one in sides])[0].places[1:] == ("unknown", "best")
