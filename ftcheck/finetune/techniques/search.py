"""`search: {space: {learning_rate: {log: [1e-5, 5e-4]}}, trials: 20}`: hyperparameters chosen on the tune rows.

Tree-structured Parzen estimators (Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization") of optuna
propose the trials. Each is a whole `FineTuning` of the case with other `training`, so that it is like the runs that are
judged; `Trainer.hyperparameter_search` would train otherwise (its loss, its evaluation, no techniques). What a trial is
depends on the seed and the trials before it alone: a search that was broken off goes on as if nothing had been.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ftcheck import training_fields
from ftcheck.errors import TechniqueError, TrainingError, one_of, shown
from ftcheck.finetune import Found, Progress
from ftcheck.finetune.techniques import Options, Problem, Technique, get, need
from ftcheck.keys import arguments

if TYPE_CHECKING:
    from pathlib import Path

    from ftcheck.finetune import Job, OnProgress
    from ftcheck.keys import Identifier
    from ftcheck.spec import Case, Facts

JOURNAL = "trials.log"
UNSEARCHED = arguments.NEVER | arguments.BY_EVALUATION
"""Fields that no trained model depends on."""

_Number = int | float
_Bounds = Annotated[list[_Number], Field(min_length=2, max_length=2)]


class Range(Options):
    """The values of one field: exactly one of the first three."""

    log: _Bounds | None = Field(default=None, description="[low, high], uniform on a logarithmic scale.")
    uniform: _Bounds | None = Field(default=None, description="[low, high]; whole numbers for a field that takes them.")
    choice: Annotated[list[bool | int | float | str | None], Field(min_length=2)] | None = Field(
        default=None, description="The values themselves."
    )
    step: _Number | None = Field(default=None, gt=0, description="With uniform: low, low + step, low + 2 step, …")

    @model_validator(mode="after")
    def _one_of_them(self) -> Range:
        if sum(given is not None for given in (self.log, self.uniform, self.choice)) != 1:
            raise PydanticCustomError(
                "complete", "expected one of log: [low, high], uniform: [low, high], choice: [...]"
            )
        if self.step is not None and self.uniform is None:
            raise PydanticCustomError("complete", "step goes with uniform")
        return self


class SearchOptions(Options):
    space: dict[str, Range] = Field(
        min_length=1, description="Field of training -> its values: {log: [low, high]}, {uniform: ...}, {choice: ...}."
    )
    trials: int = Field(default=20, ge=2, le=10_000, description="How many settings are tried.")
    metric: str | None = Field(default=None, description="loss, or a metric of the case (default: its first).")
    direction: Literal["minimize", "maximize"] | None = Field(default=None, description="Default: the metric's own.")
    pruner: Literal["median", "successive_halving"] | None = Field(
        default=None, description="Gives trials up that lag behind; looks at each evaluation (training.eval_strategy)."
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="Of the proposals, and of each trial's training.")
    backend: Literal["optuna", "ray"] = Field(
        default="optuna", description="What runs the trials: this process, or Ray Tune in processes of its own."
    )
    concurrent: int = Field(default=1, ge=1, le=1000, description="With backend: ray, how many trials at once.")

    @model_validator(mode="after")
    def _concurrent_with_ray(self) -> SearchOptions:
        if self.concurrent > 1 and self.backend != "ray":
            raise PydanticCustomError(
                "complete", "concurrent goes with backend: ray; else trials run one after another"
            )
        return self


class Search(Technique):
    """The best of several settings of `training`, found once for all seeds of a case."""

    name = "search"
    description = "Choose fields of training by trials that are scored on the tune rows."
    options = SearchOptions
    searches = True

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self.libraries = ("optuna", "ray") if given["backend"] == "ray" else ("optuna",)

    @property
    def search_seed(self) -> int:
        seed: int = self.given["seed"]
        return seed

    @property
    def alone(self) -> str:
        return "its trials are trained by one, whose batches are others"

    def problems(self, facts: Facts) -> Iterator[Problem]:
        if not facts.tunes:
            yield (
                (),
                (
                    "scores its trials on rows that are not judged: give data.splits.tune or data.holdout.tune "
                    "(naming the judged split there says that you mean it)"
                ),
            )
        if (metric := self.given["metric"]) is not None and metric.removeprefix("eval_") not in (
            "loss",
            *facts.metrics,
        ):
            hint = one_of(metric, ["loss", *facts.metrics])
            yield ("metric",), f"expected loss or a metric of the case, got {shown(metric, 60)!r}; {hint}"
        given = facts.training or {}
        if self.given["pruner"] is not None and str(given.get("eval_strategy", "no")) == "no":
            yield ("pruner",), "needs training.eval_strategy (steps or epoch): it looks at each evaluation"
        for name, range_ in self.given["space"].items():
            for path, message in _range_problems(name, range_, given):
                yield ("space", name, *path), message

    def train_key(self, identifier: Identifier, case: Case) -> dict[str, Any]:
        """The search's definition instead of the values that it finds; and what its scores depend on."""
        from ftcheck import tasks

        metric, direction = _goal(self.given, case)
        defaults = tasks.get(case.task).training_defaults
        return {
            **self.given,
            "metric": metric,
            "direction": direction,
            "whole_numbers": [name for name in sorted(self.given["space"]) if _takes_whole(name)],
            "signature": "loss" if metric == "loss" else tasks.lookup(case).describe(metric).signature,
            "evaluation": arguments.for_prediction({**defaults, **(case.training or {})}),
        }

    def search(self, job: Job, folder: Path, on_progress: OnProgress) -> Found:
        """The best trial's fields. Raises TechniqueError where no trial ended well, and whatever a trial raises that
        other settings don't mend."""
        optuna = need("optuna", self.name, "search")
        metric, direction = _goal(self.given, job.case)
        if self.given["backend"] == "ray":
            history = self._by_ray(optuna, job, folder, on_progress)
            return _found(history, metric, direction, self.given)
        with _quiet(optuna):
            study = _opened(optuna, folder / JOURNAL, self._pruner(optuna), direction)
            trials = _Trials(job, metric, on_progress, self.given["trials"])
            space = {name: _distribution(optuna, name, range_) for name, range_ in self.given["space"].items()}
            while (done := len(_done(optuna, study))) < self.given["trials"]:
                study.sampler = optuna.samplers.TPESampler(seed=_seed(self.given["seed"], done))
                if done == 0 and not study.get_trials(states=[optuna.trial.TrialState.WAITING]):
                    study.enqueue_trial(_first(self.given["space"], job.case.training or {}))
                _try(optuna, study, study.ask(space), trials)
            history = [_record(trial, number) for number, trial in enumerate(_done(optuna, study))]
        return _found(history, metric, direction, self.given)

    def _by_ray(self, optuna: Any, job: Job, folder: Path, on_progress: OnProgress) -> list[dict[str, Any]]:
        for module in ("ray", "ray.tune"):
            need(module, f"{self.name} (backend: ray)", "ray")
        from ftcheck.finetune.answering import silent
        from ftcheck.finetune.techniques import ray_search

        metric, direction = _goal(self.given, job.case)
        gpus = int(job.device.startswith("cuda"))
        here = replace(job, device="cuda:0") if gpus else job  # a process of Ray's sees its own GPU only
        with _quiet(optuna):
            return ray_search.search(
                self.given,
                _Trials(here, metric, silent, self.given["trials"]),
                folder,
                space={name: _distribution(optuna, name, range_) for name, range_ in self.given["space"].items()},
                first=_first(self.given["space"], job.case.training or {}),
                direction=direction,
                sampler=lambda done: optuna.samplers.TPESampler(seed=_seed(self.given["seed"], done)),
                gpus=gpus,
                on_progress=on_progress,
            )

    def _pruner(self, optuna: Any) -> Any:
        kinds = {
            None: optuna.pruners.NopPruner,
            "median": optuna.pruners.MedianPruner,
            "successive_halving": optuna.pruners.SuccessiveHalvingPruner,
        }
        return kinds[self.given["pruner"]]()


class _Trials:
    """Fine-tunings of one job with other `training`, scored on its tune rows."""

    def __init__(self, job: Job, metric: str, on_progress: OnProgress, total: int) -> None:
        kept = {name: given for name, given in job.case.techniques.items() if not _leaves_alone(name)}
        self.job = replace(job, case=replace(job.case, techniques=kept, seeds=(job.seed,)))
        self.metric = metric
        self.on_progress = on_progress
        self.total = total
        self._loaded: Any = None

    def score(self, training: Mapping[str, Any], done: int, on_scores: Callable[[float, int], None]) -> float:
        """The metric of a case with these fields besides its own. Raises TrainingError where it can't be trained."""
        from ftcheck.finetune import data
        from ftcheck.finetune.session import FineTuning

        def told(progress: Progress) -> None:
            self.on_progress(
                Progress(
                    stage="search",
                    done=done,
                    total=self.total,
                    epoch=progress.epoch,
                    loss=progress.loss,
                    learning_rate=progress.learning_rate,
                )
            )

        case = self.job.case
        if self._loaded is None and not case.data.streaming:  # a stream is read anew each time
            self._loaded = data.load(self.job)
        job = replace(self.job, case=replace(case, training={**(case.training or {}), **training}))
        with FineTuning(
            job, told, loaded=self._loaded, on_scores=lambda scores, step: on_scores(scores[self.metric], step)
        ) as tuning:
            tuning.train()
            value = tuning.score()[self.metric]
        if not math.isfinite(value):
            raise TrainingError(f"{self.metric} on the tune rows is {value}")
        return value


def _leaves_alone(technique: str) -> bool:
    kind = get(technique)
    return kind.searches or kind.only_looks


def _try(optuna: Any, study: Any, trial: Any, trials: _Trials) -> None:
    """Train one trial and tell the study. What other settings might mend counts as a failed trial."""
    states = optuna.trial.TrialState

    def pruned(value: float, step: int) -> None:
        trial.report(value, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    start = time.perf_counter()
    value, state = None, states.COMPLETE
    try:
        value = trials.score(trial.params, len(_done(optuna, study)), pruned)
    except optuna.TrialPruned:
        state = states.PRUNED
    except TrainingError as error:
        trial.set_user_attr("error", shown(error, 300))
        state = states.FAIL
    trial.set_user_attr("seconds", time.perf_counter() - start)
    study.tell(trial, value, state)


def _done(optuna: Any, study: Any) -> list[Any]:
    """The trials that ended, in order; not those that were broken off with their process."""
    states = optuna.trial.TrialState
    found: list[Any] = study.get_trials(deepcopy=False, states=[states.COMPLETE, states.PRUNED, states.FAIL])
    return found


def _opened(optuna: Any, path: Path, pruner: Any, direction: str) -> Any:
    """The study in a journal, which is begun unless it is there. Whoever calls holds the search's key."""
    from contextlib import nullcontext

    class Held(nullcontext[None]):
        """optuna's own lock outlives its process."""

        def acquire(self) -> bool:
            return True

        def release(self) -> None:
            pass

    if path.exists():  # its last line may be half written
        whole = path.read_bytes()
        path.write_bytes(whole[: whole.rfind(b"\n") + 1])
    backend = optuna.storages.journal.JournalFileBackend(str(path), lock_obj=Held())
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(backend),
        study_name="search",
        direction=direction,
        pruner=pruner,
        load_if_exists=True,
    )


def _seed(seed: int, done: int) -> int:
    """Of the draws of the trial after `done` others: a generator that ran on would begin anew in another process."""
    import numpy as np

    return int(np.random.SeedSequence((seed, done)).generate_state(1)[0])


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without optuna's log lines and warnings."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _distribution(optuna: Any, name: str, range_: Mapping[str, Any]) -> Any:
    """What optuna draws a field from: whole numbers where the field takes no others."""
    kinds = optuna.distributions
    if range_["choice"] is not None:
        return kinds.CategoricalDistribution(range_["choice"])
    low, high = range_["log"] or range_["uniform"]
    if _takes_whole(name):
        return kinds.IntDistribution(low, high, log=range_["log"] is not None, step=range_["step"] or 1)
    return kinds.FloatDistribution(low, high, log=range_["log"] is not None, step=range_["step"])


def _first(space: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """What the first trial takes as the case gives it."""
    return {name: training[name] for name in space if name in training}


def _goal(given: Mapping[str, Any], case: Case) -> tuple[str, str]:
    """The metric that decides, and optuna's word for which way is better."""
    from ftcheck import tasks

    lookup = tasks.lookup(case)
    first = next((name for name in case.metrics if not lookup.is_cost(name)), "loss")
    metric = (given["metric"] or first).removeprefix("eval_")
    greater = metric != "loss" and lookup.describe(metric).greater_is_better
    return metric, given["direction"] or ("maximize" if greater else "minimize")


def _record(trial: Any, number: int) -> dict[str, Any]:
    """A trial as JSON. `value` is the metric on the tune rows; of a pruned trial, what it had when it was given up."""
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    return {
        "number": number + 1,
        "training": dict(trial.params),
        "value": trial.value,
        "state": states[trial.state.name],
        **{name: trial.user_attrs[name] for name in ("seconds", "error") if name in trial.user_attrs},
    }


def _found(history: list[dict[str, Any]], metric: str, direction: str, given: Mapping[str, Any]) -> Found:
    """The best trial (of equal ones the first) with all that were made."""
    sign = 1 if direction == "maximize" else -1
    complete = [trial for trial in history if trial["state"] == "complete"]
    if not complete:
        why = next((trial["error"] for trial in reversed(history) if "error" in trial), "all were given up")
        raise TechniqueError(f"search: none of {len(history):,} trials could be trained to its end; the last: {why}")
    best = max(complete, key=lambda trial: sign * float(trial["value"]))
    first = history[0]
    settings = ", ".join(f"{name} {_said(value)}" for name, value in best["training"].items())
    told = f"search: best of {len(history):,} trials: {metric} {best['value']:.4g} on the tune rows with {settings}"
    told += f"; the first had {first['value']:.4g}" if first["state"] == "complete" else f"; the first {first['state']}"
    counts = [
        f"{count} {state}"
        for state in ("pruned", "failed")
        if (count := sum(trial["state"] == state for trial in history))
    ]
    if counts:
        told += f"; {', '.join(counts)}"
    record = {
        "metric": metric,
        "direction": direction,
        "seed": given["seed"],
        "best": best["number"],
        "trials": history,
    }
    return Found(training=best["training"], record=record, notes=(told,))


def _said(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _range_problems(name: str, range_: Mapping[str, Any], training: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the values of one field. `training`: what the case gives, its task's defaults included."""
    fields = training_fields.installed()
    values = range_["choice"] or range_["log"] or range_["uniform"]
    known = {problem for _, problem in fields.problems(training)}
    for value in values:
        for _, message in fields.problems({**training, name: value}):
            if message not in known:
                yield (), message
                return
    if name in UNSEARCHED:
        yield (), "no trained model depends on it"
        return
    if range_["choice"] is not None:
        if name in training and training[name] not in values:
            yield (), _outside(name, training[name])
        return
    low, high = values
    whole = _takes_whole(name)
    if not fields.fields[name].kinds & {"int", "float"}:
        yield (), "takes no numbers: write choice: [...]"
    elif whole and not all(isinstance(value, int) for value in (low, high, range_["step"] or 1)):
        yield (), "takes whole numbers only"
    elif low >= high:
        yield (), f"the lower bound {low:g} is not below the upper one, {high:g}"
    elif range_["log"] is not None and low <= 0:
        yield (), f"log needs bounds above 0, got {low:g}"
    elif name in training and not (isinstance(training[name], int | float) and low <= training[name] <= high):
        yield (), _outside(name, training[name])


def _outside(name: str, value: Any) -> str:
    return (
        f"training.{name} is {shown(value, 40)}, which the first trial takes, but not among these values: "
        "widen them, or leave it out there"
    )


def _takes_whole(name: str) -> bool:
    return "float" not in training_fields.installed().fields[name].kinds
