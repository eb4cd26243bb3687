"""MLflow: what is logged can be read back; what can't be logged is one sentence."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.results import HistoryPoint
from ftcheck.trackers import mlflow
from tests.report import results

pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'runs.db'}"


def runs(uri: str) -> list[Any]:
    """What was logged, the latest first."""
    with mlflow._surroundings():
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=uri)
        experiment = client.get_experiment_by_name(mlflow.EXPERIMENT)
        return [] if experiment is None else list(client.search_runs([experiment.experiment_id]))


def history(uri: str, run: str, metric: str) -> list[tuple[int, float]]:
    with mlflow._surroundings():
        from mlflow import MlflowClient

        found = MlflowClient(tracking_uri=uri).get_metric_history(run, metric)
        return [(point.step, point.value) for point in found]


def test_a_case_is_a_run_with_metrics_intervals_curves_and_reports(uri: str, tmp_path: Path) -> None:
    report = tmp_path / "out.json"
    report.write_text("{}")
    point = HistoryPoint(time="2026-11-01T09:03:00+00:00", until="", sessions=1, verdict="fail", commit="a1b2c3d")
    metric = results.metric(per_seed=(0.84, 0.85))
    case = results.case(seeds=(42, 43), metrics=(metric,), history=(point,))
    assert mlflow.log(uri, [case], [report]) == ""
    (run,) = runs(uri)
    assert (run.info.run_name, run.info.status) == ("intents", "FAILED")
    assert run.data.params == {
        "task": "text-classification",
        "checkpoint": "org/model",
        "precision": "fp32",
        "seeds": "42 43",
        "examples": "400",
        "gate/accuracy/min": "0.86",
    }
    tags = {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.user")}
    assert (tags["ftcheck.verdict"], tags["mlflow.source.git.commit"]) == ("fail", "a1b2c3d")
    found = run.data.metrics
    assert (found["accuracy"], round(found["accuracy/low"], 4), round(found["accuracy/high"], 4)) == (
        *(0.8424, 0.8253),
        0.8595,
    )
    assert sorted(history(uri, run.info.run_id, "accuracy/seed")) == [(42, 0.84), (43, 0.85)]
    assert history(uri, run.info.run_id, "seed42/loss") == [(10, 0.5)]
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    assert folder.is_relative_to(Path(uri.removeprefix("sqlite:///")).parent)
    assert sorted(path.name for path in folder.iterdir()) == ["out.json", "result.json"]
    assert json.loads((folder / "result.json").read_text())["verdict"] == "fail"


def test_names_and_numbers_that_mlflow_refuses_are_no_hindrance(uri: str) -> None:
    odd = results.metric("f1[loc/é]", math.nan, None, per_seed=(math.nan,))
    run = replace(results.run(), log_history=tuple({"loss": step / 7, "step": step} for step in range(1500)))
    case = results.case(case_id="odd", metrics=(odd,), gates=(), runs=(run,), checkpoint="x" * 9000)
    assert mlflow.log(uri, [case], []) == ""
    logged = next(run for run in runs(uri) if run.info.run_name == "odd")
    assert math.isnan(logged.data.metrics["f1_loc/__"])
    assert len(history(uri, logged.info.run_id, "seed42/loss")) == 1500


def test_what_was_not_judged_is_not_logged(tmp_path: Path) -> None:
    smoke = results.case(verdict="smoke", limited=8)
    broken = results.case(verdict="error", metrics=(), gates=(), runs=())
    assert mlflow.log(f"sqlite:///{tmp_path / 'none.db'}", [smoke, broken], []) == ""
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    "dead",
    [
        pytest.param("http://127.0.0.1:9", id="no-server"),
        pytest.param("sqlite:////proc/none/runs.db", id="no-database"),
        pytest.param("nothing://at-all", id="no-such-scheme"),
    ],
)
def test_a_dead_tracker_is_one_sentence_and_leaves_the_environment(dead: str) -> None:
    before = dict(os.environ)
    said = mlflow.log(dead, [results.case()], [])
    assert said.startswith(f"--ft-mlflow: {dead} can't be written to: ")
    assert "\n" not in said
    assert dict(os.environ) == before
