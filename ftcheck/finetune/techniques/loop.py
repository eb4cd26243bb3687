"""`loop: package.module:function`: a training loop of the user's, in the Trainer's place."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import TYPE_CHECKING, Any

from pydantic import Field, JsonValue

from ftcheck.errors import TechniqueError, TrainingError, shown
from ftcheck.finetune import Progress
from ftcheck.finetune.techniques import Options, Problem, Technique, get, user_code
from ftcheck.spec import Facts

if TYPE_CHECKING:
    from ftcheck.finetune import OnProgress
    from ftcheck.finetune.techniques import Context, Loss
    from ftcheck.finetune.trainer import Evaluate, Outcome
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case
    from ftcheck.tasks import Task


class LoopOptions(Options):
    function: user_code.ImportPath = Field(description="The function's import path, package.module:function.")
    options: dict[str, JsonValue] = Field(default_factory=dict, description="What the loop finds as its `options`.")


@dataclass(kw_only=True, eq=False)
class Training:
    """What a loop is handed. It trains `model` in place and returns nothing."""

    model: Any
    """The task's model, on `device`, in training mode."""
    tokenizer: Any
    features: Any
    """The training rows as model inputs: a sequence of dicts of arrays, which torch's DataLoader takes."""
    collator: Callable[[Sequence[Any]], dict[str, Any]]
    """Features -> a batch: a dict of padded tensors, labels among them."""
    arguments: Any
    """The case's `training` as TrainingArguments."""
    device: str
    seed: int
    """torch's, NumPy's and Python's random numbers are seeded with it already."""
    options: Mapping[str, Any]
    """Those of the suite: `loop: {function: ..., options: {...}}`."""
    autocast: Callable[[], AbstractContextManager[Any]]
    """Makes the context in which a model runs in the case's precision. `loss` does so by itself."""
    _task: Task
    _targets: Sequence[str]
    _loss: Loss
    _scores: Callable[[int], dict[str, float]] | None
    _on_progress: OnProgress
    _step: int = 0
    _history: list[dict[str, Any]] = field(default_factory=list)

    def loss(self, batch: Mapping[str, Any], *, items: int | None = None) -> Any:
        """The task's loss of a batch, which may be on another device: a scalar tensor. A mean over the batch's items
        (examples, or tokens that have a label); with `items` a sum divided by these, for batches that make one step
        together."""
        inputs = {name: tensor.to(self.device) for name, tensor in batch.items()}
        targets = {name: inputs.pop(name) for name in self._targets}
        with self.autocast():
            summed = self._loss(self._task.forward(self.model, inputs, targets), targets, inputs)
        return summed / max(self._task.items(targets) if items is None else items, 1)

    def items(self, batch: Mapping[str, Any]) -> int:
        """How many items the loss of a batch adds up over."""
        return int(self._task.items(batch))

    def evaluate(self) -> dict[str, float]:
        """`loss` and the case's metrics on the tune split, also noted in the log history. Draws no random numbers and
        leaves the model in the mode it was in. Raises TrainingError where the case has no tune split."""
        import torch

        if self._scores is None:
            raise TrainingError(
                "the loop evaluates while it trains: give data.splits.tune or data.holdout.tune, rows that are not "
                "judged"
            )
        mode = self.model.training
        with torch.random.fork_rng(devices=[self.device] if self.device.startswith("cuda") else []):
            scores = self._scores(self._step)
        self.model.train(mode)
        self._history.append({"step": self._step, **{f"eval_{name}": value for name, value in scores.items()}})
        return scores

    def report(
        self,
        step: int,
        total: int,
        *,
        loss: float,
        learning_rate: float | None = None,
        epoch: float | None = None,
    ) -> None:
        """Say after each step where the training stands: steps done, and of how many. May raise, to stop it: a loss
        that isn't finite is a TrainingError."""
        if not math.isfinite(loss):
            raise TrainingError(f"the loss is {loss} at step {step} of {total}: nothing of this training is kept")
        self._step = step
        told = {"learning_rate": learning_rate, "epoch": epoch}
        self._history.append({"step": step, "loss": loss, **{k: v for k, v in told.items() if v is not None}})
        self._on_progress(
            Progress(stage="train", done=step, total=total, epoch=epoch, loss=loss, learning_rate=learning_rate)
        )


class _Counted:
    """A collator that counts the rows that went through it."""

    def __init__(self, collate: Callable[[Sequence[Any]], dict[str, Any]]) -> None:
        self.rows = 0
        self._collate = collate

    def __call__(self, features: Sequence[Any]) -> dict[str, Any]:
        self.rows += len(features)
        return self._collate(features)


class Loop(Technique):
    """The function trains; data, keys, prediction, metrics and gates stay what they are."""

    name = "loop"
    description = "A function of your own that trains the model, by its import path."
    options = LoopOptions
    resumes = False
    short = "function"

    @property
    def alone(self) -> str:
        return "a loop of your own trains in one, on all rows"

    def problems(self, facts: Facts) -> Iterator[Problem]:
        if found := user_code.problem(self.given["function"]):
            yield (), found
        if facts.streaming:
            yield (), "takes training rows that are all there; leave out data.streaming"
        if facts.early_stopping:
            yield (), "decides by itself when to stop; leave out early_stopping"
        for other in facts.techniques:
            kind = get(other)
            if kind.callbacks is not Technique.callbacks or kind.optimized is not Technique.optimized:
                yield (), f"can't be combined with {other}, which takes part in the Trainer's loop"

    def halving_problem(self) -> str:
        return "decides by itself what a batch is; leave out on_oom: halve_batch"

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """The function's source instead of its name, and its options."""
        return {"code": user_code.identity(self.given["function"]), "options": self.given["options"]}

    def train(
        self,
        model: Any,
        features: Any,
        context: Context,
        *,
        collator: Any,
        evaluate: Evaluate | None,
        on_progress: OnProgress,
    ) -> Outcome:
        from accelerate.utils import extract_model_from_parallel
        from transformers import set_seed

        from ftcheck.finetune.losses import TRACED_STEPS
        from ftcheck.finetune.trainer import Outcome

        job, path = context.job, self.given["function"]
        function = user_code.load(path)
        if not isinstance(function, FunctionType):
            raise TechniqueError(f"loop: {shown(path, 200)} is a {type(function).__name__}, no function")
        counted = _Counted(collator)
        training = self._training(
            model, features, context, collator=counted, evaluate=evaluate, on_progress=on_progress
        )
        set_seed(job.seed)
        model.train()
        start = time.perf_counter()
        with user_code.explained((path,)):
            returned = function(training)
        seconds = time.perf_counter() - start
        if returned is not None:
            raise TrainingError(
                f"{shown(path, 200)} returned a {type(returned).__name__}: a loop trains `model` in place and returns "
                "nothing"
            )
        extract_model_from_parallel(model, keep_fp32_wrapper=False)  # accelerate may have wrapped its forward
        model.zero_grad(set_to_none=True)
        losses = [entry["loss"] for entry in training._history if "loss" in entry]
        return Outcome(
            model=model,
            seconds=seconds,
            samples_per_second=counted.rows / max(seconds, 1e-9),
            log_history=tuple(training._history),
            first_losses=tuple(losses[:TRACED_STEPS]),
        )

    def _training(
        self,
        model: Any,
        features: Any,
        context: Context,
        *,
        collator: Any,
        evaluate: Evaluate | None,
        on_progress: OnProgress,
    ) -> Training:
        from ftcheck.finetune import trainer
        from ftcheck.finetune.arguments import training_arguments
        from ftcheck.finetune.predict import autocast

        job, task = context.job, context.task
        with TemporaryDirectory(prefix="ftcheck-") as folder:
            arguments = training_arguments(job, task, folder, techniques=context.techniques, context=context)
        return Training(
            model=model,
            tokenizer=context.tokenizer,
            features=features,
            collator=collator,
            arguments=arguments,
            device=job.device,
            seed=job.seed,
            options=self.given["options"],
            autocast=lambda: autocast(job.device, job.precision),
            _task=task,
            _targets=(*task.targets, *(name for technique in context.techniques for name in technique.targets)),
            _loss=trainer.composed_loss(context, model, arguments.label_smoothing_factor),
            _scores=None if evaluate is None else lambda step: evaluate(model, step),
            _on_progress=on_progress,
        )
