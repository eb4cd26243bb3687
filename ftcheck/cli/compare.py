"""`ftcheck compare`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ftcheck.cli.common import PROBLEM, CacheDir, open_store
from ftcheck.errors import UsageError


class Format(StrEnum):
    """How it is printed."""

    TEXT = "text"
    MARKDOWN = "markdown"
    JSON = "json"
    CSV = "csv"


def compare(  # noqa: PLR0917  typer's way of declaring options
    operands: Annotated[
        list[str],
        typer.Argument(
            metavar="A B [C ...]",
            help="Each a results file (--ft-json), a __baselines__ folder, a git ref, a case id with its last run "
            "in the store, or 8 or more digits of a predict key. git:REF and run:NAME where one could be both.",
        ),
    ],
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC:-MARGIN",
            help="Exit 1 where the metric is worse by more, and not by chance: "
            "accuracy:-1pt, accuracy:-0.01, bleu:-2%.",
        ),
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Compare only this metric.")] = None,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.TEXT,
    strict: Annotated[bool, typer.Option("--strict", help="An undecided --fail-on is a failure too.")] = False,
    tests: Annotated[
        bool, typer.Option("--tests", help="Also the tests that papers report (McNemar, bootstrap and others).")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the tests' random numbers.")] = 0,
    cache_dir: CacheDir = None,
) -> None:
    """Compare results without training: two case by case (A before, B now), more by who is best. Exit code 1 where a
    case vanished, can't be compared, or is worse than --fail-on allows."""
    from ftcheck import comparing, ranking
    from ftcheck import operands as named
    from ftcheck.report import comparison

    if len(operands) < 2:
        raise UsageError("compare takes two results or more, e.g. ftcheck compare main results.json")
    margins = [comparing.FailOn.parse(text) for text in fail_on or ()]
    if len(operands) > 2 and (margins or tests):
        raise UsageError("--fail-on and --tests compare two results, not more")
    store = open_store(cache_dir)
    found = named.aligned([named.read(text, store, Path.cwd()) for text in operands])
    if len(found) > 2:
        ranked = ranking.rank(found, only=metric or ())
        sys.stdout.write(comparison.of_many(found, ranked, format.value))
        failed = any("incomparable" in row.places for row in ranked)
    else:
        compared = comparing.compare(*found, fail_on=margins, only=metric or (), tests=tests, seed=seed)
        sys.stdout.write(comparison.of_two(compared, format.value))
        failed = compared.failed(strict=strict)
    for warning in store.warnings:
        print(f"ftcheck: {warning}", file=sys.stderr)
    if failed:
        raise typer.Exit(PROBLEM)
