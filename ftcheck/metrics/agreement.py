"""Chance-corrected agreement over class ids: Matthews' correlation, Cohen's kappa, balanced accuracy.

All three are functions of how often each class is found, predicted and gold, which add up over examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck.metrics import Context, Definition, counts
from ftcheck.metrics.classification import class_counts

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, NumberArray, Scale

Value = Callable[["FloatArray", "FloatArray", "FloatArray", "FloatArray"], "FloatArray"]
"""(hits, predicted, gold by class, (..., C) each; examples, (...)) -> (...)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """A function of the counts by class."""

    name: str
    signature: str
    classes: int
    value: Value
    scale: Scale
    greater_is_better: bool = True
    binary: bool = False

    def statistics(self, predictions: Sequence[int], references: Sequence[int]) -> NumberArray:
        """(examples, 3·classes + 1): [hits by class, predicted by class, gold by class, 1]."""
        return class_counts(self.name, self.classes, predictions, references)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        import numpy as np

        hits, predicted, gold = np.split(totals[..., :-1], 3, axis=-1)
        examples = totals[..., -1]
        return np.where(examples > 0, self.value(hits, predicted, gold, examples), np.nan)


def _mcc(hits: FloatArray, predicted: FloatArray, gold: FloatArray, examples: FloatArray) -> FloatArray:
    """Gorodkin's R_K (2004); 0 where all examples are of one class, or predicted as one, as scikit-learn has it."""
    import numpy as np

    squared = examples**2
    covariance = hits.sum(-1) * examples - (predicted * gold).sum(-1)
    spread = (squared - (predicted**2).sum(-1)) * (squared - (gold**2).sum(-1))
    return counts.ratio(covariance, np.sqrt(np.maximum(spread, 0)), empty=0.0)


def _kappa(hits: FloatArray, predicted: FloatArray, gold: FloatArray, examples: FloatArray) -> FloatArray:
    """Cohen (1960): (p_o - p_e) / (1 - p_e); NaN where chance alone agrees always."""
    expected = (predicted * gold).sum(-1)
    return counts.ratio(hits.sum(-1) * examples - expected, examples**2 - expected, empty=float("nan"))


def _balanced(hits: FloatArray, predicted: FloatArray, gold: FloatArray, examples: FloatArray) -> FloatArray:
    """The mean recall over the classes that are gold somewhere."""
    import numpy as np

    recalls = counts.ratio(hits, gold, empty=0.0)
    return counts.ratio(recalls.sum(-1), np.asarray((gold > 0).sum(-1), dtype=float), empty=float("nan"))


def _definition(name: str, value: Value, summary: str, *, scale: Scale, low: float) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> Agreement:
        return Agreement(
            name=known.name, signature=known.signature, classes=len(context.labels), value=value, scale=scale
        )

    return Definition(name=name, input="label", summary=summary, make=make, bounds=(low, 1.0))


METRICS: tuple[Definition, ...] = (
    _definition("mcc", _mcc, "Matthews' correlation coefficient", scale="unbounded", low=-1.0),
    _definition("cohen_kappa", _kappa, "Cohen's kappa: agreement beyond chance", scale="unbounded", low=-1.0),
    _definition("balanced_accuracy", _balanced, "mean recall over classes", scale="proportion", low=0.0),
)
