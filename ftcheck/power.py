"""What margins can prove, as far as a baseline knows it: planned when the baseline is written, told when a case is
collected."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ftcheck.baselines import Power, rounded
from ftcheck.report import numbers

if TYPE_CHECKING:
    from ftcheck.baselines import Entry, Noise
    from ftcheck.spec import Bounds, Case, Gate
    from ftcheck.statistics import Plan, SeedNoise


def gate_of(case: Case, metric: str) -> Gate | None:
    """The gate that bounds a regression of `metric` on all judged rows; None where there is none."""
    gates = (gate for gate in case.gates if gate.metric == metric and gate.max_regression is not None)
    return next(gates, None)


def margin_of(bounds: Bounds | None, value: float) -> float | None:
    """The margin of bounds in the metric's unit, where the baseline's value is `value`."""
    if bounds is None or bounds.max_regression is None:
        return None
    return bounds.max_regression.value * (abs(value) if bounds.max_regression.relative else 1.0)


def planned(
    own: SeedNoise | None,
    calibration: SeedNoise | None,
    *,
    runs: tuple[int, int],
    prior_sd: float,
    confidence: float = 0.95,
) -> Plan:
    """The comparison of an equal recipe with a baseline: `runs` of the baseline and of it. The seeds' noise is that of
    the baseline's runs and of calibration runs; `prior_sd` (σ₀) serves where neither is known."""
    from ftcheck import statistics

    return statistics.plan(
        statistics.pooled(source for source in (own, calibration) if source is not None),
        runs_baseline=runs[0],
        runs_candidate=runs[1],
        calibration_nu=calibration.nu if calibration is not None else 0,
        prior_sd=prior_sd,
        confidence=confidence,
    )


def of_metric(
    case: Case,
    metric: str,
    value: float,
    *,
    own: SeedNoise | None,
    calibration: SeedNoise | None,
    runs_baseline: int,
    prior_sd: float,
) -> Power | None:
    """What a later result of `case` can be told by, in its metric's unit; None where the noise has no finite value."""
    gate = gate_of(case, metric)
    return _of_rows(
        gate,
        gate,
        value,
        own=own,
        calibration=calibration,
        runs=(runs_baseline, most_seeds(case)),
        prior_sd=prior_sd,
    )


def of_weakest_part(
    case: Case,
    gate: Gate,
    parts: Sequence[tuple[float, SeedNoise | None]],
    *,
    runs_baseline: int,
    prior_sd: Callable[[float], float],
) -> Power | None:
    """The same of a gate's parts, given each one's value and what the runs tell of the seeds on it: of the part whose
    margin is the hardest to prove. None without parts, or without a margin on them."""
    bounds = gate.slices
    if bounds is None or bounds.max_regression is None:
        return None
    runs = runs_baseline, most_seeds(case)
    each = [
        _of_rows(gate, bounds, value, own=own, calibration=None, runs=runs, prior_sd=prior_sd(value))
        for value, own in parts
    ]
    known = [power for power in each if power is not None]
    if not known:
        return None
    weakest = max(known, key=lambda power: power.provable - (margin_of(bounds, power.value or 0.0) or 0.0))
    return replace(weakest, by=bounds.by, parts=len(parts))


def _of_rows(
    gate: Gate | None,
    bounds: Bounds | None,
    value: float,
    *,
    own: SeedNoise | None,
    calibration: SeedNoise | None,
    runs: tuple[int, int],
    prior_sd: float,
) -> Power | None:
    from ftcheck import statistics

    confidence = gate.confidence if gate is not None else 0.95
    plan = planned(own, calibration, runs=runs, prior_sd=prior_sd, confidence=confidence)
    provable, margin = statistics.provable(plan), margin_of(bounds, value)
    if not math.isfinite(provable):
        return None
    detectable = None
    if gate is not None and margin is not None:
        detectable = rounded(statistics.detectable(plan, margin, proven=gate.fail == "proven"))
    return Power(
        runs=runs[1],
        provable=rounded(provable),
        detectable=detectable,
        value=rounded(value),
        s2=None if own is None else rounded(own.s2),
        d=None if own is None else rounded(own.d),
        prior_sd=rounded(prior_sd),
    )


def most_seeds(case: Case, asked: int | None = None) -> int:
    """How many seeds a case is judged by where it is hard to decide; `asked`: what --ft-seeds says."""
    return asked or case.max_seeds or len(case.seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a case's reference before the case is measured."""

    runs: int
    examples: int
    power: Mapping[str, Power]
    weakest: Mapping[str, Power]
    calibration: Mapping[str, Noise]

    @classmethod
    def of_entry(cls, entry: Entry) -> Known:
        return cls(
            runs=len(entry.seeds),
            examples=entry.examples,
            power=entry.power,
            weakest=entry.weakest,
            calibration=entry.calibration,
        )

    def provable(self, gate: Gate, power: Power, runs: int) -> float | None:
        """The smallest margin that can be proven with so many seeds; None where that isn't known."""
        if power.runs == runs:
            return power.provable
        from ftcheck import statistics

        found = self.calibration.get(gate.metric) if power.by is None else None
        learned = None if found is None else statistics.SeedNoise(s2=found.s2, d=found.d, nu=found.runs - 1)
        own = None
        if power.s2 is not None and power.d is not None:
            own = statistics.SeedNoise(s2=power.s2, d=power.d, nu=self.runs - 1)
        if own is None and learned is None and power.prior_sd is None:
            return None
        plan = planned(own, learned, runs=(self.runs, runs), prior_sd=power.prior_sd or 0.0, confidence=gate.confidence)
        return statistics.provable(plan)


def unprovable(case: Case, known: Known, *, seeds: int | None = None) -> str:
    """One sentence on those margins of `case` that an equal recipe will mostly not be shown to keep; empty where there
    are none, or the reference doesn't know. `seeds`: what --ft-seeds says."""
    runs = most_seeds(case, seeds)
    found = []
    for gate in case.gates:
        of_parts = known.weakest.get(gate.metric)
        if of_parts is not None and (gate.slices is None or of_parts.by != gate.slices.by):
            of_parts = None
        for bounds, power in ((gate, known.power.get(gate.metric)), (gate.slices, of_parts)):
            if power is None or power.value is None or bounds is None or bounds.max_regression is None:
                continue
            margin, least = margin_of(bounds, power.value), known.provable(gate, power, runs)
            if margin is not None and least is not None and margin < least:
                where = "" if power.by is None else f" on each of {power.parts} parts by {power.by}"
                found.append((gate.metric, f"{bounds.max_regression}{where}", least))
    return _told(case, known, runs, found) if found else ""


def _told(case: Case, known: Known, runs: int, found: Sequence[tuple[str, str, float]]) -> str:
    (metric, margin, least), *others = found
    told = (
        f"{case.id}: {metric}: margin {margin} can't be proven with {known.runs} + {runs} seeds and "
        f"{known.examples:,} examples ({numbers.at_least(least)} can)"
    )
    more = "".join(f", nor {metric}'s {margin} ({numbers.at_least(least)})" for metric, margin, least in others)
    return f"{told}{more}: an equal retrain will mostly be inconclusive"


def calibrated(entry: Entry | None, examples: str, signatures: Mapping[str, str]) -> dict[str, SeedNoise]:
    """Metric -> what `ftcheck calibrate` learned, where that was on these examples and by these definitions."""
    from ftcheck.statistics import SeedNoise

    if entry is None:
        return {}
    return {
        metric: SeedNoise(s2=noise.s2, d=noise.d, nu=noise.runs - 1)
        for metric, noise in entry.calibration.items()
        if noise.examples == examples and noise.signature == signatures.get(metric)
    }
