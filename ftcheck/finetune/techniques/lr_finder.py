"""`lr_finder: {from: 1e-7, to: 1, steps: 100}`: a learning-rate range test before the training.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks": a copy of the model is trained for some steps while
the learning rate rises exponentially. The training itself is as it would be without.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import Field, create_model

from ftcheck.errors import TrainingError
from ftcheck.finetune import Progress
from ftcheck.finetune.techniques import Options, Problem, Technique, get, of

if TYPE_CHECKING:
    from ftcheck.finetune import OnProgress
    from ftcheck.finetune.techniques import Context
    from ftcheck.finetune.trainer import Evaluate, Outcome
    from ftcheck.spec import Facts

SMOOTHING = 0.9
"""Of the exponential moving average that the curve is read from."""
DIVERGED = 4.0
"""The test ends where the smoothed loss is that many times the lowest."""
FEWEST = 10
"""Steps before it may end, and points below which nothing is read from a curve."""

_FIELDS: Mapping[str, Any] = {
    "from": (float, Field(default=1e-7, gt=0, description="The first learning rate.")),
    "to": (float, Field(default=1.0, gt=0, description="The last one, unless the loss diverges before.")),
    "steps": (int, Field(default=100, ge=20, le=10_000, description="Optimizer steps.")),
}
LrFinderOptions = create_model("LrFinderOptions", __base__=Options, **_FIELDS)
"""Made of a mapping, since no class body can hold a field called `from`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a curve says, as learning rates."""

    steepest: float
    """Where the smoothed loss falls fastest per decade."""
    lowest: float
    """Where it is lowest."""

    @property
    def sensible(self) -> tuple[float, float]:
        """From a tenth of the smaller suggestion (`steepest`, `lowest` / 10) to where the loss is lowest."""
        return min(self.steepest, self.lowest / 10) / 10, self.lowest


class LrFinder(Technique):
    """Reports; the weights and random numbers of the training are the same without it."""

    name = "lr_finder"
    description = "A learning-rate range test on a copy of the model, before the training."
    options = LrFinderOptions
    changes_rows = True
    only_looks = True
    resumes = True  # it tests a copy, before the training begins or goes on

    def problems(self, facts: Facts) -> Iterator[Problem]:
        if self.given["from"] >= self.given["to"]:
            yield ("to",), f"expected more than `from`, {self.given['from']:g}, got {self.given['to']:g}"
        for name in facts.techniques:
            if get(name).train is not Technique.train and name != self.name:
                yield (), f"can't be combined with {name}, which trains in a way of its own"

    def train(
        self,
        model: Any,
        features: Any,
        context: Context,
        *,
        collator: Any,
        evaluate: Evaluate | None,
        on_progress: OnProgress,
    ) -> Outcome | None:
        """Tests a copy of `model`, and leaves the training to ftcheck's Trainer."""
        rates, losses = self._curve(copy.deepcopy(model), features, context, on_progress)
        smoothed = smooth(losses)
        reading = read(rates, smoothed)
        context.record(
            self.name,
            {
                "learning_rate": rates,
                "loss": losses,
                "smoothed": smoothed,
                "steepest": reading.steepest if reading else None,
                "lowest": reading.lowest if reading else None,
            },
        )
        for note in _notes(reading, _learning_rate(context), len(rates)):
            context.note(f"lr_finder: {note}")
        return None

    def _curve(
        self, model: Any, features: Any, context: Context, on_progress: OnProgress
    ) -> tuple[list[float], list[float]]:
        """(learning rates, losses) of the steps up to where the loss diverges. Trains `model`.

        Raises TrainingError where not even a step can be made.
        """
        from ftcheck.finetune import trainer
        from ftcheck.finetune.quiet import own_randomness

        job, steps = context.job, self.given["steps"]
        case = replace(job.case, training=_constant(job.case.training or {}, steps), early_stopping=None)
        tested = replace(context, job=replace(job, case=case))
        rise = _Rise(self.given)
        losses: list[float] = []

        def told(progress: Progress) -> None:
            on_progress(replace(progress, learning_rate=rise.rate(len(losses))))
            losses.append(float(progress.loss or 0.0))
            if diverged(losses):
                raise _DivergedError

        others = [technique for technique in of(job.case) if not technique.only_looks]
        with own_randomness(job.device):
            try:
                trainer.train(tested, [*others, rise], model, features, evaluate=None, on_progress=told)
            except _DivergedError:
                pass
            except TrainingError:
                if not losses:
                    raise
        return [rise.rate(step) for step in range(len(losses))], losses


class _DivergedError(Exception):
    """Ends a test: there is nothing to be learned beyond."""


class _Rise(Technique):
    """Sets the learning rate of each step of the test."""

    name = "lr_finder_rise"

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return float(self.given["from"] * self._factor(step))

    def _factor(self, step: int) -> float:
        return float((self.given["to"] / self.given["from"]) ** (step / (self.given["steps"] - 1)))

    def arguments(self, given: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return {"learning_rate": self.given["from"]}

    def callbacks(self, context: Context, model: Any) -> list[Any]:
        from transformers import TrainerCallback

        factor = self._factor

        class Rising(TrainerCallback):  # type: ignore[misc]
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                for group in kwargs["optimizer"].param_groups:
                    group["lr"] = group["initial_lr"] * factor(state.global_step)

        return [Rising()]


def _constant(training: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The case's `training` for so many steps, without a schedule and without looks at the tune rows."""
    off = {
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "load_best_model_at_end": False,
        "eval_on_start": False,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "max_steps": steps,
    }
    dropped = ("lr_scheduler_kwargs", "metric_for_best_model", "greater_is_better", "logging_steps", "eval_steps")
    return {name: value for name, value in training.items() if name not in dropped} | off


def _learning_rate(context: Context) -> float:
    """The one that the training will start from."""
    from transformers import TrainingArguments

    default = TrainingArguments.__dataclass_fields__["learning_rate"].default
    given = {**context.task.training_defaults, **(context.job.case.training or {})}
    for technique in of(context.job.case):
        given |= technique.arguments(given, context)
    return float(given.get("learning_rate", default))


def smooth(losses: Sequence[float]) -> list[float]:
    """The exponential moving average with weight SMOOTHING on the past, its bias towards the beginning taken out."""
    smoothed, average = [], 0.0
    for step, loss in enumerate(losses, start=1):
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        smoothed.append(average / (1 - SMOOTHING**step))
    return smoothed


def diverged(losses: Sequence[float]) -> bool:
    """Whether the smoothed loss is DIVERGED times its lowest, or no number, after FEWEST steps."""
    smoothed = smooth(losses)
    if not math.isfinite(smoothed[-1]):
        return True
    return len(losses) >= FEWEST and smoothed[-1] > DIVERGED * min(smoothed)


def read(rates: Sequence[float], smoothed: Sequence[float]) -> Reading | None:
    """What a curve says; None for one that is too short, or never falls."""
    import numpy as np

    if len(smoothed) < FEWEST:
        return None
    lowest = int(np.argmin(smoothed))
    slopes = np.gradient(np.asarray(smoothed), np.log10(rates))[: lowest + 1]
    steepest = int(np.argmin(slopes))
    if slopes[steepest] >= 0:
        return None
    return Reading(steepest=float(rates[steepest]), lowest=float(rates[lowest]))


def _notes(reading: Reading | None, learning_rate: float, steps: int) -> Iterator[str]:
    if reading is None:
        yield f"the loss never falls in {steps:,} steps: no learning rate can be read from the curve"
        return
    low, high = reading.sensible
    yield (
        f"the loss falls fastest at {reading.steepest:.1e} and is lowest at {reading.lowest:.1e} (a tenth of that: "
        f"{reading.lowest / 10:.1e}) after {steps:,} steps"
    )
    if not low <= learning_rate <= high:
        where = "below" if learning_rate < low else "above"
        sensible = f"{low:.1e} to {high:.1e}"
        yield f"warning: training.learning_rate {learning_rate:g} is {where} the sensible range, {sensible}"
