"""Choices and labels in every form, what the model reads, padded batches, the loss, records and natural input."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from ftcheck import tasks
from ftcheck.errors import CheckpointError, DataError
from ftcheck.tasks.multiple_choice import MOST_CHOICES, Chosen, Options

TASK: Any = tasks.get("multiple-choice")
OPTIONS = Options().model_dump()
TEXTS = ["the cat runs", "a dog"]
META: dict[str, Any] = {}


def rows(labels: list[Any], choices: list[Any] | None = None, **more: list[Any]) -> datasets.Dataset:
    given = [TEXTS] * len(labels) if choices is None else choices
    return datasets.Dataset.from_dict(
        {"question": ["who sees"] * len(labels), "choices": given, "label": labels, **more}
    )


def encoded(table: datasets.Dataset, tokenizer: Any, **given: Any) -> Any:
    return TASK.encode(table, tokenizer, META, Options(**given).model_dump(), training=True)


UNEVEN = rows([1, 2, 0], [TEXTS, ["moon", "the red fish eats", "sun"], ["", "big house", "bob", "eve"]])


@pytest.mark.parametrize(
    ("table", "places"),
    [
        pytest.param(rows([1, 0]), [1, 0], id="places"),
        pytest.param(rows(["a dog", "the cat runs"]), [1, 0], id="texts"),
        pytest.param(rows([1]).cast_column("label", datasets.ClassLabel(names=["A", "B"])), [1], id="ClassLabel"),
        pytest.param(rows(["1"], [["2", "1"]]), [1], id="a-text-that-is-a-number"),
        pytest.param(UNEVEN, [1, 2, 0], id="different-numbers"),
    ],
)
def test_a_label_is_a_place_or_a_text(table: datasets.Dataset, places: list[int], tokenizer: Any) -> None:
    assert TASK.check(table, "train", META, OPTIONS, "row {}".format) == []
    assert encoded(table, tokenizer).targets["labels"].tolist() == places


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param(rows([2]), "column label: there are choices 0 to 1, and no 2", id="no-such-place"),
        pytest.param(rows([-1]), "no -1 (is this split published without labels?)", id="unlabelled"),
        pytest.param(rows(["cat"]), "and 'cat' is not among them: ['the cat runs', 'a dog']", id="no-such-text"),
        pytest.param(rows(["a"], [["a", "a"]]), "and 'a' is there more than once", id="two-such-texts"),
        pytest.param(rows([True]), "column label must be the right choice's place", id="boolean"),
        pytest.param(rows([1.0]), "column label must be the right choice's place", id="float"),
        pytest.param(rows([0], ["a, b"]), "column choices must be a list of texts, got 'a, b'", id="text-for-choices"),
        pytest.param(rows([0], [[1, 2]]), "column choices must be a list of texts, got [1, 2]", id="numbers"),
        pytest.param(rows([0], [["a"]]), "column choices must have 2 to 26 texts, got 1", id="one-choice"),
        pytest.param(rows([0], [["a"] * 27]), "column choices must have 2 to 26 texts, got 27", id="too-many"),
        pytest.param(rows([0], context=[3]), "column context must be text, got 3", id="context"),
    ],
)
def test_what_cannot_be_used_names_its_row(table: datasets.Dataset, message: str) -> None:
    with pytest.raises(DataError) as raised:
        TASK.check(table, "eval", META, OPTIONS, "d.csv:{}".format)
    assert str(raised.value).startswith("d.csv:0: column ")
    assert message in str(raised.value)


@pytest.mark.parametrize("context", [None, "the sun"], ids=["question", "context"])
def test_the_model_reads_what_the_swag_example_of_transformers_makes(context: str | None, tokenizer: Any) -> None:
    table = rows([0]) if context is None else rows([0], context=[context])
    batch = TASK.collator(tokenizer, None)([encoded(table, tokenizer)[0]])
    first = ["who sees"] * 2 if context is None else [context] * 2
    second = TEXTS if context is None else [f"who sees {text}" for text in TEXTS]
    expected = tokenizer(first, second, padding=True, return_tensors="pt")
    assert set(batch) == {*expected, "labels", "choices"}
    for name, tensor in expected.items():
        assert torch.equal(batch[name], tensor[None])


def test_rows_with_fewer_choices_are_filled_up_with_their_first(tokenizer: Any) -> None:
    features = encoded(UNEVEN, tokenizer)
    batch = TASK.collator(tokenizer, 8)(list(features))
    assert {tuple(batch[name].shape) for name in ("input_ids", "token_type_ids", "attention_mask")} == {(3, 4, 16)}
    assert batch["choices"].tolist() == [2, 3, 4]
    assert torch.equal(batch["input_ids"][0, 2], batch["input_ids"][0, 0])
    assert bool(batch["attention_mask"].sum(dim=-1).gt(0).all()), "attention to nothing would be NaN"
    alone = TASK.collator(tokenizer, 16)([features[1]])
    assert torch.equal(batch["input_ids"][1, :3], alone["input_ids"][0])


def test_cut_choices_are_counted(tokenizer: Any) -> None:
    features = encoded(UNEVEN, tokenizer, max_length=6)
    assert features.notes == ["4 choices were cut at 6 tokens"]


def test_many_chunks_are_one(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcheck.tasks import features as made

    whole = encoded(UNEVEN, tokenizer)
    monkeypatch.setattr(made, "CHUNK", 2)
    parts = encoded(UNEVEN, tokenizer)
    assert list(whole.starts) == list(parts.starts)
    assert all(list(whole.tokens[name]) == list(parts.tokens[name]) for name in whole.tokens)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_cross_entropy_over_the_choices_that_a_row_has(smoothing: float) -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = {"labels": torch.tensor([1, 2, 0]), "choices": torch.tensor([2, 3, 4])}
    loss = TASK.loss(SimpleNamespace(logits=logits), targets, smoothing)
    expected = sum(
        torch.nn.functional.cross_entropy(logits[row, :count][None], label[None], label_smoothing=smoothing)
        for row, (label, count) in enumerate(zip(targets["labels"], targets["choices"], strict=True))
    )
    assert loss.item() == pytest.approx(torch.as_tensor(expected).item(), rel=1e-6)
    assert TASK.items(targets) == 3
    loss.backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    assert logits.grad[0, 2:].tolist() == [0.0, 0.0]


def test_what_a_row_is_filled_up_with_is_never_chosen(tokenizer: Any) -> None:
    features = encoded(UNEVEN, tokenizer)
    logits = torch.tensor([[1.0, 2.0, 9.0, 9.0], [0.0, 1.0, 0.0, 9.0], [0.0, 0.0, 0.0, 5.0]])
    (found,) = TASK.outputs(SimpleNamespace(logits=logits), {"choices": torch.tensor([2, 3, 4])})
    assert tuple(found.shape) == (3, MOST_CHOICES)
    records = TASK.decode([found.numpy()], features, UNEVEN, meta=META, options=OPTIONS, tuned={})
    assert [(r["prediction"], r["reference"], len(r["scores"])) for r in records] == [(1, 1, 2), (1, 2, 3), (3, 0, 4)]
    assert [sum(r["scores"]) for r in records] == pytest.approx([1.0, 1.0, 1.0])
    inputs = TASK.score_inputs(records, META, OPTIONS)
    assert set(inputs) == TASK.inputs(OPTIONS)
    assert inputs["label"] == ([1, 1, 3], [1, 2, 0])
    scores, references = inputs["scores"]
    assert np.shape(scores) == (3, len(TASK.context(META, OPTIONS).labels))
    assert references == [1, 2, 0]
    worst = TASK.worst(records, META, OPTIONS)
    assert [(one.index, one.gold, one.predicted) for one in worst] == [(2, "", "eve"), (1, "sun", "the red fish eats")]


def test_records_without_references(tokenizer: Any) -> None:
    table = UNEVEN.remove_columns("label")
    logits = np.zeros((3, MOST_CHOICES), dtype=np.float32)
    records = TASK.decode([logits], encoded(table, tokenizer), table, meta=META, options=OPTIONS, tuned={})
    assert [record["reference"] for record in records] == [None, None, None]


@pytest.mark.parametrize("output", [object(), SimpleNamespace(logits=np.zeros((1, 2, 3)))])
def test_a_model_without_logits_per_choice_is_refused(output: Any) -> None:
    with pytest.raises(CheckpointError, match="no multiple choice model"):
        TASK.outputs(output, {"choices": torch.tensor([2])})


ROW = {"question": "who", "choices": ["a", "b"]}


@pytest.mark.parametrize(
    ("value", "expected", "one"),
    [
        pytest.param(("who", ["a", "b"]), [ROW], True, id="pair"),
        pytest.param(("who", ("a", "b")), [ROW], True, id="tuple-of-choices"),
        pytest.param({**ROW, "context": None}, [ROW], True, id="dict"),
        pytest.param({**ROW, "context": "x"}, [{**ROW, "context": "x"}], True, id="context"),
        pytest.param([("who", ["a", "b"]), ROW], [ROW, ROW], False, id="list"),
        pytest.param([], [], False, id="nothing"),
    ],
)
def test_natural_input(value: Any, expected: list[dict[str, Any]], one: bool) -> None:
    assert (TASK.rows_from_input(value), TASK.is_one(value)) == (expected, one)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("who", "predict takes a pair", id="text"),
        pytest.param(("who",), "predict takes a pair", id="question-only"),
        pytest.param({"question": 3, "choices": ["a", "b"]}, "predict takes a pair", id="number"),
        pytest.param(("who", "ab"), "choices must be a list of texts", id="text-for-choices"),
        pytest.param(("who", ["a"]), "must have 2 to 26 texts", id="one-choice"),
        pytest.param([ROW, {**ROW, "context": "x"}], "with or without a context, not both", id="both"),
    ],
)
def test_what_is_no_question_is_refused(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        TASK.rows_from_input(value)


def test_natural_output() -> None:
    record = {"prediction": 1, "scores": [0.25, 0.75], "choices": ["a", "b"]}
    assert TASK.natural_output(record, META) == Chosen(choice="b", index=1, score=0.75, scores=(0.25, 0.75))
