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
from ftcheck.report import numbers
from ftcheck.results import CaseResult, GateResult, MetricResult

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
    values = ", ".join(
        f"{metric.name} {numbers.value(metric)}"
        + (f" {numbers.interval(metric.interval, numbers.places(metric))}" if metric.interval else "")
        for metric in named[:4]
    )
    return f"{result.case_id}: {result.verdict}: {values} ({origin(result)})"


def table(results: Sequence[CaseResult], *, width: int, details: bool) -> list[Line]:
    """The whole session: per suite file and case, each metric with interval, gate and verdict."""
    rows = [(result, _rows(result)) for result in results]
    cells = [row for _, found in rows for row in found]
    header = ("metric", "value", "95 % interval", "gate", "")
    columns = [max(len(row[i]) for row in [header, *cells]) for i in range(4)]
    lines = [Line("  " + _joined(header, columns).rstrip(), {"bold": True})]
    suite = ""
    for result, found in rows:
        if result.nodeid.partition("::")[0] != suite:
            suite = result.nodeid.partition("::")[0]
            lines.append(Line(shown(suite, width), {"bold": True}))
        lines += [Line(text, MARKUP.get(result.verdict, {})) for text in _title(result, width)]
        lines += [Line("  " + _joined(row, columns).rstrip(), _row_markup(row[4])) for row in found]
        lines += [Line(piece) for text in _compared(result) for piece in _wrapped(text, width)]
        lines += [Line(f"  {text}"[:width]) for text in (_details(result) if details else ())]
        lines += [Line(piece) for note in result.notes for piece in _wrapped(f"note: {note}", width)]
    if any(result.verdict == "smoke" for result in results):
        limit = next(result.limited for result in results if result.limited)
        lines.append(
            Line(
                f"--ft-limit={limit}: a smoke run on a part of the data. It is no gate: nothing was judged.",
                MARKUP["smoke"],
            )
        )
    if any(m.interval and m.interval.about == "model" for result in results for m in result.metrics):
        pieces = _wrapped(
            "one trained seed or fixed weights: the interval speaks of this model, not of the recipe", width, indent=""
        )
        lines += [Line(piece) for piece in pieces]
    return lines


def _row_markup(verdict: str) -> dict[str, bool]:
    return MARKUP.get(verdict, {}) if verdict not in ("pass", "") else {}


def _compared(result: CaseResult) -> list[str]:
    """What the case was compared with; what is undecided; what became of its baseline."""
    texts = [f"compared with {other.against}: {other.described}" for other in result.references]
    texts += [gate.message for gate in result.gates if gate.verdict in ("inconclusive", "new", "incomparable")]
    if result.update:
        texts.append(f"baseline: {result.update}")
    return list(dict.fromkeys(texts))


def incomparable(result: CaseResult) -> str:
    """The screen for a case that can't be compared: an error, never a pass."""
    texts = [gate.message for gate in result.gates if gate.verdict == "incomparable"]
    advice = "If the change is meant, accept the result with --ft-update."
    return "\n".join([f"{result.case_id}: can't be compared", *dict.fromkeys(texts), *_why(result), advice])


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
            lines.append(f"  {shown(flip.id, 40)}: {shown(flip.input, 150)}")
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
            f"  {c.count:>5} × {shown(c.gold, 40)} taken for {shown(c.predicted, 40)}" for c in result.confusions[:5]
        ]
    if result.worst:
        parts += ["", f"worst examples (seed {result.seeds[0]}):"]
        for example in result.worst[:5]:
            sure = "" if example.score is None else f" ({example.score:.2f})"
            parts.append(f"  row {example.index}: {shown(example.input, 150)}")
            parts.append(f"    expected {_quoted(example.gold)}, got {_quoted(example.predicted)}{sure}")
    return "\n".join([*parts, "", f"reproduce: {reproduce(result, invoked_in, root)}"])


def reproduce(result: CaseResult, invoked_in: Path, root: Path) -> str:
    """The command that measures this case again, to be run where pytest was started."""
    file, separator, rest = result.nodeid.partition("::")
    path = os.path.relpath(root / file, invoked_in)
    return f"pytest {shlex.quote(path + separator + rest)} --ft-device={result.device}"


def first_line(text: str) -> str:
    """The first line of a message, escaped."""
    return shown(text.partition("\n")[0], 200)


def _quoted(text: str) -> str:
    return shown(text, 80) if text else "nothing"


def _decisive(gate: GateResult, metric: MetricResult | None, result: CaseResult) -> str:
    if gate.comparison is not None:
        found = gate.comparison
        seeds = f"{found.reference_runs} + {found.runs} runs, n = {found.examples:,}, p = {found.p_value:.2g}"
        return f"{gate.message} ({seeds})"
    if gate.bound not in ("min", "max") or gate.part:
        return gate.message
    known = [numbers.count(len(result.seeds), "seed"), f"n = {result.examples:,}"]
    if metric is not None and metric.interval is not None:
        known.insert(0, f"95 % interval {numbers.interval(metric.interval, numbers.places(metric))}")
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


def _rows(result: CaseResult) -> list[tuple[str, str, str, str, str]]:
    rows: list[tuple[str, str, str, str, str]] = []
    for metric in result.metrics:
        gates = [gate for gate in result.gates if gate.metric == metric.name]
        shown_interval = numbers.interval(metric.interval, numbers.places(metric)) if metric.interval else ""
        first = (metric.name, numbers.value(metric), shown_interval)
        whole = [gate for gate in gates if not gate.part]
        bounds: list[tuple[str, str]] = [(_gate_cell(gate), gate.verdict) for gate in whole] or [("", "")]
        bounds += [(cell, verdict) for cell, verdict in _part_cells(gates)]
        rows.append((*first, *bounds[0]))
        rows += [("", "", "", *bound) for bound in bounds[1:]]
    return rows


def _gate_cell(gate: GateResult) -> str:
    """`≥ 0.9`, `≤ 0.01 worse (detects 0.023)`."""
    shown_limit = gate.shown_limit or f"{'≥' if gate.bound == 'min' else '≤'} {gate.limit:g}"  # of older results files
    found = gate.comparison
    if found is None or found.detectable is None:
        return shown_limit
    return f"{shown_limit} (detects {found.detectable:.2g})"


def _part_cells(gates: Sequence[GateResult]) -> list[tuple[str, str]]:
    """Gates on parts of the rows: those that don't pass each by itself, the others as one."""
    parts = [gate for gate in gates if gate.part]
    held = [gate for gate in parts if gate.verdict == "pass"]
    cells: list[tuple[str, str]] = [
        (f"{_gate_cell(gate)}, {shown(gate.part, 40)}", gate.verdict) for gate in parts if gate not in held
    ]
    if not held:
        return cells
    found = [gate.comparison.detectable for gate in held if gate.comparison is not None]
    known = [detectable for detectable in found if detectable is not None]
    detects = f" (detects {min(known):.2g} to {max(known):.2g})" if known else ""
    return [*cells, (f"{numbers.count(len(held), 'part')} of the rows{detects}", "pass")]


def _joined(row: Sequence[str], columns: Sequence[int]) -> str:
    name, value, *rest = row
    return "  ".join(
        [
            name.ljust(columns[0]),
            value.rjust(columns[1]),
            *(cell.ljust(w) for cell, w in zip(rest, columns[2:], strict=False)),
            row[4],
        ]
    )


def _details(result: CaseResult) -> list[str]:
    lines = []
    for metric in result.metrics:
        digits = numbers.places(metric)
        each = ", ".join(f"{s}: {numbers.plain(v, digits)}" for s, v in zip(result.seeds, metric.per_seed, strict=True))
        lines.append(f"{metric.name} by seed: {each}")
    for gate in result.gates:
        if gate.comparison is not None:
            found = gate.comparison
            about = f"{gate.metric}, {gate.part}" if gate.part else gate.metric
            power = (
                "" if found.provable is None else f", can prove {found.provable:.2g}, detects {found.detectable:.2g}"
            )
            lines.append(
                f"{about} {gate.bound}: {found.difference:.4g} worse [{found.low:.4g}, {found.high:.4g}], p "
                f"{found.p_value:.2g}, {found.discordant:,} of {found.examples:,} examples differ, seed noise from "
                f"{found.seed_source}{power}"
            )
    for run in result.runs:
        lines.append(
            f"seed {run.seed}: train {run.train.key[:12]} {run.train.source}, "
            f"predict {run.predict.key[:12]} {run.predict.source}"
        )
        lines += [f"seed {run.seed} warned: {first_line(text)}" for text in run.warnings]
    return lines


def _wrapped(text: str, width: int, indent: str = "  ") -> list[str]:
    import textwrap

    return [
        piece
        for line in text.splitlines()
        for piece in textwrap.wrap(
            shown(line, 2000),
            width=max(width, 40),
            initial_indent=indent,
            subsequent_indent=indent + "    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]
