"""Predicted numbers against gold ones (regression): errors and correlations.

All but Spearman's correlation add up over examples. Sums of squares and products are kept of centred numbers, since
those of large ones would cancel; correlations don't depend on the centre.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftcheck.errors import MetricError
from ftcheck.metrics import Context, Definition, counts, leave_one_out, ranks

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, Scale

Rows = Callable[["FloatArray", "FloatArray"], "FloatArray"]
"""(predictions (n,), references (n,)) -> statistics (n, k)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfNumbers:
    """A metric of numbers."""

    name: str
    signature: str
    rows: Rows
    total: Callable[[FloatArray], FloatArray]
    greater_is_better: bool
    scale: Scale = "unbounded"
    binary: bool = False

    def statistics(self, predictions: Sequence[float], references: Sequence[float]) -> FloatArray:
        """(examples, k): one row an example."""
        import numpy as np

        if len(predictions) != len(references):
            raise MetricError(f"{self.name}: {len(predictions)} predictions for {len(references)} references")
        try:
            predicted, gold = (np.asarray(given, dtype=np.float64).reshape(-1) for given in (predictions, references))
        except (ValueError, TypeError):
            raise MetricError(f"{self.name}: predictions and references must be numbers") from None
        return self.rows(predicted, gold)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return self.total(totals)


def _with_count(*columns: FloatArray) -> FloatArray:
    import numpy as np

    return np.stack([*columns, np.ones(len(columns[0]))], axis=1)


def _squared(predicted: FloatArray, gold: FloatArray) -> FloatArray:
    return _with_count((predicted - gold) ** 2)


def _absolute(predicted: FloatArray, gold: FloatArray) -> FloatArray:
    return _with_count(abs(predicted - gold))


def _root(totals: FloatArray) -> FloatArray:
    import numpy as np

    return np.sqrt(counts.mean(totals))


def _centred(values: FloatArray) -> FloatArray:
    return values - (values.mean() if len(values) else 0.0)


def _moments(predicted: FloatArray, gold: FloatArray) -> FloatArray:
    """[x, y, x², y², x·y, 1], x and y centred."""
    x, y = _centred(predicted), _centred(gold)
    return _with_count(x, y, x * x, y * y, x * y)


def _correlation(totals: FloatArray) -> FloatArray:
    """Pearson's r; NaN where either side doesn't vary."""
    import numpy as np

    x, y, xx, yy, xy, n = np.moveaxis(totals, -1, 0)
    varies = counts.ratio(xx * n - x * x, n, empty=0.0), counts.ratio(yy * n - y * y, n, empty=0.0)
    # What is left of rounding, where nothing varies, is no variance.
    flat = (varies[0] <= 1e-14 * np.abs(xx)) | (varies[1] <= 1e-14 * np.abs(yy))
    spread = np.where(flat, 0.0, np.sqrt(np.maximum(varies[0], 0)) * np.sqrt(np.maximum(varies[1], 0)))
    r = counts.ratio(xy - counts.ratio(x * y, n, empty=0.0), spread, empty=float("nan"))
    return np.clip(r, -1.0, 1.0)


def _residuals(predicted: FloatArray, gold: FloatArray) -> FloatArray:
    """[(y - x)², y, y², 1], y centred."""
    y = _centred(gold)
    return _with_count((gold - predicted) ** 2, y, y * y)


def _explained(totals: FloatArray) -> FloatArray:
    """R² = 1 - Σ(y - x)² / Σ(y - ȳ)²; where gold doesn't vary 1 for no error, else 0; NaN of fewer than two."""
    import numpy as np

    error, y, yy, n = np.moveaxis(totals, -1, 0)
    spread = yy - counts.ratio(y * y, n, empty=0.0)
    flat = spread <= 1e-14 * np.abs(yy)
    value = 1 - counts.ratio(error, np.where(flat, 0.0, spread), empty=float("nan"))
    return np.where(n < 2, np.nan, np.where(flat, (error == 0).astype(float), value))


def _rank_correlation(predicted: FloatArray, gold: FloatArray) -> FloatArray:
    """As `leave_one_out` makes them."""
    import numpy as np

    n = len(gold)
    if n < 2 or not (np.isfinite(predicted).all() and np.isfinite(gold).all()):
        return leave_one_out.statistics(float("nan"), np.full(n, np.nan))
    return leave_one_out.statistics(*ranks.spearman(predicted, gold))


def _definition(
    name: str,
    rows: Rows,
    total: Callable[[FloatArray], FloatArray],
    summary: str,
    *,
    greater_is_better: bool,
    bounds: tuple[float, float],
) -> Definition:
    def make(known: Definition, argument: str | None, context: Context) -> OfNumbers:
        return OfNumbers(
            name=known.name, signature=known.signature, rows=rows, total=total, greater_is_better=greater_is_better
        )

    return Definition(
        name=name, input="value", summary=summary, make=make, greater_is_better=greater_is_better, bounds=bounds
    )


_ERROR = (0.0, float("inf"))

METRICS: tuple[Definition, ...] = (
    _definition("pearson", _moments, _correlation, "Pearson's correlation", greater_is_better=True, bounds=(-1.0, 1.0)),
    _definition(
        "spearman",
        _rank_correlation,
        leave_one_out.aggregate,
        "Spearman's rank correlation",
        greater_is_better=True,
        bounds=(-1.0, 1.0),
    ),
    _definition("mse", _squared, counts.mean, "mean squared error", greater_is_better=False, bounds=_ERROR),
    _definition("rmse", _squared, _root, "root of the mean squared error", greater_is_better=False, bounds=_ERROR),
    _definition("mae", _absolute, counts.mean, "mean absolute error", greater_is_better=False, bounds=_ERROR),
    _definition(
        "r2",
        _residuals,
        _explained,
        "share of the variance that is explained",
        greater_is_better=True,
        bounds=(float("-inf"), 1.0),
    ),
)
