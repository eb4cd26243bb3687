"""Processes that a data loader starts (`training.dataloader_num_workers`): what is said where one fails or dies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ftcheck import importpath
from ftcheck.errors import FtcheckError, TrainingError, chain, shown
from ftcheck.finetune.memory import out_of_memory

_DIED = re.compile(
    r"DataLoader worker \(pid\(?s?\)? [\d, ]+\) "
    r"(?:is killed by signal: (?P<signal>[\w ]+)|exited unexpectedly(?: with exit code (?P<code>\d+))?)"
)
_FAILED = re.compile(
    r"Caught (?P<kind>\w+) in DataLoader worker process \d+\.\nOriginal Traceback"
    r"(?P<way>.*)^(?:[\w.]+\.)?(?P=kind)(?:: (?P<said>.*))?\Z",
    re.MULTILINE | re.DOTALL,
)
_FRAME = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+), in', re.MULTILINE)
_WHY = {"Killed": ", perhaps for memory", "Bus error": ", perhaps since /dev/shm is too small"}


def died(error: BaseException) -> bool:
    """Whether torch says that a worker is gone. It does so from a signal's handler, wherever the main thread is."""
    return isinstance(error, RuntimeError) and _DIED.match(str(error)) is not None


@contextmanager
def explained() -> Iterator[None]:
    """A worker that died, and an exception in one that comes out of the user's code or is ftcheck's own, as one error;
    memory that ran out in one is left to who explains that."""
    try:
        yield
    except Exception as error:
        if died(error):
            raise TrainingError(_death(error)) from error
        found = _FAILED.match(str(error))
        if found is None or out_of_memory(error):
            raise
        said = (found["said"] or "").strip()
        if isinstance(error, FtcheckError):
            raise type(error)(said) from error
        own = [frame for frame in _FRAME.finditer(found["way"]) if importpath.is_users(frame["file"])]
        if not own:
            raise
        place = f"{shown(own[-1]['file'], 300)}:{own[-1]['line']}"
        raise TrainingError(
            f"a worker of the data loader fails at {place}: {found['kind']}: {shown(said, 400)}"
        ) from error


def _death(error: BaseException) -> str:
    how, why = "exited", ""
    for link in chain(error):  # what torch knew first is the cause of what it says last
        found = _DIED.match(str(link))
        if found is not None and found["signal"]:
            how, why = f"was killed by a signal ({found['signal']})", _WHY.get(found["signal"], "")
        elif found is not None and found["code"]:
            how = f"exited with status {found['code']}"
    return f"a worker of the data loader {how}{why}; with training.dataloader_num_workers: 0 its error is seen"
