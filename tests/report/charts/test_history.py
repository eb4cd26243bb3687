"""The chart over time: what it needs, what it says, and where steps and drift are drawn."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from ftcheck.report.charts import history
from ftcheck.results import CaseResult, HistoryPoint, PastValue
from tests.report import results

STEPS = ((0.861, None, False), (0.861, 0.861, False), (0.87, 0.87, False), (0.83, 0.87, True))


def past(*steps: tuple[float, float | None, bool], metric: str = "accuracy") -> CaseResult:
    """A result with these values, baselines and drifts behind it, a day each."""
    points = tuple(
        HistoryPoint(
            time=f"2026-11-{day:02}T09:03:00+00:00",
            until=f"2026-11-{day:02}T09:03:00+00:00",
            sessions=1,
            verdict="pass",
            values={
                metric: PastValue(
                    value=value,
                    per_seed=(value,),
                    low=value - 0.01,
                    high=value + 0.01,
                    baseline=accepted,
                    anchor=accepted and 0.861,
                    drifted=drifted,
                )
            },
        )
        for day, (value, accepted, drifted) in enumerate(steps, start=1)
    )
    return results.case(history=points)


def test_it_says_how_the_metric_went_and_draws_steps_and_drift() -> None:
    figure = history.draw(past(*STEPS), "c1")
    assert figure is not None
    assert figure.description == (
        "accuracy went from 0.861 on 2026-11-01 to 0.830 on 2026-11-04 in 4 results, while the baseline changed once, "
        "worse than the first accepted result beyond chance."
    )
    (baseline,) = re.findall(r'<path class="t d" d="([^"]+)"/><path class="w z"', figure.svg)
    assert re.fullmatch(r"M\S+ \S+H\S+V\S+H\S+V\S+H\S+", baseline), "level from the second on, upright where it changes"
    assert len(re.findall(r'class="o fp h"', figure.svg)) == 2, "one point and the legend"
    assert [row[6] for row in figure.table.rows] == ["", "", "", "worse"]
    assert ElementTree.fromstring(figure.svg).get("role") == "img"


@pytest.mark.parametrize(
    "result",
    [
        pytest.param(past(), id="none"),
        pytest.param(past(STEPS[0]), id="one-result"),
        pytest.param(past(*STEPS, metric="macro_f1_of_old"), id="of-no-metric-of-its-own"),
        pytest.param(past((math.nan, None, False), STEPS[0]), id="one-is-no-number"),
    ],
)
def test_nothing_is_drawn_without_a_past(result: CaseResult) -> None:
    assert history.draw(result, "c1") is None


def test_a_baseline_that_was_taken_back_leaves_a_gap() -> None:
    figure = history.draw(past(STEPS[1], STEPS[0], STEPS[1]), "c1")
    assert figure is not None
    assert re.search(r'"t d" d="M\S+ \S+H[^V]*M\S+ \S+H\S+"', figure.svg)


def test_many_results_keep_their_dates_apart() -> None:
    figure = history.draw(past(*STEPS * 7), "c1")
    assert figure is not None
    assert 5 <= len(re.findall(r"2026-11-\d\d</text>", figure.svg)) <= 8
