"""`ftcheck report`: a results file as another report."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[Path, typer.Argument(help="What --ft-json wrote.", metavar="RESULTS.json")],
    markdown: Annotated[bool, typer.Option("--markdown", help="For a pull request or a job's summary.")] = False,
    html: Annotated[bool, typer.Option("--html", help="A page, one self-contained file.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="A row per case and metric.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A file instead of the terminal.")] = None,
) -> None:
    """Show a results file: as the terminal's table, as Markdown, as a page, or as CSV."""
    from ftcheck.errors import UsageError
    from ftcheck.report import html as site
    from ftcheck.report import jsonfile, terminal
    from ftcheck.report import markdown as pages
    from ftcheck.report.files import write_whole
    from ftcheck.report.markup import csv_table
    from ftcheck.report.rows import COLUMNS, rows

    if markdown + html + csv > 1:
        raise UsageError("--markdown, --html and --csv: choose one")
    found = jsonfile.load(results)
    pieces: Iterable[str]
    if markdown:
        pieces = [pages.page(found.results, complete=found.complete, missing=found.missing)]
    elif html:
        pieces = site.pieces(found)
    elif csv:
        pieces = [csv_table(COLUMNS, [list(row.values()) for row in rows(found.results)])]
    else:
        lines = terminal.table(found.results, width=_width(), details=False)
        if not found.complete:
            lines += terminal.unfinished(found.missing, _width())
        pieces = (f"{line.text}\n" for line in lines)
    if output is None:
        sys.stdout.writelines(pieces)
        return
    write_whole(output, pieces, "--output")


def _width() -> int:
    from shutil import get_terminal_size

    return get_terminal_size((80, 24)).columns
