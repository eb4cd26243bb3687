"""Text in a terminal's columns: wide characters take two, and nothing breaks a table."""

from __future__ import annotations

import pytest

from ftcheck.report import cells, terminal
from ftcheck.results import GateResult
from tests.report import results

JAPANESE = "カードをなくしました"


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        pytest.param("short", 10, "short", id="fits"),
        pytest.param("a long text", 6, "a lon…", id="cut"),
        pytest.param(JAPANESE, 20, JAPANESE, id="wide-fits"),
        pytest.param(JAPANESE, 19, "カードをなくしまし…", id="wide-cut"),
        pytest.param(JAPANESE, 8, "カード…", id="wide-cut-between-columns"),
        pytest.param("😀😀😀", 3, "😀…", id="emoji"),
    ],
)
def test_cut_text_fits(text: str, columns: int, expected: str) -> None:
    assert cells.cropped(text, columns) == expected
    assert cells.width(cells.cropped(text, columns)) <= columns


@pytest.mark.parametrize(
    ("text", "columns", "expected"),
    [
        pytest.param("one two three", 9, ["- one two", "  three"], id="between-words"),
        pytest.param(
            "one /a/long/path/in/one/piece two", 9, ["- one", "  /a/long/path/in/one/piece", "  two"], id="path"
        ),
        pytest.param(JAPANESE, 12, ["- カードをな", "  くしました"], id="wide-within-a-word"),
        pytest.param("", 9, [], id="nothing"),
    ],
)
def test_text_is_wrapped_between_words_and_wide_text_anywhere(text: str, columns: int, expected: list[str]) -> None:
    assert list(cells.wrapped(text, columns, "- ", "  ")) == expected


PART = f"intent={JAPANESE}\u202e\x1b[31m👩‍👩‍👧\n"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_keeps_its_columns_and_its_width_with_any_text(width: int) -> None:
    gates = tuple(
        GateResult(
            metric=name, bound="min", limit=0.8, value=0.7, verdict="fail", message="", shown_limit="≥ 0.8", part=part
        )
        for name in ("accuracy", f"mine:{JAPANESE}")
        for part in ("", "label=loc", PART)
    )
    metrics = (results.metric(), results.metric(f"mine:{JAPANESE}"))
    case = results.case(metrics=metrics, gates=gates, notes=(JAPANESE * 9, "\x1b[31m\u202e " * 9))
    lines = [line.text for line in terminal.table([case], width=width, details=False)]
    assert all(line.isprintable() for line in lines), "a control character came through"
    assert [line for line in lines if cells.width(line) > width] == []
    verdicts = {cells.width(line[: line.rindex("fail")]) for line in lines if line.endswith("  fail")}
    assert len(verdicts) == 1, "the verdicts don't stand below each other"
    assert sum(line.endswith("  fail") for line in lines) == len(gates)
