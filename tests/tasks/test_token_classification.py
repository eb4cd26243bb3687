"""Alignment of tags to words, words that get lost, and entities of token classification."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest

from ftcheck import tasks
from ftcheck.errors import CheckpointError, DataError
from ftcheck.tasks.token_classification import Entity, Options

TASK = tasks.get("token-classification")
TAGS = ["B-LOC", "B-PER", "I-PER", "O"]
META = {"labels": TAGS, "from": "data"}


def options(**given: Any) -> dict[str, Any]:
    return Options(**given).model_dump()


def rows(*sentences: tuple[list[str], list[Any]]) -> datasets.Dataset:
    features = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "tags": datasets.List(datasets.Value("string"))}
    )
    return datasets.Dataset.from_list([{"tokens": t, "tags": g} for t, g in sentences], features=features)


def encoded(table: datasets.Dataset, tokenizer: Any, *, training: bool = True, **given: Any) -> Any:
    return TASK.encode(table, tokenizer, META, options(**given), training=training)


def answered(features: Any, table: datasets.Dataset, tag: str = "B-PER") -> list[dict[str, Any]]:
    """Records of a model that tags every token alike."""
    count = features.starts[-1]
    outputs = [np.full(count, TAGS.index(tag), dtype=np.int32), np.full(count, 0.5, dtype=np.float32)]
    return TASK.decode(outputs, features, table, meta=META, options=options(), tuned={})


@pytest.mark.parametrize(
    ("subwords", "expected"),
    [
        pytest.param("first", [-100, 1, -100, -100, 3, -100], id="first"),
        pytest.param("all", [-100, 1, 1, 1, 3, -100], id="all"),
    ],
)
def test_tags_stand_at_the_first_subword_or_at_all(tokenizer: Any, subwords: str, expected: list[int]) -> None:
    """`xyz` falls into three letters."""
    table = rows((["xyz", "runs"], ["B-PER", "O"]))
    assert list(encoded(table, tokenizer, label_subwords=subwords).tokens["labels"]) == expected


def test_evaluation_looks_at_first_subwords_only(tokenizer: Any) -> None:
    table = rows((["xyz", "runs"], ["B-PER", "O"]))
    features = encoded(table, tokenizer, training=False, label_subwords="all")
    assert list(features.tokens["labels"]) == [-100, 1, -100, -100, 3, -100]


@pytest.mark.parametrize("given", [["B-PER", "O"], [1, 3]], ids=["names", "ids"])
def test_tags_as_names_or_ids(tokenizer: Any, given: list[Any]) -> None:
    plain = rows((["Ann", "runs"], ["B-PER", "O"]))
    classes = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "tags": datasets.List(datasets.ClassLabel(names=TAGS))}
    )
    table = datasets.Dataset.from_list([{"tokens": ["Ann", "runs"], "tags": given}], features=classes)
    assert TASK.learn(table, None, options(), "row {}".format) == META
    assert list(encoded(table, tokenizer).tokens["labels"]) == list(encoded(plain, tokenizer).tokens["labels"])


def test_words_lost_to_truncation_are_counted_and_scored_as_O(tokenizer: Any) -> None:
    words, tags = ["Ann", "xyz", "in", "Rome"], ["B-PER", "I-PER", "O", "B-LOC"]
    table = rows((words, tags), (["Bob"], ["B-PER"]))
    features = encoded(table, tokenizer, training=False, max_length=6)
    assert features.notes == ["2 of 5 words lie beyond 6 tokens or have none: they count as tagged O"]
    records = answered(features, table)
    assert [record["predictions"] for record in records] == [["B-PER", "B-PER", "O", "O"], ["B-PER"]]
    assert [record["references"] for record in records] == [tags, ["B-PER"]]
    assert records[0]["scores"] == [0.5, 0.5, 0.0, 0.0]
    assert "not trained on" in encoded(table, tokenizer, max_length=6).notes[0]


def test_words_without_tokens_are_counted_and_scored_as_O(tokenizer: Any) -> None:
    table = rows((["Ann", "\u200b", "", "runs"], ["B-PER", "B-LOC", "O", "O"]))
    features = encoded(table, tokenizer, training=False)
    assert features.notes == ["2 of 4 words have no tokens: they count as tagged O"]
    assert answered(features, table)[0]["predictions"] == ["B-PER", "O", "O", "B-PER"]


def test_a_sentence_without_words_has_no_predictions(tokenizer: Any) -> None:
    table = rows(([], []), (["Ann"], ["B-PER"]))
    assert TASK.check(table, "eval", META, options(), "row {}".format) == ["1 of 2 eval rows have no tokens"]
    records = answered(encoded(table, tokenizer, training=False), table)
    assert [record["predictions"] for record in records] == [[], ["B-PER"]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param(rows((["a"], ["O"]), (["a", "b"], ["O"])), "d.csv:1: 2 tokens but 1 tags", id="fewer-tags"),
        pytest.param(rows((["a"], ["O", "O"])), "d.csv:0: 1 tokens but 2 tags", id="more-tags"),
        pytest.param(rows((["\x1b[2J", "b"], ["O"])), r"\x1b[2J b", id="control-characters"),
        pytest.param(
            rows((["a"], ["B-ORG"])), 'd.csv:0: column tags: label "B-ORG" is not among the 4', id="unseen-tag"
        ),
        pytest.param(
            datasets.Dataset.from_dict({"tokens": ["a b"], "tags": [["O"]]}),
            "must be a list of words",
            id="tokens-as-text",
        ),
        pytest.param(rows(([None], ["O"])), "a token must be text, got None", id="no-token"),  # type: ignore[list-item]
        pytest.param(rows((["a"], [None])), "the label is None", id="no-tag"),
    ],
)
def test_rows_that_cannot_be_used_are_named(table: datasets.Dataset, message: str) -> None:
    with pytest.raises(DataError) as raised:
        TASK.check(table, "eval", META, options(), "d.csv:{}".format)
    assert message in str(raised.value)


def test_confusions_are_counted_by_word() -> None:
    records = [
        {"index": 0, "tokens": ["a", "b"], "predictions": ["O", "O"], "references": ["B-PER", "O"], "scores": [1, 1]},
        {
            "index": 1,
            "tokens": ["a", "b"],
            "predictions": ["O", "B-LOC"],
            "references": ["B-PER", "O"],
            "scores": [1, 1],
        },
    ]
    assert [(c.gold, c.predicted, c.count) for c in TASK.confusions(records, META)] == [
        ("B-PER", "O", 2),
        ("O", "B-LOC", 1),
    ]
    worst = TASK.worst(records, META, options())
    assert [(w.index, w.gold, w.predicted, w.score) for w in worst] == [
        (1, "a/B-PER", "b/B-LOC", 0.0),
        (0, "a/B-PER", "", 0.5),
    ]
    assert TASK.worst([{**records[0], "predictions": ["B-PER", "O"]}], META, options()) == []


def test_entities_are_marked_in_their_sentence() -> None:
    record = {
        "index": 0,
        "tokens": ["Ann", "Lee", "in", "Rome"],
        "references": ["B-PER", "I-PER", "O", "B-LOC"],
        "predictions": ["B-PER", "O", "O", "B-ORG"],
        "scores": [1, 1, 1, 1],
    }
    marked = TASK.worst([record], META, options())[0].marked
    assert marked is not None
    assert [(m.role, m.label, marked.text[m.start : m.end]) for m in marked.marks] == [
        ("gold", "PER", "Ann Lee"),
        ("gold", "LOC", "Rome"),
        ("predicted", "PER", "Ann"),
        ("predicted", "ORG", "Rome"),
    ]


def test_metrics_get_tag_names() -> None:
    record = {"predictions": ["O"], "references": ["B-PER"]}
    assert TASK.score_inputs([record], META, options()) == {"tags": ([["O"]], [["B-PER"]])}


@pytest.mark.parametrize(
    ("value", "expected", "one"),
    [
        pytest.param("Ann runs", [["Ann", "runs"]], True, id="sentence"),
        pytest.param(["Ann", "runs"], [["Ann", "runs"]], True, id="words"),
        pytest.param({"tokens": ["New York"]}, [["New York"]], True, id="dict"),
        pytest.param(["Ann runs", "Bob sees"], [["Ann", "runs"], ["Bob", "sees"]], False, id="sentences"),
        pytest.param([["Ann"], ["Bob"]], [["Ann"], ["Bob"]], False, id="lists-of-words"),
        pytest.param([], [], False, id="nothing"),
    ],
)
def test_natural_input(value: Any, expected: list[list[str]], one: bool) -> None:
    assert [row["tokens"] for row in TASK.rows_from_input(value)] == expected
    assert TASK.is_one(value) is one


@pytest.mark.parametrize("value", [3, None, {"text": "Ann"}, [["Ann", 3]], {"tokens": 3}])
def test_what_is_no_sentence_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match="predict takes a sentence"):
        TASK.rows_from_input(value)


def test_entities_are_read_out_of_tags() -> None:
    record = {
        "tokens": ["Ann", "Bob", "in", "Rome"],
        "predictions": ["B-PER", "I-PER", "O", "B-LOC"],
        "scores": [0.5, 1.0, 0.9, 0.25],
    }
    assert TASK.natural_output(record, META) == [
        Entity(text="Ann Bob", type="PER", start=0, end=2, score=0.75),
        Entity(text="Rome", type="LOC", start=3, end=4, score=0.25),
    ]


def test_a_model_without_logits_per_token_is_refused() -> None:
    with pytest.raises(CheckpointError, match="no token classifier"):
        TASK.outputs(SimpleNamespace(logits=np.zeros((1, 2))), {})
