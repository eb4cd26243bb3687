"""What `ftcheck compare` prints, as text, Markdown, JSON or CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from ftcheck.errors import shown
from ftcheck.report import numbers
from ftcheck.report.markup import csv_table, escaped, markdown_table

if TYPE_CHECKING:
    from ftcheck.comparing import Compared, Row
    from ftcheck.operands import Operand
    from ftcheck.ranking import Place, Ranked

Format = Literal["text", "markdown", "json", "csv"]
SCHEMA = 1
"""Raised when the JSON changes in a way that breaks its readers."""

Cells = tuple[str, ...]

_HEADER = ("metric", "A", "B", "delta", "95 % interval", "p", "detects", "broken", "fixed", "")
_RIGHT = (False, True, True, True, False, True, True, True, True, False)
_PLACES: dict[Place, str] = {
    "best": " best",
    "tied": " tied",
    "behind": "",
    "unknown": " ?",
    "incomparable": " incomparable",
    "": "",
}


def of_two(found: Compared, form: Format) -> str:
    """The comparison of two operands."""
    if form == "json":
        return _json(
            {
                "a": _described(found.a),
                "b": _described(found.b),
                "rows": [asdict(row) for row in found.rows],
                "vanished": list(found.vanished),
                "new": list(found.new),
                "notes": list(found.notes),
            }
        )
    if form == "csv":
        header = [name for name in asdict(found.rows[0]) if name != "tests"] if found.rows else []
        return csv_table(
            header, [[value for name, value in asdict(row).items() if name != "tests"] for row in found.rows]
        )
    lines = [f"A: {shown(found.a.name)} ({found.a.described})", f"B: {shown(found.b.name)} ({found.b.described})", ""]
    if form == "markdown":
        rows = [(_case(row), *_cells(row)) for row in found.rows]
        lines = [f"{escaped(line)}  " if line else "" for line in lines]
        lines += [*markdown_table(("case", *_HEADER), rows, (False, *_RIGHT)), ""]
        return "\n".join([*lines, *(f"- {escaped(text)}" for text in _said(found))]).rstrip() + "\n"
    return "\n".join([*lines, *_grouped(found.rows), *_said(found)]).rstrip() + "\n"


def of_many(operands: Sequence[Operand], found: Sequence[Ranked], form: Format) -> str:
    """A matrix: the values of several operands, the best, and what is tied with it."""
    if form == "json":
        return _json({"operands": [_described(o) for o in operands], "rows": [asdict(row) for row in found]})
    if form == "csv":
        header = ["case", "device", "metric", "greater_is_better", "operand", "value", "place"]
        flat = [
            [row.case, row.device, row.metric, row.greater_is_better, operand.name, value, place]
            for row in found
            for operand, value, place in zip(operands, row.values, row.places, strict=True)
        ]
        return csv_table(header, flat)
    columns = ("case", "metric", *(shown(operand.name, 40) for operand in operands))
    rows = [
        (
            f"{row.case} ({row.device})" if row.device else row.case,
            f"{shown(row.metric, 60)}{'' if row.greater_is_better else ' (less is better)'}",
            *(
                _number(value, digits) + _PLACES[place]
                for value, digits, place in zip(row.values, row.digits, row.places, strict=True)
            ),
        )
        for row in found
    ]
    legend = (
        "best: the best value; tied: not worse than the best beyond chance (paired, one-sided 95 %, "
        "one pair at a time); ?: can't be told here"
    )
    if form == "markdown":
        return "\n".join([*markdown_table(columns, rows, (False,) * len(columns)), "", escaped(legend)]) + "\n"
    return "\n".join([*_aligned([columns, *rows], (False,) * len(columns)), "", legend]) + "\n"


def _described(operand: Operand) -> dict[str, str]:
    return {"name": operand.name, "described": operand.described}


def _grouped(rows: Sequence[Row]) -> list[str]:
    """Text: a heading for each case, all tables with the same columns."""
    table = iter(_aligned([_HEADER, *(_cells(row) for row in rows)], _RIGHT))
    lines, case = [f"  {next(table)}"], ""
    for row, line in zip(rows, table, strict=True):
        if _case(row) != case:
            case = _case(row)
            lines.append(case)
        lines.append(f"  {line}")
    return [*lines, ""]


def _case(row: Row) -> str:
    return f"{row.case} ({row.device})" if row.device else row.case


def _cells(row: Row) -> Cells:
    change = numbers.Change(row.delta, row.low, row.high, row.scale)
    delta, _, interval = str(change).partition(" [")
    return (
        shown(row.metric, 60),
        _number(row.a, change.digits),
        _number(row.b, change.digits),
        delta if math.isfinite(row.delta) else "",
        interval and f"[{interval}",
        numbers.p_value(row.p_value) if math.isfinite(row.p_value) else "",
        numbers.at_least(row.detectable) if math.isfinite(row.detectable) else "",
        "" if row.broken is None else f"{row.broken:,}",
        "" if row.fixed is None else f"{row.fixed:,}",
        _verdict(row),
    )


def _verdict(row: Row) -> str:
    decision = {"inconclusive": "~ inconclusive"}.get(row.decision, row.decision)
    if row.decision:
        return f"{decision} at {row.margin}" + (f" ({row.status})" if row.status in ("better", "worse") else "")
    return "" if row.status == "value" else row.status


def _said(found: Compared) -> list[str]:
    """What stands below the table."""
    lines = [f"{_case(row)}: {shown(row.metric, 60)}: {row.note}" for row in found.rows if row.note]
    lines += [f"note: {note}" for note in found.notes]
    for row in found.rows:
        for test in row.tests:
            bounds = numbers.Change(row.delta, test.low, test.high, row.scale).bounds
            interval = f", 95 % interval {bounds}" if bounds else ""
            lines.append(
                f"{_case(row)}: {shown(row.metric, 60)}: {test.name}: {numbers.p_equals(test.p_value)}{interval}"
            )
    lines += [f"vanished: {case}" for case in found.vanished]
    lines += [f"new: {case}" for case in found.new]
    return list(dict.fromkeys(lines))


def _number(value: float, digits: int) -> str:
    return numbers.plain(value, digits) if math.isfinite(value) else "–"


def _aligned(rows: Sequence[Cells], right: Sequence[bool]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(right))]
    return [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    ]


def _json(document: dict[str, object]) -> str:
    return json.dumps(_finite({"schema": SCHEMA, **document}), indent=1, allow_nan=False) + "\n"


def _finite(value: object) -> object:
    """With null for NaN and infinities, which JSON has none for."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
