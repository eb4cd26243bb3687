"""Results for a pull request: read in ten seconds, and nothing in them is taken for markup."""

from __future__ import annotations

import re

import pytest

from ftcheck.report.markdown import page
from ftcheck.results import ComparisonResult, Flip, GateResult, Reference, WorstExample
from tests.report import results

HOSTILE = "<script>alert(1)</script> | **bold** `code` [x](javascript:1) \x1b[31m \u202e </details>\n# heading"


def compared(verdict: str = "fail") -> GateResult:
    return GateResult(
        metric="accuracy",
        bound="max_regression",
        limit=0.01,
        value=0.8424,
        verdict=verdict,  # type: ignore[arg-type]
        message="accuracy is 0.0190 worse than the baseline",
        shown_limit="≤ 0.01 worse",
        comparison=ComparisonResult(
            against="baseline",
            reference=0.861,
            value=0.842,
            difference=0.019,
            low=0.008,
            high=0.030,
            confidence=0.95,
            p_value=0.004,
            p_worse=0.002,
            examples=400,
            runs=3,
            reference_runs=3,
            discordant=40,
            seed_source="runs",
        ),
    )


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        pytest.param([], "## ftcheck: no case was judged", id="none"),
        pytest.param(["pass"], "## ✅ ftcheck: the case passed", id="one"),
        pytest.param(["pass", "pass"], "## ✅ ftcheck: all 2 cases passed", id="all"),
        pytest.param(["pass", "fail", "pass"], "## ❌ ftcheck: 1 failed, 2 passed", id="a-failure"),
        pytest.param(["new", "error"], "## ❌ ftcheck: 1 could not be measured, 1 new", id="an-error"),
        pytest.param(["pass", "inconclusive"], "## ⚠️ ftcheck: 1 inconclusive, 1 passed", id="undecided"),
    ],
)
def test_the_first_line_is_the_verdict(verdicts: list[str], expected: str) -> None:
    found = [results.case(verdict=verdict, nodeid=f"s::{i}") for i, verdict in enumerate(verdicts)]
    assert page(found).splitlines()[0] == expected


def test_a_failure_shows_what_decided_it_and_stands_on_top() -> None:
    good = results.case(verdict="pass", case_id="good", nodeid="a::good", gates=())
    bad = results.case(gates=(compared(),), seeds=(42, 43, 44))
    lines = page([good, bad]).splitlines()
    assert lines[4] == (
        "| ❌ intents | accuracy | 0.842 | \\[0.825, 0.860\\] | ≤ 0.01 worse: −1.9 pt \\[−3.0, −0.8\\] **fail** |"
    )
    assert lines[5].startswith("| ✅ good | accuracy | 0.842 |")


def test_details_are_folded_and_end_with_the_command() -> None:
    other = Reference(
        against="baseline",
        described="cpu, accepted 2026-11-02 by Ada",
        examples=400,
        common=400,
        changes=("transformers 5.17 → 5.23",),
        broken=20,
        fixed=3,
        flips=(Flip(id="7", input="where is it", gold="lost", before="lost", after="stolen", change=-1.0),),
    )
    text = page([results.case(gates=(compared(),), references=(other,))])
    assert text.count("<details>") == text.count("</details>") == 2
    for expected in (
        "<details><summary>❌ suites/intents.ft.yaml::intents: fail</summary>",
        "- transformers 5.17 → 5.23",
        "20 of 400 examples broken, 3 fixed.",
        "| 7 | where is it | lost | lost | stolen |",
        "| 12 | lost\\_card | stolen\\_card |",
        "    pytest suites/intents.ft.yaml::intents --ft-device=cpu",
        "<details><summary>All metrics of 1 case</summary>",
    ):
        assert expected in text, expected


def test_text_of_the_data_is_nothing_but_text() -> None:
    worst = WorstExample(index=1, input=HOSTILE, gold=HOSTILE, predicted=HOSTILE)
    found = results.case(case_id="c", worst=(worst,), notes=(HOSTILE,), error="", nodeid=f"suite::{HOSTILE}")
    text = page([found, results.case(verdict="error", error=HOSTILE, nodeid="s::e")])
    outside_code = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    assert "<script" not in outside_code
    assert not re.search(r"(?<!\\)\*\*bold", outside_code)
    assert not re.search(r"(?<!\\)\]\(", outside_code)
    assert outside_code.count("</details>") == outside_code.count("<details>"), "none is closed by the data"
    assert not re.search(r"^# ", text, re.M)
    assert "\x1b" not in text
    assert "\u202e" not in text
    for line in outside_code.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 5, 6), line


def test_an_interrupted_session_says_so() -> None:
    assert "> The session did not finish" in page([results.case()], complete=False)
    assert "did not finish" not in page([results.case()])


def test_a_report_that_would_be_too_long_keeps_its_top_and_says_what_is_missing() -> None:
    found = [results.case(nodeid=f"suite::{i}", case_id=f"case{i}") for i in range(200)]
    text = page(found, limit=30_000)
    assert len(text.encode()) <= 30_000
    assert all(f"❌ case{i} |" in text for i in range(200))
    assert re.search(r"\d+ parts of this report left out", text)
    assert text.count("<details>") == text.count("</details>")
