"""Memory that runs out: one error that says what to set, or smaller batches that train the same."""

from __future__ import annotations

import errno
import gc
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ftcheck.errors import OutOfMemoryError, TechniqueError, TrainingError
from ftcheck.finetune import memory
from ftcheck.finetune.session import FineTuning
from ftcheck.tasks.summarization import Summarization
from ftcheck.tasks.text_classification import TextClassification
from tests.finetune.jobs import DOCUMENTS, TEXTS, job, loaded

TEXT = "text-classification"
CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139.80 GiB of which 1.19 GiB is "
    "free. Of the allocated memory 137 GiB is allocated by PyTorch."
)
HOST = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000000000 bytes. Error code 12 (Cannot allocate memory)"  # noqa: E501
TRAINING = {"num_train_epochs": 2, "per_device_train_batch_size": 16, "learning_rate": 1e-3}


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """(the largest batch that there is memory for when training) -> the sizes of all batches that are tried."""

    def give(largest: int) -> list[int]:
        tried: list[int] = []
        loss = TextClassification.loss

        def bounded(self: Any, output: Any, targets: Any, label_smoothing: float) -> Any:
            if torch.is_grad_enabled():
                tried.append(len(targets["labels"]))
                if tried[-1] > largest:
                    raise torch.OutOfMemoryError(CUDA)
            return loss(self, output, targets, label_smoothing)

        monkeypatch.setattr(TextClassification, "loss", bounded)
        return tried

    return give


def trained(made: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    with FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning:
        return tuning.train(), {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}


@pytest.mark.parametrize(
    ("error", "runs_out", "says"),
    [
        pytest.param(torch.OutOfMemoryError(CUDA), True, "2.50 GiB more were asked for, 1.19 GiB of 139.80", id="cuda"),
        pytest.param(RuntimeError(HOST), True, "(3,815 MiB more were asked for)", id="torch-on-the-host"),
        pytest.param(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), True, "", id="cublas"),
        pytest.param(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True, "", id="mps"),
        pytest.param(MemoryError(), True, "", id="python"),
        pytest.param(MemoryError("Unable to allocate 7.45 GiB for an array"), True, "7.45 GiB more", id="numpy"),
        pytest.param(OSError(errno.ENOMEM, "Cannot allocate memory"), True, "", id="fork"),
        pytest.param(RuntimeError("unable to mmap 400 bytes from file: Cannot allocate memory"), True, "", id="mmap"),
        pytest.param(RuntimeError("a bug"), False, "", id="another-error"),
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), False, "", id="disk"),
        pytest.param(ValueError("out of memory"), False, "", id="words-of-a-value-error"),
    ],
)
def test_memory_that_runs_out_is_told_from_other_errors(error: Exception, runs_out: bool, says: str) -> None:
    assert memory.out_of_memory(error) is runs_out
    if not runs_out:
        return
    with pytest.raises(TrainingError) as raised, memory.explained("cuda:0", "doing this", "do that"):
        raise error
    assert says in str(raised.value)
    assert str(raised.value).endswith(": do that")
    on_device = "CUDA" in str(error) or "MPS" in str(error) or "mmap" in str(error)
    assert ("on the host, not on cuda:0" in str(raised.value)) is not on_device


@pytest.mark.parametrize(
    ("batch", "steps", "smaller"),
    [
        pytest.param(16, 1, (8, 2), id="half"),
        pytest.param(8, 4, (4, 8), id="half-of-what-is-accumulated"),
        pytest.param(12, 1, (6, 2), id="even"),
        pytest.param(15, 2, (5, 6), id="odd"),
        pytest.param(7, 1, (1, 7), id="prime"),
        pytest.param(1, 3, None, id="one-example"),
    ],
)
def test_a_smaller_batch_leaves_a_step_its_examples(
    batch: int, steps: int, smaller: tuple[int, int] | None, tmp_path: Path
) -> None:
    given = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps}
    found = memory.smaller(job(TEXT, tmp_path, training=given))
    assert (None if found is None else memory.batch(found)) == smaller


def test_halving_trains_what_the_smaller_batch_trains(room: Callable[[int], list[int]], bert: Path) -> None:
    """To the last bit: nothing of the failed tries is left, neither in the weights nor in the random numbers."""
    tried = room(4)
    made, weights = trained(job(TEXT, bert, training=TRAINING, on_oom="halve_batch"))
    assert tried[:3] == [16, 8, 4]
    assert set(tried[2:]) <= {4, 2, 1}
    by_hand = {**TRAINING, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    other, wanted = trained(job(TEXT, bert, training=by_hand))
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)
    assert made.first_losses == other.first_losses
    assert made.records["on_oom"] == {
        "asked": {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 1},
        "used": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4},
    }
    assert [note for note in made.notes if note.startswith("on_oom")] == [
        "on_oom: memory ran out with per_device_train_batch_size 16: trained with 4 and gradient_accumulation_steps 4, "
        "which is the same 16 examples a step"
    ]


def test_halving_trains_what_the_whole_batch_trains_but_for_rounding(
    room: Callable[[int], list[int]], still_bert: Path
) -> None:
    room(1000)
    whole = trained(job(TEXT, still_bert, training={**TRAINING, "optim": "sgd", "learning_rate": 0.1}))
    room(4)
    parts = trained(
        job(TEXT, still_bert, training={**TRAINING, "optim": "sgd", "learning_rate": 0.1}, on_oom="halve_batch")
    )
    assert parts[0].log_history[-1]["step"] == whole[0].log_history[-1]["step"]
    for name, tensor in whole[1].items():
        torch.testing.assert_close(parts[1][name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("on_oom", "largest", "tries", "says"),
    [
        pytest.param("fail", 4, [16], "per_device_train_batch_size 16 (2.50 GiB .*set on_oom: halve_batch", id="fail"),
        pytest.param("halve_batch", 0, [16, 8, 4, 2, 1], "size 1 .*: a batch is one example already: ", id="to-one"),
    ],
)
def test_what_is_never_enough_is_one_error(
    on_oom: str, largest: int, tries: list[int], says: str, room: Callable[[int], list[int]], bert: Path
) -> None:
    tried = room(largest)
    with pytest.raises(OutOfMemoryError, match=says.replace("(", r"\(")):
        trained(job(TEXT, bert, training=TRAINING, on_oom=on_oom))
    assert tried == tries


def test_a_failed_try_is_gone_before_the_next_begins(monkeypatch: pytest.MonkeyPatch, bert: Path) -> None:
    """Model, gradients and optimizer: a traceback that is kept would keep them."""
    alive: list[list[int]] = []
    kept: list[weakref.ref[Any]] = []

    def bounded(self: Any, model: Any, batch: Any, targets: Any) -> Any:
        if not kept or kept[-1]() is not model:
            alive.append([index for index, one in enumerate(kept) if one() is not None])
            kept.append(weakref.ref(model))
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(TextClassification, "forward", bounded)
    tensors = sum(isinstance(found, torch.nn.Parameter) for found in gc.get_objects())
    with pytest.raises(OutOfMemoryError):
        trained(job(TEXT, bert, training=TRAINING, on_oom="halve_batch"))
    assert len(kept) == 5
    assert alive == [[]] * 5
    gc.collect()
    assert [one() for one in kept] == [None] * 5
    assert sum(isinstance(found, torch.nn.Parameter) for found in gc.get_objects()) <= tensors


def test_a_stream_is_read_anew(room: Callable[[int], list[int]], bert: Path, tmp_path: Path) -> None:
    from ftcheck.spec import Data

    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in TEXTS))
    files = {"train": (str(tmp_path / "rows.csv"),), "test": (str(tmp_path / "rows.csv"),)}
    data = Data(kind="reader", path="csv", files=files, streaming=True, shuffle_buffer=10)
    training = {**TRAINING, "max_steps": 3}
    del training["num_train_epochs"]
    room(4)
    halved = job(TEXT, bert, training=training, on_oom="halve_batch", data=data)
    by_hand = {**training, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}
    weights = []
    for made in (halved, replace(halved, case=replace(halved.case, training=by_hand))):
        with FineTuning(made) as tuning:
            tuning.train()
            weights.append(tuning.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_a_trainer_with_a_loss_of_its_own_is_not_halved(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcheck.finetune.techniques import TrainerBase
    from ftcheck.finetune.techniques.trainer import Trainer

    base = TrainerBase(inputs=lambda model, context: {})
    monkeypatch.setattr(Trainer, "trainer", lambda self: base)
    given = {"trainer": {"path": "own:Trainer", "options": {}}}
    with pytest.raises(TechniqueError, match=r"computes the loss in its own way.*leave out on_oom: halve_batch"):
        trained(job(TEXT, bert, training=TRAINING, on_oom="halve_batch", techniques=given))


def test_answers_are_halved_whatever_the_case_says_and_it_is_told(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, tried = TextClassification.outputs, []

    def bounded(self: Any, output: Any, targets: Any) -> Any:
        tried.append(len(output.logits))
        if tried[-1] > 5:
            raise RuntimeError(HOST)
        return outputs(self, output, targets)

    made = job(TEXT, bert, training={"max_steps": 1, "per_device_eval_batch_size": 20})
    answers = []
    for bound in (False, True):
        if bound:
            monkeypatch.setattr(TextClassification, "outputs", bounded)
        with FineTuning(made, loaded=loaded(train=TEXTS, tune=TEXTS, eval=TEXTS)) as tuning:
            tuning.train()
            tuning.score()
            answers.append(tuning.predict())
    assert tried[:3] == [20, 10, 5]
    assert tried.count(20) == 1  # the next stage begins with what there is room for
    assert max(tried[3:]) == 5
    assert [record["prediction"] for record in answers[0].records] == [r["prediction"] for r in answers[1].records]
    scores = [np.array([record["scores"] for record in one.records]) for one in answers]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)
    assert any("memory ran out with per_device_eval_batch_size 20: answered 5" in n for n in tuning._notes)


def test_a_single_answer_that_needs_too_much_is_one_error(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> Any:
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(TextClassification, "outputs", fails)
    with FineTuning(
        job(TEXT, bert, trains=True, training={"max_steps": 1}), loaded=loaded(train=TEXTS, eval=TEXTS)
    ) as one:
        one.train()
        with pytest.raises(
            TrainingError, match=r"out of memory on cpu, answering one example at a time.*task\.max_length"
        ):
            one.predict()


def test_generating_less_at_a_time_is_told(seq2seq: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import GenerationMixin

    generate = GenerationMixin.generate

    def bounded(self: Any, *args: Any, **kwargs: Any) -> Any:
        if len(kwargs["input_ids"]) > 4:
            raise torch.OutOfMemoryError(CUDA)
        return generate(self, *args, **kwargs)

    monkeypatch.setattr(GenerationMixin, "generate", bounded)
    made = job(Summarization.name, seq2seq["t5"], training={"max_steps": 1}, options={"max_target_length": 8})
    with FineTuning(made, loaded=loaded(train=DOCUMENTS, eval=DOCUMENTS)) as tuning:
        tuning.train()
        notes = tuning.predict().notes
    assert any("answered 3 at a time" in note for note in notes)


def test_a_model_that_does_not_fit_is_told_as_such(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And isn't tried again with smaller batches, which don't help."""
    calls: list[Any] = []

    def fails(self: Any, *args: Any) -> Any:
        calls.append(args)
        raise torch.OutOfMemoryError(CUDA)

    monkeypatch.setattr(torch.nn.Module, "to", fails)
    with pytest.raises(TrainingError, match=r"out of memory on cpu, loading the model \(2.50 GiB more were asked for"):
        trained(job(TEXT, bert, training=TRAINING, on_oom="halve_batch"))
    assert len(calls) == 1
