"""Holm's correction over all margins of a session: no verdict before every case was measured.

The session's processes share the measuring. Each takes cases that no other is at work on, leaves what it found in the
shared folder, and reads there what the others found; so all of them correct by the same gates, and every report is
final when it is made. A case's lock ends with its process: what one had begun that died is an error, and no other dies
of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blake3 import blake3

from ftcheck import gates
from ftcheck.results import CaseResult
from ftcheck.runs import Measured
from ftcheck.writing import appear


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


CAUSES = "it was killed, out of memory, or a library crashed"
"""Of a process that died."""


def measured(
    nodeids: Sequence[str], measure: Callable[[str], Outcome], folder: Path, *, process: str = ""
) -> dict[str, Outcome]:
    """The outcome of every case, measured by this process, called `process`, or by another that shares `folder`."""
    folder.mkdir(exist_ok=True)
    places = {nodeid: folder / f"{blake3(nodeid.encode()).hexdigest()[:32]}.json" for nodeid in nodeids}
    left = list(places)
    while left:
        busy = [nodeid for nodeid in left if not _taken(nodeid, places[nodeid], measure, process, wait=False)]
        if len(busy) == len(left):  # others are at work on all that is left
            _taken(busy[0], places[busy[0]], measure, process, wait=True)
            busy = busy[1:]
        left = busy
    return {nodeid: Outcome.from_json(json.loads(place.read_bytes())) for nodeid, place in places.items()}


def begun_by(process: str, folder: Path) -> str | None:
    """The case that a process that died was measuring; None where it measured none."""
    begun = (json.loads(path.read_bytes()) for path in folder.glob("*.begun") if not path.with_suffix(".json").exists())
    return next((str(nodeid) for nodeid, by in begun if by == process), None)


def _taken(nodeid: str, place: Path, measure: Callable[[str], Outcome], process: str, *, wait: bool) -> bool:
    """Whether the case's outcome is there; if need be it is measured, unless another process is doing that and
    `wait` is False."""
    from filelock import FileLock, Timeout  # imports asyncio, which a collection needn't pay

    try:
        with FileLock(place.with_suffix(".lock"), blocking=wait):
            if not place.exists():
                appear(place, json.dumps(_outcome(nodeid, place.with_suffix(".begun"), measure, process).to_json()))
    except Timeout:
        return False
    return True


def _outcome(nodeid: str, begun: Path, measure: Callable[[str], Outcome], process: str) -> Outcome:
    """What measuring a case comes to. The file `begun` says who is at it, and outlasts none but a process that died."""
    if begun.exists():
        _, by = json.loads(begun.read_bytes())
        return Outcome(error=f"the process {by} died while it worked on this case: {CAUSES}")
    appear(begun, json.dumps([nodeid, process]))
    try:
        return measure(nodeid)
    except BaseException:  # Ctrl-C, say: whoever does it again finds it as it was
        begun.unlink()
        raise


def corrected(outcomes: Mapping[str, Outcome]) -> dict[str, CaseResult]:
    """Node id -> the result with Holm's correction over all margins of all cases; without those that have none."""
    results = {nodeid: found.result for nodeid, found in outcomes.items() if found.result is not None}
    final = gates.corrected([result.gates for result in results.values()])
    for (nodeid, result), found in zip(results.items(), final, strict=True):
        # What --ft-verify found to be other than stored is an error, whatever its gates say.
        if found != result.gates and result.verdict != "error":
            results[nodeid] = replace(result, gates=found, verdict=gates.verdict(found))
    return results


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
