"""What --ft-update would make the baseline: an entry and its statistics, carried to the controller as files."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from ftcheck import baselines, gates, git, power, recipes
from ftcheck.baselines import Accepted, Entry, MetricRecord, Power, Statistics
from ftcheck.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from ftcheck.metrics import NumberArray, Scale
    from ftcheck.references import Other
    from ftcheck.results import CaseResult, GateResult, MetricResult
    from ftcheck.runs import Scored
    from ftcheck.settings import Settings
    from ftcheck.spec import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A result that may become the baseline of its case."""

    path: Path
    entry: Entry
    statistics: bytes


def propose(
    suite: Path, case_id: str, device: str, accepted: Other, values: Mapping[str, MetricResult], *, reason: str
) -> Proposal:
    """The proposal that a case's result makes. Metrics without a finite value, and costs, are left out."""
    arm = accepted.arm
    known = {name: values[name] for name in arm.metrics if math.isfinite(values[name].value)}
    content = Statistics(
        ids=arm.ids, metrics={name: _stacked(arm.metrics[name]) for name in known}, rows=accepted.rows
    ).dump()
    folder = suite.parent
    entry = Entry(
        device=device,
        accepted=Accepted(
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            author=git.ask(folder, "config", "user.name"),
            commit=git.ask(folder, "rev-parse", "HEAD"),
            reason=reason,
        ),
        metrics={
            name: MetricRecord(
                value=metric.value,
                per_seed=metric.per_seed,
                signature=metric.signature,
                greater_is_better=metric.greater_is_better,
                interval=(metric.interval.low, metric.interval.high) if metric.interval else None,
            )
            for name, metric in known.items()
        },
        seeds=accepted.seeds,
        examples=len(arm.ids),
        fixed=arm.fixed,
        components=accepted.components,
        keys={"train": accepted.train_keys, "predict": arm.keys},
        statistics=baselines.statistics_name(case_id, device),
        digest=str(blake3(content).hexdigest()),
        labels=accepted.labels,
        environment=dict(accepted.environment),
        trace=accepted.trace,
    )
    return Proposal(path=baselines.place(suite, case_id), entry=entry, statistics=content)


def _existing(path: Path, device: str) -> Entry | None:
    try:
        return baselines.read(path).entries.get(device)
    except BaselineError:
        return None  # accepting anew is what the error advises


def with_outlook(proposal: Proposal, case: Case, scored: Scored, values: Mapping[str, MetricResult]) -> Proposal:
    """`proposal` with what later results of `case` can be told by, and the recipe that it came from."""
    entry = replace(proposal.entry, recipe=recipes.recorded(scored.runs[0].run.job))
    if case.training is not None:
        planned, weakest = _power(case, entry.device, scored, values), _weakest(case, scored)
        entry = replace(entry, power=planned, weakest=weakest)
    return replace(proposal, entry=entry)


def _power(case: Case, device: str, scored: Scored, values: Mapping[str, MetricResult]) -> dict[str, Power]:
    """What results compared with this one can be told by. Metrics without an interval have no known noise."""
    from ftcheck import judging

    calibration = power.calibrated(
        _existing(baselines.place(case.suite, case.id), device),
        baselines.examples_digest(scored.ids),
        {name: metric.signature for name, metric in scored.metrics.items()},
    )
    own, prior = judging.seed_noise(case, scored), judging.prior(case, scored)
    found = {
        name: power.of_metric(
            case,
            name,
            value.value,
            own=own[name],
            calibration=calibration.get(name),
            runs_baseline=len(scored.runs),
            prior_sd=prior(scored.metrics[name].scale, value.value)[0],
        )
        for name, value in values.items()
        if name in scored.metrics and value.interval is not None
    }
    return {name: planned for name, planned in found.items() if planned is not None}


def _weakest(case: Case, scored: Scored) -> dict[str, Power]:
    """The same of the parts that gates judge by themselves."""
    from ftcheck import judging

    found = {}
    assumed = judging.prior(case, scored)
    for gate in case.gates:
        if gate.slices is None or gate.slices.max_regression is None:
            continue
        metric, known = scored.metrics[gate.metric], judging.evidence(case, scored, {})
        parts = [
            (value.value, judging.seed_noise(case, scored, part)[gate.metric])
            for part in known.parts(gate.slices)[0]
            if (value := known.value(gate.metric, part)) is not None and value.interval is not None
        ]
        planned = power.of_weakest_part(
            case,
            gate,
            parts,
            runs_baseline=len(scored.runs),
            prior_sd=partial(_assumed, assumed, metric.scale),
        )
        if planned is not None:
            found[gate.metric] = planned
    return found


def _assumed(prior: Callable[[Scale, float], tuple[float, str]], scale: Scale, value: float) -> float:
    return prior(scale, value)[0]


def _stacked(rows: Sequence[NumberArray]) -> NumberArray:
    import numpy as np

    return np.stack(rows)


def loosened(gated: Collection[str], old: Entry, new: Entry) -> list[str]:
    """Those of the metrics with a margin whose new value is worse than the old one: an update that lowers the bar."""
    found = []
    for name in sorted(set(gated) & set(old.metrics) & set(new.metrics)):
        before, after = old.metrics[name], new.metrics[name]
        worse = before.value - after.value if before.greater_is_better else after.value - before.value
        if worse > 1e-9 * abs(before.value):
            found.append(f"{name} {baselines.rounded(before.value):g} → {baselines.rounded(after.value):g}")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When a proposal becomes the baseline."""

    gated: Collection[str]
    """The metrics with a margin: whose values can't get worse without a reason."""
    against_baseline: bool
    """Whether margins compare with the baseline that is replaced."""
    replace: bool = True
    """Whether an entry that is there may be replaced."""
    ask: str = "give --ft-reason"
    """How a reason is given."""

    @classmethod
    def of(cls, case: Case, settings: Settings) -> Rules:
        """Those of a pytest session."""
        gated = {g.metric for g in case.gates if g.compares or (g.slices is not None and g.slices.compares)}
        against_baseline = case.vs == "baseline" and settings.compare is None
        return cls(gated=gated, against_baseline=against_baseline, replace=settings.update)


def settled(result: CaseResult, proposal: Proposal, rules: Rules) -> tuple[CaseResult, Proposal | None]:
    """What becomes of a proposal, and the result as it stands then: margins to a baseline that is replaced don't fail.

    Nothing is proposed where the baseline is this result already, where an entry may not be replaced, and where it
    would be loosened without a reason.
    """
    old = _existing(proposal.path, proposal.entry.device)
    if old is not None and not rules.replace:
        return replace(result, update="kept: --ft-update-new writes new ones only"), None
    unusable = result.verdict == "incomparable"  # the one that is there may be damaged
    if old is not None and not unusable and (old.keys, old.digest) == (proposal.entry.keys, proposal.entry.digest):
        return replace(result, update="unchanged"), None
    worse = loosened(rules.gated, old, proposal.entry) if old is not None else []
    if worse and not proposal.entry.accepted.reason:
        told = f"not written: it would be loosened ({', '.join(worse)}); {rules.ask}"
        return replace(result, update=told), None
    results = tuple(_accepted(gate, rules.against_baseline) for gate in result.gates)
    if gates.verdict(results) == "fail":
        return replace(result, update="not written: the case fails"), None
    told = "written" if old is None else f"written in place of the one {old.accepted}"
    return replace(result, gates=results, verdict=gates.verdict(results), update=told), proposal


def _accepted(gate: GateResult, against_baseline: bool) -> GateResult:
    """A margin's result once the baseline that it compares with is replaced; every other demand stays as it is."""
    compares = gate.bound in ("max_regression", "max_gain") and against_baseline
    if gate.verdict == "new":
        return replace(gate, message=f"{gate.metric}: compared with this result from now on")
    if not compares or gate.verdict == "pass":
        return gate
    return replace(gate, verdict="new", message=f"{gate.message}; accepted as the baseline")


def save(proposal: Proposal, folder: Path) -> None:
    """Leave a proposal where the controller finds it."""
    name = blake3(str(proposal.path).encode()).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.npz").write_bytes(proposal.statistics)
    baselines.save(folder / f"{name}.json", {proposal.entry.device: proposal.entry})
    (folder / f"{name}.path").write_text(str(proposal.path), encoding="utf-8")


def collect(folder: Path, results: Iterable[CaseResult]) -> Iterator[Proposal]:
    """The proposals that were saved in `folder`, of the cases whose result says that theirs is written: a process may
    have died, or another have failed the case, after one was saved."""
    written = {baselines.place(Path(r.suite), r.case_id) for r in results if r.update.startswith("written")}
    for named in sorted(folder.glob("*.path")):
        path = Path(named.read_text(encoding="utf-8"))
        if path in written:
            for entry in baselines.read(named.with_suffix(".json")).entries.values():
                yield Proposal(path=path, entry=entry, statistics=named.with_suffix(".npz").read_bytes())
