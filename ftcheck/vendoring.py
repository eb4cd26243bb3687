"""A folder with everything that suites need on a machine without a network, and a session that runs from one.

`tree/` holds the suites and the local files that they name, placed to each other as they were; `hub/` what comes from
the Hugging Face Hub, laid out as its cache; `wheels/` the libraries, where wanted; `vendor.lock.json` the hash
of every file.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ftcheck import baselines, inputs, plainfiles
from ftcheck.errors import DataError, FtcheckError, UsageError, shown
from ftcheck.keys import hub
from ftcheck.keys.checkpoints import LEFTOVERS, OTHER_FRAMEWORKS
from ftcheck.keys.files import FileHashes, file_digest

if TYPE_CHECKING:
    from ftcheck.session import FtSession
    from ftcheck.spec import Case

LOCK: Final = "vendor.lock.json"
FORMAT: Final = 1

KEYS: Final = """
import sys, json
from ftcheck import vendoring
from ftcheck.validate import with_cases
json.dump(with_cases(sys.argv[2:], ["--ft-vendor", sys.argv[1]], vendoring.keys_of), sys.stdout)
"""
"""What a process of its own prints: the keys of the vendored suites' cases."""


@dataclass(frozen=True, slots=True)
class Vendored:
    """What was written."""

    cases: int
    files: int
    size: int
    notes: tuple[str, ...]


def vendor(session: FtSession, cases: Sequence[Case], suites: Sequence[Path], out: Path, *, wheels: bool) -> Vendored:
    """Write to `out` what `cases`, collected from `suites` (files and folders), need.

    Raises UsageError where `out` isn't a new or empty folder, FtcheckError for what can't be had or does not have the
    same keys there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is there already: give a new folder")
    wanted = sorted({path for source in _sources(session, cases, suites) for path in inputs.files(source)})
    if any(out.is_relative_to(suite) for suite in suites if suite.is_dir()):
        raise UsageError(f"{out} is among the suites: give a folder outside of them")
    # Of real paths: what a link leads to is copied, and `..` of a suite is followed as the system does.
    root = Path(os.path.commonpath([session.config.rootpath, *(path.parent for path in wanted)]))
    for path in wanted:
        _copy(path, out / "tree" / path.relative_to(root))
    for case in cases:
        _fetch(session, case, out / "hub")
    if wheels:
        _wheels(out / "wheels")
    here = [str(out / "tree" / suite.relative_to(root)) for suite in suites]
    files: dict[str, dict[str, Any]] = {
        path.relative_to(out).as_posix(): {"size": path.stat().st_size, "blake3": file_digest(path)}
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }
    notes = tuple(_notes(cases))
    lock = {
        "format": FORMAT,
        "suites": [Path(path).relative_to(out).as_posix() for path in here],
        "commits": session.pipeline.identifier.commits,
        "files": files,
        "notes": notes,
    }
    (out / LOCK).write_text(json.dumps(lock, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _check(keys_of(session, cases), out, here)
    return Vendored(len(cases), len(files), sum(file["size"] for file in files.values()), notes)


def keys_of(session: FtSession, cases: Sequence[Case]) -> dict[str, list[str]]:
    """Suite's name and case's id -> the keys of the runs of all cases called so, sorted."""
    found: dict[str, list[str]] = {}
    for case in cases:
        digests = [run.predict.digest for run in session.pipeline.runs(case)]
        found.setdefault(f"{case.suite.name}::{case.id}", []).extend(digests)
    return {name: sorted(digests) for name, digests in found.items()}


def use(folder: Path, memo: Path) -> None:
    """Let this process take what comes from the Hub out of a vendored folder, and go to no network.

    Every file of `hub/` is compared with the lock; hashes are remembered in `memo`. Raises UsageError for a folder that
    isn't one, DataError for a file that isn't what was vendored.
    """
    try:
        lock = plainfiles.json_of(plainfiles.read(folder / LOCK, links=False), finite=True)
        files = {str(name): (int(file["size"]), str(file["blake3"])) for name, file in lock["files"].items()}
        if lock["format"] != FORMAT:
            raise ValueError(f"format {lock['format']}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{shown(folder, 300)} is no folder that `ftcheck vendor` wrote ({type(error).__name__}: "
            f"{shown(error, 200)})"
        ) from None
    hashes = FileHashes(memo)
    for name, (size, digest) in files.items():
        path = folder / name
        if not name.startswith("hub/") or ".." in path.parts:
            continue
        try:
            found = path.lstat()
            whole = stat.S_ISREG(found.st_mode) and found.st_size == size and hashes.digest(path) == digest
        except OSError:
            whole = False
        if not whole:
            raise DataError(f"{shown(path, 300)} is missing or isn't what was vendored: copy the folder again")
    os.environ |= {"HF_HUB_CACHE": str(folder / "hub"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    constants: Any = sys.modules.get("huggingface_hub.constants")
    if constants is not None:  # it reads its environment once, when it is imported
        constants.HF_HUB_CACHE, constants.HF_HUB_OFFLINE = str(folder / "hub"), True


def _sources(session: FtSession, cases: Iterable[Case], suites: Iterable[Path]) -> Iterator[Path]:
    """Files and folders of this machine that the cases need."""
    if session.config.inipath is not None:
        yield session.config.inipath
    for suite in suites:
        yield from (suite,) if suite.is_dir() else _beside(suite)
        for above in suite.parents:
            yield from (above / name for name in ("conftest.py", "__init__.py") if (above / name).is_file())
            if above == session.config.rootpath:
                break
    for case in cases:
        yield from inputs.places(case)


def _beside(suite: Path) -> Iterator[Path]:
    """A suite file with its baselines and the modules that lie beside it."""
    yield suite
    yield from suite.parent.glob("*.py")
    folder = baselines.place(suite, "any").parent
    if folder.is_dir():
        yield folder


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise DataError(f"{shown(source, 300)} can't be copied to {shown(target, 300)}: {error.strerror}") from None


def _fetch(session: FtSession, case: Case, cache: Path) -> None:
    """What a case takes from the Hub, at the commits that its keys name."""
    from ftcheck.finetune import techniques

    offline = session.settings.offline
    found = session.pipeline.identifier.revisions(case)
    models = [(case.checkpoint.path, case.checkpoint.revision, found["checkpoint_revision"])]
    if case.checkpoint.tokenizer is not None:
        models.append((case.checkpoint.tokenizer, None, found["tokenizer_revision"]))
    for technique in techniques.of(case):
        models += [
            (other.path, other.revision, found["revisions"].get(other.path)) for other in technique.checkpoints(case)
        ]
    for path, revision, commit in models:
        if commit is not None:
            folder = _snapshot(path, commit, offline=offline)
            _keep(folder, _repository(cache, path, "model"), revision, commit)
    code = case.checkpoint.remote_code
    if code is not None and (code.repository is not None or not case.checkpoint.local):
        path = code.repository or case.checkpoint.path
        folder = _snapshot(path, code.revision, offline=offline, only="*.py")
        _keep(folder, _repository(cache, path, "model"), code.revision, code.revision)
    if found["data_revision"] is not None:
        from ftcheck.finetune.data.opening import open_source

        with ExitStack() as stack:  # fetches the files of the splits, and no others
            open_source(
                replace(case.data, streaming=False), revision=found["data_revision"], offline=offline, stack=stack
            )
        folder = _repository(hub.cache_dir(), case.data.path, "dataset") / "snapshots" / found["data_revision"]
        _keep(folder, _repository(cache, case.data.path, "dataset"), case.data.revision, folder.name)


def _snapshot(repo: str, commit: str, *, offline: bool, only: str | None = None) -> Path:
    from huggingface_hub import snapshot_download

    from ftcheck.finetune.data.fetching import translated

    with translated(repo, commit, offline):
        return Path(
            snapshot_download(
                repo,
                revision=commit,
                allow_patterns=only,
                ignore_patterns=[*OTHER_FRAMEWORKS, *LEFTOVERS],
                local_files_only=offline,
            )
        )


def _keep(folder: Path, repository: Path, revision: str | None, commit: str) -> None:
    """Copy a snapshot to a cache in the Hub's layout: plain files, so that any way of copying the folder will do."""
    for path in folder.rglob("*"):
        if path.is_file():
            _copy(path, repository / "snapshots" / commit / path.relative_to(folder))
    if revision != commit:
        ref = repository / "refs" / (revision or "main")
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit, encoding="ascii")


def _repository(cache: Path, repo: str, kind: hub.RepoType) -> Path:
    return cache / "--".join([f"{kind}s", *repo.split("/")])


def _wheels(folder: Path) -> None:
    """The libraries of this environment, in the versions that are installed. Raises FtcheckError where pip can't."""
    pip = ["-m", "pip", "--disable-pip-version-check"]
    listed = _python(*pip, "list", "--format=freeze", "--exclude-editable")
    if listed.returncode:
        raise FtcheckError(f"pip could not list what is installed: {_last_line(listed.stderr)}")
    folder.mkdir(parents=True)
    wanted = folder / "requirements.txt"
    wanted.write_text(listed.stdout, encoding="utf-8")
    # Not `download`: some libraries are published as source only, and where there is no network nothing can be built.
    done = _python(*pip, "wheel", "-q", "-w", str(folder), "--no-deps", "-r", str(wanted))
    if done.returncode:
        raise FtcheckError(f"pip could not get the wheels: {_last_line(done.stderr)}")


def _notes(cases: Iterable[Case]) -> Iterator[str]:
    """What may be missing, since nobody can tell."""
    for case in cases:
        if case.data.kind == "callable":
            yield f"{case.id}: its rows are made by {case.data.path}: what that reads was not copied"
        for metric in case.metrics:
            if metric.startswith("evaluate:"):
                yield f"{case.id}: the module of {metric} was not copied, unless it lies among the suites"


def _check(expected: dict[str, list[str]], out: Path, suites: Sequence[str]) -> None:
    """Raise FtcheckError where the vendored suites' cases don't have the keys that they have here."""
    done = _python("-c", KEYS, str(out), *suites, cwd=out / "tree")
    if done.returncode:
        raise FtcheckError(f"the vendored suites can't be collected: {_last_line(done.stderr or done.stdout)}")
    found = json.loads(done.stdout)
    for case, keys in expected.items():
        if found.get(case) != keys:
            raise FtcheckError(
                f"{case} has other keys in {out} than here: name its local files relative to its suite, and leave out "
                "what differs between folders"
            )


def _python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  this Python, and what it is given above
        [sys.executable, "-B", *arguments],  # no bytecode beside what was vendored
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def _last_line(text: str) -> str:
    return shown((text.strip().splitlines() or ["no reason given"])[-1], 1000)
