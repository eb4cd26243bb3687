"""How much worse a candidate is than its baseline on the same examples, and how sure that is.

With d the difference of the means over runs (positive: worse), the examples' part of its variance is the jackknife's of
the *paired* influences; the seeds' part is pooled from the runs of both sides and from calibration runs. S² of runs
holds the part D of the examples' noise already, so nothing noisy is ever subtracted from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ftcheck.statistics import blocks
from ftcheck.statistics.blocks import Aggregate
from ftcheck.statistics.corrections import sequential_level
from ftcheck.statistics.distributions import upper_tail
from ftcheck.statistics.intervals import spread
from ftcheck.statistics.jackknife import example_df, example_variance, half_width, influence, too_few, units
from ftcheck.statistics.roots import crossing
from ftcheck.statistics.seeds import SeedNoise, pooled

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, NumberArray, Scale
    from ftcheck.statistics.jackknife import IntArray

SeedSource = Literal["runs", "calibration", "prior", "none"]

PRIOR_FACTOR = 2
"""σ_max / σ₀: how much larger than the prior the seed noise may be and still be allowed for."""

SMALLEST_P = 1e-15
"""What a smaller p is given as: 1 - p isn't told from 1 below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """The variance components of a difference between two means over runs."""

    v_e: float
    """V_E: the examples' variance, paired."""
    nu_e: float
    """ν_E: its degrees of freedom."""
    c: float
    """Σ 1/k over the trained sides (of a relative margin w²/k_b + 1/k_c): the seed variance of d is c·σ²."""
    s2: float = 0.0
    """S_p²: pooled variance of the runs of one side."""
    d: float = 0.0
    """D_p: what of it the choice of examples explains."""
    nu: int = 0
    """Degrees of freedom of S_p² and D_p; 0 without an estimate."""
    b: float = 0.0
    """B: variance of d that seeds bring, D_p's share included; at least c·S_p²."""
    prior_sd: float = 0.0
    """σ₀, assumed where nothing was measured (nu = 0)."""

    @property
    def a(self) -> float:
        """A: variance of d that only examples bring."""
        return max(0.0, self.v_e - self.d * self.c)

    @property
    def sigma2(self) -> float:
        """σ̂²: a run's variance over seeds on unlimited examples, as far as known; for planning, never in bounds."""
        return max(0.0, self.s2 - self.d) if self.nu else self.prior_sd**2

    def half_width(self, q: float) -> float:
        """h(q) of the difference."""
        v_e = self.v_e + self.c * (PRIOR_FACTOR * self.prior_sd) ** 2
        return half_width(q, v_e=v_e, nu_e=self.nu_e, a=self.a, b=self.b, nu=self.nu)

    def tail(self, difference: float) -> float:
        """One-sided p of "not worse": the 1 - q at which the lower bound d - h(q) is 0; at least SMALLEST_P."""
        if difference <= 0:
            return 0.5 if difference == 0 else 1 - self.tail(-difference)
        if self.nu == 0 or self.a + self.b == 0:  # h(q) is a quantile times a constant: no search
            sd = math.sqrt(self.v_e + self.c * (PRIOR_FACTOR * self.prior_sd) ** 2)
            return min(max(upper_tail(difference / sd, self.nu_e) if sd else 0.0, SMALLEST_P), 0.5)
        found = crossing(lambda p: difference - self.half_width(1 - math.exp(p)), math.log(SMALLEST_P), math.log(0.5))
        return math.exp(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """The difference against a margin of a share r of the baseline: d_r = s(wM_b - M_c), w = 1 - s·r; at most 0 is
    within the margin. A negative r is the margin of a gain."""

    r: float
    difference: float
    low: float
    high: float
    noise: Noise | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate against its baseline: plain numbers, so that `dataclasses.asdict` gives what JSON takes (but NaN)."""

    difference: float
    """d: how much worse the candidate is (negative: better), in the metric's unit; NaN where a side has no value."""
    low: float
    """L = d - h: the difference is at least this, at `confidence`; NaN where there are no bounds."""
    high: float
    """U = d + h: the difference is at most this, at `confidence`."""
    confidence: float
    """One-sided, of each bound; with several looks that of one."""
    p_worse: float
    """One-sided: how likely so bad a difference is without any real one."""
    p_value: float
    """Two-sided: twice the smaller tail."""
    value_baseline: float
    value_candidate: float
    runs_baseline: int
    runs_candidate: int
    fixed_baseline: bool
    fixed_candidate: bool
    examples: int
    clusters: int | None
    discordant: int
    """Examples (or clusters) on which the mean statistics of the sides differ."""
    seed_source: SeedSource
    """Where the seed noise comes from; "none": fixed weights on both sides, or nothing is known (`no_bounds`)."""
    noise: Noise | None
    """Of one prediction on both sides that of an equal retrain, as far as it is known: no example differs yet."""
    relative: Relative | None
    same: bool
    """Both sides are one prediction: nothing to estimate."""
    no_bounds: str
    """Why there are no bounds; empty where there are."""


@dataclass(frozen=True, slots=True)
class _Arm:
    value: float
    influence: FloatArray
    """Mean over runs, (n,)."""
    runs: int
    fixed: bool
    seeds: SeedNoise | None
    """None of a single run or fixed weights."""


@dataclass(frozen=True, slots=True)
class _Evidence:
    why_not: str
    source: SeedSource
    noise: Noise | None
    weighted: Noise | None
    """Of the difference against a relative margin."""


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def compare(
    baseline: Sequence[NumberArray],
    candidate: Sequence[NumberArray],
    aggregate: Aggregate,
    *,
    greater_is_better: bool,
    scale: Scale,
    fixed_baseline: bool,
    fixed_candidate: bool,
    confidence: float = 0.95,
    relative: float | None = None,
    calibration: SeedNoise | None = None,
    prior_sd: float | None = None,
    clusters: IntArray | None = None,
    looks: int = 1,
    same: bool = False,
    no_interval: str = "",
) -> Comparison:
    """How much worse `candidate` is than `baseline`, with one-sided bounds at `confidence` each.

    Both hold one (n, c) array of statistics per run, all of the same examples in the same order (the caller aligns them
    by id); the numbers of runs may differ. A row of zeros in every run of both is an example that doesn't count.
    `fixed_*`: weights that were not trained here. Such a side has no seed noise, however many runs it has; beside a
    trained one the seed variance is the trained side's alone (c = 1/k of it).

    Seed noise comes from the runs of both sides and from `calibration` (runs of the recipe that are not in the
    baseline, on the same examples). Where neither has any, `prior_sd` (σ₀ of `seeds.prior_sd`) is doubled and assumed;
    without that there are no bounds, since one trained run can't tell a recipe from its luck.

    `relative` r adds the difference against a margin of that share of the baseline, a negative one for `max_gain`.
    `clusters` (n,) is an id per example, as in `estimate`. `looks` is how often a result that grows seed by seed is
    looked at in all: each look then has a stricter level. `same`: both sides are one prediction, so d is 0 for
    certain. `no_interval` is why the statistics give the values only, as in `estimate`: then there are no bounds.

    Raises ValueError for no runs, other shapes, a confidence outside (0.5, 1), or a relative margin to a baseline that
    is not above 0.
    """
    if not 0.5 < confidence < 1:
        raise ValueError(f"a one-sided confidence must lie between 0.5 and 1, got {confidence}")
    if not baseline or not candidate:
        raise ValueError("a comparison needs runs on both sides")
    runs, examples, groups = units([*baseline, *candidate], clusters)
    sides = runs[: len(baseline)], runs[len(baseline) :]
    totals = [[blocks.totals(rows) for rows in side] for side in sides]
    values = [np.array([float(aggregate(total)) for total in side]) for side in totals]
    before, after = (float(side.mean()) for side in values)
    if relative is not None and before <= 0:
        raise ValueError(f"a margin of a share of the baseline needs a baseline above 0, got {before}")
    sign = 1 if greater_is_better else -1
    weight = 1.0 if relative is None else 1 - sign * relative
    same = same and math.isfinite(before)
    why_not = "" if same else no_interval or too_few(examples, groups)
    known = _Evidence(why_not, "none", None, None)
    if not why_not:
        known = _evidence(
            (
                _arm(sides[0], totals[0], values[0], fixed_baseline, aggregate),
                _arm(sides[1], totals[1], values[1], fixed_candidate, aggregate),
            ),
            scale=scale,
            weight=weight,
            calibration=calibration,
            prior_sd=prior_sd,
        )
    if same:  # d is 0 whatever the noise, which tells what another comparison could see
        known = replace(known, why_not="", source="none")
    level = 1 - sequential_level(1 - confidence, looks)
    difference = 0.0 if same else sign * (before - after)
    h, p = _bound(known.noise, difference, level, same=same)
    share = None
    if relative is not None:
        apart = -relative * before if same else sign * (weight * before - after)
        h_apart, _ = _bound(known.weighted, apart, level, same=same)
        share = Relative(r=relative, difference=apart, low=apart - h_apart, high=apart + h_apart, noise=known.weighted)
    return Comparison(
        difference=difference,
        low=difference - h,
        high=difference + h,
        confidence=level,
        p_worse=p,
        p_value=2 * min(p, 1 - p),
        value_baseline=before,
        value_candidate=after,
        runs_baseline=len(baseline),
        runs_candidate=len(candidate),
        fixed_baseline=fixed_baseline,
        fixed_candidate=fixed_candidate,
        examples=examples,
        clusters=groups,
        discordant=_discordant(*sides),
        seed_source=known.source,
        noise=known.noise,
        relative=share,
        same=same,
        no_bounds=known.why_not,
    )


def _bound(noise: Noise | None, difference: float, level: float, *, same: bool) -> tuple[float, float]:
    """(half-width, one-sided p) of a difference; both NaN where nothing is known of its noise."""
    if same:
        return 0.0, 0.5
    return (math.nan, math.nan) if noise is None else (noise.half_width(level), noise.tail(difference))


def _evidence(
    arms: tuple[_Arm, _Arm],
    *,
    scale: Scale,
    weight: float,
    calibration: SeedNoise | None,
    prior_sd: float | None,
) -> _Evidence:
    """What is known of the noise of M_b - M_c and of `weight`·M_b - M_c, or why nothing is."""
    if not all(math.isfinite(arm.value) for arm in arms):
        return _Evidence("a run's value is not a finite number", "none", None, None)
    if not all(np.isfinite(arm.influence).all() for arm in arms):
        return _Evidence("one of the examples decides whether there is a value at all", "none", None, None)
    source = _seed_source(arms, calibration, prior_sd)
    if source == "none" and not all(arm.fixed for arm in arms):
        return _Evidence("one trained run a side can't tell the recipe from its luck", "none", None, None)
    plain, weighted = (
        _noise(*arms, weight=by, scale=scale, calibration=calibration, prior_sd=prior_sd) for by in (1.0, weight)
    )
    return _Evidence("", source, plain, weighted)


def _arm(
    runs: Sequence[NumberArray], totals: Sequence[FloatArray], values: FloatArray, fixed: bool, aggregate: Aggregate
) -> _Arm:
    influences = np.stack([influence(rows, aggregate, total) for rows, total in zip(runs, totals, strict=True)])
    known = spread(influences, values, binary=False, fixed=fixed)
    seeds = SeedNoise(s2=known.s2, d=known.d, nu=known.nu, values=tuple(values.tolist())) if known.seeded else None
    return _Arm(float(values.mean()), influences.mean(axis=0), len(runs), fixed, seeds)


def _seed_source(arms: Sequence[_Arm], calibration: SeedNoise | None, prior_sd: float | None) -> SeedSource:
    if all(arm.fixed for arm in arms):
        return "none"
    if any(arm.seeds for arm in arms):
        return "runs"
    if calibration is not None:
        return "calibration"
    return "none" if prior_sd is None else "prior"


def _noise(
    before: _Arm,
    after: _Arm,
    *,
    weight: float,
    scale: Scale,
    calibration: SeedNoise | None,
    prior_sd: float | None,
) -> Noise:
    """The noise of `weight`·M_b - M_c (the sign of the metric changes no variance)."""
    v_e, nu_e = _paired(before, after, weight, scale)
    shares = [(arm, square / arm.runs) for arm, square in ((before, weight**2), (after, 1.0)) if not arm.fixed]
    c = sum(share for _, share in shares)
    if c == 0:
        return Noise(v_e=v_e, nu_e=nu_e, c=0.0)
    own = [arm.seeds for arm, _ in shares if arm.seeds]
    known = pooled([*own, *([calibration] if calibration else [])])
    if known is None:
        return Noise(v_e=v_e, nu_e=nu_e, c=c, prior_sd=prior_sd or 0.0)
    b = known.s2 * c
    if len(own) == 2 and before.runs != after.runs:
        # With unequal numbers of runs the pooled variance is too small where the side with fewer varies more.
        b = max(b, sum(share * arm.seeds.s2 for arm, share in shares if arm.seeds))
    return Noise(v_e=v_e, nu_e=nu_e, c=c, s2=known.s2, d=known.d, nu=known.nu, b=b)


def _paired(before: _Arm, after: _Arm, weight: float, scale: Scale) -> tuple[float, float]:
    """(V_E, ν_E) of γ_i = w·ḡ_b,i - ḡ_c,i, with V_E = a Σ γ_i² · (1 + 2/m), m the examples with γ_i ≠ 0.

    Where no example tells the sides apart, two that do may have been missed: V_E = 2/n² in units of what one example
    can change, which is 1/n of the scale: 1 for scores, the value for perplexities, and for metrics without a scale the
    standard deviation of an example's part. It is also the least for w ≠ 1, whose γ is never 0.
    """
    n = len(before.influence)
    paired = weight * before.influence - after.influence
    largest = max(float(np.abs(arm.influence).max()) for arm in (before, after))
    rounding = 1e-9 * largest + 1e-15 * abs(before.value)
    counting = int((np.abs(paired) > rounding).sum())
    variance = example_variance(paired) * (1 + 2 / counting) if counting else 0.0
    if (np.abs(before.influence - after.influence) > rounding).any():
        return variance, example_df(paired)
    unit2: dict[Scale, float] = {
        "proportion": 1.0,
        "perplexity": before.value**2,
        "unbounded": n * float(before.influence @ before.influence),
    }
    return max(variance, 2 / n**2 * unit2[scale]), n - 1.0


def _discordant(before: Sequence[NumberArray], after: Sequence[NumberArray]) -> int:
    found = 0
    for rows in zip(*map(blocks.floats, [*before, *after]), strict=True):
        sides = rows[: len(before)], rows[len(before) :]
        first, second = (side[0] if len(side) == 1 else np.mean(side, axis=0) for side in sides)
        unlike = np.any(first != second, axis=1)  # most are equal, and comparing closely takes long
        first, second = first[unlike], second[unlike]
        found += int((~np.isclose(first, second, rtol=1e-9, atol=1e-12, equal_nan=True)).any(axis=1).sum())
    return found
