"""The page: the same for the same results, self-contained, small, and of nothing but values."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import UsageError
from ftcheck.report import charts, html, jsonfile
from ftcheck.report.charts import Figure, Table
from ftcheck.report.html import examples, figures, texts
from ftcheck.report.html.texts import Piece
from ftcheck.report.jsonfile import Document
from ftcheck.results import CaseResult, Flip, Mark, Marked, Reference, Verdict, WorstExample
from tests.report import hostile, results
from tests.report.charts.test_figures import whole


def of(*cases: CaseResult, complete: bool = True) -> str:
    """The page of these cases."""
    return html.page(
        Document(
            results=list(cases), complete=complete, missing=(), created="2026-11-02T10:00:00+00:00", version="0.1.0"
        )
    )


def written(path: Path, *cases: CaseResult) -> Document:
    """These cases out of a results file."""
    jsonfile.write(path, cases, complete=True)
    return jsonfile.load(path)


class Outline(HTMLParser):
    """Tags and attributes of a page, without its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


def test_a_page_of_the_same_file_is_the_same(tmp_path: Path) -> None:
    cases = [results.case(), *hostile.every()[:5]]
    first = html.page(written(tmp_path / "a.json", *cases))
    assert html.page(jsonfile.load(tmp_path / "a.json")) == first


def test_a_page_of_results_in_memory_is_that_of_their_file(tmp_path: Path) -> None:
    """A session's page is made of the former, `ftcheck report`'s of the latter; numbers may not be finite."""
    infinite = results.metric("accuracy", math.inf)
    cases = [results.case(), results.case(metrics=(infinite,), gates=()), *hostile.every(), whole()]
    cases = [replace(case, nodeid=f"s::{place}") for place, case in enumerate(cases)]
    document = written(tmp_path / "out.json", *cases)
    assert html.page(replace(document, results=list(map(jsonfile.as_read, cases)))) == html.page(document)
    assert jsonfile.as_read(cases[0]) is cases[0]


def test_a_case_is_made_when_what_is_before_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no page of thousands is in memory."""
    drawn, draw = [], charts.figures

    def noted(result: CaseResult) -> list[Figure]:
        drawn.append(result.nodeid)
        return draw(result)

    monkeypatch.setattr(charts, "figures", noted)
    cases = [results.case(nodeid=f"s::{i}") for i in range(5)]
    document = Document(results=cases, complete=True, missing=(), created="2026-11-02T10:00:00+00:00", version="1")
    so_far, begun = "", []
    for piece in html.pieces(document):
        so_far += piece
        begun.append((so_far.count("<article"), len(drawn)))
    assert all(after - before <= 1 for before, after in begun)
    assert begun[-1] == (5, 5)


def test_it_loads_nothing() -> None:
    outline = Outline(of(results.case(), results.case(verdict="error", error="none", nodeid="e")))
    assert not {"link", "img", "iframe", "object", "embed", "base"} & set(outline.tags)
    assert [name for name, _ in outline.attributes if name in ("src", "srcset", "action", "style", "background")] == []
    assert all((value or "").startswith("#") for name, value in outline.attributes if name == "href")
    assert not [name for name, _ in outline.attributes if name.startswith("on")]


def test_its_policy_names_its_own_style_and_script_and_nothing_else() -> None:
    page = of(results.case())
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#39;", "'").split(";"))
    for name in ("style", "script"):
        ((inline),) = re.findall(rf"<{name}>(.*?)</{name}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert rules[f"{name}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"


@pytest.mark.parametrize("name", hostile.STRINGS)
def test_hostile_text_makes_no_markup(name: str) -> None:
    """No element and no attribute that a page of plain words hasn't, and no character that can't be seen."""
    plain, page = Outline(of(hostile.case("two words", 1))), of(hostile.case(hostile.STRINGS[name], 1))
    outline = Outline(page)
    assert set(outline.tags) <= set(plain.tags)
    assert {key for key, _ in outline.attributes} <= {key for key, _ in plain.attributes}
    assert outline.tags.count("script") == outline.tags.count("style") == 1
    assert not re.search(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", page
    )
    assert len(page) < 250_000


@pytest.mark.parametrize("complete", [True, False])
def test_an_unfinished_session_says_so(complete: bool) -> None:
    assert ("The session did not finish" in of(results.case(), complete=complete)) is not complete


def test_no_case_at_all_is_a_page_too() -> None:
    page = of()
    assert "<h1>No case was judged</h1>" in page
    assert "<table" not in page


def test_the_worst_cases_come_first_and_are_open() -> None:
    cases = [
        results.case(verdict=verdict, case_id=f"{verdict}{place}", nodeid=f"{place}")
        for verdict in ("pass", "fail")
        for place in range(5)
    ]
    page = of(*cases)
    assert re.findall(r"<h3 .*?</span> (\w+)</h3>", page) == [f"fail{i}" for i in range(5)] + [
        f"pass{i}" for i in range(5)
    ]
    assert page.count("<details open>") == 3
    assert of(results.case(verdict="pass")).count("<details open>") == 1, "the only case is open"


def test_fifty_cases_as_long_as_can_be_are_less_than_two_megabytes() -> None:
    long = " ".join(f"word{i}" for i in range(2_000))
    worst = tuple(
        WorstExample(index=i, input=long, gold=long, predicted=long[7 * i :], score=0.1, marked=None) for i in range(10)
    )
    flips = tuple(
        Flip(id=str(i), input=long, gold=long, before=long, after=long[9 * i :], change=-1.0) for i in range(10)
    )
    other = Reference(against="baseline", described="cpu", examples=9, common=9, broken=10, flips=flips)
    cases = [results.case(nodeid=f"s::{i}", worst=worst, references=(other,)) for i in range(50)]
    assert len(of(*cases).encode()) < 2_000_000
    assert "more in the results file (--ft-json)" in of(cases[0])


def test_where_charts_are_too_large_those_of_failed_cases_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that passed share what is left."""
    chart = Figure(
        id="c", title="", description="", svg="x" * figures.ROOM, table=Table(head=(), rows=(("y" * 10**6,),))
    )
    monkeypatch.setattr(charts, "figures", lambda _: [chart] * 3)
    monkeypatch.setattr(figures, "LEAST", 9)
    verdicts: tuple[Verdict, ...] = ("fail", "pass", "pass", "pass")
    drawn = list(figures.views([results.case(verdict=verdict) for verdict in verdicts]))
    assert [len(one.shown) for one in drawn] == [3, 1, 2, 2]
    assert [one.left_out.partition(":")[0] for one in drawn] == [
        "",
        "2 charts left out",
        "1 chart left out",
        "1 chart left out",
    ]


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    document = written(tmp_path / "out.json", results.case())
    with pytest.raises(UsageError, match=r"--ft-html: .*page.html can't be written: "):
        html.write(tmp_path / "file" / "page.html", document)
    html.write(tmp_path / "new" / "page.html", document)
    assert (tmp_path / "new" / "page.html").read_text("utf-8") == html.page(document)


@pytest.mark.parametrize(
    ("expected", "got", "missing", "extra"),
    [
        pytest.param("lost_card", "stolen_card", [], [], id="one-word-each"),
        pytest.param("the big cat", "a small dog", [], [], id="nothing-shared"),
        pytest.param("in 1066", "1066", ["in"], [], id="a-word-less"),
        pytest.param("1066", "in 1066", [], ["in"], id="a-word-more"),
        pytest.param("a b c d", "a x c e", ["b", "d"], ["x", "e"], id="words-in-between"),
        pytest.param("a  b", "a b", [], [], id="blanks-are-no-words"),
        pytest.param("", "a b", [], [], id="empty"),
        pytest.param("a b\nc", "a b\nd", ["c"], ["d"], id="lines"),
    ],
)
def test_differing_words_are_marked(expected: str, got: str, missing: list[str], extra: list[str]) -> None:
    ours, theirs = texts.differing(expected, got)
    assert "".join(piece.text for piece in ours) == expected
    assert "".join(piece.text for piece in theirs) == got
    assert [piece.text for piece in ours if piece.kind == "missing"] == missing
    assert [piece.text for piece in theirs if piece.kind == "extra"] == extra


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        pytest.param([], [("abcdef", "")], id="none"),
        pytest.param([(0, 2, "gold")], [("ab", "gold"), ("cdef", "")], id="one"),
        pytest.param(
            [(0, 4, "gold"), (2, 6, "predicted")], [("ab", "gold"), ("cd", "both"), ("ef", "predicted")], id="overlap"
        ),
        pytest.param([(1, 3, "gold"), (1, 3, "predicted")], [("a", ""), ("bc", "both"), ("def", "")], id="the-same"),
    ],
)
def test_answers_stand_in_their_context(marks: list[Any], expected: list[tuple[str, str]]) -> None:
    marked = Marked(text="abcdef", marks=tuple(Mark(start=s, end=e, role=r) for s, e, r in marks))
    assert [(piece.text, piece.kind) for piece in texts.in_context(marked)] == expected


def test_entities_keep_their_type_and_a_type_its_colour() -> None:
    marked = Marked(
        text="Ann in Rome",
        marks=(
            Mark(start=0, end=3, role="gold", label="PER"),
            Mark(start=7, end=11, role="gold", label="LOC"),
            Mark(start=7, end=11, role="predicted", label="PER"),
        ),
    )
    types = texts.types_of([marked, None])
    assert texts.entities(marked, "gold", types) == (
        Piece("Ann", "entity", "PER", 1),
        Piece(" in "),
        Piece("Rome", "entity", "LOC", 0),
    )
    assert texts.entities(marked, "predicted", types) == (Piece("Ann in "), Piece("Rome", "entity", "PER", 1))


def test_entities_that_were_found_before_stand_between_the_others() -> None:
    marks = (
        Mark(start=0, end=3, role="gold", label="PER"),
        Mark(start=0, end=3, role="before", label="PER"),
        Mark(start=7, end=11, role="predicted", label="PER"),
    )
    flip = Flip(
        id="1",
        input="Ann in Rome",
        gold="",
        before="Ann/PER",
        after="Rome/PER",
        change=-1.0,
        marked=Marked(text="Ann in Rome", marks=marks),
    )
    (shown,) = examples.flips([flip], ("PER",)).shown
    marked = {said: [p.text for p in pieces if p.kind == "entity"] for said, pieces in shown.answers}
    assert marked == {"expected": ["Ann"], "before": ["Ann"], "now": ["Rome"]}
    assert shown.input == "", "the sentences are there already"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("short", "short", id="short"),
        pytest.param("x" * 21, "x" * 19 + "…", id="long"),
        pytest.param("\n" * 30, "…", id="lines"),
        pytest.param("a\r\nb", "a\nb", id="line-ends"),
        pytest.param("x" * 10**6, "x" * 19 + "…", id="megabyte"),
    ],
)
def test_cut(text: str, expected: str) -> None:
    assert texts.cut(text, 20) == expected


def test_what_cant_be_seen_is_shown_as_an_escape() -> None:
    assert texts.visible("a\u202eb\x1b[31m\n\tc\ud800") == "a\\u202eb\\x1b[31m\n\tc\\ud800"
    assert texts.visible("Z" + "\u0310" * 500 + "a\u0301") == "Z" + "\u0310" * 8 + "…a\u0301"
    assert texts.visible("naïve 漢字 مرحبا 😀") == "naïve 漢字 مرحبا 😀"
