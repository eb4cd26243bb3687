"""A search by Ray Tune: the same trials, at once and by its own rules, and gone on with after a crash."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import MissingExtraError, TrainingError
from ftcheck.finetune import Progress
from ftcheck.finetune.techniques import search
from ftcheck.finetune.techniques.search import Search
from tests.techniques.searches import SPACE, Searched, searched

__all__ = ["searched"]


class Fake:
    """The learning rate for a score; one that is too high can't be trained."""

    def score(self, training: Mapping[str, Any], done: int, tell: Callable[[float, int], None]) -> float:
        rate = float(training["learning_rate"])
        if rate > 5e-3:
            raise TrainingError("the loss is nan at step 3")
        return rate


def by_ray(
    folder: Path, on_progress: Callable[[Progress], None], trains: Any = None, **options: Any
) -> list[dict[str, Any]]:
    import optuna

    from ftcheck.finetune.techniques import ray_search

    given = Search.read({"space": SPACE, "trials": 6, "backend": "ray", **options})
    folder.mkdir(exist_ok=True)
    return ray_search.search(
        given,
        trains or Fake(),
        folder,
        space={name: search._distribution(optuna, name, range_) for name, range_ in given["space"].items()},
        first={},
        direction="maximize",
        sampler=lambda done: optuna.samplers.TPESampler(seed=search._seed(0, done)),
        gpus=0,
        on_progress=on_progress,
    )


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """Ray with two CPUs on this machine."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_memory_monitor_refresh_ms", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else it is "token" for all that this process starts from then on
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield
        ray.shutdown()


@dataclass
class Meeting:
    """Trials that end once two have met."""

    folder: Path

    def score(self, training: Mapping[str, Any], done: int, tell: Callable[[float, int], None]) -> float:
        (self.folder / f"begun {os.getpid()}").touch()
        give_up = time.monotonic() + 60
        while len(list(self.folder.iterdir())) < 2:
            if time.monotonic() > give_up:
                raise TrainingError("no other trial was under way")
            time.sleep(0.02)
        return float(training["learning_rate"])


@pytest.mark.e2e
def test_ray_runs_as_many_trials_at_once_as_are_asked_for(local_ray: None, tmp_path: Path) -> None:
    meeting = Meeting(tmp_path / "meeting")
    meeting.folder.mkdir()
    found = by_ray(tmp_path / "search", lambda progress: None, meeting, trials=2, concurrent=2)
    assert [trial["state"] for trial in found] == ["complete", "complete"]
    assert len(list(meeting.folder.iterdir())) == 2


@dataclass
class Looked:
    """Trials with eight evaluations, each worth the learning rate; how many were made is noted."""

    folder: Path

    def score(self, training: Mapping[str, Any], done: int, tell: Callable[[float, int], None]) -> float:
        rate = float(training["learning_rate"])
        for step in range(1, 9):
            (self.folder / f"{rate!r}").write_text(str(step))
            tell(rate, step)
        return rate


@pytest.mark.e2e
@pytest.mark.parametrize("pruner", ["median", "successive_halving"])
def test_ray_stops_trials_that_lag_behind(local_ray: None, tmp_path: Path, pruner: str) -> None:
    looked = Looked(tmp_path / "looked")
    looked.folder.mkdir()
    found = by_ray(tmp_path / "search", lambda progress: None, looked, trials=12, pruner=pruner)
    steps = {trial["training"]["learning_rate"]: trial["state"] for trial in found}
    made = {float(path.name): int(path.read_text()) for path in looked.folder.iterdir()}
    assert set(steps.values()) == {"complete", "pruned"}
    assert all(made[rate] == 8 for rate, state in steps.items() if state == "complete")
    assert all(made[rate] < 8 for rate, state in steps.items() if state == "pruned")
    assert steps[max(steps)] == "complete"


@pytest.mark.e2e
def test_ray_makes_the_same_trials_and_goes_on_after_a_crash(local_ray: None, searched: Searched) -> None:
    """From lines of JSON: nothing that Ray wrote is there any more."""
    searched.score = lambda trials, training, done, tell: Fake().score(training, done, tell)
    expected = searched.trials(trials=6)
    folder = searched.folder / "by-ray"

    def broken_off(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        by_ray(folder, broken_off)
    assert [path.name for path in folder.iterdir()] == ["trials.jsonl"]
    assert len((folder / "trials.jsonl").read_text().splitlines()) == 2
    with (folder / "trials.jsonl").open("a") as file:
        file.write('{"number": 3, "trai')  # what was being written when it ended
    found = by_ray(folder, lambda progress: None)
    kept = ("number", "training", "value", "state")
    assert [{name: trial[name] for name in kept} for trial in found] == [
        {name: trial[name] for name in kept} for trial in expected
    ]
    assert {trial["state"] for trial in found} == {"complete", "failed"}


@pytest.mark.parametrize(
    ("pruner", "kind"),
    [(None, "FIFOScheduler"), ("median", "MedianStoppingRule"), ("successive_halving", "AsyncHyperBandScheduler")],
)
def test_ray_gives_trials_up_by_its_own_rules(pruner: str | None, kind: str) -> None:
    pytest.importorskip("ray")
    from ray import tune

    from ftcheck.finetune.techniques import ray_search

    made = ray_search._scheduler(tune, pruner)
    assert type(made).__name__ == kind
    assert getattr(made, "_time_attr", "training_iteration") == "training_iteration"


def test_a_search_by_ray_that_is_done_needs_no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    line = {"training": {}, "value": 0.5, "state": "complete"}
    folder = tmp_path / "done"
    folder.mkdir()
    (folder / "trials.jsonl").write_text("".join(json.dumps({"number": n, **line}) + "\n" for n in range(1, 7)))
    monkeypatch.setattr("ray.init", lambda **given: pytest.fail("Ray was started"))
    assert len(by_ray(folder, lambda progress: None)) == 6


def test_without_ray_the_error_names_the_extra(searched: Searched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"ftcheck\[ray\]"):
        searched.found(backend="ray")
