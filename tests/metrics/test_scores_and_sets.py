"""Agreement, probabilities, sets of classes and numbers: equal to scikit-learn and SciPy, degenerate input included."""

from __future__ import annotations

import math
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk  # noqa: TID253

from ftcheck.errors import MetricError
from ftcheck.metrics import ranks
from ftcheck.metrics.leave_one_out import aggregate, statistics
from ftcheck.metrics.ranks import spearman
from tests.metrics.parity import metric, scored_without_each, value, without_each

NAN = float("nan")
Score = Callable[[Any, Any], Any]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """scikit-learn warns of degenerate input; here that is what is asked about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def classes(count: int, n: int, seed: int, *, skill: float = 0.6) -> tuple[list[int], list[int]]:
    rng = np.random.default_rng(seed)
    gold = rng.integers(count, size=n)
    guess = np.where(rng.random(n) < skill, gold, rng.integers(count, size=n))
    return guess.tolist(), gold.tolist()


AGREEMENT: dict[str, Score] = {
    "mcc": lambda p, r: sk.matthews_corrcoef(r, p),
    "cohen_kappa": lambda p, r: sk.cohen_kappa_score(r, p),
    "balanced_accuracy": lambda p, r: sk.balanced_accuracy_score(r, p),
}


@pytest.mark.parametrize("name", AGREEMENT)
@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        pytest.param(*classes(2, 500, 1), id="two-classes"),
        pytest.param(*classes(7, 500, 2), id="seven-classes"),
        pytest.param(*classes(3, 40, 3, skill=0.0), id="chance"),
        pytest.param([0, 1, 2], [0, 1, 2], id="all-right"),
        pytest.param([1, 2, 0], [0, 1, 2], id="all-wrong"),
        pytest.param([0, 0, 0], [0, 1, 1], id="one-class-predicted"),
        pytest.param([0, 1, 1], [0, 0, 0], id="one-class-gold"),
    ],
)
def test_agreement_equals_scikit_learn(name: str, predictions: list[int], references: list[int]) -> None:
    built = metric(name, "label", *map(str, range(7)))
    expected = AGREEMENT[name](predictions, references)
    assert value(built, predictions, references) == pytest.approx(expected, abs=1e-14, nan_ok=True)


def probabilities(count: int, n: int, seed: int) -> tuple[list[list[float]], list[int]]:
    rng = np.random.default_rng(seed)
    gold = rng.integers(count, size=n)
    logits = rng.normal(size=(n, count)).round(1) + np.eye(count)[gold]
    given = np.exp(logits)
    return (given / given.sum(axis=1, keepdims=True)).tolist(), gold.tolist()


def binary(scores: list[float]) -> list[list[float]]:
    return [[1 - score, score] for score in scores]


def of_two(p: Any) -> Any:
    return np.asarray(p)[:, 1]


TWO: dict[str, Score] = {
    "roc_auc": lambda p, r: sk.roc_auc_score(r, of_two(p)) if len(set(r)) == 2 else NAN,
    "average_precision": lambda p, r: sk.average_precision_score(r, of_two(p)) if 1 in r else NAN,
    "log_loss": lambda p, r: sk.log_loss(r, np.asarray(p), labels=[0, 1]),
    "brier_score": lambda p, r: sk.brier_score_loss(r, of_two(p), labels=[0, 1]),
}
MANY: dict[str, Score] = {
    "roc_auc": lambda p, r: sk.roc_auc_score(r, np.asarray(p), multi_class="ovr", labels=list(range(len(p[0])))),
    "average_precision": lambda p, r: sk.average_precision_score(np.eye(len(p[0]))[r], np.asarray(p)),
    "log_loss": lambda p, r: sk.log_loss(r, np.asarray(p), labels=list(range(len(p[0])))),
    "brier_score": lambda p, r: float(((np.asarray(p) - np.eye(len(p[0]))[r]) ** 2).sum(axis=1).mean()),
}


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        pytest.param(*probabilities(2, 300, 1), id="random"),
        pytest.param(binary([0.5] * 6), [0, 1, 0, 1, 1, 0], id="all-tied"),
        pytest.param(binary([0.1, 0.9, 0.2, 0.8]), [0, 1, 0, 1], id="all-right"),
        pytest.param(binary([0.9, 0.1, 0.8, 0.2]), [0, 1, 0, 1], id="all-wrong"),
        pytest.param(binary([0.0, 1.0, 1.0]), [0, 1, 0], id="certain"),
        pytest.param(binary([0.3, 0.4]), [1, 1], id="one-class"),
        pytest.param(binary([0.3]), [0], id="one-example"),
    ],
)
def test_probabilities_of_two_classes_equal_scikit_learn(name: str, predictions: Any, references: list[int]) -> None:
    built = metric(name, "scores", "no", "yes")
    expected = TWO[name](predictions, references)
    assert value(built, predictions, references) == pytest.approx(expected, rel=1e-12, abs=1e-14, nan_ok=True)


@pytest.mark.parametrize("name", MANY)
@pytest.mark.parametrize("count", [3, 8])
def test_probabilities_of_many_classes_equal_scikit_learn(name: str, count: int) -> None:
    predictions, references = probabilities(count, 400, count)
    built = metric(name, "scores", *map(str, range(count)))
    assert value(built, predictions, references) == pytest.approx(MANY[name](predictions, references), rel=1e-12)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        pytest.param(*probabilities(2, 60, 4), id="with-ties"),
        pytest.param(binary([0.5] * 6), [0, 1, 0, 1, 1, 0], id="all-tied"),
        pytest.param(binary([0.9, 0.1, 0.8, 0.2, 0.2]), [0, 1, 0, 1, 0], id="all-wrong"),
    ],
)
def test_an_area_without_each_example_is_the_one_scored_anew(
    name: str, predictions: Any, references: list[int]
) -> None:
    """Exact up to the linear form: f_-i comes back as f - n/(n-1)·g_i, shifted by the mean influence."""
    built = metric(name, "scores", "no", "yes")
    anew = scored_without_each(lambda p, r: float(TWO[name](p, r)), predictions, references)
    found = without_each(built, predictions, references)
    np.testing.assert_allclose(found - found.mean(), anew - anew.mean(), atol=1e-12)


def test_an_area_of_classes_without_each_example_is_the_one_scored_anew() -> None:
    predictions, references = probabilities(4, 50, 5)
    built = metric("roc_auc", "scores", *"abcd")
    anew = scored_without_each(lambda p, r: float(MANY["roc_auc"](p, r)), predictions, references)
    found = without_each(built, predictions, references)
    np.testing.assert_allclose(found - found.mean(), anew - anew.mean(), atol=1e-12)


def test_a_class_that_is_nowhere_has_no_part_in_the_mean_area() -> None:
    predictions, references = probabilities(2, 50, 6)
    three = [[*row, 0.0] for row in predictions]
    two = value(metric("roc_auc", "scores", "a", "b"), predictions, references)
    assert value(metric("roc_auc", "scores", "a", "b", "c"), three, references) == pytest.approx(two, rel=1e-14)


def test_the_positive_class_is_the_task_s() -> None:
    predictions, references = probabilities(2, 50, 7)
    first = metric("average_precision", "scores", "a", "b", positive_label="a")
    expected = sk.average_precision_score([1 - r for r in references], [p[0] for p in predictions])
    assert value(first, predictions, references) == pytest.approx(expected)
    assert first.signature != metric("average_precision", "scores", "a", "b").signature


def test_calibration_error_of_a_hand_made_example() -> None:
    """Two bins are filled: one with confidence 0.65 and half right, one with 0.9 and all right."""
    predictions = [[0.65, 0.35], [0.65, 0.35], [0.1, 0.9], [0.1, 0.9]]
    built = metric("ece", "scores", "a", "b")
    assert value(built, predictions, [0, 1, 1, 1]) == pytest.approx(0.5 * 0.15 + 0.5 * 0.1)
    assert value(built, [[1.0, 0.0]], [0]) == 0
    assert value(built, [[1.0, 0.0]], [1]) == 1


@pytest.mark.parametrize(
    ("predictions", "references", "error"),
    [
        pytest.param([[0.5, 0.5]], [0, 1], "1 predictions for 2 references", id="lengths"),
        pytest.param([[0.2, 0.3, 0.5]], [0], "must be 2 probabilities", id="classes"),
        pytest.param([[1.5, -0.5]], [0], "prediction 0 is no probabilities", id="range"),
        pytest.param([[NAN, 0.5]], [0], "prediction 0 is no probabilities", id="nan"),
        pytest.param([[0.5, 0.5]], [2], "reference 0 is class id 2", id="class"),
    ],
)
def test_what_are_no_probabilities_is_refused(predictions: Any, references: Any, error: str) -> None:
    with pytest.raises(MetricError, match=error):
        metric("log_loss", "scores", "a", "b").statistics(predictions, references)


def sets(n: int, seed: int, count: int = 4) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    gold = rng.random((n, count)) < [0.5, 0.3, 0.1, 0.02][:count]
    noise = rng.random((n, count)) < 0.15
    return (gold ^ noise).astype(int).tolist(), gold.astype(int).tolist()


NONE = [[0] * 4] * 3
SETS = [
    pytest.param(*sets(300, 1), id="random"),
    pytest.param(*sets(5, 2), id="classes-nowhere"),
    pytest.param(NONE, NONE, id="empty-sets"),
    pytest.param([[1] * 4] * 3, NONE, id="all-for-nothing"),
    pytest.param([[1, 0, 1, 0]], [[1, 0, 1, 0]], id="one-example"),
]


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
@pytest.mark.parametrize(("predictions", "references"), SETS)
def test_rates_of_sets_equal_scikit_learn(average: str, predictions: Any, references: Any) -> None:
    for rate in ("precision", "recall", "f1"):
        score = getattr(sk, f"{rate}_score")
        expected = score(np.array(references), np.array(predictions), average=average, zero_division=0)
        found = value(metric(f"{average}_{rate}", "labels", *"abcd"), predictions, references)
        assert found == pytest.approx(expected, abs=1e-14)
        each = score(np.array(references), np.array(predictions), average=None, zero_division=0)
        for name, one in zip("abcd", each, strict=True):
            found = value(metric(f"{rate}[{name}]", "labels", *"abcd"), predictions, references)
            assert found == pytest.approx(one, abs=1e-14)


@pytest.mark.parametrize(("predictions", "references"), SETS)
def test_scores_of_single_sets_equal_scikit_learn(predictions: Any, references: Any) -> None:
    gold, given = np.array(references), np.array(predictions)
    expected = {
        "samples_f1": sk.f1_score(gold, given, average="samples", zero_division=0),
        "subset_accuracy": sk.accuracy_score(gold, given),
        "hamming_loss": sk.hamming_loss(gold, given),
    }
    for name, one in expected.items():
        assert value(metric(name, "labels", *"abcd"), predictions, references) == pytest.approx(one, abs=1e-14)


@pytest.mark.parametrize(
    ("predictions", "references", "error"),
    [
        pytest.param([[1, 0]], [], "1 predictions for 0 references", id="lengths"),
        pytest.param([[1]], [[1, 0]], "prediction 0 must be 2 numbers 0 or 1", id="classes"),
        pytest.param([[1, 0]], [[1, 2]], "reference 0 must be 2 numbers 0 or 1", id="values"),
    ],
)
def test_what_are_no_sets_is_refused(predictions: Any, references: Any, error: str) -> None:
    with pytest.raises(MetricError, match=error):
        metric("micro_f1", "labels", "a", "b").statistics(predictions, references)


def test_a_rate_of_sets_needs_a_class_or_an_average() -> None:
    with pytest.raises(MetricError, match="micro_f1, macro_f1 or weighted_f1"):
        metric("f1", "labels", "a", "b")
    with pytest.raises(MetricError, match='no class is called "c"'):
        metric("f1[c]", "labels", "a", "b")


def numbers(n: int, seed: int, *, digits: int = 6, shift: float = 0.0) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(seed)
    gold = rng.normal(size=n) + shift
    return (gold * 0.7 + rng.normal(size=n) * 0.5).round(digits).tolist(), gold.round(digits).tolist()


def varies(p: Any, r: Any) -> bool:
    return len(set(p)) > 1 and len(set(r)) > 1


NUMBERS: dict[str, Score] = {
    "pearson": lambda p, r: stats.pearsonr(p, r).statistic if varies(p, r) else NAN,
    "spearman": lambda p, r: stats.spearmanr(p, r).statistic if varies(p, r) else NAN,
    "mse": lambda p, r: sk.mean_squared_error(r, p),
    "rmse": lambda p, r: sk.root_mean_squared_error(r, p),
    "mae": lambda p, r: sk.mean_absolute_error(r, p),
    "r2": lambda p, r: sk.r2_score(r, p) if len(r) > 1 else NAN,
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        pytest.param(*numbers(500, 1), id="random"),
        pytest.param(*numbers(200, 2, digits=0), id="ties"),
        pytest.param(*numbers(300, 3, shift=1e6), id="far-from-zero"),
        pytest.param([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], id="all-right"),
        pytest.param([3.0, 2.0, 1.0], [1.0, 2.0, 3.0], id="reversed"),
        pytest.param([2.0, 2.0, 2.0], [1.0, 2.0, 3.0], id="constant-predictions"),
        pytest.param([1.0, 2.0, 3.0], [0.25, 0.25, 0.25], id="constant-references"),
        pytest.param([0.1, 0.1], [0.1, 0.1], id="constant-and-right"),
        pytest.param([1.0], [2.0], id="one-example"),
    ],
)
def test_numbers_equal_scipy_and_scikit_learn(name: str, predictions: Any, references: Any) -> None:
    found = value(metric(name, "value"), predictions, references)
    expected = float(NUMBERS[name](predictions, references))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    "digits", [pytest.param(6, id="distinct"), pytest.param(1, id="ties"), pytest.param(0, id="pairs")]
)
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_without_each_example_are_those_scored_anew(name: str, digits: int) -> None:
    predictions, references = numbers(40, 8, digits=digits)
    anew = scored_without_each(lambda p, r: float(NUMBERS[name](p, r)), predictions, references)
    found = without_each(metric(name, "value"), predictions, references)
    np.testing.assert_allclose(found - found.mean(), anew - anew.mean(), atol=1e-12)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 47, 48, 49, 257])
def test_ranks_without_each_example_are_right_at_every_size(size: int) -> None:
    rng = np.random.default_rng(size)
    for steps in (2, 5, 10**6):
        x, y = rng.integers(steps, size=size).astype(float), rng.integers(steps, size=size).astype(float)
        whole, without = spearman(x, y)
        kept = [np.delete(np.arange(size), i) for i in range(size)]
        expected = [NUMBERS["spearman"](x[rest], y[rest]) if size > 2 else NAN for rest in kept]
        np.testing.assert_allclose([whole, *without], [NUMBERS["spearman"](x, y), *expected], atol=1e-12)


@pytest.mark.parametrize("steps", [pytest.param(50, id="ties"), pytest.param(10**9, id="distinct")])
def test_ranks_of_more_than_one_table_of_blocks_are_right(steps: int) -> None:
    rng = np.random.default_rng(steps)
    x = rng.integers(steps, size=3 * ranks.FEW + 7).astype(float)
    y = x + rng.integers(steps, size=len(x)).astype(float)
    whole, without = spearman(x, y)
    assert whole == pytest.approx(NUMBERS["spearman"](x, y), abs=1e-12)
    for i in (0, 1, ranks.FEW, len(x) - 1):
        rest = np.delete(np.arange(len(x)), i)
        assert without[i] == pytest.approx(NUMBERS["spearman"](x[rest], y[rest]), abs=1e-12)


def test_a_prediction_that_is_no_number_spoils_the_value() -> None:
    for name in NUMBERS:
        assert math.isnan(value(metric(name, "value"), [NAN, 1.0, 2.0], [0.0, 1.0, 3.0]))


def test_leaving_out_the_example_on_which_all_depends_gives_no_value() -> None:
    rows = statistics(0.5, np.array([NAN, 0.4, 0.6]))
    assert aggregate(rows.sum(axis=0)) == 0.5
    assert math.isnan(aggregate(rows.sum(axis=0) - rows[0]))
    assert aggregate(rows.sum(axis=0) - rows[1]) == 0.5


@pytest.mark.parametrize("name", MANY)
def test_memory_is_that_of_the_probabilities_whatever_the_classes(name: str) -> None:
    """No table of classes × classes, and of areas none of classes × examples."""
    classes, examples = 2000, 100
    given: Any = np.full((examples, classes), 1 / classes)
    built = metric(name, "scores", *map(str, range(classes)))
    built.statistics(given[:2], [0, 1])  # imports
    tracemalloc.start()
    try:
        built.statistics(given, list(range(examples)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * given.nbytes
