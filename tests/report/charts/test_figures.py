"""What holds of every chart: well-formed SVG without anything that acts, the same bytes twice, ids that are unique."""

from __future__ import annotations

from xml.etree import ElementTree

from ftcheck.report.charts import figures
from tests.report import results


def test_a_chart_is_well_formed_and_says_what_it_shows() -> None:
    (figure,) = figures(results.case())
    root = ElementTree.fromstring(figure.svg)
    assert root.get("role") == "img"
    title, description = list(root)[:2]
    assert [title.text, description.text] == [figure.title, figure.description]
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"


def test_a_result_without_metrics_has_no_charts() -> None:
    assert figures(results.case(verdict="error", metrics=(), gates=(), runs=())) == []
