"""Fields of `training` that change how weights are found: each does what it is documented to do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.errors import TrainingError
from ftcheck.finetune.session import FineTuning
from tests.finetune.jobs import TEXTS, job, loaded

TEXT = "text-classification"
DOCUMENTED = (Path(__file__).parents[2] / "docs" / "techniques.md").read_text("utf-8").partition("## Fields of")[2]
SGD = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
Weights = Mapping[str, torch.Tensor]


def train(path: Path, training: Mapping[str, Any], **fields: Any) -> tuple[Weights, Any, Any]:
    """(weights, Trained, Predicted) of a classifier of 24 texts in two classes."""
    made = job(TEXT, path, training=training, **fields)
    with FineTuning(made, loaded=loaded(train=TEXTS, tune=TEXTS, eval=TEXTS)) as tuning:
        trained, predicted = tuning.train(), tuning.predict()
        return {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}, trained, predicted


def moved(one: Weights, other: Weights) -> float:
    """The length of the step between two sets of weights."""
    return float(torch.cat([(one[name] - other[name]).flatten() for name in one]).norm())


@pytest.fixture(scope="module")
def start(still_bert: Path) -> Weights:
    """The weights that every training of `still_bert` begins with."""
    return train(still_bert, {**SGD, "max_steps": 1, "learning_rate": 1e-30})[0]


@pytest.mark.parametrize(("batch", "times"), [(2, 4), (4, 2), (1, 8)])
def test_accumulated_batches_are_one_large_batch(still_bert: Path, batch: int, times: int) -> None:
    """Three steps of the same 24 texts in the same order, whatever they are cut into."""
    large = train(still_bert, {**SGD, "max_steps": 3, "per_device_train_batch_size": 8})[0]
    cut = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": times}
    small = train(still_bert, {**SGD, "max_steps": 3, **cut})[0]
    assert max(float((large[name] - small[name]).abs().max()) for name in large) < 1e-6


def test_clipping_bounds_the_step(still_bert: Path, start: Weights) -> None:
    """A step of learning rate 1 is as long as the gradient."""
    once = {**SGD, "max_steps": 1, "learning_rate": 1.0}
    free = moved(train(still_bert, once)[0], start)
    clipped, trained, _ = train(still_bert, {**once, "max_grad_norm": 0.01})
    assert free > 0.1
    assert moved(clipped, start) == pytest.approx(0.01, rel=1e-3)
    assert max(entry.get("grad_norm", 0.0) for entry in trained.log_history) == pytest.approx(free, rel=1e-3)


def test_activations_computed_twice_give_the_same_weights(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout: the second time must drop what the first did."""
    from transformers.models.bert.modeling_bert import BertIntermediate

    calls = [0]
    forward = BertIntermediate.forward

    def counted(self: Any, *given: Any) -> Any:
        calls[0] += torch.is_grad_enabled() or self.training
        return forward(self, *given)

    monkeypatch.setattr(BertIntermediate, "forward", counted)
    found, counts = [], []
    for twice in (False, True):
        calls[0] = 0
        found.append(train(bert, {"max_steps": 4, "activation_checkpointing": twice})[0])
        counts.append(calls[0])
    assert counts[1] == 2 * counts[0]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


PEAK, WARM, STEPS = 1e-3, 4, 16


def falling(step: int) -> float:
    return (STEPS - step) / (STEPS - WARM)


SCHEDULES: Mapping[str, tuple[dict[str, Any], Callable[[int], float]]] = {
    "constant": ({}, lambda step: 1.0),
    "constant_with_warmup": ({}, lambda step: 1.0),
    "linear": ({}, falling),
    "cosine": ({}, lambda step: 0.5 * (1 + math.cos(math.pi * (1 - falling(step))))),
    "cosine_with_restarts": (
        {"num_cycles": 2},
        lambda step: 0.5 * (1 + math.cos(math.pi * (2 * (1 - falling(step)) % 1))) if step < STEPS else 0.0,
    ),
    "cosine_with_min_lr": (
        {"min_lr": PEAK / 10},
        lambda step: 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (1 - falling(step)))),
    ),
    "polynomial": ({"power": 2.0, "lr_end": 0.0}, lambda step: falling(step) ** 2),
    "inverse_sqrt": ({}, lambda step: math.sqrt(WARM / step)),
}
"""Schedule -> its settings, and the part of the learning rate that step s of STEPS (from 0) takes after WARM steps."""


@pytest.mark.parametrize("warm", [pytest.param(WARM, id="steps"), pytest.param(WARM / STEPS, id="ratio")])
@pytest.mark.parametrize("name", SCHEDULES)
def test_each_step_takes_the_learning_rate_of_its_schedule(bert: Path, name: str, warm: float) -> None:
    settings, part = SCHEDULES[name]
    training = {"max_steps": STEPS, "learning_rate": PEAK, "lr_scheduler_type": name, "logging_steps": 1}
    training |= {"lr_scheduler_kwargs": settings} if settings else {}
    training |= {"warmup_steps": warm} if name != "constant" else {}
    history = train(bert, training)[1].log_history
    told = [entry["learning_rate"] for entry in history if "learning_rate" in entry]
    rises = [1.0 if name == "constant" else step / WARM for step in range(WARM)]
    assert told == pytest.approx([PEAK * each for each in (*rises, *(part(step) for step in range(WARM, STEPS)))])
    assert f"`{name}`" in DOCUMENTED


def test_a_learning_rate_falls_where_the_tune_split_gets_no_better(bert: Path) -> None:
    """With steps too small to get better, it falls after each evaluation but the first."""
    training = {
        "max_steps": 8,
        "learning_rate": 1e-12,
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5, "eps": 0.0},
        "eval_strategy": "steps",
        "eval_steps": 2,
        "metric_for_best_model": "accuracy",
        "logging_steps": 1,
    }
    history = train(bert, training)[1].log_history
    told = [entry["learning_rate"] / 1e-12 for entry in history if "learning_rate" in entry]
    assert told == pytest.approx([1, 1, 1, 1, 0.5, 0.5, 0.25, 0.25])
    assert "`reduce_lr_on_plateau`" in DOCUMENTED


OPTIMIZERS: Mapping[str, dict[str, Any]] = {
    "adamw_torch": {},
    "adamw_torch_fused": {},
    "adafactor": {},
    "adagrad": {"learning_rate": 1e-2},
    "rmsprop": {"learning_rate": 1e-3},
    "sgd": {"learning_rate": 0.3},
    "adamw_bnb_8bit": {},
    "lion_32bit": {"learning_rate": 1e-3},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_learns(bert: Path, name: str) -> None:
    if "bnb" in name or "bit" in name:
        pytest.importorskip("bitsandbytes")
    training = {"optim": name, "learning_rate": 3e-3, "num_train_epochs": 15, "per_device_train_batch_size": 4}
    predicted = train(bert, {**training, **OPTIMIZERS[name]})[2]
    right = [record["prediction"] == record["reference"] for record in predicted.records]
    assert sum(right) / len(right) > 0.9
    assert f"`{name}`" in DOCUMENTED


def test_noise_in_the_embeddings_changes_the_training_and_nothing_that_is_judged(bert: Path) -> None:
    """NEFTune; where nothing is learned, scores on the tune split and predictions are those without noise."""
    looks = {"max_steps": 2, "eval_strategy": "steps", "eval_steps": 1, "eval_on_start": True, "learning_rate": 1e-3}
    plain, noisy = (train(bert, {**looks, **noise}) for noise in ({}, {"neftune_noise_alpha": 5.0}))
    assert moved(plain[0], noisy[0]) > 0
    still = {**looks, "learning_rate": 1e-30}
    plain, noisy = (train(bert, {**still, **noise}) for noise in ({}, {"neftune_noise_alpha": 5.0}))
    scores = [[entry["eval_loss"] for entry in run[1].log_history if "eval_loss" in entry] for run in (plain, noisy)]
    assert scores[0] == scores[1]
    assert plain[2].records == noisy[2].records
    assert plain[1].first_losses != noisy[1].first_losses


@pytest.mark.e2e
def test_a_compiled_training_gives_what_is_saved_as_ever(still_bert: Path, tmp_path: Path) -> None:
    """Compiling reorders additions, so that weights agree to some digits; their names must be the plain ones."""
    training = {**SGD, "max_steps": 2, "per_device_train_batch_size": 24}
    plain = train(still_bert, training)[0]
    made = job(TEXT, still_bert, training={**training, "torch_compile": True})
    with FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning:
        tuning.train()
        tuning.save(tmp_path)
        compiled, first = dict(tuning.model.state_dict()), tuning.predict().records
        assert compiled.keys() == plain.keys()
        assert max(float((plain[name] - compiled[name]).abs().max()) for name in plain) < 1e-5
    with FineTuning(made, loaded=loaded(eval=TEXTS)) as tuning:
        tuning.load(tmp_path)
        assert tuning.predict().records == first


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU's kernels")
def test_a_kernel_library_that_is_not_installed_is_named(gpt2: Path) -> None:
    made = job("text-generation", gpt2, training={"max_steps": 1, "use_liger_kernel": True})
    rows = [{"text": "the cat runs ."}] * 4
    with (
        FineTuning(made, loaded=loaded(train=rows, eval=rows)) as tuning,
        pytest.raises(TrainingError, match=r"the Trainer refuses this training: .*liger"),
    ):
        tuning.train()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Liger's kernels are Triton code, which no CPU runs")
def test_liger_kernels_train_to_nearly_the_same_loss(tmp_path: Path) -> None:
    pytest.importorskip("liger_kernel")
    from tests import tiny

    path = tiny.llama(tmp_path / "llama")
    rows = [{"text": "the cat runs in the old house ."}] * 8
    losses = []
    for kernels in (False, True):
        made = job("text-generation", path, training={"max_steps": 3, "use_liger_kernel": kernels}, device="cuda:0")
        with FineTuning(made, loaded=loaded(train=rows, eval=rows)) as tuning:
            losses.append(tuning.train().first_losses)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
