"""What pytest's terminal shows of results: a line per case, the table, a failure's screen. Functions of CaseResult that
return lines; the hooks print them."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ftcheck.errors import shown
from ftcheck.report import cells, numbers
from ftcheck.results import CaseResult, ComparisonResult, GateResult, MetricResult

MARKUP: dict[str, dict[str, bool]] = {
    "pass": {"green": True},
    "fail": {"red": True, "bold": True},
    "error": {"red": True, "bold": True},
    "incomparable": {"red": True},
    "inconclusive": {"yellow": True},
    "new": {"yellow": True},
    "smoke": {"yellow": True},
}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text and how pytest's terminal writer should mark it up."""

    text: str
    markup: dict[str, bool] = field(default_factory=dict)


def origin(result: CaseResult) -> str:
    """Where the runs came from: `trained in 41 s`, `store`, `2 trained in 80 s, 1 from the store`."""
    trained = [run for run in result.runs if run.train.source == "computed"]
    predicted = [run for run in result.runs if run.predict.source == "computed"]
    if trained:
        spent = numbers.seconds(math.fsum(run.train.seconds for run in trained))
        if len(trained) == len(result.runs):
            return f"trained in {spent}"
        return f"{len(trained)} trained in {spent}, {len(result.runs) - len(trained)} from the store"
    if predicted:
        return f"evaluated in {numbers.seconds(math.fsum(run.predict.seconds for run in predicted))}"
    return "from the store" if result.runs else ""


def summary(result: CaseResult) -> str:
    """One line for a finished case, for the log while the session goes on."""
    if result.verdict == "error":
        return f"{result.case_id}: error: {first_line(result.error)}"
    gated = {gate.metric for gate in result.gates}
    named = [m for m in result.metrics if m.name in gated] or list(result.metrics[:2])
    values = ", ".join(f"{m.name} {numbers.value(m)} {numbers.interval_of(m)}".rstrip() for m in named[:4])
    return f"{result.case_id}: {result.verdict}: {values} ({origin(result)})"


def table(results: Sequence[CaseResult], *, width: int, details: bool) -> list[Line]:
    """The whole session: per suite file and case, each metric with interval, gate and verdict."""
    results = sorted(results, key=lambda result: result.nodeid.partition("::")[0])
    rows = [(result, _rows(result)) for result in results]
    columns = _columns([row for _, found in rows for row in found], width)
    if columns[3] < max((cells.width(row[3]) for _, found in rows for row in found), default=0):
        without = [_rows(result, detects=False) for result in results]
        rows = [
            (
                result,
                [row if cells.width(row[3]) <= columns[3] else less for row, less in zip(found, short, strict=True)],
            )
            for (result, found), short in zip(rows, without, strict=True)
        ]
        columns = _columns([row for _, found in rows for row in found], width)
    lines = [Line("  " + _joined(_HEADER, columns).rstrip(), {"bold": True})]
    suite = ""
    for result, found in rows:
        if result.nodeid.partition("::")[0] != suite:
            suite = result.nodeid.partition("::")[0]
            lines.append(Line(shown(suite, width), {"bold": True}))
        lines += [Line(text, MARKUP.get(result.verdict, {})) for text in _title(result, width)]
        lines += [Line("  " + _joined(row, columns).rstrip(), _row_markup(row[4])) for row in found]
        lines += [Line(piece) for text in _compared(result) for piece in _wrapped(text, width)]
        lines += [Line(piece) for text in (_details(result) if details else ()) for piece in _wrapped(text, width)]
        lines += [Line(piece) for note in result.notes for piece in _wrapped(f"note: {note}", width)]
    if any(result.verdict == "smoke" for result in results):
        limit = next(result.limited for result in results if result.limited)
        text = f"--ft-limit={limit}: a smoke run on a part of the data. It is no gate: nothing was judged."
        lines += [Line(piece, MARKUP["smoke"]) for piece in _wrapped(text, width, indent="")]
    if any(m.interval and m.interval.about == "model" for result in results for m in result.metrics):
        pieces = _wrapped(
            "one trained seed or fixed weights: the interval speaks of this model, not of the recipe", width, indent=""
        )
        lines += [Line(piece) for piece in pieces]
    return lines


def unfinished(missing: Sequence[str], width: int) -> list[Line]:
    """What a session that did not finish leaves out: cases that were to be measured and have no result."""
    told = "the session did not finish"
    if missing:
        named = ", ".join(missing[:20]) + (f" and {len(missing) - 20:,} more" if len(missing) > 20 else "")
        told += f": no result of {numbers.count(len(missing), 'case')}: {named}"
    return [Line(piece, {"yellow": True}) for piece in _wrapped(f"note: {told}", width, indent="")]


def _row_markup(verdict: str) -> dict[str, bool]:
    return MARKUP.get(verdict, {}) if verdict not in ("pass", "") else {}


def _compared(result: CaseResult) -> list[str]:
    """What the case was compared with; what is undecided; what became of its baseline."""
    texts = [f"compared with {other.against}: {other.described}" for other in result.references]
    texts += [gate.message for gate in result.gates if gate.verdict in ("inconclusive", "new", "incomparable")]
    if result.update:
        texts.append(f"baseline: {result.update}")
    return list(dict.fromkeys(texts))


def unjudged(result: CaseResult) -> str:
    """The screen for a case that was measured and has no verdict: it can't be compared, or --ft-verify found its runs
    to be others."""
    if result.verdict == "error":
        return f"{result.case_id}: {result.error}"
    texts = [gate.message for gate in result.gates if gate.verdict == "incomparable"]
    advice = "If the change is meant, accept the result with --ft-update."
    return _screen([f"{result.case_id}: can't be compared", *dict.fromkeys(texts), *_why(result), advice])


def _why(result: CaseResult) -> list[str]:
    """What changed since, and which examples flipped."""
    lines = []
    for other in result.references:
        if other.changes:
            lines += ["", f"changed since {other.against} ({other.described}):"]
            lines += [f"  {shown(change, 200)}" for change in other.changes[:12]]
            if len(other.changes) > 12:
                lines.append(f"  and {len(other.changes) - 12} more (--ft-json has them)")
        if other.trace:
            lines.append(other.trace)
        if other.broken or other.fixed:
            lines += ["", f"{other.broken:,} of {other.common:,} examples broken, {other.fixed:,} fixed:"]
        for flip in other.flips[:5]:
            lines.append(f"  {_text(flip.id, 40)}: {_text(flip.input, 150)}")
            before = f"before {_quoted(flip.before)}, " if flip.before else ""
            lines.append(f"    expected {_quoted(flip.gold)}, {before}now {_quoted(flip.after)}")
    return lines


def failure(result: CaseResult, invoked_in: Path, root: Path) -> str:
    """The screen for a failed case: the decisive lines, the worst errors, the command that reproduces it."""
    metrics = {metric.name: metric for metric in result.metrics}
    wanted = ("fail",) if result.verdict == "fail" else ("inconclusive", "new")  # under --ft-strict
    parts = [_decisive(gate, metrics.get(gate.metric), result) for gate in result.gates if gate.verdict in wanted]
    parts += _why(result)
    if result.confusions:
        parts += ["", "most often confused:"]
        parts += [
            f"  {c.count:>5} × {_text(c.gold, 40)} taken for {_text(c.predicted, 40)}" for c in result.confusions[:5]
        ]
    if result.worst:
        parts += ["", f"worst examples (seed {result.seeds[0]}):"]
        for example in result.worst[:5]:
            sure = "" if example.score is None else f" ({example.score:.2f})"
            parts.append(f"  row {example.index}: {_text(example.input, 150)}")
            parts.append(f"    expected {_quoted(example.gold)}, got {_quoted(example.predicted)}{sure}")
    return _screen([*parts, "", f"reproduce: {reproduce(result, invoked_in, root)}"])


def reproduce(result: CaseResult, invoked_in: Path, root: Path) -> str:
    """The command that measures this case again, to be run where pytest was started."""
    file, separator, rest = result.nodeid.partition("::")
    path = os.path.relpath(root / file, invoked_in)
    return f"pytest {shlex.quote(path + separator + rest)} --ft-device={result.device}"


def first_line(text: str) -> str:
    """The first line of a message, escaped."""
    return shown(text.partition("\n")[0], 200)


def _quoted(text: str) -> str:
    return _text(text, 80) if text else "nothing"


def _screen(parts: Sequence[str]) -> str:
    """Lines as they may be printed, wherever what is in them came from."""
    return "\n".join(shown(line, 2000) for part in parts for line in part.split("\n"))


def _text(text: str, columns: int) -> str:
    """Text out of the data, in at most so many columns."""
    return cells.cropped(shown(text, columns), columns)


def _decisive(gate: GateResult, metric: MetricResult | None, result: CaseResult) -> str:
    if gate.bound not in ("min", "max") or gate.part:
        return gate.message
    known = [numbers.count(len(result.seeds), "seed"), f"n = {result.examples:,}"]
    if metric is not None and metric.interval is not None:
        known.insert(0, f"95 % interval {numbers.interval_of(metric)}")
    return f"{gate.message} ({', '.join(known)})"


def _title(result: CaseResult, width: int) -> list[str]:
    if result.verdict == "error":
        return _wrapped(f"{result.case_id}: error: {result.error}", width, indent="")
    about = [
        numbers.count(len(result.seeds), "seed"),
        f"n = {result.examples:,}",
        f"{result.device} {result.precision}",
        origin(result),
    ]
    return _wrapped(f"{result.case_id}: {result.verdict} ({', '.join(about)})", width, indent="")


_HEADER = ("metric", "value", "95 % interval", "gate", "")
_LEAST = {3: 12, 0: 10}
"""Columns that give way on a narrow terminal, in this order, and the least they keep."""


def _columns(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """How wide each column of the table is, so that the verdict behind them is seen."""
    columns = [max(cells.width(row[i]) for row in [_HEADER, *rows]) for i in range(5)]
    for index, least in _LEAST.items():
        too_much = 2 + sum(columns) + 2 * 4 - width
        columns[index] = max(min(columns[index], least), columns[index] - max(too_much, 0))
    return columns


def _rows(result: CaseResult, *, detects: bool = True) -> list[tuple[str, str, str, str, str]]:
    rows: list[tuple[str, str, str, str, str]] = []
    for metric in result.metrics:
        gates = [gate for gate in result.gates if gate.metric == metric.name]
        first = (shown(metric.name, 60), numbers.value(metric), numbers.interval_of(metric))
        whole = [gate for gate in gates if not gate.part]
        bounds: list[tuple[str, str]] = [(_gate_cell(gate, detects=detects), gate.verdict) for gate in whole]
        bounds = bounds or [("", "")]
        rows.append((*first, *bounds[0]))
        rows += [("", "", "", *bound) for bound in bounds[1:]]
        rows += [("", value, "", cell, verdict) for value, cell, verdict in _part_rows(gates, metric, detects=detects)]
    return rows


def _gate_cell(gate: GateResult, *, detects: bool) -> str:
    """`≥ 0.9`, `≤ 0.01 worse (detects 0.023)`."""
    found, demand = gate.comparison, shown(gate.demand, 80)
    if not detects or found is None or found.detectable is None:
        return demand
    return f"{demand} (detects {numbers.at_least(found.detectable)})"


def _part_rows(gates: Sequence[GateResult], metric: MetricResult, *, detects: bool) -> list[tuple[str, str, str]]:
    """(value, gate, verdict) of gates on parts of the rows: those that don't pass each by itself, the others as one."""
    parts = [gate for gate in gates if gate.part]
    held = [gate for gate in parts if gate.verdict == "pass"]
    rows: list[tuple[str, str, str]] = [
        (numbers.part_value(gate, metric), f"{_gate_cell(gate, detects=detects)}, {_text(gate.part, 40)}", gate.verdict)
        for gate in parts
        if gate not in held
    ]
    if not held:
        return rows
    found = [gate.comparison.detectable for gate in held if gate.comparison is not None]
    known = [detectable for detectable in found if detectable is not None]
    seen = f" (detects {numbers.at_least(min(known))} to {numbers.at_least(max(known))})" if known and detects else ""
    return [*rows, ("", f"{numbers.count(len(held), 'part')}{seen}", "pass")]


def _joined(row: Sequence[str], columns: Sequence[int]) -> str:
    name, value, interval, gate, verdict = (cells.cropped(cell, w) for cell, w in zip(row, columns, strict=True))
    fitted = [
        cells.left(name, columns[0]),
        cells.right(value, columns[1]),
        cells.left(interval, columns[2]),
        cells.left(gate, columns[3]),
        verdict,
    ]
    return "  ".join(fitted)


def _details(result: CaseResult) -> list[str]:
    lines = []
    metrics = {metric.name: metric for metric in result.metrics}
    for metric in result.metrics:
        each = ", ".join(f"{s}: {numbers.like(metric, v)}" for s, v in zip(result.seeds, metric.per_seed, strict=True))
        lines.append(f"{metric.name} by seed: {each}")
    for gate in result.gates:
        if gate.comparison is not None:
            lines.append(_compared_in_detail(gate, gate.comparison, metrics[gate.metric]))
    for run in result.runs:
        lines.append(
            f"seed {run.seed}: train {run.train.key[:12]} {run.train.source}, "
            f"predict {run.predict.key[:12]} {run.predict.source}"
        )
        lines += [f"seed {run.seed} warned: {first_line(text)}" for text in run.warnings]
    return lines


def _compared_in_detail(gate: GateResult, found: ComparisonResult, metric: MetricResult) -> str:
    about = f"{gate.metric}, {shown(gate.part, 60)}" if gate.part else gate.metric
    power = ""
    if found.provable is not None and found.detectable is not None:
        power = f", can prove {numbers.at_least(found.provable)}, detects {numbers.at_least(found.detectable)}"
    return (
        f"{about} {gate.bound}: {numbers.Change.of(found, metric)} at {100 * found.confidence:.3g} % a side, "
        f"{numbers.p_equals(found.p_value)}, {found.discordant:,} of {found.examples:,} examples differ, "
        f"{found.reference_runs} + {found.runs} runs, seed noise from {found.seed_source}{power}"
    )


def _wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    return [
        piece
        for line in text.splitlines()
        for piece in cells.wrapped(shown(line, 2000), max(width, 40), indent, indent + "    ")
    ]
