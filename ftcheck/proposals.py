"""What --ft-update would make the baseline: an entry and its statistics, carried to the controller as files."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from ftcheck import baselines, gates, git, power, recipes
from ftcheck.baselines import Accepted, Entry, MetricRecord, Power, Statistics
from ftcheck.errors import BaselineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ftcheck.metrics import FloatArray
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


def propose(case: Case, device: str, scored: Scored, values: Mapping[str, MetricResult], *, reason: str) -> Proposal:
    """The proposal that a measured case makes. Metrics without a finite value, and costs, are left out."""
    known = {name: values[name] for name in scored.metrics if math.isfinite(values[name].value)}
    content = Statistics(
        ids=scored.ids, metrics={name: _stacked(scored.statistics[name]) for name in known}, rows=scored.train_rows()
    ).dump()
    first = scored.runs[0].run
    folder = case.suite.parent
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
        seeds=tuple(run.run.job.seed for run in scored.runs),
        examples=len(scored.ids),
        fixed=case.training is None,
        components=baselines.condensed(first.train.components, first.predict.components),
        keys={
            "train": tuple(run.run.train.digest for run in scored.runs),
            "predict": tuple(run.run.predict.digest for run in scored.runs),
        },
        statistics=baselines.statistics_name(case.id, device),
        digest=str(blake3(content).hexdigest()),
        environment=dict(scored.runs[0].trained.content.get("environment", {})) if scored.runs[0].trained else {},
        trace=tuple(run.first_losses for run in scored.runs),
    )
    return Proposal(path=baselines.place(case.suite, case.id), entry=entry, statistics=content)


def _existing(path: Path, device: str) -> Entry | None:
    try:
        return baselines.read(path).entries.get(device)
    except BaselineError:
        return None  # accepting anew is what the error advises


def with_outlook(proposal: Proposal, case: Case, scored: Scored, values: Mapping[str, MetricResult]) -> Proposal:
    """`proposal` with what later results of `case` can be told by, and the recipe that it came from."""
    planned = _power(case, proposal.entry.device, scored, values) if case.training is not None else {}
    entry = replace(proposal.entry, power=planned, recipe=recipes.recorded(scored.runs[0].run.job))
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


def _stacked(rows: tuple[FloatArray, ...]) -> FloatArray:
    import numpy as np

    return np.stack(rows)


def loosened(case: Case, old: Entry, new: Entry) -> list[str]:
    """The metrics with a margin whose new value is worse than the old one: an update that lowers the bar."""
    gated = {gate.metric for gate in case.gates if gate.compares or (gate.slices is not None and gate.slices.compares)}
    found = []
    for name in sorted(gated & set(old.metrics) & set(new.metrics)):
        before, after = old.metrics[name], new.metrics[name]
        worse = before.value - after.value if before.greater_is_better else after.value - before.value
        if worse > 1e-9 * abs(before.value):
            found.append(f"{name} {baselines.rounded(before.value):g} → {baselines.rounded(after.value):g}")
    return found


def settled(
    case: Case, result: CaseResult, proposal: Proposal, settings: Settings
) -> tuple[CaseResult, Proposal | None]:
    """What becomes of a proposal, and the result as it stands then: margins to a baseline that is replaced don't fail.

    Nothing is proposed where the baseline is this result already, where --ft-update-new finds an entry, and where it
    would be loosened without --ft-reason.
    """
    old = _existing(proposal.path, proposal.entry.device)
    if old is not None and not settings.update:
        return replace(result, update="kept: --ft-update-new writes new ones only"), None
    unusable = result.verdict == "incomparable"  # the one that is there may be damaged
    if old is not None and not unusable and (old.keys, old.digest) == (proposal.entry.keys, proposal.entry.digest):
        return replace(result, update="unchanged"), None
    worse = loosened(case, old, proposal.entry) if old is not None else []
    if worse and not settings.reason:
        told = f"not written: it would be loosened ({', '.join(worse)}); give --ft-reason"
        return replace(result, update=told), None
    against = "the baseline" if case.vs == "baseline" and settings.compare is None else None
    results = tuple(_accepted(gate, against) for gate in result.gates)
    if gates.verdict(results) == "fail":
        return replace(result, update="not written: the case fails"), None
    told = "written" if old is None else f"written in place of the one {old.accepted}"
    return replace(result, gates=results, verdict=gates.verdict(results), update=told), proposal


def _accepted(gate: GateResult, against: str | None) -> GateResult:
    """A margin's result once the baseline that it compares with is replaced; every other demand stays as it is."""
    compares = gate.bound in ("max_regression", "max_gain") and against is not None
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


def collect(folder: Path) -> list[Proposal]:
    """The proposals that were saved in `folder`."""
    found = []
    for named in sorted(folder.glob("*.path")):
        entries = baselines.read(named.with_suffix(".json")).entries
        for entry in entries.values():
            found.append(
                Proposal(
                    path=Path(named.read_text(encoding="utf-8")),
                    entry=entry,
                    statistics=named.with_suffix(".npz").read_bytes(),
                )
            )
    return found
