"""`ftcheck history`: what a case's metrics were over time."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ftcheck.cli.common import CacheDir
from ftcheck.errors import UsageError, one_of, shown

if TYPE_CHECKING:
    from ftcheck.history import History, Known, Record
    from ftcheck.report.past import Marks

_GLANCE: Final = 12
"""Points of the small plot beside each case in the list."""


def history(  # noqa: PLR0917  typer's way of declaring options
    case: Annotated[
        str | None, typer.Argument(help="A case's id or SUITE::CASE, or a part of it (default: list all).")
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(metavar="NAME", help="This metric (default: gated ones).")] = None,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="The latest N results.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known of each result, as JSON.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="A row per result and metric.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--history", help="The file (default: FTCHECK_HISTORY, else the one in the cache directory)."),
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """Show a case's results over time: intervals, the baseline's steps, drift from what was accepted first."""
    from ftcheck.report import past
    from ftcheck.report.jsonfile import finite
    from ftcheck.report.markup import csv_table

    if as_json and csv:
        raise UsageError("--json and --csv: choose one")
    found = _opened(file, cache_dir)
    with_ = past.marks(sys.stdout.encoding)
    if case is None:
        if as_json or csv or metric:
            raise UsageError("name a case: `ftcheck history` without one lists those that there are")
        _list(found, with_)
        return
    chosen = _chosen(found.known(), case, found.path)
    tables = [
        (known, records, _metrics(records, metric)) for known in chosen if (records := found.records(known, limit))
    ]
    if as_json:
        print(json.dumps([finite(found) for table in tables for found in past.documents(*table)], indent=1))
    elif csv:
        sys.stdout.write(csv_table(past.COLUMNS, [row for table in tables for row in past.rows(*table)]))
    else:
        blocks = [
            "\n".join(past.lines(known, name, having, _width(), with_))
            for known, records, metrics in tables
            for name in metrics
            if (having := [record for record in records if name in record.point.values])
        ]
        print("\n\n".join(blocks))


def _opened(file: Path | None, cache_dir: Path | None) -> History:
    """The history that was named. Raises UsageError where there is none."""
    from ftcheck.history import NAME, NONE, History
    from ftcheck.store import default_cache_dir

    chosen = str(file) if file is not None else os.environ.get("FTCHECK_HISTORY", "")
    if chosen == NONE:
        raise UsageError("FTCHECK_HISTORY is none, so that no results are recorded: name a file (--history PATH)")
    path = Path(chosen).expanduser().absolute() if chosen else (cache_dir or default_cache_dir()) / NAME
    if not path.is_file():
        raise UsageError(
            f"there is no history {shown(path, 300)}: sessions of pytest write it, unless --ft-history says otherwise"
        )
    return History(path)


def _chosen(known: Sequence[Known], wanted: str, path: Path) -> list[Known]:
    """The one case that `wanted` names, on all kinds of device. A whole name comes before a part of one, and a suite of
    this folder before others. Raises UsageError where none is meant, or several."""
    here = f"{Path.cwd().joinpath(wanted.partition('::')[0])}::{wanted.partition('::')[2]}"
    tries: tuple[Callable[[Known], bool], ...] = (
        lambda case: str(case) in (wanted, here),
        lambda case: wanted == case.case or str(case).endswith(f"/{wanted}"),
        lambda case: wanted in str(case),
    )
    found = next((some for test in tries if (some := [case for case in known if test(case)])), [])
    names = sorted({str(case) for case in found})
    below = [name for name in names if Path(name.partition("::")[0]).is_relative_to(Path.cwd())]
    if len(names) > 1 and len(below) == 1:
        names = below
    if len(names) == 1:
        return [case for case in found if str(case) == names[0]]
    if names:
        raise UsageError(f"several cases are called {shown(wanted)}: name one of {', '.join(map(shown, names[:20]))}")
    hint = one_of(wanted, {case.case for case in known}) if known else "it has none yet"
    raise UsageError(f"the history {shown(path, 300)} has no case {shown(wanted)}; {hint}")


def _metrics(records: Sequence[Record], wanted: list[str] | None) -> list[str]:
    """The metrics to show: those asked for, else gated ones, else the first. Raises UsageError for an unknown one."""
    names = list(dict.fromkeys(name for record in reversed(records) for name in record.point.values))
    for name in wanted or ():
        if name not in names:
            raise UsageError(f"no result has a metric {shown(name)}; {one_of(name, names)}")
    gated = [name for name in names if any(name in record.gates for record in records)]
    return wanted or gated or names[:1]


def _list(found: History, with_: Marks) -> None:
    from ftcheck.report import numbers, past

    for known in found.known():
        records = found.records(known, _GLANCE)
        if not records:  # their sessions are gone
            continue
        when, verdict = known.time[:16].replace("T", " "), shown(records[-1].point.verdict, 20)
        line = f"  {when}  {verdict:<12}  {numbers.count(known.points, 'result')}"
        for name in _metrics(records, None)[:1]:
            values = [record.point.values[name].value for record in records if name in record.point.values]
            line += f"  {shown(name, 60)} {past.sparkline(values, with_)}"
        print(f"{shown(str(known), 300)} ({shown(known.device, 20)})")
        print(line)


def _width() -> int:
    from shutil import get_terminal_size

    return get_terminal_size((80, 24)).columns
