"""What a gate can decide: the smallest regression it detects, the smallest margin it proves, and what would decide.

All of it is planning with plug-in variances: figures come out as about that, and 80 % simulates at 74 to 81.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from ftcheck.statistics.comparison import PRIOR_FACTOR, Comparison
from ftcheck.statistics.decisions import FEW_CLUSTERS, FEW_EXAMPLES
from ftcheck.statistics.distributions import chi2_middles, normal_below, quantile
from ftcheck.statistics.jackknife import half_width
from ftcheck.statistics.roots import crossing
from ftcheck.statistics.seeds import SeedNoise

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray

POWER = 0.8

MOST_SEEDS = 50
MOST_TIMES_EXAMPLES = 100
"""Beyond these the difference sits on the margin: no amount that anybody would pay for decides."""

_NODES = 400


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A comparison that may be made, by its variance components (see `comparison.Noise`)."""

    a: float
    """A: the examples' variance of d that isn't in d · c; 0 where no comparison was made yet ("at least")."""
    d: float
    """D of one run."""
    sigma2: float
    """σ² of one run over seeds."""
    c: float
    """Σ 1/k over the trained sides."""
    nu: int
    """Degrees of freedom that the seed noise will be known with; 0: fixed weights, or σ is assumed."""
    nu_e: float = math.inf
    confidence: float = 0.95
    """One-sided, as in `compare`."""

    @cached_property
    def width(self) -> float:
        """h without an estimate of the seeds' noise (nu = 0)."""
        # σ is assumed here (or c = 0): the comparison will allow for PRIOR_FACTOR times it.
        v_e = self.a + (self.d + PRIOR_FACTOR**2 * self.sigma2) * self.c
        return half_width(self.confidence, v_e=v_e, nu_e=self.nu_e, a=0.0, b=0.0, nu=0)

    @cached_property
    def _widths(self) -> FloatArray:
        """h at the middle of each of 400 equally likely values of the pooled variance."""
        if self.nu == 0:
            return np.array([self.width])
        b = (self.d + self.sigma2) * self.c / self.nu * chi2_middles(self.nu, _NODES)
        z, t = quantile(self.confidence, self.nu_e), quantile(self.confidence, self.nu)
        with np.errstate(invalid="ignore"):
            both = np.where(self.a + b > 0, (z * self.a + max(z, t) * b) / np.sqrt(self.a + b), 0.0)
        widths: FloatArray = np.maximum(both, z * math.sqrt(self.a + self.d * self.c))
        return widths

    @property
    def sd(self) -> float:
        """√v, of the difference that will be measured."""
        return math.sqrt(self.a + (self.d + self.sigma2) * self.c)

    def fails(self, worse: float, margin: float, *, proven: bool = False) -> float:
        """The probability that a candidate that is worse by `worse` fails at `margin`."""
        needed = margin + self._widths if proven else np.maximum(margin, self._widths)
        return self._probability(worse - needed)

    def passes(self, worse: float, margin: float) -> float:
        """The probability that a candidate that is worse by `worse` passes at `margin`."""
        return self._probability(margin - self._widths - worse)

    def _probability(self, apart: FloatArray) -> float:
        # Without any noise what is measured is the truth: the sign decides.
        return float(normal_below(apart / max(self.sd, 1e-300)).mean())

    @property
    def reach(self) -> float:
        """Further than anything that power is asked of lies from the margin."""
        return float(self._widths.max()) + 8 * self.sd


def plan(
    seeds: SeedNoise | None,
    *,
    runs_baseline: int,
    runs_candidate: int,
    fixed_baseline: bool = False,
    fixed_candidate: bool = False,
    last: Comparison | None = None,
    calibration_nu: int = 0,
    prior_sd: float | None = None,
    confidence: float = 0.95,
) -> Plan:
    """The comparison of `runs_candidate` runs to a baseline whose seed noise is `seeds` (None: not measured).

    `last`, an earlier comparison of the gate, tells how much its examples vary; without it the figures are what holds
    at least. `calibration_nu`: degrees of freedom of calibration runs that will be used besides. `prior_sd` (σ₀) is
    taken where no seed noise is known nor will be. Raises ValueError where nothing is known of the seeds of trained
    weights.
    """
    trained = [k for k, fixed in ((runs_baseline, fixed_baseline), (runs_candidate, fixed_candidate)) if not fixed]
    nu = sum(k - 1 for k in trained) + calibration_nu if trained else 0
    if trained and (nu == 0 or seeds is None) and prior_sd is None:
        raise ValueError("planning for trained weights needs their seed noise, measured or assumed")
    d, sigma2 = (0.0, (prior_sd or 0.0) ** 2) if nu == 0 or seeds is None else (seeds.d, seeds.sd**2)
    known = last.noise if last is not None else None
    return Plan(
        a=known.a if known else 0.0,
        d=d,
        sigma2=sigma2,
        c=sum(1 / k for k in trained),
        nu=nu,
        nu_e=known.nu_e if known else math.inf,
        confidence=confidence,
    )


def plan_again(comparison: Comparison) -> Plan:
    """The same comparison once more. Raises ValueError for one without bounds."""
    noise = comparison.noise
    if noise is None:
        raise ValueError(
            f"nothing is known of the noise of this comparison: {comparison.no_bounds or 'one prediction'}"
        )
    return Plan(
        a=noise.a,
        d=noise.d,
        sigma2=noise.sigma2,
        c=noise.c,
        nu=noise.nu,
        nu_e=noise.nu_e,
        confidence=comparison.confidence,
    )


def detectable(planned: Plan, margin: float, *, power: float = POWER, proven: bool = False) -> float:
    """The minimum detectable regression: the smallest that fails at `margin` with probability `power`."""
    if planned.nu == 0:  # one half-width: no search
        needed = margin + planned.width if proven else max(margin, planned.width)
        return max(margin, needed + quantile(power, math.inf) * planned.sd)
    return crossing(lambda worse: planned.fails(worse, margin, proven=proven) - power, margin, margin + planned.reach)


def provable(planned: Plan, *, power: float = POWER) -> float:
    """The smallest provable margin: the smallest that an equal candidate passes with probability `power`."""
    if planned.nu == 0:
        return max(0.0, planned.width + quantile(power, math.inf) * planned.sd)
    return crossing(lambda margin: planned.passes(0.0, margin) - power, 0.0, planned.reach)


def detectable_curve(
    comparison: Comparison,
    margin: float,
    *,
    examples: Sequence[int],
    seeds: Sequence[int],
    proven: bool = False,
) -> list[list[float]]:
    """`detectable` by seeds on each trained side (rows; ignored for fixed weights) and examples (columns; clusters
    where examples are not independent). Raises ValueError for a comparison without bounds."""
    planned, n = plan_again(comparison), comparison.clusters or comparison.examples
    return [
        [detectable(_with_examples(trial, more / n), margin, proven=proven) for more in examples]
        for trial in (_with_seeds(planned, comparison, count) for count in seeds)
    ]


def _with_examples(planned: Plan, factor: float) -> Plan:
    """The same on `factor` times as many examples: A and D shrink as 1/n, ν_E grows with it."""
    return replace(planned, a=planned.a / factor, d=planned.d / factor, nu_e=planned.nu_e * factor)


def _trained(comparison: Comparison) -> list[int]:
    """How many runs each trained side has."""
    sides = [
        (comparison.runs_baseline, comparison.fixed_baseline),
        (comparison.runs_candidate, comparison.fixed_candidate),
    ]
    return [k for k, fixed in sides if not fixed]


def _with_seeds(planned: Plan, comparison: Comparison, seeds: int) -> Plan:
    """The same with at least `seeds` seeds on each trained side."""
    trained = _trained(comparison)
    if not trained:
        return planned
    calibration = planned.nu - sum(k - 1 for k in trained)
    runs = [max(k, seeds) for k in trained]
    return replace(planned, c=sum(1 / k for k in runs), nu=sum(k - 1 for k in runs) + max(0, calibration))


Answer = Literal["", "cannot", "margin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Needed:
    """What would decide a gate with 80 % probability, if the difference is as large as measured: either of the two."""

    examples: int | None
    """As many examples (or clusters) in all; None: `examples_why` says why not."""
    seeds: int | None
    """As many seeds on each trained side; None: `seeds_why` says why not."""
    examples_why: Answer = ""
    """"cannot": however many, they alone don't decide. "margin": the difference sits on the margin."""
    seeds_why: Answer = ""

    def sentence(self) -> str:
        """What to do, in one sentence."""
        ways = [
            *([f"{self.examples:,} examples"] if self.examples is not None else []),
            *([f"{self.seeds} seeds a side"] if self.seeds is not None else []),
        ]
        if ways:
            return f"About {' or '.join(ways)} would decide."
        if "margin" in (self.examples_why, self.seeds_why):
            return "The difference sits on the margin: no number of examples or seeds worth paying for decides."
        return "Neither more examples nor more seeds alone would decide; more of both might."


def decided_by(comparison: Comparison, margin: float | None, *, proven: bool = False, power: float = POWER) -> Needed:
    """How many examples, or seeds a side, would decide an inconclusive gate with probability `power`.

    It takes the measured difference, and the measured spread of seeds, for the true ones. The latter makes n' a hope
    where few seeds were run: examples seem to be all that is missing mostly where the spread came out small by luck.
    `margin` as in `decide`; a relative one is taken as that share of the baseline as measured. A single run a side with
    an assumed seed noise: the noise is taken to be σ₀.

    Raises ValueError for a comparison without bounds.
    """
    planned, noise = plan_again(comparison), comparison.noise
    assert noise is not None
    if margin is None:
        if comparison.relative is None:
            raise ValueError("the comparison has no relative margin")
        margin = comparison.relative.r * comparison.value_baseline
    d = comparison.difference

    def decides(trial: Plan) -> bool:
        chance = trial.fails(d, margin, proven=proven) if d > margin else trial.passes(d, margin)
        return chance >= power

    examples, examples_why = _examples(comparison, planned, decides)
    seeds, seeds_why = _seeds(comparison, planned, decides)
    return Needed(examples=examples, examples_why=examples_why, seeds=seeds, seeds_why=seeds_why)


def _examples(comparison: Comparison, planned: Plan, decides: Callable[[Plan], bool]) -> tuple[int | None, Answer]:
    """The smallest n'."""
    n, least = (
        (comparison.examples, FEW_EXAMPLES) if comparison.clusters is None else (comparison.clusters, FEW_CLUSTERS)
    )

    def at(more: int) -> bool:
        return decides(_with_examples(planned, more / n))

    if not decides(replace(planned, a=0.0, d=0.0, nu_e=math.inf)):
        return None, "cannot"
    low, high = max(n, least - 1), MOST_TIMES_EXAMPLES * n
    if not at(high):
        return None, "margin"
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) else (middle, high)
    return high, ""


def _seeds(comparison: Comparison, planned: Plan, decides: Callable[[Plan], bool]) -> tuple[int | None, Answer]:
    """The smallest k' on each trained side."""
    trained = _trained(comparison)
    if not trained or not decides(replace(planned, c=0.0, nu=0)):
        return None, "cannot"
    if comparison.examples < FEW_EXAMPLES or (comparison.clusters or FEW_CLUSTERS) < FEW_CLUSTERS:
        return None, "cannot"
    for seeds in range(min(trained) + 1, MOST_SEEDS + 1):
        if decides(_with_seeds(planned, comparison, seeds)):
            return seeds, ""
    return None, "margin"
