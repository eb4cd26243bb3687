"""What --ft-update would make the baseline: an entry and its statistics, carried to the controller as files."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from ftcheck import baselines, git
from ftcheck.baselines import Accepted, Entry, MetricRecord, Statistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ftcheck.baselines import Baseline
    from ftcheck.results import MetricResult
    from ftcheck.runs import Scored
    from ftcheck.spec import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A result that may become the baseline of its case."""

    path: Path
    entry: Entry
    statistics: bytes


def propose(
    case: Case, device: str, scored: Scored, values: Mapping[str, MetricResult], *, reason: str
) -> Proposal:
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
        components={
            "train": {name: value for name, value in first.train.components.items() if name != "seed"},
            "predict": {name: value for name, value in first.predict.components.items() if name != "train"},
        },
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


def _stacked(rows: tuple[object, ...]) -> object:
    import numpy as np

    return np.stack(rows)  # type: ignore[arg-type]


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
