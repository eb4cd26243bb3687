"""The part of a text that is shown with its marks: short whatever the text, and every mark where it was."""

from __future__ import annotations

import pytest

from ftcheck.results import Mark
from ftcheck.tasks.marking import AROUND, MOST, excerpt


def mark(start: int, end: int, role: str = "gold") -> Mark:
    return Mark(start=start, end=end, role=role)  # type: ignore[arg-type]


LONG = "".join(f"w{number:04d} " for number in range(2000))
"""Words of six characters with their space, each with its number."""


def test_a_short_text_is_kept_whole() -> None:
    made = excerpt("Ann sleeps in Rome", [mark(0, 3), mark(14, 18, "predicted")])
    assert made.text == "Ann sleeps in Rome"
    assert made.marks == (mark(0, 3), mark(14, 18, "predicted"))


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([(0, 5)], id="at-the-beginning"),
        pytest.param([(11_994, 11_999)], id="at-the-end"),
        pytest.param([(6000, 6005), (6060, 6065)], id="near-each-other"),
        pytest.param([(60, 65), (9000, 9005)], id="far-from-each-other"),
        pytest.param([(6000, 6011), (6006, 6017)], id="overlapping"),
    ],
)
def test_of_a_long_text_what_stands_around_the_marks(places: list[tuple[int, int]]) -> None:
    marks = [mark(*place, role) for place, role in zip(places, ("gold", "predicted"), strict=False)]
    made = excerpt(LONG, marks)
    assert len(made.text) <= MOST + 10
    assert [made.text[m.start : m.end] for m in made.marks] == [LONG[start:end] for start, end in places]
    assert made.text.startswith(" … ") == (places[0][0] > AROUND)
    assert made.text.endswith(" …") == (places[-1][1] < len(LONG) - AROUND)


def test_of_a_long_text_without_marks_the_beginning() -> None:
    made = excerpt(LONG, [])
    assert (made.text, made.marks) == (LONG[:MOST] + " …", ())


def test_a_mark_longer_than_the_room_is_cut_and_one_beyond_it_is_left_out() -> None:
    made = excerpt(LONG, [mark(600, 9000), mark(11_000, 11_005, "predicted")])
    assert len(made.text) <= MOST + 10
    (cut,) = made.marks
    assert cut.end <= len(made.text)
    assert LONG[600:].startswith(made.text[cut.start : cut.end])
