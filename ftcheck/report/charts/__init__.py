"""Charts of a case, as SVG to be put into a page: functions of its CaseResult.

A module for each kind of chart, whose `draw` gives a Figure, or None where a result doesn't have what it shows.
`figures` gives all there are. A page holds `STYLE` once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from ftcheck.report.charts import (
    classes,
    confusion,
    differences,
    forest,
    power,
    reliability,
    searching,
    slices,
    training,
)
from ftcheck.report.charts.svg import STYLE, Figure, Table
from ftcheck.results import CaseResult

__all__ = ["STYLE", "Figure", "Table", "figures"]

CHARTS: dict[str, Callable[[CaseResult, str], Figure | None]] = {
    "forest": forest.draw,
    "differences": differences.draw,
    "power": power.draw,
    "training": training.draw,
    "search": searching.draw_search,
    "rates": searching.draw_rates,
    "confusion": confusion.draw,
    "classes": classes.draw,
    "parts": slices.draw_parts,
    "lengths": slices.draw_lengths,
    "reliability": reliability.draw,
}
"""In the order they are shown: name -> draws it under an id."""


def figures(result: CaseResult) -> list[Figure]:
    """Every chart that there is data for, the most telling first. The same result gives the same bytes."""
    case = hashlib.blake2b(result.nodeid.encode("utf-8", "backslashreplace"), digest_size=5).hexdigest()
    drawn = (draw(result, f"c{case}-{name}") for name, draw in CHARTS.items())
    return [figure for figure in drawn if figure is not None]
