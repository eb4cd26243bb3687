"""What the page shows of one case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ftcheck.report import markdown, numbers, spent, terminal
from ftcheck.report.html import examples, texts
from ftcheck.report.html.examples import ExamplesView
from ftcheck.report.html.figures import FiguresView
from ftcheck.report.html.texts import cut
from ftcheck.results import (
    CaseResult,
    GateResult,
    MetricResult,
    Reference,
    RunResult,
    Verdict,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricView:
    """A line of the table of metrics."""

    name: str
    direction: str
    value: str
    interval: str
    why_none: str
    """Why there is no interval."""
    seeds: str
    verdict: Verdict | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    """A line of the table of gates."""

    metric: str
    part: str
    demand: str
    value: str
    reference: str
    difference: str
    p_value: str
    detects: str
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceView:
    """What a case was compared with, and what is known of why they differ."""

    against: str
    described: str
    changes: tuple[str, ...]
    trace: str
    flipped: str
    flips: ExamplesView


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run: where its stages came from, with their keys."""

    seed: int
    trained: str
    train_key: str
    predicted: str
    predict_key: str
    costs: str
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView:
    """A case's part of the page."""

    anchor: str
    opened: bool
    verdict: Verdict
    task: str
    name: str
    nodeid: str
    brief: str
    facts: tuple[tuple[str, str], ...]
    error: tuple[str, ...]
    """Its lines."""
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    metrics: tuple[MetricView, ...]
    about: str
    """What the intervals speak of: `of the recipe`."""
    by_seed: bool
    """Whether there is more than one."""
    gates: tuple[GateView, ...]
    compared: bool
    """Whether some gate compares."""
    figures: FiguresView
    references: tuple[ReferenceView, ...]
    confusions: tuple[tuple[str, str, str], ...]
    worst: ExamplesView
    runs: tuple[RunView, ...]
    spent: tuple[tuple[str, str, str, str], ...]
    """Phase, time, part of the whole, memory."""
    speeds: tuple[str, ...]
    environments: tuple[tuple[str, str], ...]
    """(anchor, title) of where the runs took place."""
    command: str


def view(
    result: CaseResult, *, anchor: str, opened: bool, figures: FiguresView, environments: Sequence[tuple[str, str]]
) -> CaseView:
    """All that the page shows of `result`."""
    flips = [flip for other in result.references for flip in other.flips]
    types = texts.types_of([*(flip.marked for flip in flips), *(example.marked for example in result.worst)])
    return CaseView(
        anchor=anchor,
        opened=opened,
        verdict=result.verdict,
        task=result.task,
        name=result.case_id,
        nodeid=result.nodeid,
        brief=_brief(result),
        facts=_facts(result),
        error=tuple(cut(line, 500) for line in result.error.splitlines()[:60]),
        reasons=tuple(dict.fromkeys(gate.message for gate in result.gates if gate.verdict not in ("pass", "smoke"))),
        notes=(*result.notes, *([f"baseline: {result.update}"] if result.update else [])),
        metrics=tuple(_metric(metric, result) for metric in result.metrics),
        about=" or ".join(dict.fromkeys(f"of the {m.interval.about}" for m in result.metrics if m.interval)),
        by_seed=any(len(metric.per_seed) > 1 for metric in result.metrics),
        gates=tuple(_gate(gate, result) for gate in result.gates),
        compared=any(gate.comparison for gate in result.gates),
        figures=figures,
        references=tuple(_reference(other, types) for other in result.references),
        confusions=tuple((f"{c.count:,}", cut(c.gold, 80), cut(c.predicted, 80)) for c in result.confusions),
        worst=examples.worst(result.worst, types),
        runs=tuple(_run(run) for run in result.runs),
        spent=tuple(spent.rows(result.profile)) if result.profile else (),
        speeds=tuple(spent.speeds(result.profile)) if result.profile else (),
        environments=tuple(environments),
        command=markdown.command(result),
    )


def _brief(result: CaseResult) -> str:
    if result.error:
        return terminal.first_line(result.error)
    return ", ".join([numbers.count(len(result.seeds), "seed"), f"n = {result.examples:,}", terminal.origin(result)])


def _facts(result: CaseResult) -> tuple[tuple[str, str], ...]:
    found = {
        "task": result.task,
        "checkpoint": result.checkpoint,
        "device": f"{result.device} {result.precision}".strip(),
        "seeds": ", ".join(map(str, result.seeds)),
        "judged examples": f"{result.examples:,}" if result.examples else "",
        "runs": terminal.origin(result),
        "limit": f"{result.limited:,} rows of every split: a smoke run, nothing was judged" if result.limited else "",
    }
    return tuple((name, value) for name, value in found.items() if value)


def _metric(metric: MetricResult, result: CaseResult) -> MetricView:
    gates = [gate.verdict for gate in result.gates if gate.metric == metric.name]
    return MetricView(
        name=metric.name,
        direction="higher is better" if metric.greater_is_better else "lower is better",
        value=numbers.value(metric),
        interval=numbers.interval_of(metric),
        why_none="" if metric.interval else metric.no_interval,
        seeds=", ".join(numbers.like(metric, value) for value in metric.per_seed) if len(metric.per_seed) > 1 else "",
        verdict=min(gates, key=markdown.ORDER.index, default=None),
    )


def _gate(gate: GateResult, result: CaseResult) -> GateView:
    metric = next((metric for metric in result.metrics if metric.name == gate.metric), None)
    found = gate.comparison if metric else None
    change = numbers.Change.of(found, metric) if found and metric else None
    return GateView(
        metric=gate.metric,
        part=gate.part,
        demand=gate.demand,
        value="" if metric is None else numbers.part_value(gate, metric) if gate.part else numbers.value(metric),
        reference=f"{numbers.plain(found.reference, change.digits)} ({found.against})" if found and change else "",
        difference=str(change or ""),
        p_value=numbers.p_value(found.p_value) if found else "",
        detects=numbers.at_least(found.detectable) if found and found.detectable is not None else "",
        verdict=gate.verdict,
    )


def _reference(other: Reference, types: Sequence[str]) -> ReferenceView:
    flipped = f"{other.broken:,} of {other.common:,} examples broken, {other.fixed:,} fixed"
    return ReferenceView(
        against=other.against,
        described=other.described,
        changes=tuple(cut(change, 500) for change in other.changes),
        trace=other.trace,
        flipped=flipped if other.broken or other.fixed else "",
        flips=examples.flips(other.flips, types),
    )


def _run(run: RunResult) -> RunView:
    return RunView(
        seed=run.seed,
        trained=_origin(run.train.source, run.train.seconds),
        train_key=run.train.key,
        predicted=_origin(run.predict.source, run.predict.seconds),
        predict_key=run.predict.key,
        costs=", ".join(f"{name} {value:.4g}" for name, value in run.costs.items() if value is not None),
        warnings=tuple(cut(text, 500) for text in run.warnings[:10]),
    )


def _origin(source: str, seconds: float) -> str:
    return {"computed": f"in {numbers.seconds(seconds)}", "store": "from the store", "none": "none"}[source]
