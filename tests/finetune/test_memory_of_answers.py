"""What evaluation holds in memory: of a vocabulary, logits of some tokens at a time; of a split, what decoding reads;
of a case that is done, nothing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from ftcheck.finetune import memory, predict
from ftcheck.finetune.session import FineTuning
from ftcheck.tasks import head, likelihood
from ftcheck.tasks.features import EncodedRows
from tests import tiny
from tests.finetune.jobs import DOCUMENTS, ROWS, Row, job, loaded

VOCABULARY = 4000
ONE = 4 * VOCABULARY
"""Bytes of the float32 logits at one place."""
WORDS: list[Row] = [{"text": "the old cat sees a red house " * (1 + place % 3)} for place in range(24)]
PAIRS: list[Row] = [
    {"prompt": "the cat", "chosen": " sees a house" * (1 + place % 2), "rejected": " is"} for place in range(8)
]
SPEAKING: Mapping[str, tuple[str, dict[str, Any], list[Row], dict[str, Any]]] = {
    "text-generation": ("gpt2", {"head": "GPT2LMHeadModel"}, [{"text": row["text"][:40]} for row in WORDS], {}),
    "fill-mask": ("bert", {"head": "BertForMaskedLM"}, WORDS, {}),
    "preference": ("gpt2", {"head": "GPT2LMHeadModel"}, PAIRS, {}),
    "summarization": ("t5", {}, DOCUMENTS, {"max_target_length": 16}),
}
"""Task -> checkpoint, rows and options, where models speak of a whole vocabulary."""


@pytest.mark.parametrize(
    ("places", "room", "count"),
    [
        pytest.param([10, 10, 10, 10], 40, 4, id="all"),
        pytest.param([10, 10, 10, 10], 39, 3, id="one-too-many"),
        pytest.param([10, 5, 5], 20, 2, id="short-ones-are-padded"),
        pytest.param([1, 1, 30], 60, 2, id="a-long-one-at-the-end"),
        pytest.param([1, 20, 1], 60, 3, id="a-long-one-in-between"),
        pytest.param([100, 1], 60, 1, id="one-that-is-too-long-by-itself"),
    ],
)
def test_as_many_features_are_answered_as_logits_have_room(
    places: list[int], room: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "LOGITS_AT_ONCE", room * ONE)
    config = SimpleNamespace(get_text_config=lambda decoder: SimpleNamespace(vocab_size=VOCABULARY))
    assert memory.fitting(np.array(places), SimpleNamespace(config=config)) == count


@contextmanager
def speaking(task: str, folder: Path) -> Iterator[tuple[FineTuning, EncodedRows]]:
    """A run of `task` that has its model, and the rows that it is to answer."""
    kind, config, rows, options = SPEAKING[task]
    path = getattr(tiny, kind)(folder / "base", vocab_size=VOCABULARY, **config)
    with FineTuning(job(task, path, options=options), loaded=loaded(train=rows, eval=rows)) as tuning:
        tuning._start(tuning._rows())
        yield tuning, tuning._encode(tuning._rows().roles["eval"], "eval")


@pytest.mark.parametrize("task", SPEAKING)
def test_no_tensor_is_larger_than_the_logits_that_there_is_room_for(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the answers are those of batches as large as they come."""
    with speaking(task, tmp_path) as (tuning, features):
        places = tuning.task.places(features)
        assert places is not None
        room = ONE * int(2 * places.max())
        with watched() as before:
            whole = answers(tuning, features)
        monkeypatch.setattr(memory, "LOGITS_AT_ONCE", room)
        with watched() as made:
            found = answers(tuning, features)
    assert ONE * places.max() <= max(made) <= room < max(before)
    for array, same in zip(found.arrays, whole.arrays, strict=True):
        np.testing.assert_allclose(array, same, rtol=1e-5, atol=1e-5)
    assert found.loss == pytest.approx(whole.loss, rel=1e-5)
    assert found.batch_size == whole.batch_size == 64, "memory didn't run out"


@pytest.mark.parametrize("task", SPEAKING)
def test_logits_of_one_long_example_are_made_in_parts(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of one, where there is no room for its logits at all places, and the answers are the same."""
    with speaking(task, tmp_path) as (tuning, features):
        whole = answers(tuning, features)
        monkeypatch.setattr(memory, "LOGITS_AT_ONCE", 2 * ONE)
        monkeypatch.setattr(memory, "LOGITS_OF_A_PART", 2 * ONE)
        with watched() as made:
            found = answers(tuning, features)
    places = tuning.task.places(features)
    assert places is not None
    asked = ONE * min(head.ASKED_WITH, int(places.max())) * (2 if task == "preference" else 1)
    assert max(made) <= asked
    for array, same in zip(found.arrays, whole.arrays, strict=True):
        np.testing.assert_allclose(array, same, rtol=1e-5, atol=1e-5)
    assert found.loss == pytest.approx(whole.loss, rel=1e-5)


def test_losses_are_made_of_parts_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers to the last bit, by token; but in training, where a line's sum is one sum."""
    logits, labels = torch.randn(2, 50, VOCABULARY), torch.randint(0, VOCABULARY, (2, 50))
    labels[:, ::3] = -100
    with torch.inference_mode():
        losses, right = likelihood.by_token(logits, labels)
        summed = likelihood.summed(logits, labels, 0.0)
    monkeypatch.setattr(likelihood, "PART", 7 * VOCABULARY)
    with torch.no_grad(), watched() as made:  # inference_mode's losses show nothing of their inside
        parts = likelihood.by_token(logits, labels)
        assert likelihood.summed(logits, labels, 0.0) == pytest.approx(float(summed), rel=1e-6)
    assert max(made) == 7 * ONE
    assert torch.equal(parts[0], losses)
    assert torch.equal(parts[1], right)
    with watched() as made:
        assert torch.equal(likelihood.summed(logits, labels, 0.0), summed)
    assert max(made) == 50 * ONE


@pytest.mark.parametrize("task", SPEAKING)
def test_a_batch_is_gone_before_the_next_comes(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While training, too: what is kept of a split is a few numbers an example or token."""
    kind, config, rows, options = SPEAKING[task]
    path = getattr(tiny, kind)(tmp_path / "base", **config)
    alive: list[weakref.ref[Any]] = []
    most, looks = 0, 0
    run = predict._outputs

    def noted(speaker: Any, *given: Any, **more: Any) -> Any:
        nonlocal most, looks
        looks += 1
        most = max(most, sum(reference() is not None for reference in alive))
        hook = speaker.model.register_forward_hook(lambda *given: alive.append(weakref.ref(given[2].logits)))
        try:
            return run(speaker, *given, **more)
        finally:
            hook.remove()

    monkeypatch.setattr(predict, "_outputs", noted)
    steps = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 4}
    made = job(task, path, options=options, training=steps)
    with FineTuning(made, loaded=loaded(train=rows, tune=rows, eval=rows)) as tuning:
        tuning.train()
        during = looks
        tuning.predict()
    assert looks > during >= 2 * 2
    assert alive
    assert most == 0


def test_a_case_that_is_done_leaves_no_tensor_behind(bert: Path) -> None:
    """However many cases there are: what a process remembers of the first is all."""
    left = []
    for seed in range(4):
        for task in ("text-classification", "token-classification"):
            made = job(task, bert, training={"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1}, seed=seed)
            rows = ROWS[task]
            with FineTuning(made, loaded=loaded(train=rows, tune=rows, eval=rows)) as tuning:
                tuning.train()
                model, tokenizer = weakref.ref(tuning.model), weakref.ref(tuning.tokenizer)
                tuning.predict()
            assert model() is None
            assert tokenizer() is None
        left.append(sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects()))
    assert left[1:] == left[:1] * 3


def answers(tuning: FineTuning, features: Any) -> predict.Answers:
    """What the model says, 64 features at a time."""
    collate = tuning.task.collator(tuning.tokenizer, None)
    return predict.run(tuning.model, features, collate, tuning.task, device="cpu", precision="fp32", batch_size=64)


@contextmanager
def watched() -> Iterator[list[int]]:
    """The bytes of all tensors that are made meanwhile; views are none."""
    made: list[int] = []

    class Watch(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = function(*args, **(kwargs or {}))
            if not function.is_view:
                made.extend(tensor.nbytes for tensor in pytree.tree_leaves(found) if isinstance(tensor, torch.Tensor))
            return found

    with Watch():
        yield made
