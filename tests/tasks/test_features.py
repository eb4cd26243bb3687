"""Flat arrays hold what lists would; the collator pads as the tokenizer would."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest

from ftcheck import tasks
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
