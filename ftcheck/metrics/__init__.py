"""Metrics as example statistics with an aggregate.

One module per metric family; adding one is adding a file and a line to FAMILIES.

A metric is a name and perhaps an argument: `macro_f1`, `f1[lost_or_stolen_card]`. `parse` splits the two; a
`Lookup` says what is known without data of those that fit a task, and makes them. Importing this package or a family
imports no NumPy and no library of metrics: those wait inside the functions that need them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from ftcheck import importpath
from ftcheck.errors import FtcheckError, MetricError, one_of, shown
from ftcheck.results import Scale as Scale

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

FloatArray: TypeAlias = "npt.NDArray[np.float64]"
NumberArray: TypeAlias = "npt.NDArray[np.floating[Any] | np.integer[Any]]"
"""Example statistics: whole numbers are kept in as few bytes as hold them (`ftcheck.arrays.small`)."""

Input = Literal[
    "label", "scores", "labels", "value", "tags", "answer", "text", "tokens", "preference", "reward", "cost"
]
"""What a metric is computed from. A task says which of these its records give (`Task.inputs`):

- `label`: predictions and references are int class ids (index into `Context.labels`).
- `scores`: predictions are one list of probabilities per example, by class; references are int class ids.
- `labels`: sets of classes: one list of 0 and 1 per example, by class, for predictions and references.
- `value`: floats.
- `tags`: one list of tag names per example.
- `answer`: predictions are strings, references are lists of accepted strings (empty list: unanswerable, predicted "").
- `text`: predictions are strings, references are lists of one or more strings.
- `tokens`: predictions are [negative log likelihood in nats, tokens predicted right] per example, summed over its
  tokens; references are [tokens, bytes of text (UTF-8) that they make up].
- `preference`: predictions are [log-probability of the chosen answer, of the rejected one] in nats, references the
  tokens of each.
- `reward`: as `preference`, each log-probability less the one that the model gave which the training started from.
- `cost`: not from examples at all, one number per run (train_seconds, ...).
"""

NATURAL: tuple[Input, ...] = ("label", "scores", "labels", "value", "tags", "answer", "text", "tokens", "preference")
"""The inputs that come from examples. The first of them that a task gives is what a metric of the user's is computed
from, unless it says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a metric may need to know about the case besides predictions and references."""

    labels: tuple[str, ...] = ()
    """Class names by id (`label`), or tag names (`tags`)."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The case's task options, e.g. `scheme`, `positive_label`."""


class Metric(Protocol):
    """One number about a run, with the example statistics that determine it."""

    @property
    def name(self) -> str:
        """The name as a gate writes it: `macro_f1`, `f1[PER]`."""

    @property
    def greater_is_better(self) -> bool: ...

    @property
    def scale(self) -> Scale: ...

    @property
    def binary(self) -> bool:
        """Whether an example counts 0 or 1 and the metric is their mean (accuracy, exact match)."""

    @property
    def signature(self) -> str:
        """Definition, library and version. Two results with different signatures are not comparable."""

    def statistics(self, predictions: Sequence[Any], references: Sequence[Any]) -> NumberArray:
        """(examples, k): rows add up to what `aggregate` takes. A row of zeros is an example that doesn't count.

        Raises MetricError where predictions and references are not what the metric's input demands.
        """

    def aggregate(self, totals: FloatArray) -> FloatArray:
        """(..., k) -> (...), of floats. Vectorized over leading axes. NaN where no example counted.

        A metric that doesn't add up over examples gives what `ftcheck.metrics.leave_one_out` makes of it.
        """


@runtime_checkable
class WithoutInterval(Protocol):
    """What a metric has besides, whose interval may be too much work (it doesn't add up over examples)."""

    def value(self, predictions: Sequence[Any], references: Sequence[Any]) -> float:
        """The metric without any statistics; NaN without examples."""

    def no_interval(self, statistics: NumberArray) -> str:
        """Why there is no interval to these statistics, (examples, k); empty where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What is known of a metric by its name, before any data."""

    name: str
    input: Input
    summary: str
    """One line: what it measures."""
    make: Callable[[Definition, str | None, Context], Metric] | None
    """(this definition, argument, context) -> the metric, or MetricError. None: it is read from a run's costs."""
    greater_is_better: bool = True
    takes_argument: bool = False
    """Whether NAME[ARGUMENT] is a metric too. NAME alone always is."""
    choices: tuple[str, ...] = ()
    """The arguments there are, where they don't depend on the data."""
    unit: str = ""
    bounds: tuple[float, float] = (0.0, 1.0)
    """What its values lie between."""
    version: int = 1
    """Raised when the definition changes: results of different versions are not comparable."""
    fingerprint: str = ""
    """Of a metric that isn't ftcheck's: what its code is."""

    @property
    def signature(self) -> str:
        """The part of a metric's signature that its name determines."""
        return "|".join(part for part in (self.name, str(self.version), self.unit, self.fingerprint) if part)


_DATA: Mapping[Input, str] = {
    "label": "class ids",
    "scores": "class probabilities",
    "labels": "sets of classes",
    "value": "numbers",
    "tags": "tag sequences",
    "answer": "answers",
    "text": "texts",
    "tokens": "token likelihoods",
    "preference": "preferences",
    "reward": "rewards",
    "cost": "costs",
}

FAMILIES: Mapping[str, frozenset[Input]] = {
    "ftcheck.metrics.classification": frozenset({"label"}),
    "ftcheck.metrics.agreement": frozenset({"label"}),
    "ftcheck.metrics.probabilities": frozenset({"scores"}),
    "ftcheck.metrics.label_sets": frozenset({"labels"}),
    "ftcheck.metrics.numbers": frozenset({"value"}),
    "ftcheck.metrics.sequence_labelling": frozenset({"tags"}),
    "ftcheck.metrics.answers": frozenset({"answer"}),
    "ftcheck.metrics.rouge": frozenset({"text"}),
    "ftcheck.metrics.translation": frozenset({"text"}),
    "ftcheck.metrics.nltk_scores": frozenset({"text"}),
    "ftcheck.metrics.generation": frozenset({"text"}),
    "ftcheck.metrics.likelihood": frozenset({"tokens"}),
    "ftcheck.metrics.preferences": frozenset({"preference", "reward"}),
    "ftcheck.metrics.costs": frozenset({"cost"}),
}
"""Modules with a table `METRICS` of Definitions -> what those are computed from: only what may fit is imported."""

PATTERNS = (rf"{importpath.PATTERN}", r"evaluate:[^\[\]\n]+")
"""Regular expressions for the names of metrics that aren't ftcheck's: an import path, a module for `evaluate`."""

_SYNTAX = re.compile(
    rf"(?P<name>{'|'.join(PATTERNS)}|\w+)(?:\[(?P<argument>.+)\])?",
    re.DOTALL,
)


def parse(text: str) -> tuple[str, str | None]:
    """`f1[PER]` -> ("f1", "PER"); `accuracy` -> ("accuracy", None); `evaluate:./mine[f1]` -> ("evaluate:./mine", "f1").

    Raises MetricError for anything else.
    """
    match = _SYNTAX.fullmatch(text)
    if match is None:
        raise MetricError(
            f'"{shown(text)}" is no metric: write NAME or NAME[ARGUMENT], e.g. macro_f1 or f1[PER], '
            "and for one of your own package.module:function"
        )
    return match["name"], match["argument"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """The metrics that fit one case, by name. One name may mean one thing for classes and another for sets of labels:
    what the task gives decides."""

    inputs: frozenset[Input]
    """What the task gives (`Task.inputs`). Costs fit every task."""
    folder: Path | None = None
    """The suite file's: where relative paths of metrics start. None: the current directory."""

    def names(self) -> tuple[str, ...]:
        """All that fit, family by family."""
        return tuple(name for name, kinds in _registry().items() if any(map(self._fits, kinds)))

    def describe(self, text: str) -> Definition:
        """What is known of a metric by its name (an argument is ignored). Raises MetricError for one that is unknown,
        or that doesn't fit; for one of the user's also where its code can't be had."""
        name, _ = parse(text)
        fitting = _fitting(self.inputs).get(name)
        if fitting is not None:
            return fitting
        kinds = (self._own(name),) if ":" in name else _registry().get(name)
        if kinds is None:
            raise unknown("no metric is called", name, self.names())
        for known in kinds:
            if self._fits(known):
                return known
        given = " and ".join(_DATA[kind] for kind in sorted(self.inputs - {"cost"}))
        needed, fit = " or ".join(_DATA[known.input] for known in kinds), ", ".join(self.names())
        raise MetricError(f"{name} is computed from {needed}, this task gives {given}; it has {fit}")

    def check(self, text: str) -> str | None:
        """What is wrong with `text` as a metric here, in one sentence; None where it is right.

        Class names are not known yet: `build` judges those.
        """
        try:
            return _argument_error(self.describe(text), parse(text)[1])
        except FtcheckError as error:
            return str(error)

    def build(self, text: str, context: Context) -> Metric:
        """The metric that `text` names, for a case with these labels and options.

        Raises MetricError: a name that is unknown or doesn't fit, a wrong argument, labels or options that don't fit,
        or a cost (which has no example statistics: read `describe(text).name` out of a run's costs).
        """
        known, argument = self.describe(text), parse(text)[1]
        error = _argument_error(known, argument)
        if error is not None:
            raise MetricError(error)
        if known.make is None:
            raise MetricError(f"{known.name} is a cost, one number per run: it isn't computed from examples")
        return known.make(known, argument, context)

    def is_cost(self, text: str) -> bool:
        """Whether it is a number about the run, not computed from examples."""
        return self.describe(text).input == "cost"

    def _own(self, name: str) -> Definition:
        """A metric that isn't ftcheck's."""
        from ftcheck.metrics import evaluate_modules, own

        default = next((kind for kind in NATURAL if kind in self.inputs), NATURAL[0])
        if name.startswith(evaluate_modules.PREFIX):
            return evaluate_modules.define(name, default, self.folder)
        return own.define(name, default)

    def _fits(self, known: Definition) -> bool:
        return known.input == "cost" or known.input in self.inputs


def value(metric: Metric, predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """The metric alone, where nobody asks how sure it is."""
    if isinstance(metric, WithoutInterval):
        return metric.value(predictions, references)
    return float(metric.aggregate(metric.statistics(predictions, references).sum(axis=0, dtype="float64")))


def cost_names() -> frozenset[str]:
    """The names of those that are measured, not computed from examples."""
    return frozenset(_fitting(frozenset()))


def every() -> tuple[Definition, ...]:
    """All definitions, family by family."""
    return tuple(known for kinds in _registry().values() for known in kinds)


def _argument_error(known: Definition, argument: str | None) -> str | None:
    if argument is None:
        return None
    if not known.takes_argument:
        return f"{known.name} takes no argument, got [{shown(argument)}]"
    if known.choices and argument not in known.choices:
        return str(unknown(f"{known.name}: the argument can't be", argument, known.choices))
    return None


def unknown(what: str, name: str, known: Iterable[str]) -> MetricError:
    """The error for a name that isn't among `known`: `what "name"`, then a near name or all there are."""
    hint = shown(one_of(name, known), 2000)
    return MetricError(f'{what} "{shown(name)}"' + (f"; {hint}" if hint else ""))


@cache
def _fitting(inputs: frozenset[Input]) -> Mapping[str, Definition]:
    """What names mean for a task that gives `inputs`."""
    given = inputs | {"cost"}
    found: dict[str, Definition] = {}
    for family in (family for family, computed_from in FAMILIES.items() if computed_from & given):
        for known in import_module(family).METRICS:
            if known.input in given:
                found.setdefault(known.name, known)
    return found


@cache
def _registry() -> Mapping[str, tuple[Definition, ...]]:
    return register(definition for family in FAMILIES for definition in import_module(family).METRICS)


def register(definitions: Iterable[Definition]) -> dict[str, tuple[Definition, ...]]:
    """Definitions by name, one for each input. Raises ValueError for a name that is taken there."""
    registry: dict[str, tuple[Definition, ...]] = {}
    for definition in definitions:
        same = registry.get(definition.name, ())
        if definition.input in (known.input for known in same):
            raise ValueError(f"two metrics are called {definition.name}")
        registry[definition.name] = (*same, definition)
    return registry
