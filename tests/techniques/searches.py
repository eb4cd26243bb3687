"""A search of hyperparameters that trains nothing: its trials' scores are made up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.finetune import Job
from ftcheck.finetune.techniques import search
from ftcheck.finetune.techniques.search import Search
from tests.keys.inputs import case

SPACE: Mapping[str, Any] = {
    "learning_rate": {"log": [1e-5, 1e-2]},
    "per_device_train_batch_size": {"choice": [8, 16]},
    "max_steps": {"uniform": [10, 50], "step": 10},
    "warmup_steps": {"uniform": [0, 0.2]},
}
Score = Callable[[Any, Mapping[str, Any], int, Callable[[float, int], None]], float]


class Searched:
    """A search whose trials' scores come from `score`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.score: Score = lambda trials, training, done, tell: float(training["learning_rate"])
        self.patch: pytest.MonkeyPatch | None = None

    def found(self, **options: Any) -> Any:
        assert self.patch is not None
        self.patch.setattr(search._Trials, "score", self.score)
        return self.found_here(**options)

    def found_here(self, training: Mapping[str, Any] | None = None, **options: Any) -> Any:
        given = Search.read({"space": SPACE, "trials": 8, **options})
        made = replace(case(self.folder / "inputs"), techniques={"search": given}, training=training or {})
        job = Job(case=made, seed=0, device="cpu", precision="fp32")
        return Search(given).search(job, self.folder, lambda progress: None)

    def trials(self, **options: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.found(**options).record["trials"]
        return found


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Searched:
    made = Searched(tmp_path / "search")
    made.patch = monkeypatch
    return made
