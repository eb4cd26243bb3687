"""Flat arrays hold what lists would; the collator pads as the tokenizer would."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest

from ftcheck import tasks
from ftcheck.tasks import features as encoded
from ftcheck.tasks.features import collator

TEXTS = ["the cat", "", "a dog runs to the river", "Eve sees"]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("multiple", [None, 8])
def test_batches_are_padded_as_the_tokenizer_pads_them(tokenizer: Any, side: str, multiple: int | None) -> None:
    import torch

    task: Any = tasks.get("text-classification")
    chosen = task.options().model_dump()
    table = datasets.Dataset.from_dict({"text": TEXTS, "label": ["a", "b", "a", "b"]})
    features = task.encode(table, tokenizer, task.learn(table, None, chosen, str), chosen, training=True)
    tokenizer.padding_side = side
    try:
        batch = collator(tokenizer, multiple)([features[index] for index in (2, 0, 3, 1)])
        expected = tokenizer.pad(
            tokenizer([TEXTS[index] for index in (2, 0, 3, 1)]), return_tensors="pt", pad_to_multiple_of=multiple
        )
    finally:
        tokenizer.padding_side = "right"
    assert set(batch) == {*expected, "labels"}
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert batch["labels"].tolist() == [0, 0, 1, 1]


def test_labels_of_tokens_are_padded_with_what_no_loss_counts(tokenizer: Any) -> None:
    examples = [
        {"input_ids": np.array([1, 2]), "labels": np.array([0, 1])},
        {"input_ids": np.array([1]), "labels": np.array([1])},
    ]
    assert collator(tokenizer, None)(examples)["labels"].tolist() == [[0, 1], [1, -100]]


def test_features_end(tokenizer: Any) -> None:
    task: Any = tasks.get("text-classification")
    chosen = task.options().model_dump()
    table = datasets.Dataset.from_dict({"text": TEXTS, "label": ["a", "b", "a", "b"]})
    features = task.encode(table, tokenizer, task.learn(table, None, chosen, str), chosen, training=True)
    assert len(list(features)) == 4
    with pytest.raises(IndexError):
        features[4]


def test_texts_are_tokenized_as_many_at_a_time_as_have_some_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoded, "CHUNK", 5)
    monkeypatch.setattr(encoded, "CHARACTERS", 10)
    table = datasets.Dataset.from_dict(
        {"text": ["a" * 4, "b" * 6, "c", "d" * 30, "e", "f", "g" * 3], "words": [[]] * 6 + [["x" * 5, "y" * 3]]}
    )
    assert [(part.start, part.stop) for part in encoded.pieces(table, "text", "words", "none")] == [
        (0, 2),
        (2, 3),
        (3, 4),
        (4, 5),
        (5, 6),
        (6, 7),
    ]
    assert list(encoded.pieces(table.select([]), "text")) == []


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "question-answering", "fill-mask"])
def test_what_is_encoded_is_the_same_however_many_texts_at_a_time(
    task: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.finetune.jobs import ROWS

    chosen: Any = tasks.get(task)
    options = chosen.options().model_dump()
    table = datasets.Dataset.from_list(ROWS.get(task, [{"text": text} for text in TEXTS]))
    meta = chosen.learn(table, None, options, str)
    whole = chosen.encode(table, tokenizer, meta, options, training=False)
    monkeypatch.setattr(encoded, "CHARACTERS", 12)
    parts = chosen.encode(table, tokenizer, meta, options, training=False)
    assert len(list(encoded.pieces(table, *table.column_names))) > 1
    assert np.array_equal(parts.starts, whole.starts)
    for name, values in whole.tokens.items():
        assert np.array_equal(parts.tokens[name], values)
    for name, values in whole.aside.items():
        assert np.array_equal(parts.aside[name], values)
