"""What `expand` must be told about the rest of ftcheck. Handed in, so that this package knows nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from ftcheck.spec.case import Case


class TaskFacts(Protocol):
    """What a suite can say about a task: the light half of `ftcheck.tasks.Task`."""

    @property
    def columns(self) -> Mapping[str, bool]:
        """The task's column names -> whether the data must have it."""

    def inputs(self, options: Mapping[str, Any]) -> Collection[str]:
        """What its metrics may be computed from."""

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]: ...

    @property
    def options(self) -> type[BaseModel]: ...

    @property
    def training_defaults(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What techniques may know of their case when the suite is read."""

    task: str
    task_options: Mapping[str, Any]
    training: Mapping[str, Any] | None
    """Arguments in force, the task's defaults included; None with `training: false`."""
    techniques: Mapping[str, Any]
    """All of the case, with their checked options."""
    streaming: bool
    tunes: bool
    """Whether the case has rows to tune on."""
    seeds: int
    judges: bool
    """Whether the case says which rows are judged."""
    folder: Path
    """Where relative paths start: the suite's."""
    metrics: tuple[str, ...]
    """Those that can be computed from examples: costs can't choose anything."""
    early_stopping: bool = False
    processes: int = 1
    """How many train one run together."""
    halves: bool = False
    """`on_oom: halve_batch`."""
    own_code: bool = False
    """`checkpoint.trust_remote_code`."""


class TechniqueFacts(Protocol):
    """What a suite can say about a technique: the light half of `ftcheck.finetune.techniques.Technique`."""

    @property
    def parent(self) -> str | None:
        """The option that may name another case, as `case:NAME`."""

    @property
    def runs(self) -> str | None:
        """The option that says how many runs a case makes, in the place of `seeds`."""

    @property
    def judges_train(self) -> bool:
        """Whether the training rows are judged, so that the case needs no others."""

    @property
    def options(self) -> type[BaseModel]: ...

    def read(self, value: Any) -> dict[str, Any]:
        """The checked options that a suite's value stands for. Raises pydantic.ValidationError."""

    def spelled_out(self, value: Any) -> Any:
        """A short form as the mapping that it stands for."""

    def schema(self) -> dict[str, Any]:
        """JSON Schema of what a suite may write."""

    def gates(self, given: Mapping[str, Any]) -> Mapping[str, float]:
        """Cost -> the most that it may be, which these options demand."""

    def parent_problem(self, case: Case, parent: Case) -> str:
        """Why the model of `parent` doesn't serve `case`; empty where it does."""


class Catalogue(Protocol):
    """The names that a suite may use."""

    @property
    def tasks(self) -> Collection[str]:
        """The tasks that have a name."""

    @property
    def costs(self) -> Collection[str]:
        """Metrics that are measured, not computed from examples: they can't choose the best checkpoint."""

    @property
    def training_costs(self) -> Collection[str]:
        """Those of `costs` that exist only where something was trained."""

    @property
    def training_fields(self) -> Collection[str]:
        """The names of the installed TrainingArguments' fields that a suite may set."""

    def task(self, name: str) -> TaskFacts:
        """One of `tasks`, or what an import path names. Raises TaskError, also for an unknown name."""

    @property
    def techniques(self) -> Collection[str]:
        """The techniques, each a key of a case."""

    def technique(self, name: str) -> TechniqueFacts:
        """One of `techniques`."""

    def technique_problems(self, facts: Facts) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """(path from the case's top, what is wrong there) of the techniques of a case."""

    def cost_problem(self, text: str, techniques: Mapping[str, Any]) -> str:
        """Why no run of a case with these techniques has this cost; empty where it has, and for what is no cost."""

    def metric_problem(self, text: str, task: TaskFacts, options: Mapping[str, Any], folder: Path) -> str:
        """What is wrong with this metric for this task with these options; empty where nothing is. Paths in it start at
        `folder`."""

    def metric_bounds(
        self, text: str, task: TaskFacts, options: Mapping[str, Any], folder: Path
    ) -> tuple[float, float]:
        """What the values of a metric without a problem lie between."""

    def training_problems(self, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[tuple[str, str]]:
        """(field of `given`, what is wrong with it). `defaults` are the task's, in force where `given` is silent."""

    def training_schema(self) -> Mapping[str, Any]:
        """JSON Schema of the `training` mapping's properties."""

    def metric_pattern(self) -> str:
        """A regular expression that every metric's text matches."""

    def task_pattern(self) -> str:
        """A regular expression that the import path of a task matches."""
