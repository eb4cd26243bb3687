"""Results as a flat table: a row per case and metric, for CSV files, notebooks and spreadsheets."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck.results import WORST_FIRST, CaseResult, MetricResult

if TYPE_CHECKING:
    import pandas

COLUMNS = (
    *("suite", "case", "nodeid", "task", "checkpoint", "device", "precision", "verdict", "examples", "runs"),
    *("metric", "value", "low", "high", "confidence", "about", "standard_deviation", "greater_is_better"),
    *("gate", "reference", "worse_by", "worse_low", "worse_high", "p_value", "detects", "error"),
)
"""`value` is the mean over runs; `low` and `high` its interval; `gate` the worst verdict of the metric's gates;
`reference` to `detects` of its `max_regression`, in the metric's unit."""


def rows(results: Sequence[CaseResult]) -> Iterator[dict[str, Any]]:
    """One mapping per case and metric, with all of COLUMNS; one for a case without any."""
    for result in results:
        case = {
            "suite": result.suite,
            "case": result.case_id,
            "nodeid": result.nodeid,
            "task": result.task,
            "checkpoint": result.checkpoint,
            "device": result.device,
            "precision": result.precision,
            "verdict": result.verdict,
            "examples": result.examples,
            "runs": len(result.seeds),
            "error": result.error,
        }
        for metric in result.metrics or (None,):
            found = {} if metric is None else _metric(metric, result)
            yield {name: case.get(name, found.get(name)) for name in COLUMNS}


def load_results(path: str | os.PathLike[str]) -> pandas.DataFrame:
    """A results file (`--ft-json`) as a pandas DataFrame: a row per case and metric, with COLUMNS.

    Raises UsageError for a file that is none.
    """
    from ftcheck.report.jsonfile import read

    return frame(read(Path(path)))


def frame(results: Sequence[CaseResult]) -> pandas.DataFrame:
    """Results as a pandas DataFrame with COLUMNS."""
    import pandas

    return pandas.DataFrame(rows(results), columns=list(COLUMNS))


def _metric(metric: MetricResult, result: CaseResult) -> dict[str, Any]:
    gates = [gate for gate in result.gates if gate.metric == metric.name]
    compared = next((g.comparison for g in gates if g.bound == "max_regression" and not g.part), None)
    found: dict[str, Any] = {
        "metric": metric.name,
        "value": metric.value,
        "standard_deviation": _deviation(metric.per_seed),
        "greater_is_better": metric.greater_is_better,
        "gate": min((gate.verdict for gate in gates), key=WORST_FIRST.index, default=None),
    }
    if metric.interval is not None:
        found |= {name: getattr(metric.interval, name) for name in ("low", "high", "confidence", "about")}
    if compared is not None:
        found |= {
            "reference": compared.reference,
            "worse_by": compared.difference,
            "worse_low": compared.low,
            "worse_high": compared.high,
            "p_value": compared.p_value,
            "detects": compared.detectable,
        }
    return found


def _deviation(values: Sequence[float]) -> float | None:
    """The standard deviation of a metric over its seeds; NaN where one of them has none, None of a single one."""
    import statistics

    if len(values) < 2:
        return None
    return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
