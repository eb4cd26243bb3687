"""The `ftcheck` command. Exit codes: 0 well, 1 a problem was found, 4 a usage error (as pytest's)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ftcheck import privacy, sizes
from ftcheck.cli.advise import advise
from ftcheck.cli.baseline import app as baseline
from ftcheck.cli.calibrate import bisect, calibrate
from ftcheck.cli.card import card
from ftcheck.cli.certify import certify
from ftcheck.cli.certify import verify as verify_model
from ftcheck.cli.common import PROBLEM, USAGE, CacheDir, existing, open_store
from ftcheck.cli.compare import compare
from ftcheck.cli.history import history
from ftcheck.cli.report import report
from ftcheck.cli.sharing import pull, push
from ftcheck.cli.vendor import vendor
from ftcheck.errors import FtcheckError, UsageError, one_of, shown
from ftcheck.sizes import in_words

if TYPE_CHECKING:
    from ftcheck.keys import Change
    from ftcheck.store import CaseHistory, Entry, Store

_COLUMNS: Final = {"stage": "<11", "key": "<12", "size": ">8", "model": ">8", "made (UTC)": "<16", "used": "<9"}
"""Of `ls`, with their widths. What an entry is comes behind them, as long as it is: so a row is printed as its entry is
read, however many there are."""

app = typer.Typer(
    name="ftcheck",
    help="Fine-tune, then assert: an evaluation and regression harness for fine-tuned models.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
cache = typer.Typer(help="The run store: what was trained, evaluated and scored.", no_args_is_help=True)
app.add_typer(cache, name="cache")
app.add_typer(baseline, name="baseline")
for command in (compare, advise, calibrate, bisect, report, history, card, certify, verify_model, vendor):
    app.command()(command)
cache.command()(push)
cache.command()(pull)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit. A mistake of the user's is one sentence on stderr, never a traceback."""
    privacy.begin()
    try:
        app(args=arguments, prog_name="ftcheck")
    except SystemExit as end:
        # typer's own code for a command line that can't be followed is 2, which pytest uses for an interrupted run.
        raise SystemExit(USAGE if end.code == 2 else end.code) from None
    except FtcheckError as error:
        print(f"ftcheck: {privacy.hidden(str(error))}", file=sys.stderr)
        raise SystemExit(USAGE if isinstance(error, UsageError) else PROBLEM) from None


_AGE: Final = re.compile(r"(\d+)\s*([hdw])", re.IGNORECASE)


def _bytes(text: str) -> int:
    try:
        return sizes.in_bytes(text, least=0)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no age: write 12h, 30d or 4w")
    return timedelta(hours=int(match[1]) * {"h": 1, "d": 24, "w": 168}[match[2].lower()])


Age = Annotated[timedelta | None, typer.Option(parser=_age, metavar="AGE", help="What was not used for 12h, 30d, 4w.")]
Size = Annotated[
    int | None, typer.Option(parser=_bytes, metavar="SIZE", help="The least recently used beyond 500MB, 20GB.")
]


@app.command()
def validate(
    paths: Annotated[
        list[str] | None, typer.Argument(help="Suite files, folders or node ids (default: what pytest would collect).")
    ] = None,
) -> None:
    """Check suite files without training: all mistakes at once, with file, line and key. Exit code 1 where there
    are any."""
    from ftcheck.report import numbers
    from ftcheck.validate import gather

    found = gather(paths or [])
    for error in found.errors:
        print(error, file=sys.stderr)
    if found.exit_code == USAGE:
        raise SystemExit(USAGE)
    if found.errors:
        raise SystemExit(PROBLEM)
    if not found.cases:
        print("no cases found", file=sys.stderr)
        raise SystemExit(found.exit_code or PROBLEM)
    print(f"{numbers.count(len(found.cases), 'case')}, no mistakes")


@app.command()
def schema(
    of: Annotated[
        str, typer.Argument(help="suite: what a *.ft.yaml file says; results: what --ft-json writes; certificate.")
    ] = "suite",
) -> None:
    """Print a JSON Schema, for editors and for whoever reads results."""
    if of == "suite":
        from ftcheck import catalogue
        from ftcheck.spec.schema import json_schema

        found = json_schema(catalogue.installed())
    elif of == "results":
        from ftcheck.report import jsonfile

        found = jsonfile.schema()
    elif of == "certificate":
        from ftcheck.certificate import statement

        found = statement.schema()
    else:
        raise UsageError(f"no schema is called {of!r}; there are suite, results and certificate")
    print(json.dumps(found, indent=2))


@cache.command("ls")
def list_entries(cache_dir: CacheDir = None) -> None:
    """List what the store holds."""
    from ftcheck.store import listed

    store = open_store(cache_dir)
    known = {key.digest: str(case) for case in store.cases() for run in case.runs for key in run.keys.values()}
    count = total = 0
    for count, item in enumerate(listed(store), 1):
        entry = item.entry
        total += entry.size
        if count == 1:
            print(_row([*_COLUMNS, "what"]))
        cells = (
            item.stage,
            item.digest[:12],
            in_words(entry.size),
            in_words(entry.model_size) if entry.model_size else "",
            entry.manifest["created"][:16].replace("T", " "),
            _ago(item.idle),
            known.get(item.digest) or _described(entry),
        )
        print(_row(cells))
    print(f"{count:,} entries, {in_words(total)} in {store.root}")
    _print_warnings(store)


@cache.command()
def verify(cache_dir: CacheDir = None) -> None:
    """Check every file of every entry against its checksum. Damaged entries are set aside; then the exit code is 1."""
    from ftcheck.store import STAGES, StoreCorruptionError

    store = open_store(cache_dir)
    checked = 0
    for stage in STAGES:
        for digest in store.keys(stage):
            checked += 1
            entry = store.get(stage, digest, used=False)
            if entry is not None:
                try:
                    entry.verify()
                except StoreCorruptionError:
                    continue  # set aside, with a warning that is printed below
    print(f"{checked:,} entries checked in {store.root}, {len(store.warnings):,} damaged")
    _print_warnings(store)
    if store.warnings:
        raise typer.Exit(PROBLEM)


@cache.command()
def why(
    case: Annotated[str, typer.Argument(help="A case's id, SUITE::CASE, or the beginning of a key.")],
    other: Annotated[
        str | None, typer.Argument(help="The beginning of a second key, to compare with the first.")
    ] = None,
    cache_dir: CacheDir = None,
) -> None:
    """Say which inputs changed between the last two runs of a case, or between two keys."""
    store = open_store(cache_dir)
    if other is not None:
        from ftcheck.keys import diff

        old, new = _entry(store, case), _entry(store, other)
        _print_changes(f"{case} → {other}", diff(old.components, new.components))
        return
    found = _case(store, case)
    if len(found.runs) < 2:
        print(f"{found}: only one set of inputs was seen so far ({found.runs[-1].created if found.runs else 'none'})")
        return
    before, now = found.runs[-2:]
    _print_changes(f"{found}: {before.created} → {now.created}", before.changes_to(now))


@cache.command()
def prune(
    *,
    models: Annotated[
        bool, typer.Option("--models", help="Take out models only, and keep what verdicts need.")
    ] = False,
    older_than: Age = None,
    max_size: Size = None,
    suites: Annotated[
        list[Path] | None,
        typer.Option("--suites", metavar="DIR", help="Whose baselines name what stays (default: the current folder)."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be taken out.")] = False,
    cache_dir: CacheDir = None,
) -> None:
    """Make the store smaller. What a running process works on is left, and what a baseline names."""
    from ftcheck.accepting import named
    from ftcheck.store import Store
    from ftcheck.store import prune as prune_store

    if not models and older_than is None and max_size is None:
        raise typer.BadParameter("say what to take out: --models, --older-than AGE, --max-size SIZE")
    kept = named(existing(suites))
    store = Store(open_store(cache_dir).root, read_only=dry_run)
    done = prune_store(store, models=models, older_than=older_than, max_size=max_size, named=kept, dry_run=dry_run)
    would = "would be " if dry_run else ""
    what = f"{done.entries:,} entries and {done.models:,} models {would}taken out of {store.root}"
    print(f"{what}, {in_words(done.freed)} {would}freed")
    if done.busy:
        print(f"{done.busy:,} were left: a process works on them")
    if done.named:
        print(f"{done.named:,} were left: baselines name them")
    _print_warnings(store)


def _case(store: Store, wanted: str) -> CaseHistory:
    """The case called `wanted`. Raises UsageError where none is, or several are."""
    known = list(store.cases())
    found = [case for case in known if wanted in (case.case_id, str(case)) or str(case).endswith(f"/{wanted}")]
    if not found:
        hint = one_of(wanted, {case.case_id for case in known}) if known else "it remembers none yet"
        raise UsageError(f"the store {store.root} knows no case {shown(wanted)}; {hint}")
    if len(found) > 1:
        raise UsageError(f"several suites have a case {shown(wanted)}: name one of {', '.join(map(str, found))}")
    return found[0]


def _entry(store: Store, prefix: str) -> Entry:
    """The entry whose key begins with `prefix`. Raises UsageError where none or several do."""
    from ftcheck.store import STAGES

    found = [(stage, digest) for stage in STAGES for digest in store.keys(stage) if digest.startswith(prefix)]
    if len(found) != 1:
        many = f"{len(found):,} keys begin" if found else "no key begins"
        raise UsageError(f"{many} with {shown(prefix)} in {store.root}; `ftcheck cache ls` shows them")
    entry = store.get(*found[0], used=False)
    if entry is None:
        raise UsageError("; ".join(store.warnings) or f"{found[0][1]} is in use by another process; try again")
    return entry


def _described(entry: Entry) -> str:
    """What an entry is that no remembered case has: its task and seed, or the key that it was made from."""
    components = entry.components
    if "task" in components:
        seed = f", seed {components['seed']}" if "seed" in components else ""
        return shown(f"{components['task']['name']}{seed}", 60)
    return f"of {str(components.get('train') or components.get('predict'))[:12]}"


def _print_changes(title: str, changes: Iterable[Change]) -> None:
    lines = [f"  {change}" for change in changes]
    print(title)
    print("\n".join(lines) if lines else "  nothing that a result depends on")


def _print_warnings(store: Store) -> None:
    for warning in store.warnings:
        print(f"ftcheck: {warning}", file=sys.stderr)


def _row(cells: Sequence[str]) -> str:
    aligned = zip(cells, _COLUMNS.values(), strict=False)
    return "  ".join([*(f"{cell:{align}}" for cell, align in aligned), cells[-1]])


def _ago(idle: timedelta) -> str:
    if idle.days:
        return f"{idle.days} d ago"
    hours = idle.seconds // 3600
    return f"{hours} h ago" if hours else "just now"
