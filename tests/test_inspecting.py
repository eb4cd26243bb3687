"""What charts are made of equals what scikit-learn and the statistics say; both ways of counting agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcheck import examples, inspecting, statistics, tables
from ftcheck.evidence import Arm, Pair
from ftcheck.metrics import Context, Lookup, Metric

LABELS = tuple(f"class {i}" for i in range(20))
N = 600


def ids(start: int, count: int) -> Any:
    return np.array([list(i.to_bytes(16, "big")) for i in range(start, start + count)], dtype=np.uint8)


def predicted(seed: int, gold: Any, right: float, classes: int) -> Any:
    draw = np.random.default_rng(seed)
    return np.where(draw.random(len(gold)) < right, gold, draw.integers(classes, size=len(gold)))


def macro(classes: int, task: str = "label") -> Metric:
    return Lookup(inputs=frozenset({task})).build("macro_f1", Context(labels=LABELS[:classes]))  # type: ignore[arg-type]


def arm(metric: Metric, runs: Sequence[Any], gold: Any, start: int = 0) -> Arm:
    return Arm(
        ids=ids(start, len(gold)),
        metrics={metric.name: [metric.statistics(run.tolist(), gold.tolist()) for run in runs]},
        signatures={metric.name: metric.signature},
        fixed=False,
        keys=tuple(f"{start}-{i}" for i in range(len(runs))),
    )


def columns(records: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """As the store gives them back."""
    examples.write(records, folder / examples.FILE)
    return examples.columns((folder / examples.FILE).read_bytes(), inspecting.COLUMNS)


@pytest.mark.parametrize("classes", [2, 5, 20])
def test_counts_and_rates_equal_scikit_learns(classes: int) -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    gold = np.random.default_rng(0).integers(classes, size=N)
    runs = [predicted(seed, gold, 0.8, classes) for seed in (1, 2)]
    before = [predicted(3, gold, 0.9, classes)]
    metric = macro(classes)
    candidate, reference = arm(metric, runs, gold), arm(metric, before, gold)
    pair = Pair(against="it", reference=reference, candidate=candidate)
    found = tables.of_metrics({metric.name: metric}, candidate, pair, LABELS[:classes])
    assert found is not None
    assert found.then is not None
    wanted = sum(confusion_matrix(gold, run, labels=range(classes)) for run in runs)
    assert np.array_equal(found.now.confusion, wanted)  # type: ignore[arg-type]
    assert np.array_equal(found.then.confusion, confusion_matrix(gold, before[0]))  # type: ignore[arg-type]
    pooled = precision_recall_fscore_support(np.tile(gold, 2), np.concatenate(runs))
    scores = found.scores()
    for place, values in enumerate(zip(*pooled, strict=True)):
        precision, recall, f1, support = values
        ours = scores[place]
        assert (ours.precision, ours.recall, ours.f1) == pytest.approx((precision, recall, f1), abs=1e-6)
        assert ours.support == support / 2


def test_of_many_classes_the_most_confused_are_shown_and_rows_stay_whole() -> None:
    gold = np.random.default_rng(0).integers(20, size=N)
    run = np.where(gold == 17, 3, gold)
    metric = macro(20)
    found = tables.of_metrics({metric.name: metric}, arm(metric, [run], gold), None, LABELS)
    assert found is not None
    matrix = found.matrix()
    assert matrix is not None
    assert len(matrix.classes) == tables.MOST_CLASSES
    assert matrix.left_out == 20 - tables.MOST_CLASSES
    assert {"class 3", "class 17"} <= set(matrix.classes)
    support = {name: int((gold == place).sum()) for place, name in enumerate(LABELS)}
    assert [sum(row) for row in matrix.now] == [support[name] for name in matrix.classes]


def test_examples_that_only_one_side_judged_dont_count_beside_it() -> None:
    from sklearn.metrics import confusion_matrix

    gold = np.random.default_rng(0).integers(3, size=N)
    run, metric = predicted(1, gold, 0.8, 3), macro(3)
    candidate = arm(metric, [run], gold)
    reference = arm(metric, [run[100:]], gold[100:], start=100)
    found = tables.of_metrics(
        {metric.name: metric}, candidate, Pair(against="it", reference=reference, candidate=candidate), LABELS[:3]
    )
    assert found is not None
    assert found.then is not None
    assert np.array_equal(found.now.confusion, confusion_matrix(gold[100:], run[100:]))  # type: ignore[arg-type]
    assert np.array_equal(found.then.confusion, found.now.confusion)  # type: ignore[arg-type]


def test_a_metric_of_sets_gives_rates_but_no_matrix() -> None:
    from sklearn.metrics import precision_recall_fscore_support

    sets = (np.random.default_rng(0).random((50, 3)) < 0.4).astype(int)
    metric = macro(3, "labels")
    candidate = arm(metric, [np.roll(sets, 1, axis=0)], sets)
    found = tables.of_metrics({metric.name: metric}, candidate, None, LABELS[:3])
    assert found is not None
    assert found.matrix() is None
    precision, recall, f1, _ = precision_recall_fscore_support(sets, np.roll(sets, 1, axis=0), zero_division=0)
    scores = found.scores()
    assert [score.f1 for score in scores] == pytest.approx(f1.tolist(), abs=1e-6)
    assert [score.precision for score in scores] == pytest.approx(precision.tolist(), abs=1e-6)
    assert [score.recall for score in scores] == pytest.approx(recall.tolist(), abs=1e-6)


def test_predictions_themselves_count_alike(tmp_path: Path) -> None:
    from sklearn.metrics import confusion_matrix

    gold = np.random.default_rng(0).integers(4, size=N)
    run = predicted(1, gold, 0.8, 4)
    records = [{"prediction": int(p), "reference": int(g)} for p, g in zip(run, gold, strict=True)]
    found = tables.of_predictions([columns(records, tmp_path)], None, LABELS[:4])
    assert found is not None
    assert np.array_equal(found.now.confusion, confusion_matrix(gold, run))  # type: ignore[arg-type]
    assert found.of == "examples"


def test_tags_count_word_by_word(tmp_path: Path) -> None:
    records = [
        {"predictions": ["O", "B-PER"], "references": ["B-PER", "B-PER"]},
        {"predictions": ["O"], "references": ["O"]},
    ]
    found = tables.of_predictions([columns(records, tmp_path)], None, ("O", "B-PER"))
    assert found is not None
    assert found.now.confusion is not None
    assert found.now.confusion.tolist() == [[1, 0], [1, 1]]
    assert found.of == "words"


@pytest.mark.parametrize(
    ("records", "labels"),
    [
        pytest.param([{"prediction": 0.5, "reference": 0.7}], (), id="numbers"),
        pytest.param([{"prediction": [0, 1], "reference": [1, 1]}], ("a", "b"), id="sets"),
        pytest.param([{"prediction": 1, "reference": None}], ("a", "b"), id="no-references"),
        pytest.param([{"prediction": 2, "reference": 0}], ("a", "b"), id="more-than-labels"),
        pytest.param([{"predictions": ["X"], "references": ["O"]}], ("O",), id="unknown-tag"),
        pytest.param([{"text": "a"}], ("a", "b"), id="texts"),
    ],
)
def test_what_has_no_classes_is_not_counted(
    records: list[dict[str, Any]], labels: tuple[str, ...], tmp_path: Path
) -> None:
    assert tables.of_predictions([columns(records, tmp_path)], None, labels) is None


def test_one_class_has_no_matrix() -> None:
    gold = np.zeros(10, dtype=np.int64)
    metric = macro(1)
    found = tables.of_metrics({metric.name: metric}, arm(metric, [gold], gold), None, LABELS[:1])
    assert found is not None
    assert found.matrix() is None
    assert [score.f1 for score in found.scores()] == [1.0]


def scored(probabilities: Any, gold: Any) -> list[dict[str, Any]]:
    return [
        {"scores": row.tolist(), "prediction": int(row.argmax()), "reference": int(label)}
        for row, label in zip(probabilities, gold, strict=True)
    ]


def test_reliability_equals_scikit_learns(tmp_path: Path) -> None:
    from sklearn.calibration import calibration_curve

    draw = np.random.default_rng(0)
    probabilities, gold = draw.dirichlet(np.ones(3), size=N), draw.integers(3, size=N)
    found = inspecting.reliability([columns(scored(probabilities, gold), tmp_path)])
    right = probabilities.argmax(axis=1) == gold
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=inspecting.BINS)
    assert [one.accuracy for one in found] == pytest.approx(accuracy.tolist(), abs=1e-6)
    assert [one.confidence for one in found] == pytest.approx(confidence.tolist(), abs=1e-6)
    assert sum(one.count for one in found) == N


def test_reliability_of_rows_with_unlike_numbers_of_choices(tmp_path: Path) -> None:
    records = scored([np.array([0.9, 0.1]), np.array([0.2, 0.5, 0.3])], [0, 2])
    found = inspecting.reliability([columns(records, tmp_path)])
    assert [(one.count, one.accuracy) for one in found] == [(1, 0.0), (1, 1.0)]


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([{"prediction": 0.5, "reference": 0.7}], id="no-probabilities"),
        pytest.param([{"scores": [0.9, 0.2], "prediction": [1, 0], "reference": [1, 0]}], id="sets"),
        pytest.param([{"scores": [0.9, 0.1], "prediction": 0, "reference": None}], id="no-references"),
    ],
)
def test_no_reliability_without_one_class_and_its_probability(records: list[dict[str, Any]], tmp_path: Path) -> None:
    assert inspecting.reliability([columns(records, tmp_path)]) == ()


def shifted(shares: Mapping[int, float]) -> list[Any]:
    return [
        np.stack([np.random.default_rng(seed).random(N) < share, np.ones(N)], axis=1).astype(float)
        for seed, share in shares.items()
    ]


def test_the_power_curve_goes_through_what_the_gate_is_told() -> None:
    accuracy = Lookup(inputs=frozenset({"label"})).build("accuracy", Context(labels=LABELS[:2]))
    found = statistics.compare(
        shifted({1: 0.86, 2: 0.87, 3: 0.86}),
        shifted({4: 0.85, 5: 0.86, 6: 0.87}),
        accuracy.aggregate,
        greater_is_better=True,
        scale="proportion",
        fixed_baseline=False,
        fixed_candidate=False,
    )
    rows = statistics.detectable_curve(found, 0.02, examples=(N // 2, N, 4 * N), seeds=(3, 12))
    assert rows[0][1] == pytest.approx(statistics.detectable(statistics.plan_again(found), 0.02), rel=1e-3)
    assert rows[0][0] > rows[0][1] > rows[0][2] >= 0.02, "more examples detect less"
    assert rows[0][1] > rows[1][1], "so do more seeds"
