"""Callbacks, optimizers and Trainers of the user's: what they change is changed, within what ftcheck makes sure of."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Seq2SeqTrainer, Trainer, TrainerCallback

from ftcheck import catalogue, suitefile
from ftcheck.errors import FtcheckError, SuiteErrors, TechniqueError, TrainingError
from ftcheck.finetune import techniques
from ftcheck.finetune.session import FineTuning
from ftcheck.finetune.techniques import Options, Technique
from ftcheck.keys import diff
from ftcheck.spec import Declaration, expand
from tests import tiny
from tests.finetune.jobs import SENTENCES, TEXTS, job, loaded
from tests.keys.inputs import case, keys

SGD = {
    "max_steps": 3,
    "per_device_train_batch_size": 8,
    "optim": "sgd",
    "learning_rate": 0.1,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
}
WITHOUT = {name: value for name, value in SGD.items() if name not in ("optim", "lr_scheduler_type")}
TEXT = "text-classification"


@pytest.fixture(scope="module")
def still_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT without dropout."""
    path = tmp_path_factory.mktemp("still")
    return tiny.bert(path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def used(**own: Any) -> dict[str, Any]:
    """The techniques of a case that names these classes or functions of this module."""
    fields: dict[str, Any] = {"checkpoint": "org/model", "task": TEXT, "data": "org/data"}
    (found,) = expand([Declaration.of_function("test", Path("test.py"), 1, {**fields, **own})], catalogue.installed())
    return dict(found.techniques)


def train(path: Path, training: Mapping[str, Any], own: Mapping[str, Any] | None = None, **fields: Any) -> Any:
    """(weights, Trained)."""
    rows = SENTENCES if fields.get("task") == "token-classification" else TEXTS
    made = job(fields.pop("task", TEXT), path, training=training, techniques=used(**(own or {})), **fields)
    with FineTuning(made, loaded=loaded(train=rows, tune=rows[:9], eval=rows)) as tuning:
        trained = tuning.train()
        return {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}, trained


def apart(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


# Callbacks


class StopsAtTwo(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == 2


class Fails(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        raise ValueError("no such thing")


def test_a_callback_takes_part_in_the_training(still_bert: Path) -> None:
    _, trained = train(still_bert, SGD, {"callbacks": [StopsAtTwo]})
    assert trained.log_history[-1]["step"] == 2
    short = train(still_bert, {**SGD, "max_steps": 2})[0]
    assert apart(train(still_bert, SGD, {"callbacks": [StopsAtTwo]})[0], short) == 0.0


# Optimizers


def halves(model: Any, arguments: Any) -> Any:
    optimizer = torch.optim.SGD(model.parameters(), lr=arguments.learning_rate)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)


def only_the_head(model: Any, arguments: Any) -> Any:
    return torch.optim.SGD(model.classifier.parameters(), lr=arguments.learning_rate), None


def not_a_pair(model: Any, arguments: Any) -> Any:
    return torch.optim.SGD(model.parameters(), lr=0.1)


def test_the_optimizer_and_schedule_are_those_that_were_made(still_bert: Path) -> None:
    _, trained = train(still_bert, {**WITHOUT, "logging_steps": 1}, {"optimizers": halves})
    told = [entry["learning_rate"] for entry in trained.log_history if "learning_rate" in entry]
    assert told == pytest.approx([0.1, 0.05, 0.025])
    start = train(still_bert, {**SGD, "learning_rate": 1e-30})[0]
    weights, _ = train(still_bert, {**WITHOUT, "lr_scheduler_type": "constant"}, {"optimizers": only_the_head})
    moved = {name for name in start if apart({name: start[name]}, weights) > 1e-12}
    assert moved == {"classifier.weight", "classifier.bias"}


# Trainers


class Doubles(Trainer):  # type: ignore[misc]
    """Takes the model's own loss twice, a mean over the batch's items."""

    def __init__(self, *, times: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.times = times

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        return self.times * model(**inputs).loss


class Orders(Trainer):  # type: ignore[misc]
    """Rows in their own order."""

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Steps(Trainer):  # type: ignore[misc]
    """A loss that isn't finite, from a step of its own."""

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        return super().training_step(*args, **kwargs) * float("inf")


class Makes(Trainer):  # type: ignore[misc]
    def create_optimizer(self, *args: Any) -> Any:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        return self.optimizer


class Writes(Seq2SeqTrainer):  # type: ignore[misc]
    pass


@pytest.mark.parametrize("task", [TEXT, "token-classification"])
@pytest.mark.parametrize(("batch", "times"), [(8, 1), (2, 4)])
def test_a_loss_of_ones_own_is_weighed_by_items_whatever_is_accumulated(
    still_bert: Path, task: str, batch: int, times: int
) -> None:
    """Sentences have 4 or 5 words: a mean of the batches' means would be another."""
    cut = {**SGD, "per_device_train_batch_size": batch, "gradient_accumulation_steps": times}
    twice, trained = train(still_bert, {**cut, "learning_rate": 0.05}, {"trainer": Doubles}, task=task)
    plain, told = train(still_bert, SGD, task=task)
    assert trained.first_losses[0] == pytest.approx(2 * told.first_losses[0], rel=1e-5)
    assert apart(twice, plain) < 1e-6


def test_options_reach_the_class(still_bert: Path) -> None:
    own = {"trainer": {"path": Doubles, "options": {"times": 1.0}}}
    assert apart(train(still_bert, SGD, own)[0], train(still_bert, SGD)[0]) < 1e-6


def test_what_a_trainer_does_differently_is_done(still_bert: Path) -> None:
    ordered, told = train(still_bert, SGD, {"trainer": Orders})
    assert told.first_losses != train(still_bert, SGD)[1].first_losses
    own_optimizer, _ = train(still_bert, {**SGD, "optim": "adamw_torch"}, {"trainer": Makes})
    assert apart(own_optimizer, train(still_bert, SGD)[0]) == 0.0
    assert apart(ordered, own_optimizer) > 0


def test_looking_at_scores_changes_nothing_and_the_best_checkpoint_is_ours(still_bert: Path, tmp_path: Path) -> None:
    looks = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss"}
    _, trained = train(still_bert, {**SGD, **looks, **best}, {"trainer": Doubles})
    assert sum("eval_accuracy" in entry for entry in trained.log_history) == 3
    blind = train(still_bert, SGD, {"trainer": Doubles})[0]
    assert apart(blind, train(still_bert, {**SGD, **looks}, {"trainer": Doubles})[0]) == 0.0


# What goes wrong


class Doubled(Technique):
    """A technique of the loss and of learning rates."""

    name = "doubled"
    description = "Twice the loss."
    options = Options

    def loss(self, loss: techniques.Loss, context: techniques.Context, model: Any) -> techniques.Loss:
        return lambda output, targets, inputs: 2 * loss(output, targets, inputs)

    def optimized(self, model: Any) -> Mapping[str, techniques.Optimized]:
        return {name: techniques.Optimized(factor=0.5) for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("own", "error", "message"),
    [
        pytest.param(
            {"callbacks": [Fails]},
            TrainingError,
            r"test_own_trainers:Fails fails at .*test_own_trainers.py:\d+: ValueError: no such thing\n  .* in on_st",
            id="callback-fails",
        ),
        pytest.param(
            {"callbacks": [Doubled]}, TechniqueError, "Doubled is no subclass of .*TrainerCallback", id="callback"
        ),
        pytest.param(
            {"optimizers": not_a_pair},
            TechniqueError,
            r"must return \(a torch optimizer, a schedule .*got SGD",
            id="pair",
        ),
        pytest.param({"optimizers": Doubled}, TechniqueError, "Doubled is a ABCMeta, no function", id="no-function"),
        pytest.param({"trainer": Doubled}, TechniqueError, "is no subclass of transformers.Trainer", id="no-trainer"),
        pytest.param({"trainer": Writes}, TechniqueError, "is a Seq2SeqTrainer, which generates", id="seq2seq"),
        pytest.param({"trainer": Steps}, TrainingError, "the loss is inf at step 1 of 3", id="loss"),
        pytest.param(
            {"trainer": {"path": Doubles, "options": {"time": 3}}},
            TrainingError,
            "unexpected keyword .*'time'",
            id="option",
        ),
        pytest.param(
            {"trainer": Doubles, "doubled": {}},
            TechniqueError,
            "Doubles computes the loss by itself, so that doubled",
            id="loss-twice",
        ),
        pytest.param(
            {"trainer": Makes, "doubled": {}},
            TechniqueError,
            "Makes makes the optimizer by itself, so that doubled",
            id="rates-twice",
        ),
    ],
)
def test_what_goes_wrong_is_one_error(
    still_bert: Path,
    own: dict[str, Any],
    error: type[FtcheckError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(techniques.BUILT_IN, "doubled", f"{__name__}:Doubled")
    with pytest.raises(error, match=message):
        train(still_bert, SGD if "optimizers" not in own else WITHOUT, own)


SUITE = """
defaults: {checkpoint: org/model, task: text-classification, data: org/data}
cases:
  c:
"""


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param(
            ["callbacks: [tests.tiny:bert, nowhere:B]"], r"callbacks\[1\]: there is no module nowhere", id="module"
        ),
        pytest.param(["callbacks: tests.tiny:bert"], "callbacks: expected a list, got", id="no-list"),
        pytest.param(["callbacks: []"], "callbacks: expected a list of 1 or more", id="empty"),
        pytest.param(["callbacks: [train]"], "callbacks.*: expected an import path", id="no-import-path"),
        pytest.param(
            ["optimizers: tests.tiny:bert", "training: {optim: sgd}"],
            "leave out training.optim, which has no",
            id="optim",
        ),
        pytest.param(
            ["optimizers: tests.tiny:bert", "doubled: {}"],
            "so that doubled has no effect: leave one of them out",
            id="rates",
        ),
        pytest.param(
            ["optimizers: tests.tiny:bert", "loop: tests.tiny:bert"], "a loop makes its own", id="loop-optimizers"
        ),
        pytest.param(["trainer: tests.tiny:bert", "loop: tests.tiny:bert"], "a loop stands in the", id="loop-trainer"),
        pytest.param(
            ["callbacks: [tests.tiny:bert]", "loop: tests.tiny:bert"], "combined with callbacks", id="loop-callbacks"
        ),
        pytest.param(["trainer: tests.tiny:bert", "training: false"], "nothing is trained", id="untrained"),
    ],
)
def test_what_cannot_be_is_refused_where_it_stands(
    lines: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(techniques.BUILT_IN, "doubled", f"{__name__}:Doubled")
    text = SUITE + "".join(f"    {line}\n" for line in lines)
    with pytest.raises(SuiteErrors, match=message):
        expand(suitefile.parse(text.encode(), Path("/suites/a.ft.yaml")), catalogue.installed())


# The keys

MODULE = """
from transformers import Trainer

RATE = 0.1

class Mine(Trainer):
    rate = RATE

def made(model, arguments):
    return RATE
"""


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"callbacks": {"classes": ["owning:Mine"]}}, id="callbacks"),
        pytest.param({"optimizers": {"function": "owning:made"}}, id="optimizers"),
        pytest.param({"trainer": {"path": "owning:Mine", "options": {}}}, id="trainer"),
    ],
)
def test_editing_what_is_used_trains_anew(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    made = replace(case(tmp_path), techniques=options)
    found = []
    for source in (MODULE, MODULE + "# more\n", MODULE.replace("0.1", "0.2")):
        (tmp_path / "owning.py").write_text(source)
        sys.modules.pop("owning", None)
        found.append(keys(made, tmp_path / "memo")[0])
    assert found[0].digest == found[1].digest != found[2].digest
    assert all(change.path.startswith("techniques.") for change in diff(found[0].components, found[2].components))
    assert found[0].digest != keys(replace(made, techniques={}), tmp_path / "memo")[0].digest


def test_a_class_of_a_library_is_its_version(tmp_path: Path) -> None:
    made = replace(case(tmp_path), techniques={"callbacks": {"classes": ["transformers:EarlyStoppingCallback"]}})
    (code,) = keys(made, tmp_path / "memo")[0].components["techniques"]["callbacks"]["code"]
    assert set(code) == {"name", "library"}
