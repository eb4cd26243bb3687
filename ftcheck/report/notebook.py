"""One result as a notebook shows it. Whatever text it holds, none of it becomes markup."""

from __future__ import annotations

import html as markup
from collections.abc import Iterator, Sequence

from ftcheck.errors import shown
from ftcheck.report import numbers, terminal
from ftcheck.report.markdown import SIGNS
from ftcheck.report.markup import escaped, markdown_table
from ftcheck.results import CaseResult

HEADER = ("metric", "value", "95 % interval", "by seed", "gate", "")
_NUMBERS = (False, True, False, False, False, False)
_LONGEST = 300


def html(result: CaseResult) -> str:
    """A self-contained piece of HTML without scripts."""
    head = "".join(f"<th>{markup.escape(cell)}</th>" for cell in HEADER)
    body = "".join(f"<tr>{''.join(f'<td>{_safe(cell)}</td>' for cell in row)}</tr>" for row in rows(result))
    lines = "".join(f"<li>{_safe(line)}</li>" for line in said(result))
    return (
        f"<div><p><strong>{SIGNS[result.verdict]} {_safe(result.case_id)}: {_safe(result.verdict)}</strong> "
        f"({_safe(about(result))})</p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        + (f"<ul>{lines}</ul>" if lines else "")
        + "</div>"
    )


def markdown(result: CaseResult) -> str:
    """The same as Markdown."""
    lines = [
        f"**{SIGNS[result.verdict]} {escaped(result.case_id, 80)}: {escaped(result.verdict)}** "
        f"({escaped(about(result))})",
        "",
        *markdown_table(HEADER, rows(result), _NUMBERS),
        "",
        *(f"- {escaped(line, _LONGEST)}" for line in said(result)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def about(result: CaseResult) -> str:
    """`3 seeds, n = 400, cpu fp32, from the store`."""
    seeds = numbers.count(len(result.seeds), "seed")
    return f"{seeds}, n = {result.examples:,}, {result.device} {result.precision}, {terminal.origin(result)}"


def rows(result: CaseResult) -> Iterator[Sequence[str]]:
    """The cells under HEADER: a line per metric and gate."""
    for metric in result.metrics:
        digits = numbers.places(metric)
        cells = [
            metric.name,
            numbers.value(metric),
            numbers.interval(metric.interval, digits) if metric.interval else "",
            ", ".join(numbers.plain(value, digits) for value in metric.per_seed) if len(metric.per_seed) > 1 else "",
        ]
        gates = [gate for gate in result.gates if gate.metric == metric.name]
        if not gates:
            yield [*cells, "", ""]
        for gate in gates:
            part = f" ({gate.part})" if gate.part else ""
            yield [*cells, f"{gate.demand}{part}", gate.verdict]
            cells = [""] * len(cells)


def said(result: CaseResult) -> Iterator[str]:
    """Below the table: what did not pass and why, what was compared with, what changed, notes."""
    yield from dict.fromkeys(gate.message for gate in result.gates if gate.verdict != "pass")
    for other in result.references:
        yield f"compared with {other.against}: {other.described}"
        yield from other.changes
        if other.broken or other.fixed:
            yield f"{other.broken:,} of {other.common:,} examples broken, {other.fixed:,} fixed"
    yield from result.notes


def _safe(text: str) -> str:
    return markup.escape(shown(text, _LONGEST))
