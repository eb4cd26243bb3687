"""What each case's keys were, the last few times: so that a changed key can be explained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blake3 import blake3

from ftcheck.errors import IdentityError
from ftcheck.keys.canonical import Change, Key, canonical, diff
from ftcheck.results import Json

KEPT: Final = 10


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
        digests = _digests(run)
        others = [known for known in self.runs if _digests(known) != digests]
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
        found = json.loads(path.read_bytes())
        runs = tuple(
            CaseRun(str(run["created"]), {name: Key.of(components) for name, components in run["keys"].items()})
            for run in found["runs"]
        )
        return CaseHistory(str(found["suite"]), str(found["case"]), runs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, IdentityError):
        return None


def _own(key: Key) -> dict[str, Json]:
    """A key's components without those that are the digest of another key: that one is compared by itself."""
    return {name: value for name, value in key.components.items() if name not in ("train", "predict")}


def _digests(run: CaseRun) -> dict[str, str]:
    return {name: key.digest for name, key in run.keys.items()}
