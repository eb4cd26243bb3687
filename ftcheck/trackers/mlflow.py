"""MLflow (`--ft-mlflow URI`): a run for each judged case, written when the session ends.

The client is told where to write, so that whatever run or tracking URI the process has set stays as it is. Its own
patience with a dead server (seven tries of two minutes) is cut short, its telemetry is off.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ftcheck.errors import shown
from ftcheck.results import CaseResult

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT: Final = "ftcheck"
"""Unless MLFLOW_EXPERIMENT_NAME says otherwise."""

ENVIRONMENT: Final[Mapping[str, str]] = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
"""What MLflow is told while it works, where the user says nothing else."""

BATCH: Final = 1000
"""Metrics that MLflow takes at once."""

PARAMS: Final = 100
"""Params that it takes at once, of at most LONGEST characters each."""

LONGEST: Final = 5000


def log(uri: str, results: Sequence[CaseResult], files: Sequence[Path]) -> str:
    """Log every result that has metrics; `files` (reports of the session) go with each run.

    Returns what kept it from that, in one sentence; empty where all went well. The first failure ends it: a server
    that is gone stays gone.
    """
    logged = [result for result in results if result.metrics and result.verdict != "smoke"]
    if not logged:
        return ""
    with _surroundings():
        try:
            from mlflow import MlflowClient

            client = MlflowClient(tracking_uri=uri)
            experiment = _experiment(client, uri)
            for result in logged:
                _log_case(client, experiment, result, files)
        except Exception as error:  # noqa: BLE001  whatever a tracker raises: no verdict depends on it
            return f"--ft-mlflow: {shown(uri)} can't be written to: {type(error).__name__}: {shown(error, 300)}"
    return ""


@contextmanager
def _surroundings() -> Iterator[None]:
    """ENVIRONMENT set, no log lines and warnings of libraries, then all as it was."""
    added = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(added)
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        for name in added:
            del os.environ[name]


def _experiment(client: MlflowClient, uri: str) -> str:
    """The id of the experiment, which is made where there is none. Files of a local database go beside it; MLflow's
    own choice is the working directory."""
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    database = uri.removeprefix("sqlite:///")
    place = None if database == uri else (Path(database).absolute().parent / "mlruns").as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def _log_case(client: MlflowClient, experiment: str, result: CaseResult, files: Sequence[Path]) -> None:
    from mlflow.entities import Metric, Param

    run = client.create_run(experiment, run_name=result.case_id, tags=_tags(result)).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric(_name(name), value, now, step) for name, value, step in _metrics(result)]
    params = [Param(_name(name), shown(value, LONGEST)) for name, value in _params(result).items()][:PARAMS]
    client.log_batch(run, params=params)
    for start in range(0, len(metrics), BATCH):
        client.log_batch(run, metrics=metrics[start : start + BATCH])
    client.log_text(run, json.dumps(result.to_json(), indent=1), "result.json")
    for file in files:
        client.log_artifact(run, str(file))
    client.set_terminated(run, "FAILED" if result.verdict in ("fail", "error", "incomparable") else "FINISHED")


def _tags(result: CaseResult) -> dict[str, str]:
    tags = {
        "ftcheck.verdict": result.verdict,
        "ftcheck.case": result.case_id,
        "ftcheck.nodeid": result.nodeid,
        "ftcheck.device": result.device,
    }
    if result.history:
        commit = result.history[-1].commit
        tags |= {"mlflow.source.git.commit": commit} if commit else {}
    return {name: shown(value, 500) for name, value in tags.items()}


def _params(result: CaseResult) -> dict[str, Any]:
    return {
        "task": result.task,
        "checkpoint": result.checkpoint,
        "precision": result.precision,
        "seeds": " ".join(map(str, result.seeds)),
        "examples": result.examples,
        **{f"gate/{gate.metric}/{gate.bound}": gate.limit for gate in result.gates if not gate.part},
    }


def _metrics(result: CaseResult) -> Iterator[tuple[str, float, int]]:
    """(name, value, step): each metric with its interval, its seeds by number, its baseline; then the curves of each
    run's training by global step."""
    for metric in result.metrics:
        yield metric.name, metric.value, 0
        if metric.interval is not None:
            yield f"{metric.name}/low", metric.interval.low, 0
            yield f"{metric.name}/high", metric.interval.high, 0
        if len(metric.per_seed) == len(result.seeds):
            for seed, value in zip(result.seeds, metric.per_seed, strict=True):
                yield f"{metric.name}/seed", value, seed
    for gate in result.gates:
        if gate.comparison is not None and gate.bound == "max_regression" and not gate.part:
            yield f"{gate.metric}/reference", gate.comparison.reference, 0
            yield f"{gate.metric}/worse_by", gate.comparison.difference, 0
    for run in result.runs:
        for entry in run.log_history:
            for name, value in entry.items():
                if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                    yield f"seed{run.seed}/{name}", float(value), int(entry.get("step", 0))


def _name(name: str) -> str:
    """A name with the characters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)[:250]
