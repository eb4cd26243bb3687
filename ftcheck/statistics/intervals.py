"""How sure a number is: an interval for a metric's mean over runs, from the noise of examples and of seeds.

The example part is a jackknife over example statistics, the seed part a variance component with a t quantile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from ftcheck.results import Interval
from ftcheck.statistics import blocks
from ftcheck.statistics.blocks import Aggregate
from ftcheck.statistics.distributions import quantile
from ftcheck.statistics.jackknife import example_df, example_variance, half_width, influence, too_few, units

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, NumberArray, Scale
    from ftcheck.statistics.jackknife import IntArray


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
    """Examples that count."""
    clusters: int | None = None
    """Clusters they fall into, where examples are not independent."""
    interval: Interval | None = None
    no_interval: str = ""
    """Why there is none."""
    spread: Spread | None = None
    """None where it can't be had: fewer than two examples, or no finite value with and without every one of them."""


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def estimate(
    statistics: Sequence[NumberArray],
    aggregate: Aggregate,
    *,
    scale: Scale,
    binary: bool,
    fixed: bool,
    confidence: float = 0.95,
    no_interval: str = "",
    clusters: IntArray | None = None,
) -> Estimate:
    """The mean of a metric over runs and a two-sided interval for it.

    `statistics` holds one (n, c) array of numbers per run, of the same examples in the same order. `binary`: the metric
    is the mean of scores 0 or 1. `fixed`: the weights were not trained here, so there is no seed noise. A row of zeros
    in every run is an example that the metric doesn't count (e.g. outside a part of the data): it is left out of n.
    `no_interval` is why the statistics give the value only. `clusters` (n,) is an id per example, where examples come
    in groups that are drawn together (questions on one document): rows are added up per cluster and n is their number.

    With one run or fixed weights the interval speaks of this model, else of the recipe. Raises ValueError for no runs,
    runs or clusters of different shapes, or a confidence outside (0, 1). What isn't finite gives no interval and no
    NumPy warning.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    runs, examples, groups = units(statistics, clusters)
    totals = [blocks.totals(rows) for rows in runs]
    values = np.array([float(aggregate(total)) for total in totals])
    value, per_run = float(values.mean()), tuple(values.tolist())

    def without_interval(why: str, known: Spread | None = None) -> Estimate:
        return Estimate(value=value, per_run=per_run, examples=examples, clusters=groups, no_interval=why, spread=known)

    few = too_few(examples, groups)
    if few:
        return without_interval(few)
    if not np.isfinite(values).all():
        return without_interval("a run's value is not a finite number")
    if no_interval:
        return without_interval(no_interval)
    influences = np.stack([influence(rows, aggregate, total) for rows, total in zip(runs, totals, strict=True)])
    if not np.isfinite(influences).all():
        return without_interval("one of the examples decides whether there is a value at all")
    binary = binary and clusters is None
    components = spread(influences, values, binary=binary, fixed=fixed)
    low, high, method = _bounds(value, len(runs[0]), components, scale, binary=binary, q=(1 + confidence) / 2)
    if not math.isfinite(low) or not math.isfinite(high):
        return without_interval("too few examples, or too uneven ones, to bound it", components)
    about: Literal["recipe", "model"] = "recipe" if components.seeded else "model"
    interval = Interval(low=low, high=high, confidence=confidence, method=method, about=about)
    return Estimate(
        value=value, per_run=per_run, examples=examples, clusters=groups, interval=interval, spread=components
    )


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
    high = 1.0 if m == 1 else min(1.0, (middle + reach) / (1 + u))  # of all right: whatever the rounding
    return max(0.0, (middle - reach) / (1 + u)), high
