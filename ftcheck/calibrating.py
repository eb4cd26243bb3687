"""`ftcheck calibrate`: how much seeds alone move the metrics of a case, and so which margins its gates can prove."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ftcheck import baselines, judging, power, statistics
from ftcheck.baselines import Noise
from ftcheck.errors import BaselineError, UsageError
from ftcheck.report import numbers

if TYPE_CHECKING:
    from ftcheck.baselines import Baseline, Entry
    from ftcheck.finetune import Progress
    from ftcheck.pipeline import Pipeline
    from ftcheck.runs import Scored
    from ftcheck.spec import Case, Gate
    from ftcheck.statistics import SeedNoise

SEEDS_A_SIDE = (2, 3, 5, 10)
"""Numbers of seeds whose prospects are shown beside the case's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prospect:
    """What a comparison of so many runs could decide, in the metric's unit."""

    runs: tuple[int, int]
    """The baseline's, and those of what is compared with it."""
    provable: float
    """The smallest margin that an equal recipe passes in 80 of 100 runs."""
    detectable: float
    """The smallest regression that fails in 80 of 100 runs, at the margin `MetricSpread.margin` or the proposed one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSpread:
    """What seeds do to one metric. Runs that collapsed are left out."""

    name: str
    values: tuple[float, ...]
    """One per run, in the order of the seeds."""
    signature: str
    noise: SeedNoise | None = None
    why_not: str = ""
    """Why there is no estimate."""
    prospects: tuple[Prospect, ...] = ()
    """The first is that of the case as it is."""
    gate: Gate | None = None
    """What bounds a regression of it."""
    margin: float | None = None
    """That gate's margin in the metric's unit."""

    @property
    def proposed(self) -> float:
        """A margin that the case as it is can prove: two digits, rounded up."""
        return numbers.rounded_up(self.prospects[0].provable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Runs of one case that differ in their seed alone."""

    case: Case
    device: str
    seeds: tuple[int, ...]
    collapsed: tuple[int, ...]
    """The seeds among them that learned nothing."""
    collapse_rate: tuple[float, float]
    """Clopper and Pearson's 95 % interval for the share of seeds that do."""
    examples: int
    digest: str
    """Of the judged examples."""
    metrics: tuple[MetricSpread, ...]
    notes: tuple[str, ...]
    stored: str = ""
    """The baseline that the estimate was written to; empty with --dry-run."""

    def noise(self) -> dict[str, Noise]:
        """The estimate as a baseline keeps it."""
        return {
            metric.name: Noise(
                runs=metric.noise.nu + 1,
                s2=metric.noise.s2,
                d=metric.noise.d,
                examples=self.digest,
                signature=metric.signature,
            )
            for metric in self.metrics
            if metric.noise is not None
        }


def calibrate(
    pipeline: Pipeline,
    case: Case,
    seeds: int,
    *,
    dry_run: bool,
    on_progress: Callable[[int, Progress], None],
    on_wait: Callable[[str], None],
) -> Calibration:
    """Measure `seeds` runs of `case` by seeds that neither it nor its baseline has, and write the spread into the
    baseline's entry for this device (but for `dry_run`).

    Raises BaselineError without such an entry, UsageError for what has no seed noise, and whatever keeps a run from
    being made.
    """
    if case.training is None:
        raise UsageError(f"{case.id} trains nothing: fixed weights have no seed noise")
    if pipeline.settings.limit is not None:
        raise UsageError("--ft-limit is a smoke run, which tells nothing of seeds: unset it")
    device = pipeline.device.kind
    baseline = baselines.read(baselines.place(case.suite, case.id))
    entry = baseline.entries.get(device)
    if entry is None and not dry_run:
        raise BaselineError(
            f"{case.id} has no baseline for {device} that could keep the estimate: accept one first "
            "(pytest --ft-update), or give --dry-run for the report alone"
        )
    finished = pipeline.finish(case, _fresh(case, entry, seeds), on_progress=on_progress, on_wait=on_wait)
    found = _calibration(case, device, pipeline.scored(case, finished), baseline, entry)
    if entry is None or dry_run:
        return found
    if not found.noise():
        return replace(found, notes=(*found.notes, "nothing was stored: there is no estimate"))
    _store(found, baseline, entry)
    return replace(found, stored=str(baseline.source.shown(baseline.path)))


def _fresh(case: Case, entry: Entry | None, seeds: int) -> tuple[int, ...]:
    """Seeds above all that were used, or may be: calibration runs count besides those that are compared."""
    used = [*case.seeds, case.seeds[0] + power.most_seeds(case) - 1]
    if entry is not None:
        used += [*entry.seeds, *entry.first.seeds]
    return tuple(range(max(used) + 1, max(used) + 1 + seeds))


def _calibration(case: Case, device: str, scored: Scored, baseline: Baseline, entry: Entry | None) -> Calibration:
    seeds = tuple(run.run.job.seed for run in scored.runs)
    collapse, _ = judging.collapsed(case, scored)
    gone = collapse.runs if collapse is not None else (False,) * len(seeds)
    rate = statistics.clopper_pearson(sum(gone), len(gone))
    kept = scored if all(gone) else scored.without(gone)
    noise = judging.seed_noise(case, kept)
    own = _own_noise(case, scored, baseline, entry)
    prior = judging.prior(case, scored)
    metrics = []
    for name, metric in kept.metrics.items():
        values = tuple(statistics.value(rows, metric.aggregate) for rows in kept.statistics[name])
        spread = MetricSpread(name=name, values=values, signature=metric.signature, noise=noise[name])
        if spread.noise is None:
            metrics.append(replace(spread, why_not=_why_not(values)))
        else:
            assumed = prior(metric.scale, float(np.mean(values)))[0]
            metrics.append(_with_prospects(case, spread, own.get(name), entry, prior_sd=assumed))
    return Calibration(
        case=case,
        device=device,
        seeds=seeds,
        collapsed=tuple(seed for seed, is_gone in zip(seeds, gone, strict=True) if is_gone),
        collapse_rate=rate,
        examples=len(scored.ids),
        digest=baselines.examples_digest(scored.ids),
        metrics=tuple(metrics),
        notes=scored.left_out,
    )


def _why_not(values: tuple[float, ...]) -> str:
    if len(values) < 2:
        return "fewer than two runs learned something"
    return "a run has no finite value, or an example decides whether there is one"


def _own_noise(case: Case, scored: Scored, baseline: Baseline, entry: Entry | None) -> Mapping[str, SeedNoise | None]:
    """What the baseline's own runs tell of the seeds, where they judged the same examples by the same definitions."""
    if entry is None or entry.fixed or len(entry.seeds) < 2:
        return {}
    found = baseline.statistics(entry)
    if not np.array_equal(found.ids, scored.ids):
        return {}
    same = {
        name: tuple(found.metrics[name])
        for name, record in entry.metrics.items()
        if name in found.metrics and name in scored.metrics and record.signature == scored.metrics[name].signature
    }
    theirs = replace(scored, metrics={name: scored.metrics[name] for name in same}, statistics=same)
    return judging.seed_noise(case, theirs)


def _with_prospects(
    case: Case, spread: MetricSpread, own: SeedNoise | None, entry: Entry | None, *, prior_sd: float
) -> MetricSpread:
    """`spread` with what it means for the case's gate, and for other numbers of seeds a side."""
    gate, most = power.gate_of(case, spread.name), power.most_seeds(case)
    present = (len(entry.seeds) if entry is not None and not entry.fixed else most, most)
    record = entry.metrics.get(spread.name) if entry is not None else None
    margin = power.margin_of(gate, record.value if record is not None else float(np.mean(spread.values)))
    plans = {
        runs: power.planned(
            own if runs == present else None,
            spread.noise,
            runs=runs,
            prior_sd=prior_sd,
            confidence=gate.confidence if gate is not None else 0.95,
        )
        for runs in dict.fromkeys([present, *((k, k) for k in SEEDS_A_SIDE)])
    }
    provable = {runs: statistics.provable(plan) for runs, plan in plans.items()}
    at = numbers.rounded_up(provable[present]) if margin is None else margin
    proven = gate is not None and gate.fail == "proven"
    prospects = tuple(
        Prospect(runs=runs, provable=provable[runs], detectable=statistics.detectable(plan, at, proven=proven))
        for runs, plan in plans.items()
    )
    return replace(spread, prospects=prospects, gate=gate, margin=margin)


def _store(found: Calibration, baseline: Baseline, entry: Entry) -> None:
    """Write the estimate beside what the entry holds. Raises BaselineError."""
    planned = {
        metric.name: replace(
            entry.power.get(metric.name, baselines.Power(runs=0, provable=0.0, value=float(np.mean(metric.values)))),
            runs=now.runs[1],
            provable=baselines.rounded(now.provable),
            detectable=baselines.rounded(now.detectable) if metric.gate is not None else None,
        )
        for metric in found.metrics
        if metric.prospects and math.isfinite((now := metric.prospects[0]).provable)
    }
    entry = replace(entry, calibration={**entry.calibration, **found.noise()}, power={**entry.power, **planned})
    baselines.save(baseline.path, {**baseline.entries, entry.device: entry})


def report(found: Calibration, nodeid: str) -> Iterator[str]:
    """Lines for a reader."""
    first, last = found.seeds[0], found.seeds[-1]
    yield (
        f"{nodeid} on {found.device}: {numbers.count(len(found.seeds), 'seed')} ({first} to {last}), "
        f"{numbers.count(found.examples, 'example')}"
    )
    yield _told_of_collapse(found)
    kept = [seed for seed in found.seeds if seed not in found.collapsed] or list(found.seeds)
    for metric in found.metrics:
        yield ""
        yield from _told_of_metric(metric, kept)
    yield ""
    yield from (f"note: {note}" for note in found.notes)
    if found.stored:
        yield f"stored in {found.stored}: from now on a single trained seed can be judged"


def _told_of_collapse(found: Calibration) -> str:
    low, high = (100 * rate for rate in found.collapse_rate)
    rate = f"a rate of {low:.0f} to {high:.0f} %"
    if not found.collapsed:
        return f"none of them collapsed: {rate}"
    named = ", ".join(f"seed {seed}" for seed in found.collapsed)
    return (
        f"{named} learned nothing and is left out of the estimate: {len(found.collapsed)} of {len(found.seeds)}, {rate}"
    )


def _told_of_metric(metric: MetricSpread, seeds: list[int]) -> Iterator[str]:
    spread = float(np.std(metric.values, ddof=1)) if len(metric.values) > 1 else math.nan
    digits = numbers.decimals(spread)

    def plain(value: float) -> str:
        return numbers.plain(value, digits)

    yield metric.name
    each = ", ".join(f"{seed}: {plain(value)}" for seed, value in zip(seeds, metric.values, strict=True))
    mean, low, high = (
        plain(float(value)) for value in (np.mean(metric.values), min(metric.values), max(metric.values))
    )
    yield f"  mean {mean}, {low} to {high} ({each})"
    if metric.noise is None:
        yield f"  no estimate: {metric.why_not}"
        return
    yield (
        f"  sd over seeds: {numbers.at_least(metric.noise.sd)} on unlimited examples (σ̂), "
        f"{numbers.at_least(math.sqrt(metric.noise.s2))} on these (S)"
    )
    at = metric.proposed if metric.margin is None else metric.margin
    yield f"  {'seeds':>16}  smallest provable margin  detectable regression (margin {at:g})"
    for index, prospect in enumerate(metric.prospects):
        runs = f"{prospect.runs[0]} + {prospect.runs[1]}" + ("" if index else " (now)")
        provable, detectable = numbers.at_least(prospect.provable), numbers.at_least(prospect.detectable)
        yield f"  {runs:>16}  {provable:>24}  {detectable:>21}"
    yield f"  {_advice(metric)}"


def _advice(metric: MetricSpread) -> str:
    proposed = f"{metric.proposed:g}"
    if metric.gate is None or metric.margin is None:
        return f"proposed margin: max_regression: {proposed}"
    present = f"max_regression: {metric.gate.max_regression}"
    if metric.margin >= metric.prospects[0].provable:
        return f"the gate's {present} can be proven; the smallest that can: {proposed}"
    enough = next((p.runs for p in metric.prospects[1:] if p.provable <= metric.margin), None)
    seeds = f", or {enough[1]} seeds a side" if enough is not None else ""
    return (
        f"proposed margin: max_regression: {proposed}{seeds}; the gate's {present} can't be proven, so that an equal "
        "retrain will mostly be inconclusive"
    )
