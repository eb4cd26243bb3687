"""Sets of classes and numbers in text classification: labels, losses, thresholds, records, and what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import f1_score

from ftcheck import tasks
from ftcheck.errors import CheckpointError, DataError, TrainingError
from ftcheck.spec.mistakes import problems
from ftcheck.tasks.problem_types import Labelled, best_threshold
from ftcheck.tasks.text_classification import Options

TASK: Any = tasks.get("text-classification")
SINGLE, MULTI, NUMBER = "single_label_classification", "multi_label_classification", "regression"
FLOATS, BOOLEANS = (datasets.List(datasets.Value(kind)) for kind in ("float32", "bool"))
NAMES = datasets.List(datasets.ClassLabel(names=["joy", "fear", "love"]))


def options(problem_type: str = MULTI, **given: Any) -> dict[str, Any]:
    return Options(problem_type=problem_type, **given).model_dump()


def rows(given: list[Any], feature: Any = None) -> datasets.Dataset:
    table = datasets.Dataset.from_dict({"text": ["the cat runs"] * len(given), "label": given})
    return table if feature is None else table.cast_column("label", feature)


def learned(train: datasets.Dataset | None, model: Any = None, **given: Any) -> dict[str, Any]:
    meta: dict[str, Any] = TASK.learn(train, model, options(**given), "d.csv:{}".format)
    return meta


def encoded(table: datasets.Dataset, meta: dict[str, Any], tokenizer: Any, **given: Any) -> Any:
    return TASK.encode(table, tokenizer, meta, options(**given), training=True)


@pytest.mark.parametrize(
    ("train", "given", "names", "flags"),
    [
        pytest.param(rows([["b"], ["a", "b"], []]), {}, ["a", "b"], [[0, 1], [1, 1], [0, 0]], id="names"),
        pytest.param(rows([["b", "b"], ["a"]]), {}, ["a", "b"], [[0, 1], [1, 0]], id="named-twice"),
        pytest.param(rows([[], [3, 10]]), {}, ["3", "10"], [[0, 0], [1, 1]], id="ids-after-an-empty-set"),
        pytest.param(rows([[0, 1], [1]]), {"labels": ("x", "y")}, ["x", "y"], [[1, 1], [0, 1]], id="ids-named"),
        pytest.param(rows([[2], [0, 2]], NAMES), {}, ["joy", "fear", "love"], [[0, 0, 1], [1, 0, 1]], id="ClassLabels"),
        pytest.param(rows([[0.0, 1.0], [0.0, 0.0]], FLOATS), {}, ["0", "1"], [[0, 1], [0, 0]], id="flags-of-floats"),
        pytest.param(
            rows([[True, False]], BOOLEANS), {"labels": ("x", "y")}, ["x", "y"], [[1, 0]], id="flags-of-booleans"
        ),
    ],
)
def test_sets_of_classes_become_flags(
    train: datasets.Dataset, given: dict[str, Any], names: list[str], flags: list[list[int]], tokenizer: Any
) -> None:
    meta = learned(train, **given)
    assert meta["labels"] == names
    assert encoded(train, meta, tokenizer).targets["labels"].tolist() == flags
    assert TASK.model_kwargs(meta)["num_labels"] == len(names)
    assert TASK.model_kwargs(meta)["problem_type"] == MULTI


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param(rows(["a, b"]), "label must be a list of classes for each row, got 'a, b'", id="text"),
        pytest.param(rows([1]), "label must be a list of classes for each row, got 1", id="one-id"),
        pytest.param(rows([[["a"]]]), "label must be a list of classes for each row", id="lists-of-lists"),
        pytest.param(rows([["a", "c"]]), 'label "c" is not among the 2 classes', id="unknown-class"),
        pytest.param(rows([[1.0]], FLOATS), "label must be 2 flags, 0 or 1 for each class; got [1.0]", id="too-short"),
        pytest.param(rows([[0.5, 1.0]], FLOATS), "2 flags, 0 or 1 for each class; got [0.5, 1.0]", id="no-flag"),
        pytest.param(rows([[math.nan, 1.0]], FLOATS), "2 flags, 0 or 1 for each class", id="nan"),
    ],
)
def test_what_is_no_set_of_the_classes_names_its_row(table: datasets.Dataset, message: str) -> None:
    with pytest.raises(DataError) as raised:
        TASK.check(table, "eval", learned(rows([["a"], ["b"]])), options(), "d.csv:{}".format)
    assert str(raised.value).startswith("d.csv:0: column label")
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        pytest.param(rows(["a", "b"]), "d.csv:0: column label must be a list", id="text"),
        pytest.param(rows([["a"], []]), 'has one class only ("a")', id="one-class"),
        pytest.param(rows([[], []], datasets.List(datasets.Value("string"))), "one class only (none)", id="no-class"),
        pytest.param(rows([[1.0]], FLOATS), "has 1 flags: at least two classes are needed", id="one-flag"),
    ],
)
def test_sets_that_cannot_be_learned_are_refused(train: datasets.Dataset, message: str) -> None:
    with pytest.raises(DataError) as raised:
        learned(train)
    assert message in str(raised.value)


def test_a_list_of_classes_where_one_is_expected_says_what_to_set() -> None:
    with pytest.raises(DataError, match=r"d\.csv:0: column label is a list, .*problem_type: multi_label_class"):
        TASK.learn(rows([["a"], ["b"]]), None, options(SINGLE), "d.csv:{}".format)


def test_without_training_sets_are_matched_to_the_models_classes(tokenizer: Any) -> None:
    meta = learned(None, SimpleNamespace(id2label={0: "B", 1: "A"}))
    assert encoded(rows([["a"], []]), meta, tokenizer).targets["labels"].tolist() == [[0, 1], [0, 0]]


def test_classes_without_training_rows_are_said_of_sets_too() -> None:
    train = rows([[2, 0], []], NAMES)
    assert TASK.check(train, "train", learned(train), options(), "row {}".format) == [
        "1 of 3 classes have no training row"
    ]


def batch_of(features: Any, tokenizer: Any) -> Any:
    return TASK.collator(tokenizer, 8)(list(features))


def test_the_mean_loss_is_that_of_transformers_for_every_problem_type(tokenizer: Any) -> None:
    from transformers.loss.loss_utils import ForSequenceClassificationLoss

    tables: dict[str, Any] = {
        SINGLE: rows(["a", "b", "a"]),
        MULTI: rows([["a", "b"], [], ["b"]]),
        NUMBER: rows([1.5, -2, 0.25]),
    }
    for problem, table in tables.items():
        meta = learned(table, problem_type=problem)
        labels = batch_of(encoded(table, meta, tokenizer, problem_type=problem), tokenizer)["labels"]
        width = TASK.model_kwargs(meta)["num_labels"]
        logits = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
        config = SimpleNamespace(num_labels=width, problem_type=problem)
        ours = TASK.loss(SimpleNamespace(logits=logits), {"labels": labels}, 0.0) / TASK.items({"labels": labels})
        assert float(ours) == pytest.approx(float(ForSequenceClassificationLoss(labels, logits, config)), rel=1e-6)


@pytest.mark.parametrize("targets", [torch.zeros(2, 3), torch.zeros(2)], ids=[MULTI, NUMBER])
def test_label_smoothing_is_refused_where_no_text_has_one_class(targets: torch.Tensor) -> None:
    with pytest.raises(TrainingError, match=r"label_smoothing_factor 0\.1 is for one class per text"):
        TASK.loss(SimpleNamespace(logits=torch.zeros(2, 3)), {"labels": targets}, 0.1)


LOGITS = np.array([[2.0, -1.0], [0.0, 4.0], [-3.0, -3.0]], dtype=np.float32)
SETS = rows([["a"], ["b"], ["b"]])


@pytest.mark.parametrize(
    ("given", "tuned", "predicted"),
    [
        pytest.param({}, {}, [[1, 0], [1, 1], [0, 0]], id="untuned-0.5"),
        pytest.param({}, {"threshold": 0.6}, [[1, 0], [0, 1], [0, 0]], id="tuned"),
        pytest.param({"threshold": 0.2}, {"threshold": 0.6}, [[1, 1], [1, 1], [0, 0]], id="given"),
        pytest.param({"threshold": 1}, {}, [[0, 0], [0, 0], [0, 0]], id="nothing"),
        pytest.param({"threshold": 0}, {}, [[1, 1], [1, 1], [1, 1]], id="everything"),
    ],
)
def test_the_threshold_decides_which_classes_a_text_has(
    given: dict[str, Any], tuned: dict[str, Any], predicted: list[list[int]], tokenizer: Any
) -> None:
    meta = learned(SETS)
    features = encoded(SETS, meta, tokenizer)
    records = TASK.decode([LOGITS], features, SETS, meta=meta, options=options(**given), tuned=tuned)
    inputs = TASK.score_inputs(records, meta, options())
    assert inputs == {"labels": (predicted, [[1, 0], [0, 1], [0, 1]])}
    assert set(inputs) == TASK.inputs(options())
    assert records[1]["scores"] == pytest.approx([0.5, 1 / (1 + math.exp(-4))])


def test_the_threshold_is_tuned_only_for_sets_and_only_where_it_is_not_given() -> None:
    assert TASK.tunes(SETS, options())
    assert not TASK.tunes(SETS, options(threshold=0.5))
    assert not TASK.tunes(SETS, options(SINGLE))
    assert not TASK.tunes(SETS, options(NUMBER))
    assert TASK.decoding_options == {"threshold"}, "another threshold trains nothing anew"


def test_the_tuned_threshold_is_found_on_the_rows(tokenizer: Any) -> None:
    features = encoded(SETS, learned(SETS), tokenizer)
    found = TASK.tune([LOGITS], features, SETS, options())["threshold"]
    assert 0.5 < found < 1 / (1 + math.exp(-2))


@given(
    scored=st.lists(st.tuples(*[st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), st.booleans())] * 2), min_size=1)
)
def test_no_threshold_has_a_better_micro_f1(scored: list[tuple[tuple[float, bool], tuple[float, bool]]]) -> None:
    probabilities = np.array([[p for p, _ in row] for row in scored])
    flags = np.array([[int(flag) for _, flag in row] for row in scored])

    def f1(threshold: float) -> float:
        return float(f1_score(flags, probabilities >= threshold, average="micro", zero_division=0))

    chosen = best_threshold(probabilities, flags)
    assert 0 <= chosen <= 1
    assert f1(chosen) == pytest.approx(max(map(f1, (0.0, 0.1, 0.3, 0.6, 0.8, 1.0))))


def test_where_no_row_has_a_label_the_threshold_stays() -> None:
    assert best_threshold(np.array([[0.9, 0.8]]), np.zeros((1, 2))) == 0.5


def test_the_worst_sets_are_those_with_the_least_f1() -> None:
    meta = {"labels": ["a", "b"], "problem_type": MULTI}
    sets = [([1, 0], [1, 0]), ([1, 1], [1, 0]), ([0, 1], [1, 0]), ([0, 0], [0, 1]), ([0, 0], [0, 0])]
    records = [
        {"index": index, "prediction": said, "reference": gold, "scores": [0.5, 0.5], "input": "x"}
        for index, (said, gold) in enumerate(sets)
    ]
    found = TASK.worst(records, meta, options())
    assert [(one.index, one.gold, one.predicted) for one in found] == [
        (2, "a", "b"),
        (3, "b", "(no label)"),
        (1, "a", "a, b"),
    ]
    assert [one.score for one in found] == pytest.approx([0.0, 0.0, 2 / 3])
    assert TASK.confusions(records, meta) == []


def test_the_natural_output_of_a_set_names_its_classes() -> None:
    meta = {"labels": ["a", "b"], "problem_type": MULTI}
    record = {"prediction": [0, 1], "scores": [0.1, 0.8]}
    assert TASK.natural_output(record, meta) == Labelled(labels=("b",), scores={"a": 0.1, "b": 0.8})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("3.8", "must be a number, got '3.8'; a csv file's are text unless data.options.types", id="text"),
        pytest.param(True, "must be a number, got True", id="boolean"),
        pytest.param([1.0], r"must be a number, got \[1.0\]", id="list"),
        pytest.param(math.nan, "must be a finite number, got nan", id="nan"),
        pytest.param(math.inf, "must be a finite number, got inf", id="infinite"),
        pytest.param(None, "must be a number, got None", id="missing"),
    ],
)
def test_what_is_no_number_names_its_row(value: Any, message: str) -> None:
    meta = {"problem_type": NUMBER}
    with pytest.raises(DataError, match=rf"^d\.csv:0: column label {message}"):
        TASK.check(rows([value]), "eval", meta, options(NUMBER), "d.csv:{}".format)


def test_numbers_stay_as_they_are_in_records_and_are_floats_for_the_loss(tokenizer: Any) -> None:
    table = rows([3.8, 1.0])
    meta = learned(table, problem_type=NUMBER)
    features = encoded(table, meta, tokenizer, problem_type=NUMBER)
    labels = batch_of(features, tokenizer)["labels"]
    assert (labels.dtype, tuple(labels.shape)) == (torch.float32, (2,))
    logits = np.array([[0.5], [1.25]], dtype=np.float32)
    records = TASK.decode([logits], features, table, meta=meta, options=options(NUMBER), tuned={})
    assert TASK.score_inputs(records, meta, options(NUMBER)) == {"value": ([0.5, 1.25], [3.8, 1.0])}
    assert TASK.inputs(options(NUMBER)) == {"value"}
    assert [(one.index, one.gold, one.predicted) for one in TASK.worst(records, meta, options(NUMBER))] == [
        (0, "3.8", "0.5"),
        (1, "1", "1.25"),
    ]
    assert TASK.natural_output(records[1], meta) == 1.25
    assert TASK.model_kwargs(meta) == {"num_labels": 1, "problem_type": NUMBER}
    assert TASK.context(meta, options(NUMBER)).labels == ()


def test_whole_numbers_are_numbers_too(tokenizer: Any) -> None:
    table = rows([3, 1])
    features = encoded(table, learned(table, problem_type=NUMBER), tokenizer, problem_type=NUMBER)
    assert batch_of(features, tokenizer)["labels"].tolist() == [3.0, 1.0]


def test_a_classifier_cannot_be_judged_as_a_regression() -> None:
    with pytest.raises(CheckpointError, match="needs a checkpoint with one output, and this one's config has 2"):
        learned(None, SimpleNamespace(num_labels=2), problem_type=NUMBER)
    assert learned(None, SimpleNamespace(num_labels=1), problem_type=NUMBER) == {"problem_type": NUMBER}


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        pytest.param({"problem_type": NUMBER, "labels": ["a", "b"]}, "labels", "not with regression", id="labels"),
        pytest.param(
            {"problem_type": NUMBER, "positive_label": "a"},
            "positive_label",
            "goes with problem_type single_label_classification, not with regression",
            id="positive-of-a-number",
        ),
        pytest.param(
            {"problem_type": MULTI, "positive_label": "a"}, "positive_label", "not with multi_label", id="of-a-set"
        ),
        pytest.param({"threshold": 0.3}, "threshold", "goes with problem_type multi_label_classification", id="single"),
        pytest.param(
            {"problem_type": MULTI, "threshold": 30},
            "threshold",
            "expected auto or a number from 0 to 1, got 30",
            id="30",
        ),
        pytest.param({"problem_type": MULTI, "threshold": "high"}, "threshold", "expected auto or a number", id="text"),
        pytest.param({"problem_type": MULTI, "threshold": True}, "threshold", "expected auto or a number", id="true"),
        pytest.param({"problem_type": "multi"}, "problem_type", "expected one of single_label_class", id="no-such"),
    ],
)
def test_options_of_other_problem_types_are_refused_at_their_key(given: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Options.model_validate(given)
    ((path, said),) = problems(raised.value, given, Options)
    assert path == (key,)
    assert message in said


@pytest.mark.parametrize("problem", [SINGLE, MULTI, NUMBER])
def test_options_filled_in_are_options_again(problem: str) -> None:
    assert Options.model_validate(options(problem)).model_dump() == options(problem)


@pytest.mark.parametrize(("problem", "column"), [(SINGLE, "label"), (MULTI, None), (NUMBER, None)])
def test_a_holdout_is_stratified_only_by_one_class(problem: str, column: str | None) -> None:
    assert TASK.stratify_by(options(problem)) == column
