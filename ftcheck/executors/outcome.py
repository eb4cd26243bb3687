"""What the processes of one training came to, on all of its machines, and which failure is the cause of the others."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ftcheck.errors import FtcheckError, TrainingError, shown
from ftcheck.executors import killed
from ftcheck.executors.launched import Broken, Made

LOG_TAIL = 500
"""Characters of what a process that failed printed last."""
TRACEBACK = 3000
"""Characters of its traceback, the end of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the processes of one machine came to. All mappings are by rank."""

    ranks: Sequence[int]
    """All of this machine."""
    made: Mapping[int, Made] = field(default_factory=dict)
    broken: Mapping[int, Broken] = field(default_factory=dict)
    lost: Sequence[int] = ()
    """Those that are gone without a word, the first one first."""
    codes: Mapping[int, int] = field(default_factory=dict)
    """As `Ended.codes`."""
    printed: Mapping[int, str] = field(default_factory=dict)
    """What each that failed printed last."""
    launcher: str = ""
    """What the launcher printed last."""
    address: str = ""
    """Of the machine; empty for the one alone that trains."""

    @property
    def well(self) -> bool:
        return len(self.made) == len(self.ranks)

    @property
    def gone(self) -> Sequence[int]:
        """Those without a word, also where only the launcher knows."""
        return [*self.lost, *(rank for rank in self.codes if rank not in {*self.lost, *self.broken})]


def cause(outcomes: Sequence[Outcome], processes: int) -> FtcheckError:
    """The failure that the others follow from: ftcheck's own, else a process that is gone by itself, for want of which
    others fail, else what was raised first that doesn't itself speak of another process. `processes`: on all
    machines, also those that said nothing."""
    of = {rank: outcome for outcome in outcomes for rank in outcome.ranks}
    codes = {rank: code for outcome in outcomes for rank, code in outcome.codes.items()}
    broken = {rank: found for outcome in outcomes for rank, found in outcome.broken.items()}
    first = min(
        broken, key=lambda rank: (not broken[rank].failed.kind, broken[rank].follows, broken[rank].at), default=None
    )
    gone = [rank for outcome in outcomes for rank in outcome.gone]
    # By SIGTERM a launcher ends the others.
    by_itself = [rank for rank in gone if codes.get(rank) != -signal.SIGTERM]
    if first is not None and (broken[first].failed.kind or not by_itself):
        return _raised(first, broken[first], of[first], processes)
    if not gone:
        said = next((outcome.launcher for outcome in outcomes if outcome.launcher), "")
        return TrainingError(f"torch.distributed's launcher ended without a result{_last(said)}")
    rank = (by_itself or gone)[0]
    code = codes.get(rank, 0)
    hint = " (out of memory? lower per_device_train_batch_size)" if code == -signal.SIGKILL else ""
    return TrainingError(
        f"{_named(rank, of[rank], processes)} is gone: {killed.how(code)}{hint}{_printed(rank, of[rank])}"
    )


def _raised(rank: int, broken: Broken, outcome: Outcome, processes: int) -> FtcheckError:
    failed = broken.failed
    if failed.kind:
        error = failed.error()
        assert isinstance(error, FtcheckError)
        return error
    trace = failed.traceback[-TRACEBACK:].strip()
    said = f"{_named(rank, outcome, processes)} failed: {failed.message}{_printed(rank, outcome)}"
    return TrainingError(f"{said}\n{trace}")


def _named(rank: int, outcome: Outcome, processes: int) -> str:
    where = f" on the node {outcome.address}" if outcome.address else ""
    return f"process {rank} of the {processes} (0 to {processes - 1}) that trained together{where}"


def _printed(rank: int, outcome: Outcome) -> str:
    return _last(outcome.printed.get(rank, ""))


def _last(text: str) -> str:
    """The end of a message that tells what was printed last."""
    text = text.strip()[-LOG_TAIL:]
    return f"; the last that it printed: {shown(text, LOG_TAIL)}" if text else ""
