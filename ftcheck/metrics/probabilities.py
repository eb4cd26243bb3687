"""Metrics of class probabilities: how well they rank, and how well they are calibrated.

Losses and the calibration error add up over examples. Areas under curves don't: their values without each example are
had in closed form, and `leave_one_out` makes example statistics of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ftcheck.errors import MetricError, shown
from ftcheck.metrics import Context, Definition, counts, leave_one_out
from ftcheck.metrics.classification import checked_ids, positive_class

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.metrics import FloatArray, Scale

    Ids = npt.NDArray[np.int64]

BINS = 15
"""Of the calibration error: equal widths, as in Guo et al. 2017."""

Rows = Callable[["FloatArray", "Ids", int], "FloatArray"]
"""(probabilities (n, C), references (n,), the positive class of two) -> statistics (n, k)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfProbabilities:
    """A metric of class probabilities."""

    name: str
    signature: str
    classes: int
    positive: int
    """The class that a metric of two classes speaks of."""
    rows: Rows
    total: Callable[[FloatArray], FloatArray]
    scale: Scale
    greater_is_better: bool
    binary: bool = False

    def statistics(self, predictions: Sequence[Sequence[float]], references: Sequence[int]) -> FloatArray:
        """(examples, k): one row an example."""
        import numpy as np

        gold = checked_ids(self.name, self.classes, references, "reference")
        try:
            probabilities = np.asarray(predictions, dtype=np.float64).reshape(len(predictions), self.classes)
        except (ValueError, TypeError):
            raise MetricError(f"{self.name}: each prediction must be {self.classes} probabilities") from None
        if len(gold) != len(probabilities):
            raise MetricError(f"{self.name}: {len(probabilities)} predictions for {len(gold)} references")
        outside = np.flatnonzero(~((probabilities >= 0) & (probabilities <= 1)).all(axis=1))
        if len(outside):
            first = int(outside[0])
            raise MetricError(f"{self.name}: prediction {first} is no probabilities: {shown(probabilities[first])}")
        return self.rows(probabilities, gold, self.positive)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return self.total(totals)


def _log_loss(probabilities: FloatArray, gold: Ids, positive: int) -> FloatArray:
    """[-ln p(gold), 1]; p is clipped to machine precision, as scikit-learn does."""
    import numpy as np

    right = probabilities[np.arange(len(gold)), gold]
    return _with_count(-np.log(np.clip(right, np.finfo(np.float64).eps, 1.0)))


def _brier(probabilities: FloatArray, gold: Ids, positive: int) -> FloatArray:
    """[Σ_c (p_c - [c is gold])², 1]; of two classes only the positive one's, which is half of that."""
    import numpy as np

    apart = probabilities.copy()  # from the right class's probability: no table of classes × classes
    apart[np.arange(len(gold)), gold] -= 1.0
    squared = apart**2
    return _with_count(squared[:, positive] if squared.shape[1] == 2 else squared.sum(axis=1))


def _calibration(probabilities: FloatArray, gold: Ids, positive: int) -> FloatArray:
    """(n, BINS + 1): [confidence - right] in the bin of the confidence (lower bound left out), then 1."""
    import numpy as np

    confidence = probabilities.max(axis=1, initial=0.0)
    right = probabilities.argmax(axis=1) == gold
    places = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    statistics = np.zeros((len(gold), BINS + 1))
    statistics[np.arange(len(gold)), places] = confidence - right
    statistics[:, -1] = 1
    return statistics


def _calibration_error(totals: FloatArray) -> FloatArray:
    import numpy as np

    return counts.ratio(np.abs(totals[..., :-1]).sum(-1), totals[..., -1], empty=float("nan"))


def _with_count(values: FloatArray) -> FloatArray:
    import numpy as np

    return np.stack([values, np.ones(len(values))], axis=1)


Area = Callable[["FloatArray", "npt.NDArray[np.bool_]"], tuple[float, "FloatArray"]]
"""(scores (n,), whether positive (n,)) -> the area, and the areas without each example (n,); NaN for none."""


def _of_area(area: Area, probabilities: FloatArray, gold: Ids, positive: int) -> FloatArray:
    """Of two classes the positive one's area; of more, each against the rest, the mean over those that have one."""
    import numpy as np

    classes = [positive] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    found, total, known = [], np.zeros(len(gold)), np.zeros(len(gold))
    for label in classes:  # one after the other: a table of classes × examples may be large
        value, without = area(probabilities[:, label], gold == label)
        finite = np.isfinite(without)
        total += np.where(finite, without, 0.0)
        known += finite
        found.append(value)
    values = np.where(np.isfinite(found), found, 0.0).sum()
    mean = float(counts.ratio(values, np.isfinite(found).sum(dtype=float), empty=float("nan")))
    return leave_one_out.statistics(mean, counts.ratio(total, known, empty=float("nan")))


def roc_area(scores: FloatArray, positives: npt.NDArray[np.bool_]) -> tuple[float, FloatArray]:
    """Area under the ROC curve: the share of pairs (positive, negative) in the right order, ties counting half."""
    import numpy as np

    placements = np.empty(len(scores))
    above, below = np.sort(scores[positives]), np.sort(scores[~positives])
    for part, others, sign in ((positives, below, 1), (~positives, above, -1)):
        lower = np.searchsorted(others, scores[part], side="left")
        upper = np.searchsorted(others, scores[part], side="right")
        won = (lower + upper) / 2
        placements[part] = won if sign > 0 else len(others) - won
    pairs = float(len(above) * len(below))
    right = placements[positives].sum()
    left = np.where(positives, pairs - len(below), pairs - len(above))
    without = counts.ratio(right - placements, left, empty=float("nan"))
    return (float(right / pairs) if pairs else float("nan")), without


def precision_area(scores: FloatArray, positives: npt.NDArray[np.bool_]) -> tuple[float, FloatArray]:
    """Average precision: the mean over positives of the precision at their score (ties come together).

    Leaving out an example takes it out of the counts of every positive that it doesn't score below.
    """
    import numpy as np

    n, total = len(scores), int(positives.sum())
    if not total:
        return float("nan"), np.full(n, np.nan)
    own = np.sort(scores[positives])[::-1]
    # By positive, best first: positives and examples that score at least as high.
    hits = total - np.searchsorted(own[::-1], own, side="left").astype(float)
    seen = n - np.searchsorted(np.sort(scores), own, side="left").astype(float)
    plain = np.concatenate([[0.0], np.cumsum(hits / seen)])
    # Suffix sums over the positives that score no higher than what is left out: a negative, a positive.
    less = [np.concatenate([np.cumsum(counts.ratio(hits - k, seen - 1, empty=0.0)[::-1])[::-1], [0.0]]) for k in (0, 1)]
    higher = np.searchsorted(-own, -scores, side="left")
    sums = plain[higher] + np.where(positives, less[1][higher], less[0][higher])
    at = hits[np.minimum(higher, total - 1)], seen[np.minimum(higher, total - 1)]
    sums = sums - np.where(positives, counts.ratio(at[0] - 1, at[1] - 1, empty=0.0), 0.0)
    return float(plain[-1] / total), counts.ratio(sums, total - positives.astype(float), empty=float("nan"))


def _definition(
    name: str,
    rows: Rows,
    total: Callable[[FloatArray], FloatArray],
    summary: str,
    *,
    scale: Scale = "proportion",
    greater_is_better: bool = False,
    high: float = 1.0,
) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> OfProbabilities:
        two = len(context.labels) == 2
        positive = positive_class(known.name, context) if two else 0
        return OfProbabilities(
            name=known.name,
            signature="|".join([known.signature, *([context.labels[positive]] if two else [])]),
            classes=len(context.labels),
            positive=positive,
            rows=rows,
            total=total,
            scale=scale,
            greater_is_better=greater_is_better,
        )

    return Definition(
        name=name, input="scores", summary=summary, make=make, greater_is_better=greater_is_better, bounds=(0.0, high)
    )


_AREA = partial(_definition, total=leave_one_out.aggregate, greater_is_better=True)

METRICS: tuple[Definition, ...] = (
    _AREA("roc_auc", partial(_of_area, roc_area), summary="area under the ROC curve; of classes, the mean"),
    _AREA("average_precision", partial(_of_area, precision_area), summary="mean precision at the positives' scores"),
    _definition("log_loss", _log_loss, counts.mean, "mean of -ln p(right class)", scale="unbounded", high=float("inf")),
    _definition("brier_score", _brier, counts.mean, "mean squared error of probabilities", scale="unbounded", high=2.0),
    _definition("ece", _calibration, _calibration_error, "expected calibration error, 15 bins"),
)
