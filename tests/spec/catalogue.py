"""A catalogue of made-up tasks and metrics, so that these tests hold whatever ftcheck's own become."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from ftcheck import training_fields
from ftcheck.errors import SuiteErrors, TaskError, one_of
from ftcheck.spec import Case, Facts, TaskFacts, TechniqueFacts, expand
from ftcheck.suitefile import parse


class TaggingOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    max_length: int | None = Field(default=None, ge=3)
    scheme: str = "plain"


@dataclass(frozen=True)
class FakeTask:
    columns: Mapping[str, bool] = field(default_factory=lambda: {"text": True, "text_pair": False, "label": True})
    options: type[BaseModel] = TaggingOptions
    training_defaults: Mapping[str, Any] = field(default_factory=dict)

    def inputs(self, options: Mapping[str, Any]) -> frozenset[str]:
        return frozenset({"label"})

    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return ("accuracy",)


class FakeCatalogue:
    """Two tasks, a few metrics, the fields of the installed TrainingArguments."""

    tasks: Collection[str] = ("tagging", "picky")
    costs: Collection[str] = ("train_seconds", "parameters")
    training_costs: Collection[str] = ("train_seconds",)

    @property
    def training_fields(self) -> Collection[str]:
        return training_fields.installed().settable.keys()

    def task(self, name: str) -> FakeTask:
        if name not in self.tasks and name != "my_package.tasks:Mine":
            raise TaskError(f"no task is called {name!r}; {one_of(name, self.tasks)}")
        return FakeTask(training_defaults={"load_best_model_at_end": True} if name == "picky" else {})

    techniques: Collection[str] = ()

    def technique(self, name: str) -> TechniqueFacts:
        raise KeyError(name)

    def technique_problems(self, facts: Facts) -> Iterator[tuple[tuple[str | int, ...], str]]:
        yield from ()

    def cost_problem(self, text: str, techniques: Mapping[str, Any]) -> str:
        return ""

    def metric_problem(self, text: str, task: TaskFacts, options: Mapping[str, Any], folder: Path) -> str:
        known = ("accuracy", "macro_f1", "f1[a/b]", *self.costs)
        return "" if text in known else f"no metric is called {text}"

    def metric_bounds(
        self, text: str, task: TaskFacts, options: Mapping[str, Any], folder: Path
    ) -> tuple[float, float]:
        return (0.0, math.inf) if text in self.costs else (0.0, 1.0)

    def training_problems(self, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[tuple[str, str]]:
        return training_fields.installed().problems(given, defaults)

    def training_schema(self) -> Mapping[str, Any]:
        return training_fields.installed().schema()

    def metric_pattern(self) -> str:
        return r"^(?:accuracy|macro_f1|f1|train_seconds|parameters)(?:\[.+\])?$"

    def task_pattern(self) -> str:
        return r"^[\w.]+:\w+$"


CATALOGUE = FakeCatalogue()


def cases(text: str, folder: Path = Path("/suites")) -> list[Case]:
    """The cases of a suite file with this text."""
    return expand(parse(text.encode(), folder / "a.ft.yaml"), CATALOGUE)


def errors(text: str, folder: Path = Path("/suites")) -> list[str]:
    """What is wrong with a suite file of this text: `LINE KEY: message`."""
    with pytest.raises(SuiteErrors) as caught:
        cases(text, folder)
    return [f"{error.location.line} {error.location.key}: {error.message}" for error in caught.value.errors]


def one(fields: str, folder: Path = Path("/suites")) -> Case:
    """The one case of a suite that gives a checkpoint, a task and data unless `fields` (flow style) does."""
    (case,) = cases(suite(fields), folder)
    return case


def suite(fields: str) -> str:
    """A suite file whose case `c`, on line 3, has these fields."""
    return (
        "defaults: {checkpoint: org/model, task: tagging, data: org/data}\n"
        "cases:\n"
        f"  c: {{{fields}}}\n"
    )  # fmt: skip
