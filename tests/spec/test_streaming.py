"""What a suite may say of a stream of training rows, and what it is told of the rest before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck.errors import SuiteErrors
from ftcheck.spec import Declaration, expand
from ftcheck.spec.case import SHUFFLE_BUFFER
from tests.spec.catalogue import CATALOGUE, errors, one, suite

GOOD = "data: {path: o/d, streaming: true}, training: {max_steps: 10}"


def test_a_stream_and_its_defaults() -> None:
    data = one(GOOD).data
    assert (data.streaming, data.shuffle_buffer) == (True, SHUFFLE_BUFFER)
    assert one(GOOD.replace("true}", "true, shuffle_buffer: 0}")).data.shuffle_buffer == 0
    assert one("data: o/d").data.streaming is False


def test_a_stream_goes_with_what_needs_no_size() -> None:
    data = (
        "data: {path: o/d, streaming: true, limit: {train: 500}, "
        "splits: {train: en, tune: 'validation[:10]', eval: test+more}}"
    )
    training = "training: {max_steps: 10, eval_strategy: steps, eval_steps: 5, dataloader_num_workers: 0}"
    assert one(f"{data}, {training}").data.limit == {"train": 500}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            "data: {path: o/d, streaming: true}",
            "data.streaming: needs training.max_steps: how many steps an epoch of a stream has is not known",
            id="no-steps",
        ),
        pytest.param(
            "data: {path: o/d, streaming: true}, training: {max_steps: -1}",
            "training.max_steps: needs training.max_steps: how many",
            id="steps-by-epochs",
        ),
        pytest.param(
            "data: {path: o/d, streaming: true}, training: false",
            "data.streaming: with `training: false` there are no training rows to stream; leave it out",
            id="no-training",
        ),
        pytest.param(
            "data: {path: o/d, streaming: true, holdout: 0.1}, training: {max_steps: 10}",
            "data.holdout: can't be carved out of a stream; name other splits in data.splits",
            id="holdout",
        ),
        pytest.param(
            "data: {path: o/d, streaming: true, splits: {train: 'train[:50]'}}, training: {max_steps: 10}",
            "data.splits.train: a stream is one whole split; data.limit.train takes its first rows",
            id="slice",
        ),
        pytest.param(
            "data: {path: o/d, streaming: true, splits: {train: a+b}}, training: {max_steps: 10}",
            "data.splits.train: a stream is one whole split",
            id="two-splits",
        ),
        pytest.param(
            "data: {path: o/d, streaming: true, splits: {eval: 'test+train[:9]'}}, training: {max_steps: 10}",
            "data.splits.eval: train is streamed to train on; eval needs a split of its own",
            id="judged-by-the-stream",
        ),
        pytest.param(
            "data: {path: o/d, streaming: true}, training: {max_steps: 10, train_sampling_strategy: group_by_length}",
            "training.train_sampling_strategy: chooses among all rows, which a stream doesn't know; data.shuffle",
            id="by-length",
        ),
        pytest.param(
            "data: {path: o/d, streaming: true}, training: {max_steps: 10, dataloader_num_workers: 2}",
            "training.dataloader_num_workers: a stream is read in the training's own process; leave it out",
            id="workers",
        ),
        pytest.param(
            "data: {path: o/d, streaming: true, splits: {tune: dev}}, training: {max_steps: 9, eval_strategy: epoch}",
            "training.eval_strategy: where an epoch of a stream ends is not known; write steps",
            id="epochs",
        ),
        pytest.param(
            "data: {path: o/d, shuffle_buffer: 100}",
            "data.shuffle_buffer: goes with `streaming: true`; else all rows are shuffled",
            id="buffer-without-stream",
        ),
        pytest.param(
            "data: {path: o/d, streaming: true, shuffle_buffer: -1}, training: {max_steps: 10}",
            "data.shuffle_buffer: expected a number of at least 0, got -1",
            id="negative-buffer",
        ),
        pytest.param(
            "data: {path: o/d, streaming: 'yes'}, training: {max_steps: 10}",
            "data.streaming: expected true or false, got 'yes' (text)",
            id="text",
        ),
    ],
)
def test_what_a_stream_cannot_do_is_one_clear_error(fields: str, expected: str) -> None:
    found = errors(suite(fields))
    assert len(found) == 1
    assert found[0].partition("cases.c.")[2].startswith(expected)


def test_a_function_is_known_by_its_rows_which_a_stream_never_shows() -> None:
    def rows() -> None: ...

    given = {"checkpoint": "o/m", "task": "tagging", "training": {"max_steps": 1}}
    declaration = Declaration.of_function(
        "test_it", Path("/s/test_a.py"), 3, {**given, "data": {"path": rows, "streaming": True}}
    )
    with pytest.raises(SuiteErrors) as caught:
        expand([declaration], CATALOGUE)
    assert str(caught.value) == (
        "/s/test_a.py:3 test_it.data.streaming: what a function returns is known by all of its rows, which a stream "
        "never shows: name files or a Hub id"
    )
