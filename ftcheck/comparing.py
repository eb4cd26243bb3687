"""Two results compared outside of a pytest session, case by case."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ftcheck import metrics, references, statistics
from ftcheck.errors import UsageError, shown
from ftcheck.evidence import Evidence, Missing, Pair, Part

if TYPE_CHECKING:
    from ftcheck.metrics import Scale
    from ftcheck.operands import Operand, Side
    from ftcheck.results import MetricResult
    from ftcheck.statistics import Comparison

CONFIDENCE = 0.95
"""One-sided, of decisions; intervals are two-sided at the same level."""

Status = Literal["better", "worse", "~", "same", "value", "incomparable", "gone", "new"]
"""`~`: not told from chance. `value`: there are two values and no more, the note says why."""
Decision = Literal["", "pass", "fail", "inconclusive"]

_MARGIN = re.compile(r"-(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)\s*(pt|pts|%)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailOn:
    """A margin: fail where a metric is worse by more than that, and not by chance."""

    metric: str
    margin: float
    relative: bool
    written: str

    @classmethod
    def parse(cls, text: str) -> FailOn:
        """`accuracy:-1pt`, `accuracy:-0.01`, `perplexity:-2%`. Raises UsageError."""
        metric, _, margin = text.rpartition(":")
        found = _MARGIN.fullmatch(margin.strip())
        if not metric or found is None:
            raise UsageError(
                f"--fail-on {shown(text)}: expected METRIC:-MARGIN, e.g. accuracy:-1pt (points), accuracy:-0.01 "
                "or perplexity:-2% (of the value before)"
            )
        number, unit = float(found[1]), found[2]
        return cls(metric=metric, margin=number if unit is None else number / 100, relative=unit == "%", written=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A test for reports (see `ftcheck.statistics.significance`)."""

    name: str
    p_value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric of one case on both sides. Numbers that don't exist are NaN."""

    case: str
    device: str
    metric: str
    status: Status
    greater_is_better: bool = True
    scale: Scale = "unbounded"
    a: float = math.nan
    b: float = math.nan
    """Means over runs, on the examples that both sides judged."""
    delta: float = math.nan
    """b - a, in the metric's unit."""
    low: float = math.nan
    high: float = math.nan
    """Two-sided 95 % interval of delta."""
    p_value: float = math.nan
    detectable: float = math.nan
    """The regression that such a comparison tells from chance (beyond its margin) in 80 of 100 times."""
    broken: int | None = None
    fixed: int | None = None
    """Examples that flipped; None for metrics that single examples can't be right by."""
    examples: int = 0
    runs_a: int = 0
    runs_b: int = 0
    decision: Decision = ""
    """Of --fail-on."""
    margin: str = ""
    note: str = ""
    tests: tuple[Tested, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two operands, compared."""

    a: Operand
    b: Operand
    rows: tuple[Row, ...]
    vanished: tuple[str, ...]
    """Cases of A that B doesn't have, or that could not be measured there."""
    new: tuple[str, ...]
    notes: tuple[str, ...]

    def failed(self, *, strict: bool) -> bool:
        """Whether the exit code is 1."""
        bad = any(row.status in ("incomparable", "gone") or row.decision == "fail" for row in self.rows)
        undecided = strict and any(row.decision == "inconclusive" for row in self.rows)
        return bool(self.vanished) or bad or undecided


def compare(
    a: Operand,
    b: Operand,
    *,
    fail_on: Sequence[FailOn] = (),
    only: Sequence[str] = (),
    tests: bool = False,
    seed: int = 0,
) -> Compared:
    """Every metric (or `only` some) of every case on both sides. Raises UsageError for a metric that none has, and
    BaselineError for a baseline that was edited by hand."""
    check_metrics((a, b), (*(one.metric for one in fail_on), *only))
    pairs, vanished, new = _matched(a, b)
    margins = {one.metric: one for one in fail_on}
    rows: list[Row] = []
    notes: list[str] = []
    for before, after in pairs:
        both = Both(before, after)
        notes += [f"{both.case}: {note}" for note in both.notes()]
        names = [name for name in dict.fromkeys([*before.values, *after.values]) if not only or name in only]
        rows += [both.row(name, margins.get(name), tests=tests, seed=seed) for name in names]
    return Compared(
        a=a, b=b, rows=tuple(rows), vanished=tuple(vanished), new=tuple(new), notes=tuple(dict.fromkeys(notes))
    )


def check_metrics(operands: Iterable[Operand], names: Iterable[str]) -> None:
    """Raise UsageError for a metric that no case of any operand has."""
    known = {name for operand in operands for side in operand.sides for name in side.values}
    for name in names:
        if name not in known:
            raise UsageError(f"no case has the metric {shown(name)}; there are {', '.join(sorted(known)) or 'none'}")


def _matched(a: Operand, b: Operand) -> tuple[list[tuple[Side, Side]], list[str], list[str]]:
    """(sides of one case, cases that vanished, new ones)."""
    if a.one_case and b.one_case:
        return list(_devices(a.sides, b.sides)), [], []
    names = [{side.name: None for side in operand.sides if not side.error} for operand in (a, b)]
    pairs: list[tuple[Side, Side]] = []
    for name in [name for name in names[0] if name in names[1]]:
        pairs += _devices(*([side for side in operand.sides if side.name == name] for operand in (a, b)))
    errors = {side.name: side.error for side in b.sides if side.error}
    vanished = [
        "::".join(name) + (f" ({shown(errors[name])})" if name in errors else "")
        for name in names[0]
        if name not in names[1] and not b.one_case
    ]
    new = ["::".join(name) for name in names[1] if name not in names[0] and not a.one_case]
    if not pairs and (a.one_case or b.one_case):
        raise UsageError(f"{shown(a.name)} and {shown(b.name)} have no case in common")
    return pairs, vanished, new


def _devices(before: Sequence[Side], after: Sequence[Side]) -> Iterator[tuple[Side, Side]]:
    """Sides on the same kind of device; the first of each where they have none in common."""
    found = [(old, now) for old in before for now in after if old.device == now.device]
    yield from found or [(before[0], after[0])]


class Both:
    """One case on two sides."""

    def __init__(self, before: Side, after: Side) -> None:
        self.before, self.after = before, after
        self.case = str(after) if before.name == after.name else f"{before} → {after}"
        self.evidence: Evidence | None = None
        if before.other is None or after.other is None:
            return
        self.pair = Pair(against=f"{before}", reference=before.other.arm, candidate=after.other.arm)
        self.evidence = Evidence(
            # Either side may know what the other side's version of a library can't make any more.
            metrics={**before.metrics, **after.metrics},
            candidate=after.other.arm,
            values=after.values,
            pairs={"reference": self.pair},
            beside=list,
            names=dict,
            prior=self._prior,
        )
        references.check(before.other, self.evidence)
        references.check(after.other, self.evidence)

    def notes(self) -> Iterator[str]:
        """What a reader must know of the two sides."""
        missing = {side.why_not: "" for side in (self.before, self.after) if side.why_not}
        for why in missing:
            which = [name for side, name in ((self.before, "A"), (self.after, "B")) if side.why_not == why]
            yield f"values alone are compared, without intervals: of {' and '.join(which)} {why}"
        if self.before.device != self.after.device:
            yield f"A is of {self.before.device or 'no known device'}, B of {self.after.device or 'no known device'}"
        if self.evidence is None or self.before.other is None:
            return
        if self.pair.note and not self.pair.too_unlike:
            yield self.pair.note
        if self.before.other.components.get("predict", {}).get("columns_beside"):
            yield "rows that vary together (`cluster`) count as independent here: only a pytest session knows them"

    def row(self, name: str, margin: FailOn | None, *, tests: bool, seed: int) -> Row:
        """One metric. `margin` is what --fail-on says of it."""
        old, now = self.before.values.get(name), self.after.values.get(name)
        row = Row(case=self.case, device=self.after.device, metric=name, status="value")
        row = replace(row, margin=margin.written.rpartition(":")[2] if margin else "")
        if old is None or now is None:
            return self._one_sided(row, old, now)
        row = replace(
            row,
            greater_is_better=now.greater_is_better,
            scale=now.scale,
            a=old.value,
            b=now.value,
            delta=now.value - old.value,
        )
        if name in costs():
            return row
        if old.signature != now.signature:
            why = f"{shown(name)} is defined otherwise ({shown(old.signature)} → {shown(now.signature)})"
            return replace(row, status="incomparable", note=why)
        if not math.isfinite(row.delta):
            return replace(row, decision="fail" if margin else "", note="a value is not a finite number")
        if self.evidence is not None and name in self.evidence.metrics:
            return self._compared(row, margin, tests=tests, seed=seed)
        why = "" if self.evidence is None else f"{shown(name)} can't be computed here: values alone"
        return replace(row, decision="inconclusive" if margin else "", note=why)

    @staticmethod
    def _one_sided(row: Row, old: MetricResult | None, now: MetricResult | None) -> Row:
        if old is not None:
            gone = row.metric not in costs()
            return replace(
                row, a=old.value, status="gone" if gone else "value", greater_is_better=old.greater_is_better
            )
        assert now is not None
        return replace(row, b=now.value, status="new", greater_is_better=now.greater_is_better)

    def _compared(self, row: Row, margin: FailOn | None, *, tests: bool, seed: int) -> Row:
        assert self.evidence is not None
        relative = margin.margin if margin is not None and margin.relative else None
        found = self.evidence.compared(row.metric, "reference", Part(), confidence=CONFIDENCE, relative=relative)
        if isinstance(found, Missing):
            return replace(row, status="incomparable", note=found.why)
        decision: Decision = ""
        if margin is not None:
            decision = statistics.decide(found, None if margin.relative else margin.margin)
        row = replace(_measured(row, found, 0.0 if margin is None else _absolute(margin, found)), decision=decision)
        row = replace(row, scale=self.evidence.metrics[row.metric].scale)
        if row.scale == "proportion":
            change = references.flipped(self.evidence, self.pair, row.metric)
            row = replace(
                row,
                broken=int((change <= -references.FLIPPED).sum()),
                fixed=int((change >= references.FLIPPED).sum()),
            )
        return replace(row, tests=tuple(self._tests(row, seed))) if tests and not found.same else row

    def _tests(self, row: Row, seed: int) -> Iterator[Tested]:
        """What else may be asked of the two; which knows what noise is said in docs/compare.md."""
        assert self.evidence is not None
        metric, places = self.evidence.metrics[row.metric], self.pair.places
        old, now = (
            [rows[place] for rows in arm.metrics[row.metric]]
            for arm, place in zip((self.pair.reference, self.pair.candidate), places, strict=True)
        )
        if metric.binary and len(old) == len(now) == 1 and row.broken is not None and row.fixed is not None:
            yield Tested(name="McNemar, exact", p_value=statistics.mcnemar(row.broken, row.fixed))
        if len(old) == len(now):
            p = statistics.approximate_randomization(old, now, metric.aggregate, seed=seed)
            yield Tested(name="approximate randomization", p_value=p)
        if len(old) > 1 and len(now) > 1:
            values = [[statistics.value(rows, metric.aggregate) for rows in side] for side in (old, now)]
            p = statistics.seed_permutation(*values, greater_is_better=metric.greater_is_better, seed=seed)
            yield Tested(name="seed permutation, one-sided", p_value=p)
        boot = statistics.paired_bootstrap(old, now, metric.aggregate, seed=seed)
        yield Tested(name="paired bootstrap", p_value=boot.p_value, low=-boot.high, high=-boot.low)

    def _prior(self, scale: Scale, value: float) -> tuple[float, str]:
        """The spread over seeds to assume where each side has one trained run."""
        other = self.after.other
        assert other is not None
        train: Any = other.components.get("train", {})
        data = train.get("data", {})
        named = " ".join(str(data[part]) for part in ("hub", "name") if data.get(part))
        rows = None if other.rows is None else len(other.rows)
        return statistics.prior_sd(train.get("task", {}).get("name", ""), named, rows, scale=scale, value=value)


def _measured(row: Row, found: Comparison, margin: float) -> Row:
    """`row` with what a comparison found."""
    sign = -1.0 if row.greater_is_better else 1.0  # differences count as worse
    delta = 0.0 if found.same else sign * found.difference
    row = replace(
        row,
        a=found.value_baseline,
        b=found.value_candidate,
        delta=delta,
        examples=found.examples,
        runs_a=found.runs_baseline,
        runs_b=found.runs_candidate,
        p_value=1.0 if found.same else found.p_value,
    )
    if found.same:
        return replace(row, status="same", low=0.0, high=0.0)
    if found.noise is None:
        return replace(row, status="~", note=found.no_bounds)
    half = found.noise.half_width((1 + CONFIDENCE) / 2)
    detectable = statistics.detectable(statistics.plan_again(found), margin)
    told = found.p_value < 1 - CONFIDENCE and found.examples >= statistics.FEW_EXAMPLES
    status: Status = "~" if not told else "worse" if found.difference > 0 else "better"
    note = "one trained run a side: seed noise is assumed, not measured" if found.seed_source == "prior" else ""
    return replace(row, status=status, low=delta - half, high=delta + half, detectable=detectable, note=note)


def _absolute(margin: FailOn, found: Comparison) -> float:
    return margin.margin * abs(found.value_baseline) if margin.relative else margin.margin


def costs() -> frozenset[str]:
    """Metrics that are no estimate from examples."""
    return metrics.cost_names()
