"""A session's results for a pull request: what a reviewer reads in ten seconds, and the rest folded below it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from ftcheck.errors import shown
from ftcheck.report import numbers, terminal
from ftcheck.report.markup import escaped, markdown_table
from ftcheck.results import CaseResult, GateResult, MetricResult, Verdict

SIGNS: dict[Verdict, str] = {
    "pass": "✅",
    "fail": "❌",
    "error": "❌",
    "incomparable": "❌",
    "inconclusive": "⚠️",
    "new": "🆕",
    "smoke": "💨",
    "skipped": "⏭️",
}
ORDER: tuple[Verdict, ...] = ("error", "fail", "incomparable", "inconclusive", "new", "smoke", "skipped", "pass")
"""Worst first: what needs a reader stands on top."""
_BAD = ("error", "fail", "incomparable")
MOST_BYTES = 900_000
"""GitHub cuts a job summary at 1 MiB, and a comment at 65,536 characters."""


def page(
    results: Sequence[CaseResult], *, complete: bool = True, missing: Sequence[str] = (), limit: int = MOST_BYTES
) -> str:
    """The whole report; `missing` are the cases that have no result where the session is not `complete`.

    Where it would be longer than `limit` bytes the folded parts are left out, last first, and it says so.
    """
    ordered = sorted(results, key=lambda r: (ORDER.index(r.verdict), r.nodeid))
    top = "\n".join([f"## {_headline(ordered)}", "", *_warning(complete, missing), *_table(ordered), ""])
    folded = ["\n".join(_folded(result)) for result in ordered if result.verdict != "pass"]
    folded.append("\n".join(_all_metrics(ordered)))
    kept: list[str] = []
    room = limit - len(top.encode()) - 200
    for part in folded:
        room -= len(part.encode()) + 1
        if room < 0:
            break
        kept.append(part)
    left_out = len(folded) - len(kept)
    more = [
        f"{numbers.count(left_out, 'part')} of this report left out: it would be too long. The results file has all."
    ]
    return "\n".join([top, *kept, *(more if left_out else [])]).rstrip() + "\n"


def _headline(results: Sequence[CaseResult]) -> str:
    sign = f"{SIGNS[results[0].verdict]} " if results else ""
    return f"{sign}ftcheck: {headline(results)}"


def headline(results: Sequence[CaseResult]) -> str:
    """The session's verdict: `all 12 cases passed`, `2 failed, 10 passed`."""
    counts = Counter(result.verdict for result in results)
    if not results:
        return "no case was judged"
    if set(counts) == {"pass"}:
        return f"{'the case' if len(results) == 1 else f'all {len(results):,} cases'} passed"
    named = {
        "error": "could not be measured",
        "fail": "failed",
        "pass": "passed",
        "smoke": "tried on a part of the data",
    }
    return ", ".join(f"{counts[verdict]:,} {named.get(verdict, verdict)}" for verdict in ORDER if counts[verdict])


def _warning(complete: bool, missing: Sequence[str]) -> list[str]:
    if complete:
        return []
    told = "The session did not finish: cases may be missing here."
    if missing:
        named = ", ".join(escaped(nodeid, 200) for nodeid in missing[:20])
        more = f" and {len(missing) - 20:,} more" if len(missing) > 20 else ""
        told = f"The session did not finish: no result of {numbers.count(len(missing), 'case')}: {named}{more}"
    return ["> [!WARNING]", f"> {told}", ""]


def _table(results: Sequence[CaseResult]) -> list[str]:
    """A line per case and metric that decided it."""
    rows = []
    for result in results:
        head = f"{SIGNS[result.verdict]} {escaped(result.case_id, 80)}"
        for metric, gate in deciding(result):
            rows.append((head, *_cells(metric, gate)))
            head = ""
        if head:
            rows.append((head, "", "", "", escaped(terminal.first_line(result.error) or result.verdict, 160)))
    header = ("case", "metric", "value", "95 % interval", "gate")
    return markdown_table(header, rows, (False, False, True, False, False), escape=False)


def deciding(result: CaseResult) -> list[tuple[MetricResult, GateResult | None]]:
    """For a case that passed, its gated metrics (or first); else the gates that did not."""
    metrics = {metric.name: metric for metric in result.metrics}
    wanted = [gate for gate in result.gates if gate.metric in metrics]
    if result.verdict != "pass":
        wanted = [gate for gate in wanted if gate.verdict not in ("pass", "smoke")]
    if not wanted:
        return [(metric, None) for metric in result.metrics[:1]]
    return [(metrics[gate.metric], gate) for gate in wanted[:6]]


def _cells(metric: MetricResult, gate: GateResult | None) -> tuple[str, str, str, str]:
    value, interval = numbers.value(metric), numbers.interval_of(metric)
    if gate is not None and gate.part:
        value, interval = numbers.part_value(gate, metric), ""
    if gate is None:
        return escaped(metric.name, 60), value, escaped(interval), ""
    found, part = gate.comparison, f", {shown(gate.part, 40)}" if gate.part else ""
    against = ""
    if found is not None:
        against = f": {numbers.Change.of(found, metric)}"
    text = escaped(f"{gate.demand}{part}{against}")
    return (
        escaped(metric.name, 60),
        value,
        escaped(interval),
        text if gate.verdict == "pass" else f"{text} **{gate.verdict}**",
    )


def _folded(result: CaseResult) -> Iterator[str]:
    """All that is known of a case that did not pass."""
    about = ", ".join(
        [
            numbers.count(len(result.seeds), "seed"),
            f"n = {result.examples:,}",
            f"{result.device} {result.precision}",
            terminal.origin(result),
        ]
    )
    yield f"<details><summary>{SIGNS[result.verdict]} {escaped(result.nodeid, 200)}: {result.verdict}</summary>"
    yield ""
    if result.error:
        yield from _block(result.error)
    else:
        yield f"{escaped(about)}  "
        yield from (f"- {escaped(gate.message)}" for gate in result.gates if gate.verdict != "pass")
        yield from (f"- note: {escaped(note)}" for note in result.notes)
    for other in result.references:
        yield ""
        yield f"Compared with {escaped(other.against)}: {escaped(other.described)}"
        yield from (f"- {escaped(change, 300)}" for change in other.changes)
        if other.trace:
            yield f"- {escaped(other.trace)}"
        if other.broken or other.fixed:
            yield ""
            yield f"{other.broken:,} of {other.common:,} examples broken, {other.fixed:,} fixed."
        if other.flips:
            yield ""
            rows = [(flip.id, flip.input, flip.gold, flip.before, flip.after) for flip in other.flips[:10]]
            cells = [[shown(cell, 200) for cell in row] for row in rows]
            yield from markdown_table(("id", "input", "expected", "before", "now"), cells, (False,) * 5)
    if result.confusions:
        yield ""
        confused = [(f"{c.count:,}", shown(c.gold, 60), shown(c.predicted, 60)) for c in result.confusions]
        yield from markdown_table(("times", "expected", "got"), confused, (True, False, False))
    if result.worst:
        yield ""
        worst = [
            (str(w.index), shown(w.input, 200), shown(w.gold, 80), shown(w.predicted, 80)) for w in result.worst[:10]
        ]
        yield from markdown_table(("row", "input", "expected", "got"), worst, (True, False, False, False))
    yield ""
    yield from _block(command(result))
    yield "</details>"
    yield ""


def command(result: CaseResult) -> str:
    """What measures a case again, to be run in pytest's root."""
    return f"pytest {shlex.quote(result.nodeid)} --ft-device={result.device or 'auto'}"


def _block(text: str) -> Iterator[str]:
    """Text as code, line by line: indented, so that no fence in it can end it."""
    yield ""
    yield from (f"    {shown(line, 500)}" for line in text.splitlines()[:60])
    yield ""


def _all_metrics(results: Sequence[CaseResult]) -> Iterator[str]:
    """Every metric of every case."""
    rows = []
    for result in results:
        head = shown(result.case_id, 80)
        for metric in result.metrics:
            seeds = ", ".join(numbers.like(metric, value) for value in metric.per_seed)
            rows.append((head, shown(metric.name, 60), numbers.value(metric), numbers.interval_of(metric), seeds))
            head = ""
    if rows:
        yield f"<details><summary>All metrics of {numbers.count(len(results), 'case')}</summary>"
        yield ""
        yield from markdown_table(
            ("case", "metric", "value", "95 % interval", "by seed"), rows, (False, False, True, False, False)
        )
        yield "</details>"
