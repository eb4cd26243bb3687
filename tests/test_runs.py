"""What reports are told of a run, out of what its stages left in the store."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ftcheck.finetune import Job
from ftcheck.results import LearningRateCurve, SearchHistory, Trial
from ftcheck.runs import Finished, Run, run_result
from ftcheck.store import Entry
from tests.keys.inputs import case


def finished(root: Path, **records: Any) -> Finished:
    """A run whose techniques left these records."""
    job = Job(case=case(root), seed=42, device="cpu", precision="fp32")
    run = Run(job=job, train=cast(Any, SimpleNamespace(digest="a")), predict=cast(Any, SimpleNamespace(digest="b")))
    contents: tuple[dict[str, Any], ...] = ({"costs": {}, "records": records}, {"costs": {}, "warnings": []})
    trained, predicted = (cast(Entry, SimpleNamespace(content=content)) for content in contents)
    return Finished(run=run, trained=trained, predicted=predicted, made=frozenset())


def test_the_history_of_a_search_comes_with_the_run(tmp_path: Path) -> None:
    trials = [
        {"number": 1, "training": {"learning_rate": 1e-5}, "value": 0.5, "state": "complete", "seconds": 2.0},
        {"number": 2, "training": {"learning_rate": 1.0}, "value": None, "state": "failed", "error": "the loss is nan"},
    ]
    record = {"metric": "accuracy", "direction": "maximize", "seed": 0, "best": 1, "trials": trials}
    assert run_result(finished(tmp_path, search=record)).search == SearchHistory(
        metric="accuracy",
        direction="maximize",
        best=1,
        trials=(
            Trial(number=1, value=0.5, state="complete", params={"learning_rate": 1e-5}),
            Trial(number=2, value=None, state="failed", params={"learning_rate": 1.0}),
        ),
    )


def test_the_curve_of_a_learning_rate_test_comes_with_the_run(tmp_path: Path) -> None:
    record = {"learning_rate": [1e-5, 1e-4], "loss": [2.0, 1.5], "smoothed": [2.0, 1.7], "steepest": None}
    assert run_result(finished(tmp_path, lr_finder={**record, "lowest": None})).lr_curve == LearningRateCurve(
        rates=(1e-5, 1e-4), losses=(2.0, 1.5), smoothed=(2.0, 1.7), suggestion=None, lowest=None
    )


def test_a_run_without_either_has_neither(tmp_path: Path) -> None:
    found = run_result(finished(tmp_path))
    assert (found.search, found.lr_curve) == (None, None)
