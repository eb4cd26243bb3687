"""A case's result by class, part, length and confidence, and what its gate could see: plain data, to and from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfusionMatrix:
    """How often each class was taken for which, summed over runs."""

    of: str
    """What was counted: `examples` or `words`."""
    classes: tuple[str, ...]
    """In the task's order; of many, those that are confused most."""
    left_out: int
    """How many classes are not among them."""
    now: tuple[tuple[int, ...], ...]
    """By gold class (row) and predicted class (column); the last column is all classes that are left out."""
    then: tuple[tuple[int, ...], ...] | None = None
    """The same of what the case was compared with, on the examples that both judged; None where it isn't known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """Precision, recall and F1 of one class, all runs pooled."""

    name: str
    support: int
    """How many of the judged examples (words) are of this class."""
    precision: float
    recall: float
    f1: float
    then: tuple[float, float, float] | None = None
    """Precision, recall and F1 of what the case was compared with, on the examples that both judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartScore:
    """A metric on some of the judged rows."""

    metric: str
    part: str
    examples: int
    value: float
    low: float | None = None
    high: float | None = None
    """The interval, where there is one."""
    reference: float | None = None
    """What the case was compared with has, on the examples of the part that both judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """Predictions whose confidence (the probability of the predicted class) lies in (low, high]; all runs pooled."""

    low: float
    high: float
    confidence: float
    """Its mean."""
    accuracy: float
    """The share that was right."""
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerCurve:
    """The smallest regression that a gate would fail in 80 of 100 runs, by how much is judged."""

    metric: str
    margin: float
    """In the metric's unit."""
    examples: tuple[int, ...]
    """Numbers of judged examples (or clusters of them), ascending."""
    seeds: tuple[int, ...]
    """Seeds a side, ascending; only 0 for fixed weights."""
    detectable: tuple[tuple[float, ...], ...]
    """By seeds (row) and examples (column), in the metric's unit."""
    now: tuple[int, int]
    """(examples, seeds) of this comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """What charts need beside a case's metrics and gates; empty where the task or the metrics don't give it."""

    confusion: ConfusionMatrix | None = None
    classes: tuple[ClassScore, ...] = ()
    classes_of: str = ""
    """What `ClassScore.support` counts: `examples` or `words`."""
    parts: tuple[PartScore, ...] = ()
    """Of the gates' slices."""
    lengths: tuple[PartScore, ...] = ()
    """Of one metric by the inputs' length, shortest first."""
    reliability: tuple[ReliabilityBin, ...] = ()
    power: PowerCurve | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Breakdown:
        """The inverse of what CaseResult.to_json makes of it. Raises KeyError or TypeError where `value` is not one."""
        confusion, power = value["confusion"], value["power"]
        return cls(
            confusion=confusion
            and ConfusionMatrix(
                **{
                    **confusion,
                    "classes": tuple(confusion["classes"]),
                    "now": _rows(confusion["now"]),
                    "then": None if confusion["then"] is None else _rows(confusion["then"]),
                }
            ),
            classes=tuple(
                ClassScore(**{**one, "then": None if one["then"] is None else tuple(one["then"])})
                for one in value["classes"]
            ),
            classes_of=value["classes_of"],
            parts=tuple(PartScore(**one) for one in value["parts"]),
            lengths=tuple(PartScore(**one) for one in value["lengths"]),
            reliability=tuple(ReliabilityBin(**one) for one in value["reliability"]),
            power=power
            and PowerCurve(
                **{
                    **power,
                    **{name: tuple(power[name]) for name in ("examples", "seeds", "now")},
                    "detectable": _rows(power["detectable"]),
                }
            ),
        )


def _rows(table: Any) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(row) for row in table)
