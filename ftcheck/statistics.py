"""How sure a number is: intervals for a metric's mean over runs, from the noise of examples and of seeds.

The example part is a jackknife over example statistics, the seed part a variance component with a t quantile. The
primitives (`influence`, `example_variance`, `Spread`, `quantile`, `half_width`) know nothing of intervals.

Notation: k runs on the same n examples; run s has statistics X_s (n × c) with column sums T_s and value f_s = f(T_s);
M is the mean of f_s, a bar the mean over runs, and a = n / (n - 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ftcheck.results import Interval

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, Scale

Aggregate = Callable[["FloatArray"], "FloatArray"]
"""Totals (..., c) -> values (...): `Metric.aggregate`."""

FEW_EXAMPLES = 30
"""With fewer, an interval is shown but decides nothing."""

_CHUNK = 1 << 17
"""Numbers held at a time while examples are left out: 1 MiB stays in the cache.

Collapsing equal rows first does not pay: for macro-F1 of 77 classes on 10,000 examples, finding them (np.unique) takes
92 ms, leaving out every example one by one less than 10 ms.
"""


def quantile(q: float, nu: float) -> float:
    """The q-quantile of Student's t with `nu` degrees of freedom, of the normal where `nu` is infinite."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(q) if math.isinf(nu) else stdtrit(nu, q))


def influence(rows: FloatArray, aggregate: Aggregate) -> FloatArray:
    """What each example adds to the metric: (n, c) statistics -> (n,), centred; NaN or infinite where f(T - X_i) is.

    g_i = (n - 1) / n · (f(T) - f(T - X_i)), the jackknife's; for a mean (x_i - mean) / n.
    """
    n, columns = rows.shape
    totals = rows.sum(axis=0)
    step = max(1, _CHUNK // max(1, columns))
    left_out = np.concatenate([aggregate(totals - rows[start : start + step]) for start in range(0, n, step)])
    added = (n - 1) / n * (aggregate(totals) - left_out)
    centred: FloatArray = added - added.mean()
    return centred


def example_variance(influences: FloatArray) -> float:
    """V_E = a Σ g_i²: the variance over examples of the number that the influences (n,) belong to."""
    n = len(influences)
    return n / (n - 1) * float(influences @ influences)


def example_df(influences: FloatArray) -> float:
    """ν_E = 2(Σg²)² / (Σg⁴ - (Σg²)²/n) within [3, n - 1]: how many degrees of freedom V_E is worth."""
    n = len(influences)
    # The unit cancels: with the largest as 1, fourth powers of a perplexity's influences can't overflow.
    squares = (influences / (np.abs(influences).max() or 1.0)) ** 2
    squared_sum = float(squares.sum()) ** 2
    excess = float(squares @ squares) - squared_sum / n
    return min(max(2 * squared_sum / excess, 3.0), n - 1.0) if excess > 0 else n - 1.0


def half_width(q: float, *, v_e: float, nu_e: float, a: float, b: float, nu: int) -> float:
    """h(q) = max((zA + tB) / √(A + B), z√V_E), z = t_{ν_E}(q), t = max(z, t_ν(q)); without seeds (ν = 0) z√V_E.

    Cochran and Cox's weighted t for two variances with different degrees of freedom, never below what examples alone
    give.
    """
    z = quantile(q, nu_e)
    floor = z * math.sqrt(v_e)
    if nu == 0 or a + b == 0:
        return floor
    t = max(z, quantile(q, nu))
    return max((z * a + t * b) / math.sqrt(a + b), floor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How the mean of k runs varies with the examples and with the seeds."""

    runs: int
    seeded: bool
    """Whether runs differ by their seed: False for fixed weights and for a single run."""
    v_e: float
    """V_E: variance of M over examples."""
    nu_e: float
    """Degrees of freedom of V_E; infinite where scores are 0 or 1."""
    s2: float
    """S²: variance of the runs' values; 0 unless `seeded`."""
    d: float
    """D = a / (k - 1) Σ_s Σ_i (g_is - ḡ_i)²: what of S² the choice of examples explains; 0 unless `seeded`."""

    @property
    def nu(self) -> int:
        """Degrees of freedom of S²."""
        return self.runs - 1 if self.seeded else 0

    @property
    def a(self) -> float:
        """A: variance of M that only examples bring (D's share is in B already)."""
        return max(0.0, self.v_e - self.d / self.runs)

    @property
    def b(self) -> float:
        """B: variance of M that seeds bring, D's share included."""
        return self.s2 / self.runs

    @property
    def seed_sd(self) -> float | None:
        """Standard deviation over seeds on unlimited examples; for display, never used in bounds. None if unknown."""
        return math.sqrt(max(0.0, self.s2 - self.d)) if self.seeded else None

    def half_width(self, q: float) -> float:
        """h(q) of M."""
        return half_width(q, v_e=self.v_e, nu_e=self.nu_e, a=self.a, b=self.b, nu=self.nu)


def spread(influences: FloatArray, values: FloatArray, *, binary: bool, fixed: bool) -> Spread:
    """The variance components of the mean of runs, from their influences (k, n) and values (k,); n > 1."""
    k, n = influences.shape
    mean = influences.mean(axis=0)
    seeded = k > 1 and not fixed
    return Spread(
        runs=k,
        seeded=seeded,
        v_e=example_variance(mean),
        nu_e=math.inf if binary else example_df(mean),
        s2=float(values.var(ddof=1)) if seeded else 0.0,
        d=n / (n - 1) / (k - 1) * float(((influences - mean) ** 2).sum()) if seeded else 0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A metric over runs, with what is known of its accuracy."""

    value: float
    """M; NaN where a run has no value."""
    per_run: tuple[float, ...]
    examples: int
    """Examples that count, n."""
    interval: Interval | None = None
    no_interval: str = ""
    """Why there is none."""
    spread: Spread | None = None
    """None where it can't be had: fewer than two examples, or no finite value with and without every one of them."""


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def estimate(
    statistics: Sequence[FloatArray],
    aggregate: Aggregate,
    *,
    scale: Scale,
    binary: bool,
    fixed: bool,
    confidence: float = 0.95,
    no_interval: str = "",
) -> Estimate:
    """The mean of a metric over runs and a two-sided interval for it.

    `statistics` holds one (n, c) array of numbers per run, of the same examples in the same order. `binary`: the metric
    is the mean of scores 0 or 1. `fixed`: the weights were not trained here, so there is no seed noise. A row of zeros
    in every run is an example that the metric doesn't count (e.g. outside a part of the data): it is left out of n.
    `no_interval` is why the statistics give the value only.

    With one run or fixed weights the interval speaks of this model, else of the recipe. Raises ValueError for no runs,
    runs of different shapes, or a confidence outside (0, 1). What isn't finite gives no interval and no NumPy warning.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if len({rows.shape for rows in statistics}) != 1:
        raise ValueError(f"runs need statistics of one shape, got {[rows.shape for rows in statistics]}")
    runs = _counted(statistics)
    n = len(runs[0])
    values = np.array([float(aggregate(rows.sum(axis=0))) for rows in runs])
    value, per_run = float(values.mean()), tuple(values.tolist())

    def without_interval(why: str, known: Spread | None = None) -> Estimate:
        return Estimate(value=value, per_run=per_run, examples=n, no_interval=why, spread=known)

    if n < 2:
        return without_interval("one example" if n else "no examples")
    if not np.isfinite(values).all():
        return without_interval("a run's value is not a finite number")
    if no_interval:
        return without_interval(no_interval)
    influences = np.stack([influence(rows, aggregate) for rows in runs])
    if not np.isfinite(influences).all():
        return without_interval("one of the examples decides whether there is a value at all")
    components = spread(influences, values, binary=binary, fixed=fixed)
    low, high, method = _bounds(value, n, components, scale, binary=binary, q=(1 + confidence) / 2)
    if not math.isfinite(low) or not math.isfinite(high):
        return without_interval("too few examples, or too uneven ones, to bound it", components)
    about: Literal["recipe", "model"] = "recipe" if components.seeded else "model"
    interval = Interval(low=low, high=high, confidence=confidence, method=method, about=about)
    return Estimate(value=value, per_run=per_run, examples=n, interval=interval, spread=components)


def _counted(statistics: Sequence[FloatArray]) -> list[FloatArray]:
    """The runs as floats (stored ones may be small unsigned integers), without the examples that count in none."""
    counted = np.logical_or.reduce([(rows != 0).any(axis=1) for rows in statistics])
    return [(rows if counted.all() else rows[counted]).astype(np.float64, copy=False) for rows in statistics]


def _bounds(
    value: float, n: int, components: Spread, scale: Scale, *, binary: bool, q: float
) -> tuple[float, float, str]:
    """(low, high, method) on the metric's scale; not finite where exp of the half-width is not."""
    h = components.half_width(q)
    if scale == "unbounded":
        return value - h, value + h, "jackknife+t"
    if scale == "perplexity":
        low, high = value * np.exp([-h / value, h / value])
        return float(low), float(high), "jackknife+t, log scale"
    variance = max(0.0, value * (1 - value))
    all_alike = h == 0 and variance == 0
    if all_alike or (binary and not components.seeded):
        low, high = _score_bounds(value, quantile(q, components.nu_e) ** 2 / n)
        return low, high, "wilson"
    if variance == 0:
        # All right or all wrong, but a single left-out example would change that: the data bound nothing.
        return 0.0, 1.0, "jackknife+t, score scale"
    low, high = _score_bounds(value, h**2 / variance)
    return low, high, "jackknife+t, score scale"


def _score_bounds(m: float, u: float) -> tuple[float, float]:
    """Wilson's bounds for a proportion m: both p with (m - p)² = u·p(1 - p); u = z²/n for a plain share of n."""
    middle, reach = m + u / 2, math.sqrt(u * m * (1 - m) + u * u / 4)
    return max(0.0, (middle - reach) / (1 + u)), min(1.0, (middle + reach) / (1 + u))
