"""What margins can prove, as far as a baseline knows it: planned when the baseline is written, told when a case is
collected."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ftcheck.baselines import Power, rounded
from ftcheck.report import numbers

if TYPE_CHECKING:
    from ftcheck.baselines import Entry
    from ftcheck.spec import Case, Gate
    from ftcheck.statistics import Plan, SeedNoise


def gate_of(case: Case, metric: str) -> Gate | None:
    """The gate that bounds a regression of `metric` on all judged rows; None where there is none."""
    gates = (gate for gate in case.gates if gate.metric == metric and gate.max_regression is not None)
    return next(gates, None)


def margin_of(gate: Gate | None, value: float) -> float | None:
    """The margin of a gate in the metric's unit, where the baseline's value is `value`."""
    if gate is None or gate.max_regression is None:
        return None
    return gate.max_regression.value * (abs(value) if gate.max_regression.relative else 1.0)


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
    from ftcheck import statistics

    gate, runs = gate_of(case, metric), most_seeds(case)
    plan = planned(
        own,
        calibration,
        runs=(runs_baseline, runs),
        prior_sd=prior_sd,
        confidence=gate.confidence if gate is not None else 0.95,
    )
    provable, margin = statistics.provable(plan), margin_of(gate, value)
    if not math.isfinite(provable):
        return None
    detectable = None
    if gate is not None and margin is not None:
        detectable = rounded(statistics.detectable(plan, margin, proven=gate.fail == "proven"))
    return Power(runs=runs, provable=rounded(provable), detectable=detectable)


def most_seeds(case: Case) -> int:
    """How many seeds a case is judged by where it is hard to decide."""
    return case.max_seeds or len(case.seeds)


def unprovable(case: Case, entry: Entry) -> str:
    """One sentence on those margins of `case` that an equal recipe will mostly not be shown to keep; empty where there
    are none, or the baseline doesn't know: it was written for another number of seeds."""
    found = [
        (gate.metric, str(gate.max_regression), power.provable)
        for gate in case.gates
        if (power := entry.power.get(gate.metric)) is not None
        and power.runs == most_seeds(case)
        and (margin := margin_of(gate, entry.metrics[gate.metric].value)) is not None
        and margin < power.provable
    ]
    return _told(case, entry, found) if found else ""


def _told(case: Case, entry: Entry, found: Sequence[tuple[str, str, float]]) -> str:
    (metric, margin, least), *others = found
    told = (
        f"{case.id}: {metric}: margin {margin} can't be proven with {len(entry.seeds)} + {most_seeds(case)} seeds and "
        f"{entry.examples:,} examples ({numbers.at_least(least)} can)"
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
