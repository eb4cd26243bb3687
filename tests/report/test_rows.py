"""Results as a flat table."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest

import ftcheck
from ftcheck.errors import UsageError
from ftcheck.report import jsonfile
from ftcheck.report.markup import csv_table
from ftcheck.report.rows import COLUMNS, rows
from tests.report import results
from tests.report.test_markdown import compared


def test_every_case_and_metric_has_a_row_with_all_columns() -> None:
    found = list(
        rows([results.case(gates=(compared(),)), results.case(verdict="error", error="no such file", metrics=())])
    )
    assert [(row["case"], row["metric"]) for row in found] == [
        ("intents", "accuracy"),
        ("intents", "macro_f1"),
        ("intents", None),
    ]
    assert all(tuple(row) == COLUMNS for row in found)
    assert (found[0]["gate"], found[0]["reference"], found[0]["worse_by"]) == ("fail", 0.861, 0.019)
    assert (found[1]["gate"], found[1]["worse_by"]) == (None, None)
    assert found[2]["error"] == "no such file"


def test_runs_have_a_standard_deviation_where_there_are_several() -> None:
    (three,) = rows([results.case(metrics=(results.metric(per_seed=(0.8, 0.9, 1.0)),))])
    (one,) = rows([results.case(metrics=(results.metric(),))])
    assert three["standard_deviation"] == pytest.approx(0.1)
    assert one["standard_deviation"] is None


def test_csv_holds_numbers_whole_and_no_formulas() -> None:
    metric = results.metric(value=1 / 3, half=None)
    found = list(rows([results.case(metrics=(metric, results.metric(value=math.nan, half=None)), checkpoint="=1+1")]))
    (one, nan) = csv.DictReader(io.StringIO(csv_table(COLUMNS, [list(row.values()) for row in found])))
    assert float(one["value"]) == 1 / 3
    assert nan["value"] == ""
    assert one["checkpoint"] == "'=1+1"


def test_a_results_file_is_a_data_frame(tmp_path: Path) -> None:
    jsonfile.write(tmp_path / "out.json", [results.case(gates=(compared(),))], complete=True)
    frame = ftcheck.load_results(tmp_path / "out.json")
    assert list(frame.columns) == list(COLUMNS)
    assert frame.set_index("metric").loc["accuracy", "worse_by"] == 0.019
    assert frame["value"].dtype == "float64"


def test_what_is_no_results_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("[]")
    with pytest.raises(UsageError, match="is no results file"):
        ftcheck.load_results(tmp_path / "out.json")
