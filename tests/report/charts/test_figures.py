"""What holds of every chart: well-formed SVG without anything that acts, the same bytes twice, ids that are unique."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from ftcheck.breakdown import Breakdown, ClassScore, ConfusionMatrix, PartScore, PowerCurve, ReliabilityBin
from ftcheck.report.charts import CHARTS, STYLE, Figure, figures
from ftcheck.results import (
    CaseResult,
    ComparisonResult,
    GateResult,
    LearningRateCurve,
    SearchHistory,
    Trial,
)
from tests.report import results

HOSTILE = (
    "<script>alert(1)</script>",
    '"/><image href=x onerror=alert(1)>',
    "]]></title></svg><b>",
    "&amp;&#x3c;",
    "\x00\x1b[31m\ud800\ufffe",
    "\u202egnp.exe\u2066",
    "日本語" * 40,
    "x" * 5000,
    "",
)


def compared(**fields: float) -> ComparisonResult:
    defaults = {"reference": 0.86, "value": 0.84, "difference": 0.02, "low": 0.005, "high": 0.035, "margin": 0.01}
    return ComparisonResult(
        against="the baseline",
        confidence=0.95,
        p_value=0.01,
        p_worse=0.005,
        examples=400,
        runs=3,
        reference_runs=3,
        discordant=20,
        seed_source="runs",
        **{**defaults, **fields},
    )


def margin(part: str = "", verdict: str = "fail", found: ComparisonResult | None = None) -> GateResult:
    return GateResult(
        metric="accuracy",
        bound="max_regression",
        limit=0.01,
        value=0.84,
        verdict=verdict,  # type: ignore[arg-type]
        message="",
        shown_limit="≤ 0.01 worse",
        part=part,
        comparison=found or compared(),
    )


def breakdown(names: tuple[str, ...], *, then: bool = True) -> Breakdown:
    rows = tuple((*(9 if i == j else 1 for j in range(len(names))), 2) for i in range(len(names)))
    parts = tuple(
        PartScore(
            metric="accuracy", part=name, examples=40, value=0.8, low=0.7, high=0.9, reference=0.85 if then else None
        )
        for name in names
    )
    return Breakdown(
        confusion=ConfusionMatrix(of="examples", classes=names, left_out=3, now=rows, then=rows if then else None),
        classes=tuple(
            ClassScore(
                name=name, support=12, precision=0.8, recall=0.7, f1=0.75, then=(0.9, 0.9, 0.9) if then else None
            )
            for name in names
        ),
        classes_of="examples",
        parts=parts,
        lengths=parts,
        reliability=(ReliabilityBin(low=0.8, high=0.866667, confidence=0.83, accuracy=0.7, count=40),),
        power=PowerCurve(
            metric="accuracy",
            margin=0.01,
            examples=(200, 400, 800),
            seeds=(3, 6),
            detectable=((0.05, 0.03, 0.02), (0.04, 0.025, 0.015)),
            now=(400, 3),
        ),
    )


def whole(names: tuple[str, ...] = ("lost", "stolen"), seeds: int = 3, *, then: bool = True) -> CaseResult:
    """A result with something for every chart."""
    history = tuple(
        {
            "loss": 2 / step,
            "eval_loss": 3 / step,
            "eval_accuracy": 1 - 1 / step,
            "learning_rate": 1e-4 / step,
            "step": step,
        }
        for step in range(1, 41)
    )
    search = SearchHistory(
        metric=names[0],
        direction="maximize",
        best=1,
        trials=(
            Trial(number=1, value=0.8, state="complete", params={names[0]: names[-1]}),
            Trial(number=2, value=None, state="failed", params={}),
            Trial(number=3, value=0.7, state="pruned", params={"learning_rate": 1e-4}),
        ),
    )
    curve = LearningRateCurve(
        rates=(1e-6, 1e-5, 1e-4), losses=(2.0, 1.5, math.nan), smoothed=(2.0, 1.6, 1.4), suggestion=1e-5, lowest=None
    )
    runs = tuple(
        replace(results.run(seed), log_history=history, search=search, lr_curve=curve) for seed in range(seeds)
    )
    return results.case(
        seeds=tuple(range(seeds)),
        metrics=tuple(results.metric(name, per_seed=(0.84,) * seeds) for name in ("accuracy", *names)),
        gates=(margin(), *(margin(name, "inconclusive") for name in names)),
        runs=runs,
        breakdown=breakdown(names, then=then),
    )


def test_every_chart_is_drawn_where_there_is_what_it_shows() -> None:
    assert [figure.id.partition("-")[2] for figure in figures(whole())] == list(CHARTS)


def test_a_result_without_metrics_has_no_charts() -> None:
    assert figures(results.case(verdict="error", metrics=(), gates=(), runs=())) == []


DEGENERATE = [
    pytest.param(whole(), id="whole"),
    pytest.param(whole(HOSTILE), id="hostile"),
    pytest.param(whole(("only",), 1, then=False), id="one-class-one-seed"),
    pytest.param(whole(tuple(f"class {i}" for i in range(77)), 8), id="77-classes-8-seeds"),
    pytest.param(results.case(metrics=(results.metric(value=math.nan, half=None),), gates=()), id="nan"),
    pytest.param(results.case(metrics=(results.metric(value=math.inf, half=None),), gates=()), id="infinite"),
    pytest.param(results.case(metrics=(results.metric(value=0.0, half=0.0),)), id="all-equal"),
    pytest.param(results.case(metrics=(results.metric("loss", -1e300, 1e290),), gates=()), id="huge"),
    pytest.param(
        results.case(gates=(margin(found=compared(difference=math.nan, low=math.nan, high=math.nan)),)), id="nan-bounds"
    ),
    pytest.param(results.case(gates=(margin(found=compared(low=-math.inf, high=math.inf)),)), id="infinite-bounds"),
    pytest.param(results.case(gates=(margin(found=compared(difference=0.0, low=0.0, high=0.0)),)), id="the-same"),
]


@pytest.mark.parametrize("result", DEGENERATE)
def test_svg_is_well_formed_and_does_nothing(result: CaseResult) -> None:
    for figure in figures(result):
        root = ElementTree.fromstring(figure.svg)
        tags = {element.tag.partition("}")[2] for element in root.iter()}
        assert tags <= {"svg", "title", "desc", "path", "rect", "circle", "text"}
        attributes = {name for element in root.iter() for name in element.attrib}
        assert attributes <= {
            *("class", "viewBox", "role", "aria-labelledby", "id", "d", "x", "y", "cx", "cy", "r"),
            *("width", "height", "fill-opacity"),
        }
        assert "nan" not in "".join(element.get(name, "") for element in root.iter() for name in ("d", "x", "y", "cx"))
        assert "inf" not in "".join(element.get(name, "") for element in root.iter() for name in ("d", "x", "y", "cx"))


@pytest.mark.parametrize("result", DEGENERATE)
def test_a_chart_names_itself_and_has_its_numbers_as_a_table(result: CaseResult) -> None:
    drawn = figures(result)
    for figure in drawn:
        root = ElementTree.fromstring(figure.svg)
        title, description = list(root)[:2]
        assert root.get("role") == "img"
        assert [title.text, description.text] == [figure.title, figure.description]
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert {len(row) for row in figure.table.rows} <= {len(figure.table.head)}
    ids = [found for figure in drawn for found in re.findall(r' id="([^"]+)"', figure.svg)]
    assert len(set(ids)) == len(ids) == 2 * len(drawn)


@pytest.mark.parametrize("result", DEGENERATE)
def test_what_is_drawn_lies_within_the_chart(result: CaseResult) -> None:
    for figure in figures(result):
        root = ElementTree.fromstring(figure.svg)
        width, height = map(float, root.get("viewBox", "").split()[2:])
        for x, y in points(root):
            assert -1 <= x <= width + 1, figure.id
            assert -1 <= y <= height + 1, figure.id


def points(root: ElementTree.Element) -> list[tuple[float, float]]:
    """Where texts, circles and paths begin."""
    found = []
    for element in root.iter():
        for names in (("x", "y"), ("cx", "cy")):
            if element.get(names[0]) is not None:
                found.append((float(element.get(names[0], "")), float(element.get(names[1], ""))))
        found += [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", element.get("d", ""))]
    return found


def test_texts_hold_nothing_that_a_page_must_not() -> None:
    for figure in figures(whole(HOSTILE)):
        for text in texts(figure):
            assert text.isprintable(), repr(text)


def texts(figure: Figure) -> list[str]:
    drawn = [element.text or "" for element in ElementTree.fromstring(figure.svg).iter()]
    cells = [cell for row in (figure.table.head, *figure.table.rows) for cell in row]
    return [figure.title, figure.description, *drawn, *cells]


def test_the_same_result_gives_the_same_bytes() -> None:
    assert figures(whole()) == figures(CaseResult.from_json(whole().to_json()))


def test_two_cases_have_no_id_in_common() -> None:
    first, second = figures(whole()), figures(replace(whole(), nodeid="suites/other.ft.yaml::intents"))
    assert not {figure.id for figure in first} & {figure.id for figure in second}


def test_colours_are_the_pages_own() -> None:
    for figure in figures(whole()):
        assert not re.search(r"#[0-9a-f]{3}|rgb\(|style=", figure.svg)
    used = {
        name
        for figure in figures(whole())
        for found in re.findall(r'class="([^"]+)"', figure.svg)
        for name in found.split()
    }
    styled = set(re.findall(r"\.([a-z]+)[ {,:]", STYLE.replace(".ftc text.", ".ftc .")))
    assert used <= styled | {"ftc"}, "a class without a style"
