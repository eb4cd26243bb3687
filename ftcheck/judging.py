"""From finished runs and what they are compared with to a judgement: values with intervals, gates, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ftcheck import gates, metrics, references, statistics, tasks, timing
from ftcheck.errors import MetricError
from ftcheck.evidence import Evidence, Missing, Pair, Part, length_class
from ftcheck.report import numbers
from ftcheck.results import GateResult, MetricResult, Reference
from ftcheck.runs import Finished, Scored, cost

if TYPE_CHECKING:
    from ftcheck.metrics import Metric, NumberArray, Scale
    from ftcheck.references import Other
    from ftcheck.spec import Case
    from ftcheck.statistics import Collapse, SeedNoise
    from ftcheck.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What runs come to."""

    scored: Scored
    """The runs that count."""
    values: Mapping[str, MetricResult]
    gates: tuple[GateResult, ...]
    references: tuple[Reference, ...]
    notes: tuple[str, ...]
    evidence: Evidence
    """What they were judged by."""


@timing.phase("judge")
def judge(case: Case, scored: Scored, others: Mapping[str, Other | Missing], store: Store, *, smoke: bool) -> Judgement:
    """Judge a case by its scored runs. Raises FtcheckError for what keeps it from being judged."""
    notes = list(scored.left_out)
    collapse, text = collapsed(case, scored)
    failed: list[GateResult] = []
    if collapse is not None and text:
        notes.append(text)
        learnt_nothing = not collapse.learns or all(collapse.runs)
        if case.collapsed == "fail" or (case.collapsed == "drop" and learnt_nothing):
            failed.append(_collapsed_gate(_collapse_metric(case, scored), collapse, text))
        elif case.collapsed == "drop":
            scored = scored.without(collapse.runs)
    known = evidence(case, scored, others)
    notes += [
        f"{name} has no interval: {why}"
        for name, metric in scored.metrics.items()
        if (why := _no_interval(metric, scored.statistics[name][0]))
    ]
    if smoke:
        return Judgement(
            scored=scored, values=known.values, gates=(), references=(), notes=tuple(notes), evidence=known
        )
    for other in others.values():
        if not isinstance(other, Missing):
            references.check(other, known)
    results, said = gates.judge(case.gates, known)
    results = (*failed, *results)
    notes += said
    usable = [pair for pair in known.pairs.values() if isinstance(pair, Pair) and not pair.too_unlike]
    notes += [note for pair in usable for note in (pair.note, pair.unfit_note) if note]
    notes += _said_of_comparisons(results, known)
    gated = [gate.metric for gate in case.gates if gate.compares]
    explained = tuple(
        references.Explanation(other=other, pair=pair, scored=scored, evidence=known, store=store).reference(gated)
        for side, other in _distinct(others).items()
        if isinstance(pair := known.pairs[side], Pair)
    )
    return Judgement(
        scored=scored, values=known.values, gates=results, references=explained, notes=tuple(notes), evidence=known
    )


def evidence(case: Case, scored: Scored, others: Mapping[str, Other | Missing]) -> Evidence:
    """What is known of scored runs by themselves and beside `others`."""
    rows = Rows(scored.runs[0])
    clusters = None if case.cluster is None else rows.clusters(case.cluster)
    candidate = references.arm(scored, fixed=case.training is None)
    return Evidence(
        metrics=scored.metrics,
        candidate=candidate,
        values=_values(case, scored, clusters),
        pairs={
            side: other
            if isinstance(other, Missing)
            else Pair(against=other.against, reference=other.arm, candidate=candidate)
            for side, other in others.items()
        },
        beside=rows.beside,
        names=rows.names,
        prior=prior(case, scored),
        clusters=clusters,
        looks=1 if case.max_seeds is None else case.max_seeds - len(case.seeds) + 1,
    )


def _said_of_comparisons(results: Sequence[GateResult], known: Evidence) -> Iterator[str]:
    """Whose seed noise is assumed, and which metrics are so much better that the baseline is behind."""
    for result in results:
        found = result.comparison
        if found is None or result.part or result.bound != "max_regression":
            continue
        if found.seed_source == "prior":
            sd, source = known.prior(known.metrics[result.metric].scale, known.values[result.metric].value)
            yield (
                f"{result.metric}: one run a side, so seeds are assumed to move it by a standard deviation of up to "
                f"{numbers.at_least(statistics.PRIOR_FACTOR * sd)} ({source}); more seeds or `ftcheck "
                "calibrate` measure it"
            )
        if result.verdict == "pass" and found.high < 0:
            yield (
                f"{result.metric} is better than {found.against} beyond doubt, "
                f"{numbers.Change.of(found, known.values[result.metric])}: --ft-update makes this the baseline, so "
                "that the gain can't be lost unseen"
            )


def _distinct(others: Mapping[str, Other | Missing]) -> dict[str, Other]:
    """The other sides, each result once: the first accepted one may still be the baseline."""
    found: dict[str, Other] = {}
    for side, other in others.items():
        if not isinstance(other, Missing) and all(other.arm.keys != known.arm.keys for known in found.values()):
            found[side] = other
    return found


class Rows:
    """What a case's judged rows are by themselves, read from the first run's records when a gate needs it."""

    def __init__(self, run: Finished) -> None:
        self._run = run
        self._records: list[dict[str, Any]] | None = None

    @property
    def records(self) -> list[dict[str, Any]]:
        if self._records is None:
            self._records = self._run.records()
        return self._records

    def beside(self) -> list[dict[str, Any]]:
        """For each row what slices go by."""
        labels = self._run.meta.get("labels", ())
        return [
            {
                **(record.get("beside") or {}),
                "length": length_class(record["length"]),
                "label": _label(record.get("reference"), labels),
            }
            for record in self.records
        ]

    def names(self) -> dict[str, int]:
        """Id, and hash (whole, and its first 12 digits as reports show it) -> position."""
        found: dict[str, int] = {}
        for place, record in enumerate(self.records):
            for name in (record["hash"][:12], record["hash"], record.get("id")):
                if name is not None:
                    found[str(name)] = place
        return found

    def clusters(self, column: str) -> Any:
        """(n,): an id per value of `column`."""
        values = [str((record.get("beside") or {})[column]) for record in self.records]
        return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _label(reference: Any, labels: Sequence[str]) -> str:
    if isinstance(reference, int) and not isinstance(reference, bool) and reference < len(labels):
        return str(labels[reference])
    if isinstance(reference, list) and labels and len(reference) == len(labels):
        return "+".join(name for name, is_so in zip(labels, reference, strict=True) if is_so) or "(none)"
    raise MetricError("slices.by: label needs examples of one class, or a set of them: name a column of the data")


def _values(case: Case, scored: Scored, clusters: Any) -> dict[str, MetricResult]:
    lookup = tasks.lookup(case)
    found = {
        name: _estimate(metric, scored.statistics[name], case, clusters) for name, metric in scored.metrics.items()
    }
    costs = {name: cost(lookup.describe(name), scored.runs) for name in case.metrics if lookup.is_cost(name)}
    return {**found, **costs}


def _estimate(metric: Metric, runs: Sequence[NumberArray], case: Case, clusters: Any) -> MetricResult:
    found = statistics.estimate(
        runs,
        metric.aggregate,
        scale=metric.scale,
        binary=metric.binary,
        fixed=case.training is None,
        no_interval=_no_interval(metric, runs[0]),
        clusters=clusters,
    )
    return MetricResult(
        name=metric.name,
        value=found.value,
        per_seed=found.per_run,
        greater_is_better=metric.greater_is_better,
        signature=metric.signature,
        interval=found.interval,
        no_interval=found.no_interval,
        examples=found.examples,
        scale=metric.scale,
    )


def _no_interval(metric: Metric, rows: NumberArray) -> str:
    """Why a metric of the user's has no interval over so many examples; empty for all others."""
    return metric.no_interval(rows) if isinstance(metric, metrics.WithoutInterval) else ""


def seed_noise(case: Case, scored: Scored, part: Part | None = None) -> dict[str, SeedNoise | None]:
    """Metric -> what the runs tell of the seeds' noise on the judged rows, or on a part of them; None where they don't:
    one run, fixed weights, no value."""
    clusters = None if case.cluster is None else Rows(scored.runs[0]).clusters(case.cluster)
    rows = slice(None) if part is None else part.rows
    found: dict[str, SeedNoise | None] = {}
    for name, metric in scored.metrics.items():
        known = statistics.estimate(
            [run[rows] for run in scored.statistics[name]],
            metric.aggregate,
            scale=metric.scale,
            binary=metric.binary,
            fixed=case.training is None,
            no_interval=_no_interval(metric, scored.statistics[name][0]),
            clusters=None if clusters is None else clusters[rows],
        )
        found[name] = None if known.spread is None else statistics.noise_of(known.spread, known.per_run)
    return found


def prior(case: Case, scored: Scored) -> Callable[[Scale, float], tuple[float, str]]:
    """The spread over seeds to assume for this case where none was seen."""
    trained = scored.runs[0].trained
    rows = trained.content["rows"].get("train", {}).get("count") if trained else None
    data = " ".join(filter(None, (case.data.path, case.data.name)))

    def assumed(scale: Scale, value: float) -> tuple[float, str]:
        return statistics.prior_sd(case.task, data, rows, scale=scale, value=value)

    return assumed


def collapsed(case: Case, scored: Scored) -> tuple[Collapse | None, str]:
    """Which runs learned nothing while the others did, or that none did, by the first gated metric (or the first of
    all); and what is to be said of that, if anything. Whether none did is asked only where it matters: by the policies
    `fail` and `drop`."""
    name, counts = _collapse_metric(case, scored), case.collapsed == "count"
    if not name or case.training is None or (counts and len(scored.runs) < 2):
        return None, ""
    metric, rows = scored.metrics[name], scored.statistics[name]
    values = [statistics.value(run, metric.aggregate) for run in rows]
    examples = len(scored.ids)
    # A run that is about as good as the others has not collapsed, whatever the majority: no need to look for it.
    best, spread = (max if metric.greater_is_better else min)(values), max(values) - min(values)
    if counts and metric.scale == "proportion" and spread < 1.35 / examples**0.5 and np.isfinite(best):
        return None, ""
    found = statistics.collapsed(
        values,
        _majority(case, scored.runs[0], metric),
        examples=examples,
        greater_is_better=metric.greater_is_better,
        scale=metric.scale,
    )
    if not found.learns and not counts:
        return found, f"no seed learned anything: {name} is no better than always saying the same (`collapsed`)"
    if not found.count:
        return found, ""
    seeds = [run.run.job.seed for run, gone in zip(scored.runs, found.runs, strict=True) if gone]
    named = ", ".join(f"seed {seed}" for seed in seeds)
    what = {"count": "it counts like any other", "drop": "it is left out", "fail": "it fails the case"}[case.collapsed]
    return found, (
        f"{named} learned nothing ({name} no better than always saying the same); {what} (`collapsed`). "
        f"{found.count} of {len(values)} seeds: a rate of {100 * found.rate_low:.0f} to {100 * found.rate_high:.0f} %"
    )


def _majority(case: Case, run: Finished, metric: Metric) -> float:
    """The metric of the predictor that always says the commonest class; 0 where there are no classes."""
    lookup = tasks.lookup(case)
    if lookup.describe(metric.name).input != "label":
        return 0.0
    inputs = tasks.get(case.task).score_inputs(run.records(), dict(run.meta), case.task_options)
    gold = np.asarray(inputs["label"][1])
    commonest = int(np.bincount(gold).argmax())
    return metrics.value(metric, [commonest] * len(gold), gold.tolist())


def _collapse_metric(case: Case, scored: Scored) -> str:
    """The metric that collapses are told by; empty without any."""
    gated = [gate.metric for gate in case.gates if gate.metric in scored.metrics]
    return next(iter(gated or scored.metrics), "")


def _collapsed_gate(metric: str, collapse: Collapse, text: str) -> GateResult:
    return GateResult(
        metric=metric,
        bound="min",
        limit=0.0,
        value=float(len(collapse.runs) - collapse.count) if collapse.learns else 0.0,
        verdict="fail",
        message=text,
        shown_limit="no collapse",
    )
