"""Labels in every form they come in, pairs, truncation, records and natural input of text classification."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest

from ftcheck import tasks
from ftcheck.errors import CheckpointError, DataError
from ftcheck.tasks import labels
from ftcheck.tasks.text_classification import Classified, Options

TASK: Any = tasks.get("text-classification")


def options(**given: Any) -> dict[str, Any]:
    return Options(**given).model_dump()


def rows(given: list[Any], **features: Any) -> datasets.Dataset:
    table = datasets.Dataset.from_dict({"text": ["the cat runs"] * len(given), "label": given})
    return table.cast_column("label", features["label"]) if "label" in features else table


def config(*names: str) -> SimpleNamespace:
    return SimpleNamespace(id2label=dict(enumerate(names)))


def learned(train: datasets.Dataset | None, model: Any = None, **given: Any) -> dict[str, Any]:
    meta: dict[str, Any] = TASK.learn(train, model, options(**given), "d.csv:{}".format)
    return meta


CLASSES = datasets.ClassLabel(names=["neg", "neutral", "pos"])


@pytest.mark.parametrize(
    ("train", "given", "names", "ids"),
    [
        pytest.param(rows(["b", "a", "b"]), {}, ["a", "b"], [1, 0, 1], id="names-sorted"),
        pytest.param(rows([10, 9, 2]), {}, ["2", "9", "10"], [2, 1, 0], id="ids-sorted-as-numbers"),
        pytest.param(rows([True, False]), {}, ["False", "True"], [1, 0], id="booleans"),
        pytest.param(rows([-1, 1]), {}, ["-1", "1"], [0, 1], id="signs"),
        pytest.param(
            rows([2, 0], label=CLASSES), {}, ["neg", "neutral", "pos"], [2, 0], id="ClassLabel-keeps-absent-classes"
        ),
        pytest.param(rows(["b", "a"]), {"labels": ("c", "b", "a")}, ["c", "b", "a"], [1, 2], id="the-suite-names-them"),
        pytest.param(rows([1, 0, 1]), {"labels": ("neg", "pos")}, ["neg", "pos"], [1, 0, 1], id="the-suite-names-ids"),
        pytest.param(rows([5, 4]), {"labels": ("4", "5")}, ["4", "5"], [1, 0], id="the-suite-names-numbers"),
    ],
)
def test_classes_are_learned_from_training_rows(
    train: datasets.Dataset, given: dict[str, Any], names: list[str], ids: list[int]
) -> None:
    meta = learned(train, **given)
    assert meta["labels"] == names
    assert labels.ids(train, "label", meta) == ids
    assert TASK.model_kwargs(meta)["label2id"] == {name: index for index, name in enumerate(names)}
    assert TASK.context(meta, options()).labels == tuple(names)


@pytest.mark.parametrize(
    ("judged", "model", "given", "ids"),
    [
        pytest.param(rows(["pos", "neg"]), config("neg", "pos"), {}, [1, 0], id="names"),
        pytest.param(rows(["pos", "neg"]), config("NEG", "POS"), {}, [1, 0], id="names-ignoring-case"),
        pytest.param(rows([1, 0]), config("LABEL_0", "LABEL_1"), {}, [1, 0], id="ids-of-a-nameless-model"),
        pytest.param(rows([2, 0], label=CLASSES), config("pos", "neutral", "neg"), {}, [0, 2], id="ClassLabel-by-name"),
        pytest.param(
            rows([2, 0], label=CLASSES), config("LABEL_0", "LABEL_1", "LABEL_2"), {}, [2, 0], id="ClassLabel-by-id"
        ),
        pytest.param(
            rows(["pos", "neg"]), config("LABEL_0", "LABEL_1"), {"labels": ("neg", "pos")}, [1, 0], id="named-by-suite"
        ),
        pytest.param(rows([1, 0]), config("NO", "YES"), {"labels": ("neg", "pos")}, [1, 0], id="ids-named-by-suite"),
        pytest.param(rows([4, 5]), config("4", "5"), {}, [0, 1], id="numbers-that-are-names"),
    ],
)
def test_without_training_the_models_classes_are_matched(
    judged: datasets.Dataset, model: Any, given: dict[str, Any], ids: list[int]
) -> None:
    assert labels.ids(judged, "label", learned(None, model, **given)) == ids


@pytest.mark.parametrize(
    ("judged", "model", "message"),
    [
        pytest.param(rows(["good"]), config("neg", "pos"), 'the model knows no class "good"', id="other-names"),
        pytest.param(rows([1]), config("neg", "pos"), 'no class "1"', id="ids-of-a-model-with-names"),
        pytest.param(rows(["good"]), config("LABEL_0", "LABEL_1"), "labels: [...]", id="names-for-a-nameless-model"),
        pytest.param(rows([2]), config("LABEL_0", "LABEL_1"), 'no class "2"', id="beyond-a-nameless-models"),
        pytest.param(
            rows([0], label=CLASSES), config("LABEL_0", "LABEL_1"), 'no class "neg"', id="another-number-of-classes"
        ),
    ],
)
def test_classes_that_do_not_match_the_models_are_refused(judged: datasets.Dataset, model: Any, message: str) -> None:
    with pytest.raises(DataError) as raised:
        TASK.check(judged, "eval", learned(None, model), options(), "d.csv:{}".format)
    assert message in str(raised.value)
    assert str(raised.value).startswith("d.csv:0: column label")


@pytest.mark.parametrize("model", [SimpleNamespace(), SimpleNamespace(id2label={}), SimpleNamespace(id2label=None)])
def test_a_model_without_classes_cannot_be_judged_as_it_is(model: Any) -> None:
    with pytest.raises(CheckpointError, match="names no classes"):
        learned(None, model)


def test_as_many_names_as_the_model_has_classes() -> None:
    with pytest.raises(CheckpointError, match="names 3 classes, but the checkpoint was trained for 2"):
        learned(None, config("a", "b"), labels=("a", "b", "c"))


def test_a_label_seen_only_in_evaluation_names_row_and_label() -> None:
    meta = learned(rows(["neg", "pos"]))
    with pytest.raises(DataError) as raised:
        TASK.check(rows(["neg", "poss"]), "eval", meta, options(), "d.csv:{}".format)
    assert 'd.csv:1: column label: label "poss" is not among the 2 classes of the training rows' in str(raised.value)
    assert "did you mean pos?" in str(raised.value)


@pytest.mark.parametrize(
    ("names", "label"),
    [
        pytest.param(("neg", "pos"), 2, id="no-such-id"),
        pytest.param(("neg", "pos"), -1, id="below-0"),
        pytest.param(("neg", "pos"), "0", id="text"),
        pytest.param(("1", "2", "many"), 0, id="a-name-that-was-forgotten"),
    ],
)
def test_a_label_that_the_suites_names_lack_is_refused(names: tuple[str, ...], label: Any) -> None:
    meta = learned(rows(["neg", "pos"]), labels=names)
    with pytest.raises(
        DataError, match=rf'd.csv:0: column label: label "{label}" is not among the {len(names)} of task'
    ):
        TASK.check(rows([label]), "eval", meta, options(), "d.csv:{}".format)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        pytest.param(rows(["a", "a"]), 'one class only ("a")', id="one-class"),
        pytest.param(rows([1, 1], label=CLASSES), 'one class only ("neutral")', id="one-of-three"),
        pytest.param(rows(["a", None]), "d.csv:1: column label: the label is None", id="missing"),
        pytest.param(rows([0.0, 1.0]), "the label is 0.0: labels are names or whole numbers", id="floats"),
        pytest.param(rows(["a\x1b[31m", "a\x1b[31m"]), r"a\x1b[31m", id="control-characters"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(train: datasets.Dataset, message: str) -> None:
    with pytest.raises(DataError) as raised:
        learned(train)
    assert message in str(raised.value)


def test_an_unlabelled_glue_split_is_explained() -> None:
    table = rows([-1], label=datasets.Value("int64"))
    with pytest.raises(DataError, match='label "-1" is not among'):
        TASK.check(table, "eval", learned(rows([0, 1])), options(), "row {}".format)


def test_a_positive_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(DataError, match='positive_label "spam" is no class; there are: a, b'):
        learned(rows(["a", "b"]), positive_label="spam")


def test_text_that_is_none_names_its_row() -> None:
    table = datasets.Dataset.from_dict({"text": ["a", None], "label": ["x", "y"]})
    with pytest.raises(DataError, match=r"d\.csv:1: column text must be text, got None"):
        TASK.check(table, "train", learned(table), options(), "d.csv:{}".format)


def test_classes_without_training_rows_are_said() -> None:
    train = rows([2, 0], label=CLASSES)
    assert TASK.check(train, "train", learned(train), options(), "row {}".format) == [
        "1 of 3 classes have no training row"
    ]
    assert TASK.check(train, "eval", learned(train), options(), "row {}".format) == []


def test_texts_are_encoded_as_the_tokenizer_does_and_cuts_are_counted(tokenizer: Any) -> None:
    texts = ["", "the cat", "the cat runs to the river", "the cat runs", "\x00 \u202e"]
    table = datasets.Dataset.from_dict({"text": texts, "label": ["a", "b", "a", "b", "a"]})
    meta = learned(table)
    features = TASK.encode(table, tokenizer, meta, options(max_length=5), training=True)
    expected = tokenizer(texts, truncation=True, max_length=5)
    assert [list(one["input_ids"]) for one in features] == expected["input_ids"]
    assert features.notes == ["1 of 5 texts were cut at 5 tokens"]
    assert [int(one["labels"]) for one in features] == [0, 1, 0, 1, 0]


def test_pairs_are_encoded_together(tokenizer: Any) -> None:
    table = datasets.Dataset.from_dict(
        {"text": ["the cat", "a dog"], "text_pair": ["runs", "sleeps"], "label": ["a", "b"]}
    )
    features = TASK.encode(table, tokenizer, learned(table), options(), training=True)
    expected = tokenizer(["the cat", "a dog"], ["runs", "sleeps"])
    assert [list(one["input_ids"]) for one in features] == expected["input_ids"]
    assert [list(one["token_type_ids"]) for one in features] == expected["token_type_ids"]


def test_many_chunks_are_one(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcheck.tasks import features as made

    texts = [" ".join(["cat"] * (place % 7)) for place in range(50)]
    table = datasets.Dataset.from_dict({"text": texts, "label": [place % 2 for place in range(50)]})
    whole = TASK.encode(table, tokenizer, learned(table), options(max_length=5), training=True)
    monkeypatch.setattr(made, "CHUNK", 7)
    parts = TASK.encode(table, tokenizer, learned(table), options(max_length=5), training=True)
    assert list(whole.starts) == list(parts.starts)
    assert list(whole.tokens["input_ids"]) == list(parts.tokens["input_ids"])
    assert whole.notes == parts.notes


RECORDS = [
    {"index": 0, "prediction": 0, "reference": 0, "scores": [0.9, 0.1], "input": "a"},
    {"index": 1, "prediction": 0, "reference": 1, "scores": [0.6, 0.4], "input": "b"},
    {"index": 2, "prediction": 0, "reference": 1, "scores": [0.9, 0.1], "input": "c"},
    {"index": 3, "prediction": 1, "reference": 0, "scores": [0.3, 0.7], "input": "d"},
]
META = {"problem_type": "single_label_classification", "labels": ["no", "yes"], "from": "data"}


def test_the_commonest_confusions_come_first() -> None:
    found = TASK.confusions(RECORDS, META)
    assert [(one.gold, one.predicted, one.count) for one in found] == [("yes", "no", 2), ("no", "yes", 1)]
    assert TASK.confusions([], META) == []


def test_the_worst_are_the_wrong_ones_that_the_model_was_surest_of() -> None:
    found = TASK.worst(RECORDS, META, options())
    assert [one.index for one in found] == [2, 3, 1]
    assert (found[0].gold, found[0].predicted, found[0].score, found[0].input) == ("yes", "no", 0.1, "c")


def test_logits_become_records_in_the_rows_order(tokenizer: Any) -> None:
    table = datasets.Dataset.from_dict({"text": ["cat", "dog"], "label": ["yes", "no"]})
    features = TASK.encode(table, tokenizer, META, options(), training=False)
    logits = np.array([[0.0, 2.0], [3.0, 0.0]], dtype=np.float32)
    records = TASK.decode([logits], features, table, meta=META, options=options(), tuned={})
    assert [(r["index"], r["prediction"], r["reference"], r["input"]) for r in records] == [
        (0, 1, 1, "cat"),
        (1, 0, 0, "dog"),
    ]
    assert records[0]["scores"] == pytest.approx([0.1192029, 0.8807971])
    inputs = TASK.score_inputs(records, META, options())
    assert inputs["label"] == ([1, 0], [1, 0])
    assert inputs["scores"] == ([records[0]["scores"], records[1]["scores"]], [1, 0])


@pytest.mark.parametrize(
    ("value", "expected", "one"),
    [
        pytest.param("a", [{"text": "a"}], True, id="text"),
        pytest.param(("a", "b"), [{"text": "a", "text_pair": "b"}], True, id="pair"),
        pytest.param({"text": "a", "text_pair": None}, [{"text": "a"}], True, id="dict"),
        pytest.param(["a", "b"], [{"text": "a"}, {"text": "b"}], False, id="list"),
        pytest.param([], [], False, id="nothing"),
    ],
)
def test_natural_input(value: Any, expected: list[dict[str, str]], one: bool) -> None:
    assert (TASK.rows_from_input(value), TASK.is_one(value)) == (expected, one)


@pytest.mark.parametrize(
    "value", [3, None, ("a",), ("a", 3), {"label": "x"}, ["a", 3], ["a", ("b", "c")], {"text": None}]
)
def test_what_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="predict takes"):
        TASK.rows_from_input(value)


def test_natural_output() -> None:
    assert TASK.natural_output(RECORDS[3], META) == Classified(label="yes", score=0.7, scores={"no": 0.3, "yes": 0.7})


@pytest.mark.parametrize("output", [object(), SimpleNamespace(logits=np.zeros((1, 2, 3)))])
def test_a_model_without_logits_per_text_is_refused(output: Any) -> None:
    with pytest.raises(CheckpointError, match="no sequence classifier"):
        TASK.outputs(output, {})
