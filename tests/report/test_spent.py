"""What --ft-profile shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ftcheck.profile import Phase, Profile, Throughput, together
from ftcheck.report import cells, html, spent
from ftcheck.results import CaseResult
from tests.report import results
from tests.report.test_html import written

PROFILE = Profile(
    phases=(
        Phase(name="train", seconds=84.0, peak_bytes=1_790_000_000),
        Phase(name="import", seconds=15.5),
        Phase(name="judge", seconds=0.4),
        Phase(name="keys", seconds=0.1),
    ),
    throughput=(
        Throughput(stage="train", tokens_per_second=5230.0, padding=0.25, operations_per_second=2.0e11, limit=1.0e12),
        Throughput(stage="predict", tokens_per_second=12_000.0, padding=0.0),
    ),
)


def test_phases_are_told_with_their_part_and_small_ones_together() -> None:
    assert spent.rows(PROFILE) == [
        ("train", "84 s", "84%", "1.79 GB"),
        ("import", "16 s", "16%", ""),
        ("judge, keys", "0.5 s", "0%", ""),
    ]


def test_a_stage_is_told_with_its_speed_and_the_part_of_the_limit() -> None:
    assert list(spent.speeds(PROFILE)) == [
        "train: 5.23 ktokens/s, 25% padding, 200 GFLOP/s (20% of the 1 TFLOP/s that matrices reach here)",
        "predict: 12 ktokens/s, 0% padding",
    ]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_terminal_shows_cases_that_have_a_profile_and_no_line_is_too_wide(width: int) -> None:
    cases = [replace(results.case(), profile=PROFILE), results.case(case_id="other")]
    lines = spent.lines(cases, width)
    assert lines[0] == "intents: 100 s"
    assert not any("other" in line for line in lines)
    assert max(map(cells.width, lines)) <= width


def test_a_profile_survives_a_results_file_and_stands_on_the_page(tmp_path: Path) -> None:
    case = replace(results.case(), profile=PROFILE)
    assert CaseResult.from_json(json.loads(json.dumps(case.to_json()))) == case
    page = html.page(written(tmp_path / "with.json", case))
    assert "Where time and memory went" in page
    assert "5.23 ktokens/s, 25% padding" in page
    assert "Where time and memory went" not in html.page(written(tmp_path / "without.json", results.case()))


def test_stages_together_have_all_their_seconds_and_the_most_memory() -> None:
    seconds, peaks = together(
        [
            {"seconds": {"train": 1.0, "data": 2.0}, "peak_bytes": {"train": 5}},
            {"seconds": {"train": 3.0}, "peak_bytes": {"train": 4, "data": 1}},
        ]
    )
    assert seconds == {"train": 4.0, "data": 2.0}
    assert peaks == {"train": 5, "data": 1}
