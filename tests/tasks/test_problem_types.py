"""text-classification with sets of classes and with numbers: what rows may hold, the loss, the threshold, answers."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import f1_score

from ftcheck import tasks
from ftcheck.errors import CheckpointError, DataError, TrainingError
from ftcheck.tasks import problem_types
from ftcheck.tasks.text_classification import Classified, LabelSet

TASK = tasks.get("text-classification")
SETS: dict[str, Any] = {"problem_type": "multi_label_classification"}
NUMBERS: dict[str, Any] = {"problem_type": "regression"}
META = {**SETS, "labels": ["a", "b", "c"], "from": "data"}


def options(**given: Any) -> dict[str, Any]:
    return TASK.options(**given).model_dump(mode="json")


def table(labels: list[Any], feature: Any = None) -> datasets.Dataset:
    features = datasets.Features({"text": datasets.Value("string"), "label": feature}) if feature is not None else None
    return datasets.Dataset.from_dict({"text": ["x"] * len(labels), "label": labels}, features=features)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({**NUMBERS, "labels": ("a", "b")}, "regression has no use for labels", id="classes-of-a-number"),
        pytest.param({**NUMBERS, "threshold": 0.5}, "regression has no use for threshold", id="threshold-of-a-number"),
        pytest.param({"threshold": 0.5}, "single_label_classification has no use for threshold", id="one-class"),
        pytest.param({**SETS, "positive_label": "a"}, "no use for positive_label", id="positive-of-sets"),
        pytest.param({**SETS, "threshold": 1.0}, "must lie between 0 and 1", id="threshold-too-high"),
        pytest.param({"problem_type": "ranking"}, "single_label_classification", id="unknown"),
    ],
)
def test_settings_without_use_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TASK.options(**given)


@pytest.mark.parametrize(
    ("rows", "names", "expected"),
    [
        pytest.param([["b", "a"], [], ["c"]], ["a", "b", "c"], [[1, 1, 0], [0, 0, 0], [0, 0, 1]], id="names"),
        pytest.param([[2, 0], [1]], ["0", "1", "2"], [[1, 0, 1], [0, 1, 0]], id="ids"),
        pytest.param([["a", "a"], ["b"]], ["a", "b"], [[1, 0], [0, 1]], id="twice-is-once"),
    ],
)
def test_sets_become_zeros_and_ones_by_class(rows: list[Any], names: list[str], expected: list[Any]) -> None:
    meta = TASK.learn(table(rows), None, options(**SETS), str)
    assert meta["labels"] == names
    found = problem_types.MultiLabel().targets(table(rows), meta, str)
    assert found.dtype == np.float32
    assert found.tolist() == expected


def test_class_labels_name_the_classes_of_sets() -> None:
    rows = table([[0], [1, 2]], datasets.List(datasets.ClassLabel(names=["x", "y", "z"])))
    meta = TASK.learn(rows, None, options(**SETS), str)
    assert meta["labels"] == ["x", "y", "z"]
    assert problem_types.MultiLabel().targets(rows, meta, str).tolist() == [[1, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize(
    ("rows", "given", "said"),
    [
        pytest.param(["a", "b"], SETS, r"t:0: column label must be a list of classes.*got 'a'", id="class-for-set"),
        pytest.param([["a"], ["b"]], {}, "t:0: column label holds a list: for several classes", id="set-for-class"),
        pytest.param(["1.5", "2"], NUMBERS, r"t:0: column label must be a finite number.*got '1.5'", id="text"),
        pytest.param([1.0, float("nan")], NUMBERS, r"t:1: .* finite number.* got nan", id="nan"),
        pytest.param([True, False], NUMBERS, r"t:0: .* finite number.* got True", id="truth"),
        pytest.param([["a"], ["a"]], SETS, "one class only", id="one-class-in-all-sets"),
    ],
)
def test_labels_of_another_kind_are_refused_with_their_place(rows: list[Any], given: dict[str, Any], said: str) -> None:
    chosen = options(**given)
    kind = problem_types.BY_NAME[chosen["problem_type"]]
    with pytest.raises(DataError, match=said):
        kind.targets(table(rows), kind.learn(table(rows), None, chosen, "t:{}".format), "t:{}".format)


def test_a_class_that_only_judged_sets_have_is_named_with_its_row() -> None:
    with pytest.raises(DataError, match=r'e:1: column label: label "d" is not among the 3 classes'):
        TASK.check(table([["a"], ["a", "d"]]), "eval", META, options(**SETS), "e:{}".format)


def test_classes_that_no_training_set_has_are_counted() -> None:
    assert TASK.check(table([["a"], []]), "train", META, options(**SETS), str) == [
        "2 of 3 classes have no training row"
    ]


def test_a_classifier_gives_no_number() -> None:
    class Config:
        num_labels = 3

    with pytest.raises(CheckpointError, match="trained for 3 classes"):
        TASK.learn(None, Config(), options(**NUMBERS), str)


class Output:
    def __init__(self, *logits: list[float]) -> None:
        self.logits = torch.tensor(logits)


def test_the_losses_are_torch_s_own_means_times_the_texts() -> None:
    sets, numbers = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), torch.tensor([1.5, -2.0])
    output = Output([2.0, -1.0, 0.3], [0.1, 0.2, -3.0])
    expected = torch.nn.BCEWithLogitsLoss()(output.logits, sets)
    assert float(TASK.loss(output, {"labels": sets}, 0.0)) / 2 == pytest.approx(float(expected))
    one = Output([1.0], [0.5])
    expected = torch.nn.MSELoss()(one.logits.squeeze(), numbers)
    assert float(TASK.loss(one, {"labels": numbers}, 0.0)) / 2 == pytest.approx(float(expected))
    with pytest.raises(TrainingError, match="label_smoothing_factor"):
        TASK.loss(one, {"labels": numbers}, 0.1)
    smooth = TASK.loss(output, {"labels": sets}, 0.2)
    assert float(smooth) / 2 == pytest.approx(float(torch.nn.BCEWithLogitsLoss()(output.logits, sets * 0.8 + 0.1)))


def test_the_threshold_has_the_best_micro_f1_of_all() -> None:
    rng = np.random.default_rng(3)
    sets = (rng.random((60, 5)) < 0.3).astype(float)
    probabilities = np.clip(0.3 * sets + 0.6 * rng.random((60, 5)), 0, 1).round(2)
    found = problem_types.best_threshold(probabilities, sets)
    scores = {t: f1_score(sets, probabilities >= t, average="micro") for t in [found, *np.linspace(0.005, 1, 200)]}
    assert scores[found] == max(scores.values())
    assert 0 < found < 1


def test_the_threshold_of_the_suite_comes_before_the_tuned_one_and_both_before_one_half() -> None:
    rows = table([["a"], ["b"]])
    logits = np.log(np.array([[0.6, 0.4, 0.3], [0.1, 0.45, 0.2]]) / (1 - np.array([[0.6, 0.4, 0.3], [0.1, 0.45, 0.2]])))
    features = type("Features", (), {"targets": {"labels": np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)}})()

    def predictions(tuned: dict[str, Any], **given: Any) -> list[Any]:
        chosen = options(**SETS, **given)
        records = TASK.decode([logits], features, rows, meta=META, options=chosen, tuned=tuned)
        assert [record["reference"] for record in records] == [[1, 0, 0], [0, 1, 0]]
        return [record["prediction"] for record in records]

    assert predictions({}) == [[1, 0, 0], [0, 0, 0]]
    assert predictions({"threshold": 0.42}) == [[1, 0, 0], [0, 1, 0]]
    assert predictions({"threshold": 0.42}, threshold=0.35) == [[1, 1, 0], [0, 1, 0]]


def test_answers_have_the_form_that_fits_the_problem() -> None:
    record = {"prediction": [0, 1, 1], "scores": [0.1, 0.9, 0.6]}
    scores = {"a": 0.1, "b": 0.9, "c": 0.6}
    assert TASK.natural_output(record, META) == LabelSet(labels=("b", "c"), scores=scores)
    assert TASK.natural_output({"prediction": 2.5, "scores": []}, NUMBERS) == 2.5
    one = {**META, "problem_type": "single_label_classification"}
    answer = TASK.natural_output({"prediction": 1, "scores": [0.1, 0.9, 0.6]}, one)
    assert answer == Classified(label="b", score=0.9, scores=scores)


def test_the_worst_come_first() -> None:
    sets = [
        {"index": 0, "prediction": [1, 0, 0], "reference": [1, 0, 0], "scores": [], "input": "x"},
        {"index": 1, "prediction": [1, 0, 0], "reference": [0, 0, 0], "scores": [], "input": "y"},
        {"index": 2, "prediction": [0, 1, 1], "reference": [1, 1, 0], "scores": [], "input": "z"},
    ]
    found = TASK.worst(sets, META, options(**SETS))
    assert [(one.index, one.gold, one.predicted) for one in found] == [(2, "a, b", "b, c"), (1, "(none)", "a")]
    numbers = [
        {"index": i, "prediction": p, "reference": 1.0, "scores": [], "input": "x"} for i, p in enumerate([1, 3])
    ]
    assert [(one.index, one.score) for one in TASK.worst(numbers, NUMBERS, options(**NUMBERS))] == [(1, 2.0), (0, 0.0)]
