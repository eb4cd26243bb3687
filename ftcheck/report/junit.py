"""What `--junitxml` holds of a case: flat properties, which CI servers show and plot."""

from __future__ import annotations

from collections.abc import Iterator

from ftcheck.errors import shown
from ftcheck.results import CaseResult


def properties(result: CaseResult) -> Iterator[tuple[str, str | float]]:
    """Name and value of each, all digits: they are read by programs."""
    yield "ft_case", result.case_id
    yield "ft_verdict", result.verdict
    yield "ft_device", result.device
    yield "ft_examples", result.examples
    yield "ft_seeds", len(result.seeds)
    for metric in result.metrics:
        name = shown(metric.name, 200)
        yield f"ft_{name}", metric.value
        if metric.interval is not None:
            yield f"ft_{name}_low", metric.interval.low
            yield f"ft_{name}_high", metric.interval.high
    for gate in result.gates:
        found = gate.comparison
        if found is not None and gate.bound == "max_regression" and not gate.part:
            name = shown(gate.metric, 200)
            yield f"ft_{name}_worse", found.difference
            yield f"ft_{name}_worse_low", found.low
            yield f"ft_{name}_worse_high", found.high
