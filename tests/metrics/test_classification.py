"""Accuracy, precision, recall and F1 equal scikit-learn's, and their statistics add up."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcheck import metrics, statistics
from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Lookup, Metric, counts
from ftcheck.statistics import blocks

LOOKUP = Lookup(inputs=frozenset({"label"}))

THREE = Context(labels=("cat", "dog", "owl"))
Reference = Callable[[Sequence[int], Sequence[int]], float]


def value(metric: Metric, predictions: Sequence[Any], references: Sequence[Any]) -> float:
    return statistics.value(metric.statistics(predictions, references), metric.aggregate)


def sklearn_reference(name: str, labels: tuple[str, ...], positive: int = 1) -> Reference:
    """scikit-learn's function for a metric of ours."""
    from sklearn import metrics as sk

    if name == "accuracy":
        return lambda predictions, references: float(sk.accuracy_score(references, predictions))
    base, argument = metrics.parse(name)
    average, _, rate = base.rpartition("_")
    function = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}[rate]
    options: dict[str, Any] = {"average": average}
    if not average:
        options = {"average": "macro", "labels": [positive if argument is None else labels.index(argument)]}
    return lambda predictions, references: float(function(references, predictions, zero_division=0, **options))


AVERAGED = [
    "accuracy",
    *(f"{average}_{rate}" for average in ("micro", "macro", "weighted") for rate in ("precision", "recall", "f1")),
]
OF_CLASS = [f"{rate}[{label}]" for rate in ("precision", "recall", "f1") for label in THREE.labels]

EXAMPLES = [
    pytest.param([0, 1, 2, 0], [0, 1, 2, 0], id="all-right"),
    pytest.param([1, 2, 0, 1], [0, 1, 2, 0], id="all-wrong"),
    pytest.param([0, 0, 0, 0], [0, 0, 0, 0], id="one-class-only"),
    pytest.param([0, 0, 0, 0], [0, 1, 2, 0], id="only-one-class-predicted"),
    pytest.param([0, 1, 1, 0], [0, 1, 0, 0], id="a-class-in-neither"),
    pytest.param([0, 1, 2, 2], [0, 1, 1, 0], id="a-class-never-gold"),
    pytest.param([2], [2], id="one-example-right"),
    pytest.param([1], [2], id="one-example-wrong"),
]


@pytest.mark.parametrize("name", [*AVERAGED, *OF_CLASS])
@pytest.mark.parametrize(("predictions", "references"), EXAMPLES)
def test_equals_scikit_learn_on_degenerate_input(name: str, predictions: list[int], references: list[int]) -> None:
    metric = LOOKUP.build(name, THREE)
    expected = sklearn_reference(name, THREE.labels)(predictions, references)
    assert value(metric, predictions, references) == pytest.approx(expected, rel=1e-15, abs=0)


@pytest.mark.parametrize("name", [*AVERAGED, "precision[c7]", "recall[c0]", "f1[c39]"])
@pytest.mark.parametrize("classes", [40, 77])
def test_equals_scikit_learn_to_the_last_digit_with_many_classes(name: str, classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = tuple(f"c{index}" for index in range(classes))
    references = rng.zipf(1.3, size=2_000) % classes
    predictions = np.where(rng.random(2_000) < 0.8, references, rng.integers(classes, size=2_000))
    found = value(LOOKUP.build(name, Context(labels=labels)), predictions.tolist(), references.tolist())
    expected = sklearn_reference(name, labels)(predictions.tolist(), references.tolist())
    assert found == expected


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_equals_scikit_learn_on_any_input(pairs: list[tuple[int, int]]) -> None:
    predictions, references = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    for name in ("macro_precision", "macro_recall", "macro_f1", "weighted_f1", "f1[owl]"):
        expected = sklearn_reference(name, THREE.labels)(predictions, references)
        assert value(LOOKUP.build(name, THREE), predictions, references) == pytest.approx(expected, rel=1e-14, abs=0)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
@pytest.mark.parametrize(
    ("option", "positive"), [pytest.param(None, 1, id="default-is-the-second"), pytest.param("no", 0, id="option")]
)
def test_two_classes_have_a_positive_one(name: str, option: str | None, positive: int) -> None:
    context = Context(labels=("no", "yes"), options={"positive_label": option})
    predictions, references = [1, 0, 1, 1, 0, 0, 1], [1, 1, 1, 0, 0, 0, 0]
    expected = sklearn_reference(name, context.labels, positive)(predictions, references)
    metric = LOOKUP.build(name, context)
    assert value(metric, predictions, references) == expected
    assert metric.signature == f"{name}|1|{context.labels[positive]}"


@pytest.mark.parametrize(
    ("name", "context", "error"),
    [
        pytest.param("f1", THREE, r"f1 without a class is for two classes, and there are 3: use macro_f1", id="three"),
        pytest.param("recall", Context(labels=("a",)), "there are 1: use macro_recall", id="one"),
        pytest.param("f1[dgo]", THREE, r'no class is called "dgo"; did you mean dog\?', id="near-class"),
        pytest.param("f1[\x1b]", THREE, r'no class is called "\\x1b"; known: cat, dog, owl', id="escaped"),
        pytest.param(
            "f1",
            Context(labels=("no", "yes"), options={"positive_label": "yess"}),
            r'f1, positive_label: no class is called "yess"; did you mean yes\?',
            id="positive-label",
        ),
    ],
)
def test_a_metric_that_does_not_fit_the_classes_is_refused(name: str, context: Context, error: str) -> None:
    with pytest.raises(MetricError, match=error):
        LOOKUP.build(name, context)


@pytest.mark.parametrize(
    ("predictions", "references", "error"),
    [
        pytest.param([0, 1], [0], "2 predictions for 1 references", id="lengths"),
        pytest.param([0, 3], [0, 1], "prediction 1 is class id 3, but there are 3 classes", id="beyond"),
        pytest.param([0, 1], [0, -1], "reference 1 is class id -1", id="negative"),
        pytest.param([0.5, 1.0], [0, 1], "a prediction must be one integer class id, got 0.5", id="float"),
        pytest.param(["cat"], [0], "a prediction must be one integer class id, got cat", id="name"),
        pytest.param([[0]], [0], "a prediction must be one integer class id", id="nested"),
    ],
)
@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "f1[cat]"])
def test_predictions_that_are_no_class_ids_are_refused(
    name: str, predictions: list[Any], references: list[int], error: str
) -> None:
    with pytest.raises(MetricError, match=error):
        LOOKUP.build(name, THREE).statistics(predictions, references)


@pytest.mark.parametrize("name", [*AVERAGED, *OF_CLASS])
def test_leaving_examples_out_equals_computing_without_them(name: str) -> None:
    rng = np.random.default_rng(1)
    predictions, references = rng.integers(3, size=(2, 12)).tolist()
    metric = LOOKUP.build(name, THREE)
    rows = metric.statistics(predictions, references)
    left_out = blocks.without_each(rows, metric.aggregate, blocks.totals(rows))
    expected = [
        value(metric, predictions[:row] + predictions[row + 1 :], references[:row] + references[row + 1 :])
        for row in range(12)
    ]
    assert left_out.tolist() == expected


def test_nothing_warns_where_scikit_learn_would() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert value(LOOKUP.build("macro_f1", THREE), [0], [1]) == 0


@pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 20])
def test_sums_over_few_classes_are_numpys_to_the_last_digit(classes: int) -> None:
    random = np.random.default_rng(classes)
    for shape in ((), (1,), (50,), (2, 50)):
        table = random.random((*shape, 3 * classes + 1))
        for values in np.split(table[..., :-1], 3, axis=-1):
            assert np.array_equal(counts._over_classes(values), values.sum(-1))
