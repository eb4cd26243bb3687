"""Rows of like length make a batch; which batch comes when is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ftcheck.finetune import groups
from ftcheck.finetune.groups import Groups
from ftcheck.finetune.session import FineTuning
from ftcheck.tasks.features import EncodedRows, Ragged
from tests.finetune.jobs import TEXTS, job, loaded
from tests.techniques.trainings import case_of, mistakes

SIZE = 8
LENGTHS = np.random.default_rng(0).integers(3, 60, size=200 * SIZE + 3)


def drawn(lengths: Any, size: int, seed: int = 1) -> list[int]:
    return list(Groups(np.asarray(lengths, dtype=np.int64), size, torch.Generator().manual_seed(seed)))


@given(st.lists(st.integers(1, 9), max_size=40), st.integers(1, 7), st.integers(0, 9))
def test_each_row_comes_once_and_the_longest_in_the_first_whole_batch(lengths: list[int], size: int, seed: int) -> None:
    found = drawn(lengths, size, seed)
    assert sorted(found) == list(range(len(lengths)))
    batches = len(lengths) // size
    if batches:
        whole = [lengths[row] for row in found[: batches * size]]
        assert max(whole[:size]) == max(whole)


def test_a_batch_is_of_like_lengths_and_comes_at_any_time() -> None:
    found = LENGTHS[drawn(LENGTHS, SIZE)][: 200 * SIZE].reshape(200, SIZE)
    padding = 1 - found.sum() / (found.max(axis=1) * SIZE).sum()
    assert padding < 0.03
    at_random = LENGTHS[: 200 * SIZE].reshape(200, SIZE)
    assert 1 - at_random.sum() / (at_random.max(axis=1) * SIZE).sum() > 0.3
    longest = found.max(axis=1)[1:]
    neighbours = np.corrcoef(longest[:-1], longest[1:])[0, 1]
    assert abs(neighbours) < 0.25
    assert abs(np.corrcoef(np.arange(199), longest)[0, 1]) < 0.25


def test_what_is_left_over_is_of_any_length() -> None:
    left = [LENGTHS[drawn(LENGTHS, SIZE, seed)[-3:]] for seed in range(20)]
    assert 25 < np.mean(left) < 38


def test_epochs_differ_and_the_seed_decides() -> None:
    sampler = Groups(LENGTHS, SIZE, torch.Generator().manual_seed(1))
    first, second = list(sampler), list(sampler)
    assert first != second
    assert first == drawn(LENGTHS, SIZE)
    batches = [{frozenset(epoch[low : low + SIZE]) for low in range(0, 200 * SIZE, SIZE)} for epoch in (first, second)]
    assert len(batches[0] & batches[1]) < 5


def test_what_a_decoder_writes_counts_too() -> None:
    features = EncodedRows(tokens={"input_ids": np.zeros(7, dtype=np.int32)}, starts=np.array([0, 2, 7]))
    assert groups.of(features, 1).lengths.tolist() == [2, 5]
    both = EncodedRows(
        tokens=features.tokens, starts=features.starts, ragged={"labels": Ragged.of([np.arange(4), np.arange(1)])}
    )
    assert groups.of(both, 1).lengths.tolist() == [6, 6]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_it_is_what_a_training_goes_by(accumulated: int, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All batches of an optimizer step are of like length, so that halving them changes no step."""
    sizes = []

    def of(features: EncodedRows, size: int) -> Groups:
        sizes.append(size)
        return made(features, size)

    made = groups.of
    monkeypatch.setattr(groups, "of", of)
    training = {"max_steps": 2, "per_device_train_batch_size": 2, "gradient_accumulation_steps": accumulated}
    losses = {}
    for within in ("batch", "groups"):
        asked = job("text-classification", bert, training=training, techniques={"padding": {"within": within}})
        with FineTuning(asked, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning:
            losses[within] = tuning.train().first_losses
    assert sizes == [2 * accumulated]
    assert losses["groups"] != losses["batch"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param(
            "training: {train_sampling_strategy: group_by_length}",
            "padding: groups can't be combined with training.train_sampling_strategy: group_by_length, another order "
            "of rows",
            id="another order",
        ),
        pytest.param(
            "data: {path: org/data, streaming: true}, training: {max_steps: 10}",
            "padding: groups are chosen among all rows, which a stream doesn't know; data.shuffle_buffer shuffles it",
            id="streamed",
        ),
    ],
)
def test_what_groups_cannot_be_combined_with(fields: str, says: str) -> None:
    assert f"c.{says}" in [mistake.removeprefix("cases.") for mistake in mistakes(f"padding: groups, {fields}")]


def test_a_random_order_may_be_said() -> None:
    case = case_of("padding: groups, training: {train_sampling_strategy: random}")
    assert case.techniques["padding"] == {"within": "groups"}
