"""Accuracy, precision, recall and F1 over class ids; equal to scikit-learn with `zero_division=0`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck.errors import MetricError, shown
from ftcheck.metrics import Context, Definition, counts, unknown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.metrics import FloatArray, NumberArray, Scale
    from ftcheck.metrics.counts import Average, Rate

    Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The share of examples whose class was found; also every micro average, where each example has one class."""

    name: str
    signature: str
    classes: int
    greater_is_better: bool = True
    scale: Scale = "proportion"
    binary: bool = True

    def statistics(self, predictions: Sequence[int], references: Sequence[int]) -> FloatArray:
        """(examples, 2): [right, 1]."""
        import numpy as np

        predicted, gold = _ids(self.name, self.classes, predictions, references)
        return np.stack([predicted == gold, np.ones(len(gold))], axis=1, dtype=np.float64)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.mean(totals)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfOneClass:
    """Precision, recall or F1 of one class against all others."""

    name: str
    signature: str
    rate: Rate
    label: int
    classes: int
    greater_is_better: bool = True
    scale: Scale = "proportion"
    binary: bool = False

    def statistics(self, predictions: Sequence[int], references: Sequence[int]) -> FloatArray:
        """(examples, 4): [hit, predicted, gold, 1]."""
        import numpy as np

        predicted, gold = (ids == self.label for ids in _ids(self.name, self.classes, predictions, references))
        return np.stack([predicted & gold, predicted, gold, np.ones(len(gold))], axis=1, dtype=np.float64)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.averaged(totals, self.rate, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OverClasses:
    """Precision, recall or F1 averaged over the classes that are predicted or gold somewhere."""

    name: str
    signature: str
    rate: Rate
    average: Average
    classes: int
    greater_is_better: bool = True
    scale: Scale = "proportion"
    binary: bool = False

    def statistics(self, predictions: Sequence[int], references: Sequence[int]) -> NumberArray:
        """(examples, 3·classes + 1): [hits by class, predicted by class, gold by class, 1]."""
        return class_counts(self.name, self.classes, predictions, references)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.averaged(totals, self.rate, self.average)


def class_counts(name: str, classes: int, predictions: Sequence[int], references: Sequence[int]) -> NumberArray:
    """(examples, 3·classes + 1): [hits by class, predicted by class, gold by class, 1], a byte each. Raises
    MetricError."""
    import numpy as np

    predicted, gold = _ids(name, classes, predictions, references)
    rows, hit = np.arange(len(gold)), predicted == gold
    statistics = np.zeros((len(gold), 3 * classes + 1), dtype=np.uint8)
    statistics[rows[hit], gold[hit]] = 1
    statistics[rows, classes + predicted] = 1
    statistics[rows, 2 * classes + gold] = 1
    statistics[:, -1] = 1
    return statistics


def _ids(name: str, classes: int, predictions: Sequence[int], references: Sequence[int]) -> tuple[Ids, Ids]:
    if len(predictions) != len(references):
        raise MetricError(f"{name}: {len(predictions)} predictions for {len(references)} references")
    return (
        checked_ids(name, classes, predictions, "prediction"),
        checked_ids(name, classes, references, "reference"),
    )


def checked_ids(name: str, classes: int, given: Sequence[int], what: str) -> Ids:
    """Class ids as an array. Raises MetricError for what is none."""
    import numpy as np

    ids = np.asarray(given)
    if len(ids) and (ids.ndim != 1 or ids.dtype.kind not in "iu"):
        raise MetricError(f"{name}: a {what} must be one integer class id, got {shown(given[0])}")
    outside = np.flatnonzero((ids < 0) | (ids >= classes))
    if len(outside):
        first = int(outside[0])
        raise MetricError(f"{name}: {what} {first} is class id {ids[first]}, but there are {classes} classes")
    return ids.astype(np.int64)


def _class_id(name: str, wanted: str, labels: tuple[str, ...]) -> int:
    if wanted not in labels:
        raise unknown(f"{name}: no class is called", wanted, labels)
    return labels.index(wanted)


def positive_class(name: str, context: Context) -> int:
    """The class of two that a metric speaks of: the task's `positive_label`, else the second. Raises MetricError."""
    if len(context.labels) != 2:
        raise MetricError(
            f"{name} without a class is for two classes, and there are {len(context.labels)}: "
            f"use macro_{name}, micro_{name} or weighted_{name}, or name one class as {name}[CLASS]"
        )
    wanted = context.options.get("positive_label")
    return 1 if wanted is None else _class_id(f"{name}, positive_label", str(wanted), context.labels)


def _one_class(rate: Rate) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> OfOneClass:
        positive = argument is None
        label = positive_class(rate, context) if positive else _class_id(rate, str(argument), context.labels)
        return OfOneClass(
            name=rate if positive else f"{rate}[{argument}]",
            signature=f"{known.signature}|{context.labels[label]}",
            rate=rate,
            label=label,
            classes=len(context.labels),
        )

    return Definition(
        name=rate,
        input="label",
        takes_argument=True,
        summary=f"{rate} of one class: the named one, or of two classes the positive one",
        make=make,
    )


def _averaged(rate: Rate, average: Average) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> OverClasses:
        return OverClasses(
            name=known.name, signature=known.signature, rate=rate, average=average, classes=len(context.labels)
        )

    weights = "weighted by how often each is gold" if average == "weighted" else "all classes alike"
    return Definition(
        name=f"{average}_{rate}", input="label", summary=f"mean {rate} over classes, {weights}", make=make
    )


def _accuracy(known: Definition, argument: str | None, context: Context) -> Accuracy:
    return Accuracy(name=known.name, signature=known.signature, classes=len(context.labels))


def _share_right(name: str, summary: str) -> Definition:
    return Definition(name=name, input="label", summary=summary, make=_accuracy)


_RATES: tuple[Rate, ...] = ("precision", "recall", "f1")
_AVERAGES: tuple[Average, ...] = ("macro", "weighted")

METRICS: tuple[Definition, ...] = (
    _share_right("accuracy", "share of examples whose class was found"),
    *(_one_class(rate) for rate in _RATES),
    *(_share_right(f"micro_{rate}", f"{rate} pooled over classes: equal to accuracy") for rate in _RATES),
    *(_averaged(rate, average) for average in _AVERAGES for rate in _RATES),
)
