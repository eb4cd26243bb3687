"""Estimates and gates -> gate results -> one verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ftcheck.results import GateResult, MetricResult, Verdict
from ftcheck.spec import Gate

SEVERITY: tuple[Verdict, ...] = ("error", "incomparable", "fail", "inconclusive", "new", "pass")
"""Worst first: a case's verdict is the worst of its gates'."""


def judge(gates: Iterable[Gate], metrics: Mapping[str, MetricResult]) -> tuple[GateResult, ...]:
    """Every bound of every gate against the mean over seeds. A missing metric or NaN fails."""
    return tuple(
        _bound(gate.metric, bound, limit, metrics.get(gate.metric))
        for gate in gates
        for bound, limit in (("min", gate.min), ("max", gate.max))
        if limit is not None
    )


def verdict(results: Sequence[GateResult]) -> Verdict:
    """The worst of `results`; a case without gates passes once it was measured."""
    found = {result.verdict for result in results}
    return next((level for level in SEVERITY if level in found), "pass")


def _bound(name: str, bound: str, limit: float, metric: MetricResult | None) -> GateResult:
    value = math.nan if metric is None else metric.value
    if math.isnan(value):
        held, message = (
            False,
            f"{name} has no value, so it can't be {'at least' if bound == 'min' else 'at most'} {limit:g}",
        )
    elif bound == "min":
        held = value >= limit
        message = f"{name} {_digits(value, limit)} is {'at least' if held else 'below'} the minimum {limit:g}"
    else:
        held = value <= limit
        message = f"{name} {_digits(value, limit)} is {'at most' if held else 'above'} the maximum {limit:g}"
    return GateResult(
        metric=name,
        bound="min" if bound == "min" else "max",
        limit=limit,
        value=value,
        verdict="pass" if held else "fail",
        message=message,
    )


def _digits(value: float, limit: float) -> str:
    """Four significant digits, or as many as tell the value from the limit."""
    texts = (f"{value:.{digits}g}" for digits in range(4, 17))
    return next((text for text in texts if value == limit or float(text) != limit), repr(value))
