"""Losses are read as seldom as they need to be where reading one waits for the device, and nothing else changes."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import ftcheck
from ftcheck.errors import TrainingError
from ftcheck.finetune import losses, trainer
from ftcheck.finetune.losses import Losses, Unread
from ftcheck.finetune.session import FineTuning
from tests.finetune.jobs import ROWS, job, loaded

TEXT = "text-classification"
HERE = str(Path(ftcheck.__file__).parent)
TORCH = str(Path(torch.__file__).parent)
READING = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
"""What a device must be waited for: a number, or a shape that depends on numbers."""


class Waits(TorchDispatchMode):  # type: ignore[misc]
    """Counts where ftcheck itself reads a number of a tensor's."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READING:
            frame: Any = sys._getframe(1)
            while frame.f_code.co_filename.startswith((TORCH, "<")):
                frame = frame.f_back
            if frame.f_code.co_filename.startswith(HERE):
                self.places.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_name}")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is taken for a device that computes while Python goes on."""

    def made(*, waits: bool, **given: Any) -> Losses:
        assert not waits
        return Losses(waits=True, **given)

    monkeypatch.setattr(trainer, "Losses", made)


def trained(task: str, path: Path, **training: Any) -> tuple[Any, dict[str, Any]]:
    """(what the training left, its weights)."""
    rows = ROWS[task]
    with FineTuning(job(task, path, training=training), loaded=loaded(train=rows, eval=rows, tune=rows)) as tuning:
        found = tuning.train()
        return found, {name: weight.clone() for name, weight in tuning.model.state_dict().items()}


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize("task", ROWS)
def test_more_steps_wait_no_more_often(task: str, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is logged, and no step is the first one: the device is waited for at the end only."""
    reads: list[int] = []
    really = Losses.read

    def read(self: Losses) -> None:
        reads.append(len(self._unread))
        really(self)

    monkeypatch.setattr(Losses, "read", read)

    def waits(steps: int) -> tuple[list[str], int]:
        del reads[:]
        quiet = {"logging_strategy": "no", "optim": "sgd", "num_train_epochs": 1}
        with Waits() as counted:
            trained(task, bert, max_steps=steps, gradient_accumulation_steps=2, per_device_train_batch_size=2, **quiet)
        return [place for place in counted.places if place.startswith(("trainer", "losses"))], len(reads)

    few, many = waits(2), waits(3)
    assert few == many
    assert "losses.py:add" in few[0]


@pytest.mark.parametrize("task", ROWS)
def test_losses_that_are_read_late_are_the_same(task: str, bert: Path, request: pytest.FixtureRequest) -> None:
    settings = {"max_steps": 7, "logging_steps": 3, "eval_strategy": "steps", "eval_steps": 5}
    at_once = trained(task, bert, **settings)
    request.getfixturevalue("waiting")
    late = trained(task, bert, **settings)
    assert late[0].first_losses == at_once[0].first_losses
    assert len(late[0].first_losses) == 7
    timed = ("train_runtime", "train_samples_per_second", "train_steps_per_second")
    histories = [
        [{name: value for name, value in entry.items() if name not in timed} for entry in found.log_history]
        for found, _ in (at_once, late)
    ]
    assert histories[0] == histories[1]
    assert all(torch.equal(weight, at_once[1][name]) for name, weight in late[1].items())


def exploding(path: Path, **training: Any) -> str:
    with pytest.raises(TrainingError) as raised:
        trained(TEXT, path, learning_rate=1e10, **training)
    return str(raised.value)


@pytest.mark.parametrize(
    "training",
    [
        pytest.param({"max_steps": 20, "logging_strategy": "no"}, id="at the end"),
        pytest.param({"max_steps": 20, "logging_steps": 4}, id="logged"),
        pytest.param({"num_train_epochs": 20, "eval_strategy": "epoch"}, id="before rows are judged"),
        pytest.param({"max_steps": 20, "logging_strategy": "no", "gradient_accumulation_steps": 3}, id="accumulated"),
    ],
)
def test_the_step_that_broke_is_named_when_it_is_read_later(
    training: Any, still_bert: Path, request: pytest.FixtureRequest
) -> None:
    at_once = exploding(still_bert, **training)
    request.getfixturevalue("waiting")
    assert exploding(still_bert, **training) == at_once


@pytest.mark.usefixtures("waiting")
def test_weights_that_were_broken_before_the_first_step_are_found_before_it_breaks_others(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimizer would spread it."""

    def broken(self: Any, *arguments: Any, **named: Any) -> Any:
        self.model.bert.pooler.dense.bias.data[0] = math.nan
        return really(self, *arguments, **named)

    really = FineTuning._training_features
    monkeypatch.setattr(FineTuning, "_training_features", broken)
    with pytest.raises(TrainingError, match=r"at step 1 of 3 .*weights were no numbers before it \(bert\.pooler"):
        trained(TEXT, bert, max_steps=3, logging_strategy="no")


class BrokenError(Exception):
    """What this test refuses by."""


def refused(loss: float, where: Unread, before: float | None) -> BrokenError:
    return BrokenError(loss, where.step, where.epoch, before)


def test_losses_are_read_when_somebody_wants_them_and_after_so_many_steps() -> None:
    kept = Losses(waits=True, refuse=refused)
    lasts = []
    for step in range(1, losses.UNREAD_STEPS + 5):
        for part in (0.25, 0.5):
            kept.add(step, step / 10, torch.tensor(step + part))
        kept.step_ended(wanted=step == 3)
        lasts.append(kept.last)
    whole = [2 * step + 0.75 for step in range(1, losses.UNREAD_STEPS + 5)]
    bound = 3 + losses.UNREAD_STEPS
    assert lasts == [whole[0], whole[0], *[whole[2]] * (bound - 3), *[whole[bound - 1]] * (len(whole) - bound + 1)]
    kept.read()
    assert kept.last == whole[-1]
    assert kept.first == whole[: losses.TRACED_STEPS]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_loss_that_is_not_finite_is_told_with_the_one_before(value: float) -> None:
    kept = Losses(waits=True, refuse=refused)
    for step, loss in ((1, 4.0), (2, 3.0), (2, 1.0), (3, 2.0), (3, value), (4, math.nan)):
        kept.add(step, step / 10, torch.tensor(loss))
        if step == 1:
            kept.step_ended(wanted=False)
    with pytest.raises(BrokenError) as raised:
        kept.read()
    loss, step, epoch, before = raised.value.args
    assert (str(loss), step, epoch, before) == (str(value), 3, 0.3, 4.0)


def test_where_nothing_waits_a_loss_is_looked_at_at_once() -> None:
    kept = Losses(waits=False, refuse=refused)
    kept.add(1, 0.1, torch.tensor(1.0))
    kept.step_ended(wanted=False)
    assert (kept.last, kept.first) == (1.0, [1.0])
    with pytest.raises(BrokenError):
        kept.add(2, 0.2, torch.tensor(math.nan))
