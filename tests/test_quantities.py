"""Sizes and durations, as suites and options say them."""

from __future__ import annotations

import math

import pytest

from ftcheck import durations, sizes


@pytest.mark.parametrize(
    ("said", "expected"),
    [(12, 12), ("500MB", 500 * 10**6), ("8 GiB", 8 * 1024**3), ("1.5tb", 15 * 10**11), ("3", 3), ("2k", 2000)],
)
def test_a_size_is_bytes(said: str | int, expected: int) -> None:
    assert sizes.in_bytes(said) == expected


@pytest.mark.parametrize("said", [0, -1, True, 1.5, None, "", "GB", "-1GB", "1XB", 10**400, "9" * 400 + "GB", math.inf])
def test_what_is_no_size_is_one_sentence(said: str | int) -> None:
    with pytest.raises(ValueError, match=r"^expected a size, such as 500MB or 8GB, got "):
        sizes.in_bytes(said)


@pytest.mark.parametrize(
    ("said", "expected"), [(90, 90.0), (0.5, 0.5), ("90", 90.0), ("30min", 1800.0), ("1.5h", 5400.0), ("2 d", 172800.0)]
)
def test_a_duration_is_seconds(said: str | float, expected: float) -> None:
    assert durations.seconds(said) == expected


@pytest.mark.parametrize("said", [0, -1, True, None, "", "min", "-1s", "1y", math.inf, math.nan, 10**400, "9" * 400])
def test_what_is_no_duration_is_one_sentence(said: str | float) -> None:
    with pytest.raises(ValueError, match=r"^expected a duration, such as 90s, 30min or 2h, got "):
        durations.seconds(said)
