"""A training in two processes (gloo, on the CPU) is that of one with twice the batch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from ftcheck.finetune import together
from ftcheck.finetune.session import FineTuning
from ftcheck.tasks.masking import MaskingCollator
from tests import tiny
from tests.finetune import ranks
from tests.finetune.jobs import TEXTS

SPREAD = [
    f"{kind}-{name}" for kind in ranks.SPREAD for name in ("classes", "stopped", "texts", "summarization", "lora")
]
NAMES = (
    *("classes", "stopped", "tokens", "texts", "pairs", *ranks.TASKS, "labels", "masks"),
    *(*ranks.TECHNIQUES, *ranks.ADAPTERS, "stream", "folds", *SPREAD),
)
LOSSES, WEIGHTS = 2e-6, 1e-6
"""Absolute tolerances, for float32 sums in another order: 1e-6 and 2e-7 were measured."""
ROUNDED = 1e-4
"""The same of probabilities, where activations are rounded to 8 bits."""
TIMES = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what came of each training, in `one` and in `several`."""
    folder = tmp_path_factory.mktemp("together")
    still: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tiny.bert(folder / "bert", **still)
    tiny.bert(folder / "dropout")
    tiny.bert(folder / "teacher", head="BertForSequenceClassification", labels=("moves", "rests"), **still)
    tiny.t5(folder / "t5", dropout_rate=0.0)
    tiny.gpt2(folder / "gpt2", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    (folder / "rows.jsonl").write_text("".join(json.dumps(dict(row)) + "\n" for row in TEXTS))
    for name in ("one", "several"):
        (folder / name).mkdir()
    with several(folder) as processes:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MaskingCollator, "__call__", ranks.masked)
            ranks.train(folder, folder / "one", 1)
        assert processes.wait(timeout=900) == 0, (folder / "several.log").read_text()[-3000:]
    return folder


@contextmanager
def several(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The two, ended where the block is left before they end."""
    with (
        (folder / "several.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "tests.finetune.ranks", str(folder)], stdout=log, stderr=log, process_group=0
        ) as first,
    ):
        try:
            yield first
        finally:
            with suppress(ProcessLookupError):
                os.killpg(first.pid, signal.SIGKILL)


def told(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_weights_are_those_of_one_process(trained: Path, name: str) -> None:
    one, several = (told(trained / which, name) for which in ("one", "several"))
    assert several["environment"]["processes"] == 2
    assert "processes" not in one["environment"]
    assert len(several["history"]) == len(one["history"])
    for expected, found in zip(one["history"], several["history"], strict=True):
        assert found.keys() == expected.keys()
        for key in expected.keys() - set(TIMES):
            assert found[key] == pytest.approx(expected[key], rel=1e-4, abs=LOSSES), key
    weights, others = (load_file(trained / which / f"{name}.safetensors") for which in ("one", "several"))
    assert weights.keys() == others.keys()
    for key, value in weights.items():
        torch.testing.assert_close(others[key], value, rtol=0, atol=WEIGHTS, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("name", ["stopped", *(name for name in SPREAD if name.endswith("stopped"))])
def test_the_best_model_is_taken_and_all_stop_together(trained: Path, name: str) -> None:
    history = told(trained / "several", name)["history"]
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert len(losses) < 24  # stopped early
    assert min(losses) < losses[-1]  # which is not the best


@pytest.mark.parametrize("name", ranks.AFTERWARDS)
def test_what_is_made_of_the_trained_model_answers_alike(trained: Path, name: str) -> None:
    """One process loads what several have trained, exports or quantizes it, and answers."""
    made, rows = next((made, rows) for found, made, rows in ranks.jobs(trained, 2) if found == name)
    scores = {}
    for which in ("one", "several"):
        with FineTuning(made, loaded=rows) as tuning:
            tuning.load(trained / which / name)
            answered = tuning.predict()
            assert answered.costs["parity_difference"] > 0  # it isn't the trained model itself
            scores[which] = [list(record["scores"]) for record in answered.records]
    assert len(scores["one"]) == len(TEXTS)
    torch.testing.assert_close(torch.tensor(scores["several"]), torch.tensor(scores["one"]), rtol=0, atol=ROUNDED)


def test_a_learning_rate_test_is_of_all_rows_too(trained: Path) -> None:
    one, several = (told(trained / which, "lr_finder")["records"]["lr_finder"] for which in ("one", "several"))
    assert several["learning_rate"] == one["learning_rate"]
    assert several["loss"][:10] == pytest.approx(one["loss"][:10], abs=LOSSES)  # before it begins to diverge


@pytest.mark.parametrize(("name", "at_a_step"), [("grouped", None), ("groups", 4)])
def test_rows_grouped_by_length_are_shared_out_and_dropout_differs(
    name: str, at_a_step: int | None, trained: Path
) -> None:
    first, other = (told(trained / "several", f"{name}.{rank}") for rank in range(2))
    assert first["orders"] == other["orders"]
    assert first["sizes"] == other["sizes"] == [at_a_step] * 2
    assert all(sorted(order) == list(range(len(TEXTS))) for order in first["orders"])
    assert first["orders"][0] != first["orders"][1]
    assert first["seeds"] == [1]
    assert other["seeds"] != [1]
    assert len(other["seeds"]) == 1


def test_fewer_processes_than_the_case_asks_for_are_an_error(trained: Path) -> None:
    expected = (
        "TrainingError: 2 processes train together where resources.gpus asks for 3: nothing of this training is kept"
    )
    assert [(trained / "several" / f"refused.{rank}").read_text() for rank in range(2)] == [expected] * 2


def test_one_process_alone_is_the_first_and_waits_for_nobody() -> None:
    together.wait()
    assert together.is_first()
    assert together.is_first_here()
    assert (together.node(), together.nodes(), together.agreed_here(lambda: 7)) == (0, 1, 7)
    assert (together.size(), together.total(7), together.most(3.0)) == (1, 7, 3.0)
    assert together.agreed(lambda: {"loss": float("inf")}) == {"loss": float("inf")}
    assert together.own_seed(42) == 42
    assert together.described() == {}
