"""The trials of a search by Ray Tune: in processes of its own, several at once where that is asked for.

What is proposed is optuna's choice, as without Ray. A search that was broken off goes on from a journal of ours, a line
of JSON for each trial that ended, whose trials Ray is given as already evaluated; nothing that Ray writes is read.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from ftcheck.errors import FtcheckError, TechniqueError, TrainingError, shown
from ftcheck.finetune import OnProgress, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

JOURNAL = "trials.jsonl"
SCORE = "score"
"""What a trial reports to Ray under this name is the metric on the tune rows."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}
"""No telemetry, no change of the working directory, no tables, no log files."""

Record = dict[str, Any]
Sampler = Callable[[int], Any]
"""(trials that have ended) -> optuna's sampler of the next one."""


class Trains(Protocol):
    """What makes a trial: sent to Ray's processes."""

    def score(self, training: Mapping[str, Any], done: int, on_scores: Callable[[float, int], None]) -> float:
        """See `search._Trials`."""


def search(
    given: Mapping[str, Any],
    trains: Trains,
    folder: Path,
    *,
    space: Mapping[str, Any],
    first: Mapping[str, Any],
    direction: str,
    sampler: Sampler,
    gpus: int,
    on_progress: OnProgress,
) -> list[Record]:
    """All trials that ended, in the order in which they did: those of the journal in `folder`, then those made now.

    `space`: field -> optuna's distribution; `first`: what the first trial takes of it. Raises what a trial raises that
    other settings don't mend, as TechniqueError.
    """
    import ray
    from ray import tune

    journal = _Journal(folder / JOURNAL)
    missing = given["trials"] - len(journal.records)
    if missing <= 0:
        return journal.records

    def told() -> None:
        on_progress(Progress(stage="search", done=len(journal.records), total=given["trials"]))

    with _environment(), TemporaryDirectory(prefix="ftcheck-") as storage, _running(ray):
        tuner = tune.Tuner(
            tune.with_resources(_objective(trains), {"cpu": 1, "gpu": gpus}),
            tune_config=tune.TuneConfig(
                metric=SCORE,
                mode="max" if direction == "maximize" else "min",
                search_alg=_proposals(space, first, direction, sampler, journal.records),
                scheduler=_scheduler(tune, given["pruner"]),
                num_samples=missing,
                max_concurrent_trials=given["concurrent"],
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=storage, verbose=0, callbacks=[_listener(tune, journal, told)]),
        )
        tuner.fit()
    return journal.records


def _objective(trains: Trains) -> Callable[[dict[str, Any]], None]:
    """One trial, in a process of Ray's. What other settings might mend is a trial that failed."""

    def objective(training: dict[str, Any]) -> None:
        from ray import tune

        told: dict[str, Any] = {"ended": True}
        try:
            value = trains.score(training, 0, lambda value, step: tune.report({SCORE: value, "ended": False}))
        except FtcheckError as error:
            told |= {"error": shown(error, 300), "fatal": not isinstance(error, TrainingError)}
            value = math.nan
        tune.report({**told, SCORE: value})

    return objective


class _Journal:
    """A line of JSON for each trial that ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        whole = path.read_bytes() if path.exists() else b""
        whole = whole[: whole.rfind(b"\n") + 1]  # the last line may be half written
        path.write_bytes(whole)
        self.records: list[Record] = [json.loads(line) for line in whole.splitlines()]

    def add(self, record: Mapping[str, Any]) -> None:
        kept = {"number": len(self.records) + 1, **record}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(kept) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records.append(kept)


def _listener(tune: Any, journal: _Journal, told: Callable[[], None]) -> Any:
    """Writes each trial down as it ends."""

    class Listener(tune.Callback):  # type: ignore[misc]
        def on_trial_result(self, iteration: int, trials: Sequence[Any], trial: Any, result: Any, **info: Any) -> None:
            told()

        def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
            last = trial.last_result
            if last.get("fatal"):
                raise TechniqueError(f"search: {last['error']}")
            record = {"training": dict(trial.config), "value": last[SCORE], "state": "pruned"}
            if last["ended"]:
                record["state"] = "complete"
            if "error" in last:
                record |= {"value": None, "state": "failed", "error": last["error"]}
            journal.add({**record, "seconds": last["time_total_s"]})
            told()

        def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **info: Any) -> None:
            raise TechniqueError("search: a trial broke off in Ray's process; run without backend: ray to see why")

    return Listener()


def _proposals(
    space: Mapping[str, Any], first: Mapping[str, Any], direction: str, sampler: Sampler, records: Sequence[Record]
) -> Any:
    """Ray's optuna, which knows the trials that ended."""
    from ray.tune.search.optuna import OptunaSearch

    class Proposals(OptunaSearch):  # type: ignore[misc]
        """What is proposed depends on the trials that ended alone, so that it is the same after a crash."""

        def suggest(self, trial_id: str) -> Any:
            self._ot_study.sampler = sampler(sum(trial.state.is_finished() for trial in self._ot_study.trials))
            return super().suggest(trial_id)

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            if not (error or "error" in (result or {})):
                super().on_trial_complete(trial_id, result, error)
                return
            super().on_trial_complete(trial_id, None, error=True)

    found = Proposals(space=dict(space), metric=SCORE, mode="max" if direction == "maximize" else "min")
    for record in records:
        states = {"error": record["state"] == "failed", "pruned": record["state"] == "pruned"}
        found.add_evaluated_point(record["training"], record["value"], **states)
    if not records:
        found._ot_study.enqueue_trial(dict(first))
    return found


def _scheduler(tune: Any, pruner: str | None) -> Any:
    """What gives trials up: an evaluation on the tune rows is an iteration of Ray's."""
    by_look = {"time_attr": "training_iteration"}
    kinds: dict[str | None, Callable[[], Any]] = {
        None: tune.schedulers.FIFOScheduler,
        "median": partial(tune.schedulers.MedianStoppingRule, grace_period=1, min_samples_required=5, **by_look),
        "successive_halving": partial(tune.schedulers.ASHAScheduler, max_t=10_000, **by_look),
    }
    return kinds[pruner]()


@contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (*QUIET, "RAY_AUTH_MODE")}  # which Ray sets where it starts
    os.environ.update(QUIET)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _running(ray: Any) -> Iterator[None]:
    """Ray: the one that this process is connected to, that of RAY_ADDRESS, or one of its own on this machine."""
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()
