"""What each case's keys were, the last few times: so that a changed key can be explained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Final

from blake3 import blake3

from ftcheck import plainfiles
from ftcheck.errors import IdentityError
from ftcheck.keys.canonical import Change, Key, canonical, diff, digest_of
from ftcheck.results import Json

KEPT: Final = 10
MOST: Final = 10_000
"""Cases that are remembered at most; those that were run longest ago are forgotten."""
NEW_SECONDS: Final = 86_400.0
"""For so long a case is remembered whether the store has anything of it or not: it may be training."""


@dataclass(frozen=True, slots=True)
class CaseRun:
    """One way in which a case was run: its keys by name (`train`, `predict`)."""

    created: str
    keys: Mapping[str, Key]

    def changes_to(self, later: CaseRun) -> tuple[Change, ...]:
        """What changed from this run's keys to a later one's, each change once, though several keys have it."""
        found: dict[Change, None] = {}
        for name in (name for name in later.keys if name in self.keys):
            for change in diff(_own(self.keys[name]), _own(later.keys[name])):
                found[change] = None
        return tuple(found)


@dataclass(frozen=True, slots=True)
class CaseHistory:
    """A case's distinct runs, oldest first."""

    suite: str
    case_id: str
    runs: tuple[CaseRun, ...]

    def __str__(self) -> str:
        return f"{self.suite}::{self.case_id}"

    def with_run(self, run: CaseRun) -> CaseHistory:
        """This history with `run` as the latest; an older run with the same keys is forgotten."""
        digests = _digests(run.keys)
        others = [known for known in self.runs if _digests(known.keys) != digests]
        return CaseHistory(self.suite, self.case_id, (*others, run)[-KEPT:])

    def to_json(self) -> dict[str, Json]:
        return {
            "format": 1,
            "suite": self.suite,
            "case": self.case_id,
            "runs": [
                {"created": run.created, "keys": {name: dict(key.components) for name, key in run.keys.items()}}
                for run in self.runs
            ],
        }


def file_name(suite: str, case_id: str) -> str:
    """The name of a case's file: a hash, since a suite's path is no file name."""
    return f"{blake3(canonical([suite, case_id])).hexdigest()[:32]}.json"


def read(path: Path) -> CaseHistory | None:
    """A case's history; None for a file that is none: it only explains, so a damaged one is begun anew."""
    try:
        content = plainfiles.read(path, links=False)
    except OSError:
        return None
    return parse(content)


def ends_with(path: Path, keys: Mapping[str, Key]) -> bool:
    """Whether these are the keys of the case's latest run already."""
    try:
        latest = plainfiles.json_of(plainfiles.read(path, links=False))["runs"][-1]["keys"]
        return {name: digest_of(components) for name, components in latest.items()} == _digests(keys)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, IdentityError):
        return False


def parse(content: bytes) -> CaseHistory | None:
    """The same of a file's content."""
    try:
        found = plainfiles.json_of(content)
        runs = tuple(
            CaseRun(str(run["created"]), {name: Key.of(components) for name, components in run["keys"].items()})
            for run in found["runs"]
        )
        return CaseHistory(str(found["suite"]), str(found["case"]), runs)
    except (ValueError, KeyError, TypeError, AttributeError, IdentityError):
        return None


def forget_oldest(folder: Path) -> None:
    """Delete the files of all cases but the MOST that were run last."""
    found = list(folder.glob("*.json"))
    if len(found) > MOST:
        with suppress(OSError):  # another process forgets too
            for path in sorted(found, key=lambda path: path.lstat().st_mtime)[:-MOST]:
                path.unlink()


def forget_without(folder: Path, digests: Collection[str], *, dry_run: bool = False) -> int:
    """Delete the files of cases none of whose keys is among `digests`, and what is no such file. Returns the bytes
    freed, or with `dry_run` those that would be."""
    freed = 0
    for path in folder.glob("*.json"):
        with suppress(OSError):  # another process forgets too, or it is no file
            found = path.lstat()
            known = read(path)
            needed = known is not None and any(key.digest in digests for run in known.runs for key in run.keys.values())
            if not needed and time() - found.st_mtime > NEW_SECONDS:
                freed += found.st_size
                if not dry_run:
                    path.unlink()
    return freed


def _own(key: Key) -> dict[str, Json]:
    """A key's components without those that are the digest of another key: that one is compared by itself."""
    return {name: value for name, value in key.components.items() if name not in ("train", "predict")}


def _digests(keys: Mapping[str, Key]) -> dict[str, str]:
    return {name: key.digest for name, key in keys.items()}
