"""TensorBoard: what the Trainer writes can be read, changes no weight, and is what is written of a stored training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.finetune.session import FineTuning
from ftcheck.trackers import tensorboard
from tests.finetune.jobs import TEXTS, job, loaded
from tests.trackers.events import scalars

pytest.importorskip("tensorboard")

TRAINING: dict[str, Any] = {"max_steps": 4, "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 2}


def trained(bert: Path, folder: Path | None, **training: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    made = job(
        "text-classification",
        bert,
        training={**TRAINING, **training},
        tensorboard=None if folder is None else str(folder),
    )
    with FineTuning(made, loaded=loaded(train=TEXTS, tune=TEXTS[:8], eval=TEXTS)) as tuning:
        return tuning.train(), {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}


def test_the_trainer_writes_what_its_log_history_says_and_learns_the_same(bert: Path, tmp_path: Path) -> None:
    without = trained(bert, None)[1]
    found, weights = trained(bert, tmp_path / "live")
    assert all(torch.equal(weights[name], without[name]) for name in weights)
    live = scalars(tmp_path / "live")
    assert [step for step, _ in live["train/loss"]] == [1, 2, 3, 4]
    assert [step for step, _ in live["eval/accuracy"]] == [2, 4]
    tensorboard.write(tmp_path / "stored", found.log_history, when=1e9)
    assert scalars(tmp_path / "stored") == live


def test_a_suite_s_own_wish_for_tensorboard_is_not_written_twice(bert: Path, tmp_path: Path) -> None:
    trained(bert, tmp_path / "live", report_to=["tensorboard"], max_steps=1)
    assert len(list((tmp_path / "live").glob(tensorboard.EVENTS))) == 1


def test_a_tracker_that_the_suite_names_is_the_trainer_s(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "own"))
    trained(bert, None, report_to="tensorboard", max_steps=1)
    assert "train/loss" in scalars(tmp_path / "own")
