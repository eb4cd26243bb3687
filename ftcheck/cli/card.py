"""`ftcheck card`: results into a model's README.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftcheck.errors import UsageError, one_of, shown

if TYPE_CHECKING:
    from ftcheck.results import CaseResult


def card(
    results: Annotated[Path, typer.Argument(help="What --ft-json wrote.", metavar="RESULTS.json")],
    model: Annotated[Path, typer.Argument(help="The model's folder, or its card.", metavar="MODEL|README.md")],
    case: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="A case that judged the model (default: the only one).")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name (default: its folder's).")] = None,
) -> None:
    """Put measured results into a model's card: model-index metadata, and a section with intervals and verdict. A
    second run replaces both and leaves the rest as it is."""
    from ftcheck.report import card as cards
    from ftcheck.report import jsonfile
    from ftcheck.report.files import write_whole

    found = jsonfile.load(results)
    chosen = _chosen(found.results, case)
    path = model / "README.md" if model.is_dir() or model.suffix.lower() != ".md" else model
    if not path.parent.is_dir():
        raise UsageError(f"there is no model {shown(path.parent, 300)}")
    try:
        before = path.read_bytes().decode("utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{shown(path, 300)} can't be read: {shown(error)}") from None
    after = cards.update(
        before, name or path.absolute().parent.name, chosen, version=found.version, measured=found.created
    )
    if after != before:
        write_whole(path, [after], "card")
    print(f"{path}: {', '.join(f'{result.case_id} {result.verdict}' for result in chosen)}")


def _chosen(results: Sequence[CaseResult], wanted: list[str] | None) -> list[CaseResult]:
    """The results that were asked for, or the only one. Raises UsageError for what isn't there or can't be shown."""
    names = [result.case_id for result in results]
    if not wanted and len(results) != 1:
        raise UsageError(f"which of its cases judged this model? Give --case: {', '.join(map(shown, names)) or 'none'}")
    for name in wanted or ():
        if name not in names:
            raise UsageError(f"the results have no case {shown(name)}; {one_of(name, names)}")
    chosen = [result for result in results if not wanted or result.case_id in wanted]
    for result in chosen:
        if result.data is None or not result.metrics or result.verdict in ("smoke", "skipped"):
            raise UsageError(f"{shown(result.case_id)} ({result.verdict}) was not judged, or by an older ftcheck")
    return chosen
