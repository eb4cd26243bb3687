"""Metrics of the user's own: the numbers they return, the intervals they get, what tells two versions apart."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ftcheck
from ftcheck import metrics
from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Lookup, Metric, WithoutInterval, leave_one_out
from ftcheck.statistics import estimate

LABELS = Lookup(inputs=frozenset({"label"}))
CONTEXT = Context(labels=("no", "yes"), options={"max_length": 8})
SOURCE = '''
from math import sqrt

import ftcheck

HALF = 0.5

def share(predictions, references):
    """Share of right ones.

    More."""
    return [HALF * 2 * (p == r) for p, r in zip(predictions, references)]

def whole(predictions, references):
    return sqrt(sum(p == r for p, r in zip(predictions, references)) / len(references))

@ftcheck.metric(input="text", greater_is_better=False, scale="proportion")
def described(predictions, references):
    return [0.25 for _ in references]

def named(predictions, references, context):
    return [float(context.labels[p] == "yes") for p in predictions]

class Right:
    scale = "proportion"
    binary = True

    def statistics(self, predictions, references):
        return [[p == r, 1] for p, r in zip(predictions, references)]

    def aggregate(self, totals):
        return totals[..., 0] / totals[..., 1]

class WithContext(Right):
    def __init__(self, context):
        self.yes = context.labels.index("yes")

class NoMetric:
    pass

class NeedsMore(Right):
    def __init__(self, size):
        pass

class Flat(Right):
    def statistics(self, predictions, references):
        return [1.0 for _ in references]

@ftcheck.metric(scale="proportion")
def beyond(predictions, references):
    return 1.5

def fails(predictions, references):
    return references[0] / 0

def short(predictions, references):
    return [1.0]

def text(predictions, references):
    return "high"

def holes(predictions, references):
    return [float("nan") for _ in references]

def only_whole(predictions, references):
    if len(references) < 4:
        raise RuntimeError("too few")
    return 0.5

number = 3
'''

Load = Callable[[str], str]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Writes a module under a name of its own, which it returns."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(source: str) -> str:
        name = f"own_{tmp_path.name.replace('-', '_')}_{len(list(tmp_path.iterdir()))}"
        (tmp_path / f"{name}.py").write_text(source, "utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return written


def built(text: str, lookup: Lookup = LABELS) -> Metric:
    return lookup.build(text, CONTEXT)


def value(metric: Metric, predictions: Sequence[Any], references: Sequence[Any]) -> float:
    return float(metric.aggregate(metric.statistics(predictions, references).sum(axis=0)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("share", 0.75, id="mean of scores"),
        pytest.param("whole", 0.75**0.5, id="one number"),
        pytest.param("named", 0.5, id="knows the classes"),
        pytest.param("Right", 0.75, id="class"),
        pytest.param("WithContext", 0.75, id="class that knows the classes"),
    ],
)
def test_the_number_is_the_one_that_it_returns(load: Load, name: str, expected: float) -> None:
    metric = built(f"{load(SOURCE)}:{name}")
    given = [0, 1, 1, 0], [0, 1, 1, 1]
    assert value(metric, *given) == pytest.approx(expected)
    assert metrics.value(metric, *given) == pytest.approx(expected)


OF_LISTS = """
def share(predictions, references):
    return [float(type(p) is list and sorted(p) + [1.0] == [0.25, 0.75, 1.0]) for p in predictions]

class Share:
    scale = "proportion"

    def statistics(self, predictions, references):
        return [[score, 1] for score in share(predictions, references)]

    def aggregate(self, totals):
        return totals[..., 0] / totals[..., 1]
"""


@pytest.mark.parametrize("name", ["share", "Share"])
def test_probabilities_are_lists_for_it_whatever_records_hold(load: Load, name: str) -> None:
    metric = built(f"{load(OF_LISTS)}:{name}")
    given = [array("d", [0.25, 0.75]), [0.75, 0.25]], [0, 1]
    assert value(metric, *given) == 1.0
    assert metrics.value(metric, *given) == 1.0


def test_a_mean_of_scores_has_the_interval_of_any_other_mean(load: Load) -> None:
    gold = [0, 1] * 50
    predicted = [0, 1] * 40 + [1, 0] * 10
    metric = built(f"{load(SOURCE)}:share")
    rows = metric.statistics(predicted, gold)
    accuracy = LABELS.build("accuracy", CONTEXT).statistics(predicted, gold)
    np.testing.assert_array_equal(rows, accuracy)


def test_one_number_is_left_out_example_by_example(load: Load) -> None:
    predicted, gold = [0, 1, 1, 0, 1], [0, 1, 0, 0, 0]
    metric = built(f"{load(SOURCE)}:whole")
    rows = metric.statistics(predicted, gold)
    without = [(np.delete(np.equal(predicted, gold), left).mean()) ** 0.5 for left in range(5)]
    np.testing.assert_allclose(rows, leave_one_out.statistics(0.6**0.5, np.array(without)))


@pytest.mark.parametrize(
    ("name", "examples", "has_one"),
    [
        pytest.param("whole", leave_one_out.MOST, True, id="one number of few"),
        pytest.param("whole", leave_one_out.MOST + 1, False, id="one number of many"),
        pytest.param("share", leave_one_out.MOST + 1, True, id="scores of many"),
    ],
)
def test_where_leaving_out_is_too_much_work_the_result_says_why_it_has_no_interval(
    load: Load, name: str, examples: int, has_one: bool
) -> None:
    metric = built(f"{load(SOURCE)}:{name}")
    assert isinstance(metric, WithoutInterval)
    gold = [index % 2 for index in range(examples)]
    rows = metric.statistics([0] * examples, gold)
    why = metric.no_interval(rows)
    found = estimate([rows], metric.aggregate, scale="unbounded", binary=False, fixed=False, no_interval=why)
    right = gold.count(0) / examples
    assert found.value == pytest.approx(right if name == "share" else right**0.5)
    assert (found.interval is not None) == has_one
    assert ("at most 1,000" in found.no_interval) != has_one


@pytest.mark.parametrize("name", ["share", "whole"])
def test_no_examples_have_no_value_and_one_has_its_own(load: Load, name: str) -> None:
    metric = built(f"{load(SOURCE)}:{name}")
    assert np.isnan(value(metric, [], []))
    assert np.isnan(metrics.value(metric, [], []))
    assert value(metric, [1], [1]) == 1.0


def test_what_a_function_says_of_itself_counts(load: Load) -> None:
    name = f"{load(SOURCE)}:described"
    known = Lookup(inputs=frozenset({"label", "text"})).describe(name)
    assert (known.input, known.greater_is_better, known.bounds) == ("text", False, (0.0, 1.0))
    assert built(name, Lookup(inputs=frozenset({"text"}))).scale == "proportion"
    problem = LABELS.check(name)
    assert problem is not None
    assert "is computed from texts, this task gives class ids" in problem


def test_by_default_it_is_computed_from_the_first_input_of_the_task(load: Load) -> None:
    name = f"{load(SOURCE)}:share"
    assert Lookup(inputs=frozenset({"answer", "scores", "label"})).describe(name).input == "label"
    assert Lookup(inputs=frozenset({"text", "tokens"})).describe(name).input == "text"
    assert LABELS.describe(name).summary == "Share of right ones."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"input": "texts"}, "input must be one of label, scores", id="input"),
        pytest.param({"scale": "percent"}, "scale must be one of proportion", id="scale"),
    ],
)
def test_the_decorator_refuses_what_nobody_knows(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ftcheck.metric(**arguments)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("shar", "has no shar; did you mean share?", id="no such attribute"),
        pytest.param("number", "3 can't be fingerprinted: give a plain Python function", id="no function"),
        pytest.param("NoMetric", "a class without the methods statistics and aggregate", id="class"),
    ],
)
def test_what_is_no_metric_is_said_before_anything_is_computed(load: Load, name: str, message: str) -> None:
    problem = LABELS.check(f"{load(SOURCE)}:{name}")
    assert problem is not None
    assert message in problem
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("beyond", "returned 1.5, which is not proportion (from 0 to 1)", id="outside its scale"),
        pytest.param("fails", ".py:54: ZeroDivisionError: division by zero", id="exception"),
        pytest.param("short", "must return a number, or one for each of the 4 examples; got [1.0]", id="length"),
        pytest.param("text", "got 'high'", id="text"),
        pytest.param("holes", "gives example 0 the score nan, which is no finite number", id="nan for an example"),
        pytest.param("only_whole", "fails without example 0 at ", id="one example less"),
        pytest.param("Flat", "statistics must return (4, k) numbers, got float64 (4,)", id="shape of statistics"),
        pytest.param("NeedsMore", "NeedsMore() fails: TypeError: NeedsMore.__init__() missing", id="constructor"),
    ],
)
def test_what_goes_wrong_inside_is_one_sentence(load: Load, name: str, message: str) -> None:
    with pytest.raises(MetricError) as raised:
        built(f"{load(SOURCE)}:{name}").statistics([0, 1, 1, 0], [0, 1, 1, 1])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        pytest.param("HALF * 2", "HALF * 1", True, id="its body"),
        pytest.param("HALF = 0.5", "HALF = 0.4", True, id="a constant that it uses"),
        pytest.param("def share(", "@ftcheck.metric(greater_is_better=False)\ndef share(", True, id="its direction"),
        pytest.param("return 1.5", "return 1.6", False, id="another metric of its module"),
        pytest.param("    return [HALF", "    # said\n    return [HALF", False, id="a comment"),
    ],
)
def test_its_signature_changes_with_what_it_does(load: Load, old: str, new: str, differs: bool) -> None:
    assert old in SOURCE
    names = load(SOURCE), load(SOURCE.replace(old, new))
    one, other = (LABELS.describe(f"{name}:share").fingerprint for name in names)
    assert (one != other) == differs


@pytest.mark.parametrize(
    "form",
    [
        pytest.param("import HELPER\n\ndef metric(p, r):\n    return HELPER.score(p)\n", id="module"),
        pytest.param("from HELPER import score\n\ndef metric(p, r):\n    return score(p)\n", id="function"),
        pytest.param("def metric(p, r):\n    from HELPER import score\n    return score(p)\n", id="late"),
        pytest.param("def metric(p, r):\n    import HELPER\n    return HELPER.score(p)\n", id="late-module"),
    ],
)
@pytest.mark.parametrize("edit", ["return 25.0", "return 1.0"])
def test_its_signature_changes_with_another_module_that_it_uses(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, edit: str
) -> None:
    helper = load("def score(x):\n    return 1.0\n")
    first = LABELS.describe(f"{load(form.replace('HELPER', helper))}:metric").fingerprint
    (tmp_path / f"{helper}.py").write_text(f"def score(x):\n    {edit}\n", "utf-8")
    monkeypatch.delitem(sys.modules, helper, raising=False)
    second = LABELS.describe(f"{load(form.replace('HELPER', helper))}:metric").fingerprint
    assert (first != second) == (edit != "return 1.0")


def test_the_classes_count_for_who_asks_for_them(load: Load) -> None:
    name = load(SOURCE)
    other = Context(labels=("yes", "no"))
    for function, differs in (("named", True), ("share", False)):
        signatures = {LABELS.build(f"{name}:{function}", context).signature for context in (CONTEXT, other)}
        assert (len(signatures) == 2) == differs
