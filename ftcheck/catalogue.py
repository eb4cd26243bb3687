"""The names that a suite may use, looked up where they live: tasks, metrics and the installed TrainingArguments."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from ftcheck import importpath, metrics, tasks, training_fields
from ftcheck.finetune import techniques
from ftcheck.spec import Facts, TaskFacts, TechniqueFacts


class Installed:
    """The `spec.Catalogue` of this installation. Nothing is looked up before it is asked for."""

    training_costs: Collection[str] = frozenset({"train_seconds", "train_samples_per_second", "peak_memory_bytes"})

    @property
    def tasks(self) -> Collection[str]:
        return tasks.names()

    @property
    def costs(self) -> Collection[str]:
        return metrics.cost_names()

    @cached_property
    def _training(self) -> training_fields.TrainingFields:
        return training_fields.installed()

    @property
    def training_fields(self) -> Collection[str]:
        return self._training.settable.keys()

    def task(self, name: str) -> TaskFacts:
        return tasks.get(name)

    @property
    def techniques(self) -> Collection[str]:
        return techniques.names()

    def technique(self, name: str) -> TechniqueFacts:
        return techniques.get(name)

    def technique_problems(self, facts: Facts) -> Iterator[tuple[tuple[str | int, ...], str]]:
        return techniques.problems(facts)

    def cost_problem(self, text: str, given: Mapping[str, Any]) -> str:
        return techniques.cost_problem(text, given)

    def metric_problem(self, text: str, task: TaskFacts, options: Mapping[str, Any], folder: Path) -> str:
        return _lookup(task, options, folder).check(text) or ""

    def metric_bounds(
        self, text: str, task: TaskFacts, options: Mapping[str, Any], folder: Path
    ) -> tuple[float, float]:
        return _lookup(task, options, folder).describe(text).bounds

    def training_problems(self, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[tuple[str, str]]:
        return self._training.problems(given, defaults)

    def training_schema(self) -> Mapping[str, Any]:
        return self._training.schema()

    def metric_pattern(self) -> str:
        names = "|".join([*sorted({known.name for known in metrics.every()}), *metrics.PATTERNS])
        return rf"^(?:{names})(?:\[.+\])?$"

    def task_pattern(self) -> str:
        return f"^{importpath.PATTERN}$"


def _lookup(task: TaskFacts, options: Mapping[str, Any], folder: Path) -> metrics.Lookup:
    return metrics.Lookup(inputs=frozenset[Any](task.inputs(options)), folder=folder)


@cache
def installed() -> Installed:
    """The one catalogue of this process."""
    return Installed()
