"""Sets of classes (multi-label classification); equal to scikit-learn on indicator matrices with `zero_division=0`.

An average over classes is over all of them, also those that are nowhere: scikit-learn has it so for indicators, where
for single classes it leaves those out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ftcheck.errors import MetricError, shown
from ftcheck.metrics import Context, Definition, counts, unknown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.metrics import FloatArray, NumberArray, Scale
    from ftcheck.metrics.counts import Rate

    Sets = npt.NDArray[np.bool_]

Average = Literal["micro", "macro", "weighted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OverSets:
    """Precision, recall or F1: of one class, or averaged over all."""

    name: str
    signature: str
    rate: Rate
    average: Average | int
    """How classes are averaged, or the one that counts."""
    classes: int
    greater_is_better: bool = True
    scale: Scale = "proportion"
    binary: bool = False

    def statistics(self, predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> NumberArray:
        """(examples, 3·k + 1): [hits, predicted, gold, 1] by class, or (k = 1) of one class or pooled over all."""
        import numpy as np

        predicted, gold = _sets(self.name, self.classes, predictions, references)
        sets = predicted & gold, predicted, gold
        one = np.ones((len(gold), 1), dtype=np.uint8)
        if isinstance(self.average, int):
            return np.concatenate([*(part[:, [self.average]] for part in sets), one], axis=1)
        if self.average == "micro":
            return np.concatenate([*(part.sum(axis=1, keepdims=True) for part in sets), one], axis=1)
        return np.concatenate([*sets, one], axis=1)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        import numpy as np

        if self.average == "macro":
            values, _, _ = counts.rates(totals, self.rate)
            return np.where(totals[..., -1] > 0, values.mean(-1), np.nan)
        return counts.averaged(totals, self.rate, "weighted" if self.average == "weighted" else None)


Score = Literal["samples_f1", "subset_accuracy", "hamming_loss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PerExample:
    """The mean of a score of each example's set."""

    name: Score
    signature: str
    classes: int
    greater_is_better: bool
    binary: bool
    scale: Scale = "proportion"

    def statistics(self, predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]) -> FloatArray:
        """(examples, 2): [score, 1]."""
        import numpy as np

        predicted, gold = _sets(self.name, self.classes, predictions, references)
        if self.name == "samples_f1":
            sizes = np.asarray(predicted.sum(axis=1) + gold.sum(axis=1), dtype=np.float64)
            scores = counts.ratio(2.0 * (predicted & gold).sum(axis=1), sizes, empty=0.0)
        elif self.name == "subset_accuracy":
            scores = (predicted == gold).all(axis=1).astype(np.float64)
        else:
            scores = (predicted != gold).sum(axis=1) / max(self.classes, 1)
        return np.stack([scores, np.ones(len(gold))], axis=1)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.mean(totals)


def _sets(
    name: str, classes: int, predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]]
) -> tuple[Sets, Sets]:
    import numpy as np

    if len(predictions) != len(references):
        raise MetricError(f"{name}: {len(predictions)} predictions for {len(references)} references")
    both: list[Sets] = []
    for what, given in (("prediction", predictions), ("reference", references)):
        for row, members in enumerate(given):
            if len(members) != classes or not set(members) <= {0, 1}:
                raise MetricError(f"{name}: {what} {row} must be {classes} numbers 0 or 1, got {shown(repr(members))}")
        both.append(np.asarray(given, dtype=bool).reshape(len(given), classes))
    return both[0], both[1]


def _one_class(rate: Rate) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> OverSets:
        if argument is None:
            raise MetricError(
                f"{rate} of sets of classes needs a class, {rate}[CLASS], or an average: micro_{rate}, macro_{rate} or "
                f"weighted_{rate}"
            )
        if argument not in context.labels:
            raise unknown(f"{rate}: no class is called", argument, context.labels)
        return OverSets(
            name=f"{rate}[{argument}]",
            signature=f"{known.signature}|sets|{argument}",
            rate=rate,
            average=context.labels.index(argument),
            classes=len(context.labels),
        )

    return Definition(name=rate, input="labels", takes_argument=True, summary=f"{rate} of one class", make=make)


def _averaged(rate: Rate, average: Average) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> OverSets:
        return OverSets(
            name=known.name,
            signature=f"{known.signature}|sets",
            rate=rate,
            average=average,
            classes=len(context.labels),
        )

    how = {"micro": "counts pooled over classes", "macro": "mean over classes", "weighted": "mean weighted by gold"}
    return Definition(name=f"{average}_{rate}", input="labels", summary=f"{rate}, {how[average]}", make=make)


def _per_example(name: Score, summary: str, *, greater_is_better: bool = True, binary: bool = False) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> PerExample:
        return PerExample(
            name=name,
            signature=known.signature,
            classes=len(context.labels),
            greater_is_better=greater_is_better,
            binary=binary,
        )

    return Definition(name=name, input="labels", summary=summary, make=make, greater_is_better=greater_is_better)


_RATES: tuple[Rate, ...] = ("precision", "recall", "f1")
_AVERAGES: tuple[Average, ...] = ("micro", "macro", "weighted")

METRICS: tuple[Definition, ...] = (
    *(_one_class(rate) for rate in _RATES),
    *(_averaged(rate, average) for average in _AVERAGES for rate in _RATES),
    _per_example("samples_f1", "mean F1 of each example's set"),
    _per_example("subset_accuracy", "share of examples whose whole set was found", binary=True),
    _per_example("hamming_loss", "share of wrong decisions over examples and classes", greater_is_better=False),
)
