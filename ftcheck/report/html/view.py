"""What the page shows: results as the template prints them. Functions of CaseResult values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ftcheck.report import markdown, numbers, terminal
from ftcheck.report.html import cases, figures
from ftcheck.report.html.cases import CaseView
from ftcheck.report.jsonfile import Document
from ftcheck.results import CaseResult, MetricResult, RunResult, Verdict

OPENED = 3
"""Cases that did not pass, at the top, that are open when the page is."""

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of the overview, and what its column sorts it by where that is no text; empty values come last."""

    text: str = ""
    sort: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A case in the overview, with the metric that decided it."""

    anchor: str
    verdict: Verdict
    rank: int
    name: str
    suite: str
    task: str
    metric: str
    value: Cell
    interval: str
    demand: str
    difference: Cell
    examples: Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where runs took place, and how many."""

    anchor: str
    title: str
    runs: str
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportView:
    """The page. What there is for each case is made when it is its turn, once."""

    title: str
    verdict: Verdict | None
    """The session's: the worst of its cases'."""
    unfinished: str
    """What is missing where the session did not finish."""
    created: str
    version: str
    summary: str
    verdicts: tuple[tuple[Verdict, int], ...]
    tasks: tuple[str, ...]
    count: int
    """Of the cases."""
    rows: Iterator[Row]
    compared: bool
    """Whether some row has a difference."""
    cases: Iterator[CaseView]
    environments: tuple[Environment, ...]


def report(document: Document) -> ReportView:
    """The page of a results file, worst cases first."""
    results = sorted(document.results, key=lambda r: (markdown.ORDER.index(r.verdict), r.nodeid))
    environments = _environments(results)
    counts = Counter(result.verdict for result in results)
    return ReportView(
        title=_capital(markdown.headline(results)),
        verdict=results[0].verdict if results else None,
        unfinished=_unfinished(document),
        created=_moment(document.created),
        version=document.version,
        summary=_summary(results),
        verdicts=tuple((verdict, counts[verdict]) for verdict in markdown.ORDER if counts[verdict]),
        tasks=tuple(sorted({result.task for result in results})),
        count=len(results),
        rows=(_row(result, _anchor(place)) for place, result in enumerate(results)),
        compared=any(_row(result, "").difference.text for result in results),
        cases=_cases(results, environments),
        environments=environments,
    )


def _cases(results: Sequence[CaseResult], environments: Sequence[Environment]) -> Iterator[CaseView]:
    for place, (result, charts) in enumerate(zip(results, figures.views(results), strict=True)):
        yield cases.view(
            result,
            anchor=_anchor(place),
            opened=len(results) == 1 or (place < OPENED and result.verdict != "pass"),
            figures=charts,
            environments=[(known.anchor, known.title) for known in _of(result, environments)],
        )


def _anchor(place: int) -> str:
    return f"case-{place + 1}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _unfinished(document: Document) -> str:
    if document.complete:
        return ""
    if not document.missing:
        return "The session did not finish: cases may be missing here."
    named = ", ".join(document.missing[:20])
    more = f" and {len(document.missing) - 20:,} more" if len(document.missing) > 20 else ""
    return f"The session did not finish: no result of {numbers.count(len(document.missing), 'case')}: {named}{more}"


def _summary(results: Sequence[CaseResult]) -> str:
    """`36 runs, 12 of them trained in 41 min 3 s`."""
    runs = [run for result in results for run in result.runs]
    trained = [run for run in runs if run.train.source == "computed"]
    spent = numbers.seconds(sum(run.train.seconds for run in trained))
    if trained:
        of_them = "" if len(trained) == len(runs) else f", {len(trained):,} of them"
        return f"{numbers.count(len(runs), 'run')}{of_them} trained in {spent}"
    return numbers.count(len(runs), "run")


def _moment(created: str) -> str:
    """`2026-11-21 16:10 UTC`."""
    return f"{created[:16].replace('T', ' ')} UTC" if created.endswith("+00:00") else created


def _row(result: CaseResult, anchor: str) -> Row:
    found = markdown.deciding(result)
    metric, gate = found[0] if found else (None, None)
    return Row(
        anchor=anchor,
        verdict=result.verdict,
        rank=markdown.ORDER.index(result.verdict),
        name=result.case_id,
        suite=result.nodeid.partition("::")[0],
        task=result.task,
        metric=metric.name if metric else terminal.first_line(result.error),
        value=Cell(text=numbers.value(metric), sort=repr(metric.value)) if metric else Cell(),
        interval=numbers.interval_of(metric) if metric else "",
        demand=gate.demand if gate else "",
        difference=_difference(result, metric),
        examples=Cell(text=f"{result.examples:,}", sort=str(result.examples)) if result.examples else Cell(),
    )


def _difference(result: CaseResult, metric: MetricResult | None) -> Cell:
    """Of the metric from what it was compared with first, whichever of its gates decided."""
    if metric is None:
        return Cell()
    whole = [gate for gate in result.gates if gate.metric == metric.name and not gate.part]
    found = next((gate.comparison for gate in whole if gate.comparison), None)
    if found is None:
        return Cell()
    change = numbers.Change.of(found, metric)
    return Cell(text=str(change), sort=repr(change.value))


def _environments(results: Sequence[CaseResult]) -> tuple[Environment, ...]:
    """The environments of all runs, each once, in their order."""
    counts = Counter(facts for result in results for run in result.runs if (facts := _facts(run)))
    return tuple(
        Environment(
            anchor=f"environment-{number}",
            title="Environment" if len(counts) == 1 else f"Environment {number}",
            runs=numbers.count(runs, "run"),
            facts=facts,
        )
        for number, (facts, runs) in enumerate(counts.items(), 1)
    )


def _of(result: CaseResult, environments: Sequence[Environment]) -> list[Environment]:
    """Where the runs of `result` took place."""
    facts = {_facts(run) for run in result.runs}
    return [environment for environment in environments if environment.facts in facts]


def _facts(run: RunResult) -> Facts:
    return tuple((name, str(value)) for name, value in run.environment.items())
