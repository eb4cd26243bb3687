"""Evidence -> gate results -> one verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from ftcheck.errors import shown
from ftcheck.report import numbers
from ftcheck.results import Bound, ComparisonResult, GateResult, MetricResult, Verdict
from ftcheck.spec import Bounds, Gate, Margin

if TYPE_CHECKING:
    from ftcheck.evidence import Evidence, Part
    from ftcheck.statistics import Comparison

SEVERITY: tuple[Verdict, ...] = ("error", "incomparable", "fail", "inconclusive", "new", "pass")
"""Worst first: a case's verdict is the worst of its gates'."""


def judge(gates: Iterable[Gate], evidence: Evidence) -> tuple[tuple[GateResult, ...], tuple[str, ...]]:
    """(every bound of every gate, what a reader should know besides: parts that are too small to be judged)."""
    from ftcheck.evidence import Part

    results: list[GateResult] = []
    notes: list[str] = []
    for gate in gates:
        results += _bounds(gate, gate, Part(), evidence)
        if gate.must_pass:
            results.append(_must_pass(gate, evidence))
        if gate.slices is not None:
            parts, small = evidence.parts(gate.slices)
            for part in parts:
                results += _bounds(gate, gate.slices, part, evidence)
            if small:
                notes.append(
                    f"{gate.metric} by {gate.slices.by}: fewer than {gate.slices.min_examples} examples, not judged: "
                    f"{shown(', '.join(small), 300)}"
                )
    return tuple(results), tuple(notes)


def verdict(results: Sequence[GateResult]) -> Verdict:
    """The worst of `results`; a case without gates passes once it was measured."""
    found = {result.verdict for result in results}
    return next((level for level in SEVERITY if level in found), "pass")


def undecided(results: Sequence[GateResult]) -> bool:
    """Whether more seeds could decide something."""
    return any(result.verdict == "inconclusive" for result in results)


def corrected(cases: Sequence[Sequence[GateResult]]) -> list[tuple[GateResult, ...]]:
    """Gate results with Holm's correction over all margins of all cases: a fail whose adjusted p is above its level is
    inconclusive. That all pass needs no correction."""
    from ftcheck.statistics import holm

    margins = [
        (case, index, result.comparison)
        for case, results in enumerate(cases)
        for index, result in enumerate(results)
        if result.comparison is not None and result.bound != "max_gain" and math.isfinite(result.comparison.p_worse)
    ]
    found = [list(results) for results in cases]
    adjusted = holm([comparison.p_worse for _, _, comparison in margins])
    for (case, index, comparison), p in zip(margins, adjusted, strict=True):
        result = cases[case][index]
        if result.verdict == "fail" and p > 1 - comparison.confidence:
            likely = f"one of {len(margins)} margins may look so bad by chance (Holm: {numbers.p_equals(p)})"
            told = f"inconclusive, since {likely}"
            found[case][index] = replace(result, verdict="inconclusive", message=f"{result.message}; {told}")
    return [tuple(results) for results in found]


def _bounds(gate: Gate, bounds: Bounds, part: Part, evidence: Evidence) -> Iterator[GateResult]:
    metric = evidence.value(gate.metric, part) if bounds.min is not None or bounds.max is not None else None
    if bounds.min is not None:
        yield _limit(gate.metric, "min", bounds.min, metric, part)
    if bounds.max is not None:
        yield _limit(gate.metric, "max", bounds.max, metric, part)
    if bounds.max_regression is not None:
        yield _difference(gate, "max_regression", bounds.max_regression, part, evidence)
    if bounds.max_gain is not None:
        yield _difference(gate, "max_gain", bounds.max_gain, part, evidence)
    if bounds.max_drift is not None:
        yield _difference(gate, "max_drift", bounds.max_drift, part, evidence)


def _limit(
    name: str, bound: Literal["min", "max"], limit: float, metric: MetricResult | None, part: Part
) -> GateResult:
    value = math.nan if metric is None else metric.value
    about = f"{name} of {part.name}" if part.name else name
    if metric is None or math.isnan(value):
        held = False
        message = f"{about} has no value, so it can't be {'at least' if bound == 'min' else 'at most'} {limit:g}"
    elif bound == "min":
        held = value >= limit
        message = f"{about} {_told(metric, limit)} is {'at least' if held else 'below'} the minimum {limit:g}"
    else:
        held = value <= limit
        message = f"{about} {_told(metric, limit)} is {'at most' if held else 'above'} the maximum {limit:g}"
    return GateResult(
        metric=name,
        bound=bound,
        limit=limit,
        value=value,
        verdict="pass" if held else "fail",
        message=message,
        shown_limit=f"{'≥' if bound == 'min' else '≤'} {limit:g}",
        part=part.name,
    )


def _must_pass(gate: Gate, evidence: Evidence) -> GateResult:
    wrong, unknown = evidence.wrong(gate.metric, gate.must_pass)
    asked = len(gate.must_pass)
    right = asked - len(wrong) - len(unknown)
    if unknown:
        message = f"{gate.metric}.must_pass names examples that were not judged: {shown(', '.join(unknown), 300)}"
    elif wrong:
        message = f"{gate.metric} is not 1 in every run for {shown(', '.join(wrong), 300)}, which must be right"
    else:
        message = f"all {asked:,} examples that must be right are"
    return GateResult(
        metric=gate.metric,
        bound="must_pass",
        limit=float(asked),
        value=float(right),
        verdict="fail" if wrong or unknown else "pass",
        message=message,
        shown_limit=f"{right} of {asked} must pass",
    )


_WORDS = {"max_regression": "worse", "max_gain": "better", "max_drift": "worse"}
_SIDE = {"max_regression": "reference", "max_gain": "reference", "max_drift": "first"}


def _difference(gate: Gate, bound: Bound, margin: Margin, part: Part, evidence: Evidence) -> GateResult:
    """One margin, judged as docs/verdicts.md says."""
    from ftcheck.evidence import Missing

    shown_limit = f"≤ {_spaced(margin)} {_WORDS[bound]}"
    about = f"{gate.metric} of {part.name}" if part.name else gate.metric

    def result(verdict: Verdict, message: str, comparison: ComparisonResult | None = None) -> GateResult:
        return GateResult(
            metric=gate.metric,
            bound=bound,
            limit=margin.value,
            value=math.nan if comparison is None else comparison.value,
            verdict=verdict,
            message=message,
            shown_limit=shown_limit,
            part=part.name,
            comparison=comparison,
        )

    pair = evidence.pairs[_SIDE[bound]]
    if isinstance(pair, Missing):
        return result(pair.verdict, f"{about}: {pair.why}")
    own = evidence.value(gate.metric, part)
    if own is None or math.isnan(own.value):
        return result("fail", f"{about} has no value, so it can't be compared with {pair.against}")
    relative = None if not margin.relative else -margin.value if bound == "max_gain" else margin.value
    found = evidence.compared(gate.metric, _SIDE[bound], part, confidence=gate.confidence, relative=relative)
    if isinstance(found, Missing):
        return result(found.verdict, f"{about}: {found.why}")
    judged = Judged(gate=gate, bound=bound, margin=margin, found=found, against=pair.against, metric=own)
    return result(judged.verdict, judged.sentence(about), judged.to_result())


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One margin and what was found of it."""

    gate: Gate
    bound: Bound
    margin: Margin
    found: Comparison
    against: str
    metric: MetricResult

    @property
    def absolute(self) -> float:
        """The margin in the metric's unit; a relative one as measured."""
        return self.margin.value * abs(self.found.value_baseline) if self.margin.relative else self.margin.value

    @cached_property
    def verdict(self) -> Verdict:
        from ftcheck import statistics

        margin, proven = None if self.margin.relative else self.margin.value, self.gate.fail == "proven"
        if self.bound == "max_gain":
            return statistics.decide_gain(self.found, margin, proven=proven)
        return statistics.decide(self.found, margin, proven=proven)

    def sentence(self, about: str) -> str:
        """The decisive line: both values, the difference and its bounds, the margin, how much was measured; and what
        follows where that isn't plain from the verdict."""
        found = self.found
        change = numbers.Change.of(found, self.metric)
        before, now = (numbers.plain(value, change.digits) for value in (found.value_baseline, found.value_candidate))
        values = f"{about} {now}, {self.against.removeprefix('the ')} {before}"
        if found.same:
            return f"{values}: the same result"
        if found.no_bounds:
            return f"{values}: nothing can be decided, {found.no_bounds}"
        margin = change.margin(self.absolute, exact=not self.margin.relative)
        if self.margin.relative:
            margin += f" ({_spaced(self.margin)})"
        level = "" if found.confidence == 0.95 else f" at {100 * found.confidence:.3g} % a side"
        return f"{values}: {change}{level}, margin {margin}; {self._measured()}{self._meaning()}"

    def _measured(self) -> str:
        """`3 seeds, n = 1,725`."""
        found = self.found
        ours = "fixed weights" if found.fixed_candidate else numbers.count(found.runs_candidate, "seed")
        theirs = "fixed weights" if found.fixed_baseline else numbers.count(found.runs_baseline, "seed")
        sides = ours if ours == theirs else f"{ours} against {theirs}"
        return f"{sides}, n = {found.examples:,}"

    def _meaning(self) -> str:
        """What follows from the verdict, in words."""
        if self.verdict == "inconclusive":
            return f": inconclusive. {self._advice()}"
        if self.verdict == "fail" and self.bound == "max_gain":
            return ": so much better smells of a leak. If it is real, accept it with --ft-update"
        return ""

    def _advice(self) -> str:
        from ftcheck import statistics

        found = self.found
        if found.seed_source == "prior":
            return (
                "One trained seed a side can't tell the recipe from its luck: train more (`seeds: 3`), or run "
                "`ftcheck calibrate`"
            )
        margin = None if self.margin.relative else self.margin.value
        needed = statistics.decided_by(found, margin, proven=self.gate.fail == "proven")
        return needed.sentence().rstrip(".")

    def to_result(self) -> ComparisonResult:
        """What reports show of it, with what this gate could see."""
        from ftcheck import statistics

        found = self.found
        detectable = provable = None
        if found.noise is not None and self.bound != "max_gain":
            plan = statistics.plan_again(found)
            detectable = statistics.detectable(plan, self.absolute, proven=self.gate.fail == "proven")
            provable = statistics.provable(plan)
        return ComparisonResult(
            against=self.against,
            reference=found.value_baseline,
            value=found.value_candidate,
            difference=found.difference,
            low=found.low,
            high=found.high,
            confidence=found.confidence,
            p_value=found.p_value,
            p_worse=found.p_worse,
            examples=found.examples,
            runs=found.runs_candidate,
            reference_runs=found.runs_baseline,
            discordant=found.discordant,
            seed_source=found.seed_source,
            detectable=detectable,
            provable=provable,
            margin=self.absolute,
        )


def _spaced(margin: Margin) -> str:
    """`2 %`."""
    return str(margin).replace("%", " %")


def _told(metric: MetricResult, limit: float) -> str:
    """The metric's value, rounded to what its interval supports, or as far as tells it from the limit."""
    value = metric.value
    if metric.interval is None:
        texts = (f"{value:.{digits}g}" for digits in range(4, 17))
    else:
        texts = (f"{value:.{digits}f}" for digits in range(numbers.places(metric), 17))
    text = next((text for text in texts if value == limit or float(text) != limit), repr(value))
    return text.replace("-", "−") if value < 0 else text
