"""What a text on the command line names: a results file, baselines on the disk or at a git ref, a run of the store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ftcheck import baselines, plainfiles, restoring
from ftcheck.errors import FtcheckError, StoreError, UsageError, shown
from ftcheck.git import Commit

if TYPE_CHECKING:
    from ftcheck.store import Store

GIT, RUN = "git:", "run:"
_KEY = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOfStore:
    """Runs of one recipe in the store."""

    suite: Path | None
    """None where the store doesn't know which case they are of."""
    name: str
    """The case's id, else the first digits of the key."""
    runs: Sequence[restoring.StoredRun]

    @property
    def device(self) -> str:
        return str(self.runs[0].predict.components["device_type"])

    @property
    def described(self) -> str:
        return f"{runs_text(len(self.runs))} of the store"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a text names, before anything of it is read."""

    text: str
    kind: Literal["commit", "folder", "baseline", "results", "run"]
    ref: str = ""
    path: Path = Path()
    run: RunOfStore | None = None


def find(text: str, store: Store, here: Path, repository: Path | None = None) -> Named:
    """What `text` names: a path from `here`, a commit of the repository around `repository` (`here`, if None), or a
    run. Raises UsageError where it names nothing, or two things."""
    repository = here if repository is None else repository
    if text.startswith(GIT):
        ref = text.removeprefix(GIT)
        try:
            Commit(ref=ref, folder=repository).check()
        except FtcheckError as error:
            raise UsageError(str(error)) from None
        return Named(text=text, kind="commit", ref=ref)
    if text.startswith(RUN):
        found = _run(text.removeprefix(RUN), store)
        if found is None:
            raise UsageError(f"the store {store.root} has no case or predict key {shown(text.removeprefix(RUN))}")
        return Named(text=text, kind="run", run=found)
    path = here / text
    if path.is_dir():
        return Named(text=text, kind="folder", path=path)
    if path.is_file():
        return Named(text=text, kind="baseline" if _holds_baseline(text, path) else "results", path=path)
    run, commit = _run(text, store), _is_commit(text, repository)
    if run is not None and commit:
        raise UsageError(f"{shown(text)} is a git ref and a run of the store: write {GIT}{text} or {RUN}{text}")
    if run is not None:
        return Named(text=text, kind="run", run=run)
    if commit:
        return Named(text=text, kind="commit", ref=text)
    raise UsageError(
        f"{shown(text)} is none of: a results file (--ft-json), a {baselines.FOLDER} folder, a git ref, a case id or "
        f"the first 8 digits of a predict key in {store.root}"
    )


def runs_text(count: int) -> str:
    return f"{count} runs" if count > 1 else "1 run"


def _holds_baseline(text: str, path: Path) -> bool:
    """Whether a JSON file is one case's baseline."""
    try:
        found = plainfiles.json_of(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown(text)} can't be read as JSON: {shown(error)}") from None
    return isinstance(found, dict) and "entries" in found


def in_folder(found: Named) -> list[Path]:
    """The baseline files of a folder, absolute. Raises UsageError where there are none."""
    own = [found.path] if found.path.name == baselines.FOLDER else found.path.rglob(baselines.FOLDER)
    files = sorted(file.absolute() for folder in own for file in folder.glob("*/*.json"))
    if not files:
        raise UsageError(f"there are no baselines in {shown(found.text)}: a {baselines.FOLDER} folder was expected")
    return files


def _is_commit(ref: str, here: Path) -> bool:
    try:
        Commit(ref=ref, folder=here).check()
    except FtcheckError:
        return False
    return True


def _run(wanted: str, store: Store) -> RunOfStore | None:
    """A run by its predict key's first digits, or a case's last one with all of its seeds; None where there is none.
    Raises UsageError where several begin so, or several suites have the case."""
    if _KEY.fullmatch(wanted):
        digests = [digest for digest in store.keys("predictions") if digest.startswith(wanted)]
        if len(digests) > 1:
            raise UsageError(f"{len(digests)} predict keys begin with {wanted} in {store.root}: give more digits")
        if digests:
            case = next((c for c in store.cases() for r in c.runs if r.keys["predict"].digest == digests[0]), None)
            return RunOfStore(
                suite=Path(case.suite) if case else None,
                name=case.case_id if case else digests[0][:12],
                runs=[restoring.run(store, digests[0])],
            )
    cases = [case for case in store.cases() if wanted in (case.case_id, str(case)) or str(case).endswith(f"/{wanted}")]
    if len(cases) > 1:
        raise UsageError(f"several suites have a case {shown(wanted)}: name one of {', '.join(map(str, cases))}")
    if not cases:
        return None
    case = cases[0]
    try:
        runs = restoring.siblings(store, restoring.run(store, case.runs[-1].keys["predict"].digest))
    except StoreError as error:
        raise UsageError(f"the last run of {case} can't be compared: {error}") from None
    return RunOfStore(suite=Path(case.suite), name=case.case_id, runs=runs)
