"""Where time and memory go: named phases, each without those within it.

Whoever wants to know records; whoever works names its phases, which costs next to nothing where nobody records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Protocol

OTHER = "other"
"""What no phase is named for."""


class Memory(Protocol):
    """Tells how much memory is in use."""

    def start(self) -> None: ...

    def lap(self) -> int:
        """Bytes: the most since `start`, or since it was asked last."""
        ...


_recorder: ContextVar[Recorder | None] = ContextVar("_recorder", default=None)


def _now() -> float:
    return perf_counter()


@dataclass(slots=True)
class Recorder:
    """What was spent so far."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Phase -> seconds, in the order in which phases began."""
    peak_bytes: dict[str, int] = field(default_factory=dict)
    """Phase -> the most memory in use meanwhile, where it is looked at."""
    lap: Callable[[], int] | None = None
    """Tells the most memory in use since it was asked last."""
    _inside: list[str] = field(default_factory=lambda: [OTHER])
    _since: float = field(default_factory=_now)

    def watch(self, memory: Memory) -> None:
        """Look at the memory from now on."""
        memory.start()
        self.lap = memory.lap

    def turn(self) -> None:
        """Account for what has passed since the last turn to the phase that it passed in."""
        name, now = self._inside[-1], _now()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        if self.lap is not None:
            self.peak_bytes[name] = max(self.peak_bytes.get(name, 0), self.lap())
        self._since = now

    def enter(self, name: str) -> None:
        self.turn()
        self._inside.append(name)

    def leave(self) -> None:
        self.turn()
        self._inside.pop()


@contextmanager
def recording() -> Iterator[Recorder]:
    """Record what happens in the block. A recorder outside of it sees one phase, the one that it is in."""
    recorder = Recorder()
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        recorder.turn()
        _recorder.reset(token)


@contextmanager
def phase(name: str) -> Iterator[None]:
    """What happens in the block, or in the function that this decorates, is the phase `name`."""
    recorder = _recorder.get()
    if recorder is None:
        yield
        return
    recorder.enter(name)
    try:
        yield
    finally:
        recorder.leave()
