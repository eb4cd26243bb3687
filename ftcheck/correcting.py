"""Holm's correction over all margins of a session: no verdict before every case was measured.

The session's processes share the measuring. Each takes cases that no other is at work on, leaves what it found in the
shared folder, and reads there what the others found; so all of them correct by the same gates, and every report is
final when it is made. A case's lock ends with its process: what a crashed one had begun, another does again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blake3 import blake3
from filelock import FileLock, Timeout

from ftcheck import gates
from ftcheck.results import CaseResult
from ftcheck.runs import Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What measuring a case came to in whichever process did it."""

    result: CaseResult | None = None
    """None where it could not be measured."""
    error: str = ""
    """Why not, in ftcheck's own words; empty for an exception of another kind, which can't be handed on."""
    refreshed: tuple[str, ...] = ()
    """What that process had made anew by then under `--ft-cache=refresh`."""

    def to_json(self) -> dict[str, Any]:
        result = None if self.result is None else self.result.to_json()
        return {"result": result, "error": self.error, "refreshed": list(self.refreshed)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Outcome:
        result = None if value["result"] is None else CaseResult.from_json(value["result"])
        return cls(result=result, error=value["error"], refreshed=tuple(value["refreshed"]))


def measured(nodeids: Sequence[str], measure: Callable[[str], Outcome], folder: Path) -> dict[str, Outcome]:
    """The outcome of every case, measured by this process or by another that shares `folder`."""
    folder.mkdir(exist_ok=True)
    places = {nodeid: folder / f"{blake3(nodeid.encode()).hexdigest()[:32]}.json" for nodeid in nodeids}
    left = list(places)
    while left:
        busy = [nodeid for nodeid in left if not _taken(nodeid, places[nodeid], measure, wait=False)]
        if len(busy) == len(left):  # others are at work on all that is left
            _taken(busy[0], places[busy[0]], measure, wait=True)
            busy = busy[1:]
        left = busy
    return {nodeid: Outcome.from_json(json.loads(place.read_bytes())) for nodeid, place in places.items()}


def _taken(nodeid: str, place: Path, measure: Callable[[str], Outcome], *, wait: bool) -> bool:
    """Whether the case's outcome is there; if need be it is measured, unless another process is doing that and
    `wait` is False."""
    try:
        with FileLock(place.with_suffix(".lock"), blocking=wait):
            if not place.exists():
                whole = place.with_suffix(".part")
                whole.write_text(json.dumps(measure(nodeid).to_json()), encoding="utf-8")
                os.replace(whole, place)
    except Timeout:
        return False
    return True


def corrected(outcomes: Mapping[str, Outcome]) -> dict[str, CaseResult]:
    """Node id -> the result with Holm's correction over all margins of all cases; without those that have none."""
    results = {nodeid: found.result for nodeid, found in outcomes.items() if found.result is not None}
    final = gates.corrected([result.gates for result in results.values()])
    return {
        nodeid: result if found == result.gates else replace(result, gates=found, verdict=gates.verdict(found))
        for (nodeid, result), found in zip(results.items(), final, strict=True)
    }


def settled(mine: Measured, result: CaseResult) -> Measured:
    """A case as this process has it, with the final result and what was made for it in whichever process."""
    made = {
        run.seed: frozenset(
            stage for stage, origin in (("train", run.train), ("predict", run.predict)) if origin.source == "computed"
        )
        for run in result.runs
    }
    runs = tuple(replace(run, made=run.made | made[run.run.job.seed]) for run in mine.runs)
    return replace(mine, result=result, runs=runs)
