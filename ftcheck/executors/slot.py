"""The process behind one slot of the local executor: takes one piece of work after the other until its parent is gone.

Started in an environment that pins it to its device and its share of
the cores before torch is imported. What crosses the pipe is pickled: it is private to the two processes, and nothing of
it is kept.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from ftcheck import errors
from ftcheck.errors import FtcheckError

if TYPE_CHECKING:
    from ftcheck.executors import SearchWork
    from ftcheck.executors.deadline import Timeout
    from ftcheck.finetune import Job, Progress
    from ftcheck.keys import Key
    from ftcheck.store import Stage

PROGRESS_SECONDS = 0.2
"""Between two words on where a stage stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first message to a slot: where it finds what the parent finds."""

    root: Path
    """Of the run store."""
    path: tuple[str, ...]
    """`sys.path`, for what suites name by import path."""
    folder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to bring into the store: `Work`, but for what can't leave its process."""

    job: Job
    train: Key
    predict: Key
    redo: bool
    search: SearchWork | None
    timeout: Timeout | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """From a slot: may it be published, or did an input change? Answered by None, or by what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """From a slot: another process has what it needs."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """From a slot: both stages are in the store."""

    made: frozenset[str]
    warnings: tuple[str, ...]
    """Of its store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """From a slot: an entry of the store was made."""

    stage: Stage
    digest: str


class SlotError(Exception):
    """An error of a slot that isn't ftcheck's own; its cause has the slot's traceback."""


class SlotTraceback(Exception):  # noqa: N818  no error, but where one came from
    """The traceback of an error in a slot, as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """From either side: an error, as text, since not every one survives pickling."""

    kind: str
    """The name of the class in `ftcheck.errors` that it is of; empty for an error that isn't ftcheck's own."""
    message: str
    traceback: str

    @classmethod
    def of(cls, error: Exception) -> Failed:
        kind = next((base.__name__ for base in type(error).__mro__ if base.__module__ == errors.__name__), "")
        return cls(
            kind=kind,
            message=str(error) if kind else f"{type(error).__name__}: {error}",
            traceback="".join(traceback.format_exception(error)),
        )

    def error(self) -> FtcheckError | SlotError:
        """The error, to be raised on the other side."""
        if not self.kind:
            foreign = SlotError(self.message)
            foreign.__cause__ = SlotTraceback(f"\n{self.traceback}")
            return foreign
        kind: type[FtcheckError] = getattr(errors, self.kind)
        error = kind.__new__(kind)
        Exception.__init__(error, self.message)
        error.add_note(self.traceback)
        return error


def main(descriptor: int) -> None:
    """Work until the parent closes the pipe, which is open as `descriptor`, or dies."""
    pipe = Connection(descriptor)
    inbox: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, inbox), daemon=True).start()
    hello: Hello = inbox.get()
    sys.path[:] = hello.path
    os.chdir(hello.folder)
    while True:
        order: Order = inbox.get()
        pipe.send(_follow(order, hello.root, pipe, inbox))


def _receive(pipe: Connection, inbox: SimpleQueue[Any]) -> None:
    """What the parent says, in order. Without a parent nobody wants the result: half-made work is never published."""
    try:
        while True:
            inbox.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(1)


def _follow(order: Order, root: Path, pipe: Connection, inbox: SimpleQueue[Any]) -> Done | Failed:
    from ftcheck.executors import Work, inline
    from ftcheck.store import Store

    said = 0.0

    def on_progress(progress: Progress) -> None:
        nonlocal said
        if monotonic() - said >= PROGRESS_SECONDS:
            said = monotonic()
            pipe.send(progress)

    def refuse_changed() -> None:
        pipe.send(Asking())
        answer: Failed | None = inbox.get()
        if answer is not None:
            raise answer.error()

    class TellingStore(Store):
        def published(self, stage: Stage, digest: str) -> None:
            pipe.send(Published(stage=stage, digest=digest))

    store = TellingStore(root)
    work = Work(
        job=order.job,
        train=order.train,
        predict=order.predict,
        redo=order.redo,
        search=order.search,
        timeout=order.timeout,
        refuse_changed=refuse_changed,
    )
    try:
        made = inline.InlineExecutor().produce(
            work, store, on_progress, lambda message: pipe.send(Waiting(message=message))
        )
    except Exception as error:  # noqa: BLE001  whatever it is, the parent raises it
        return Failed.of(error)
    return Done(made=made, warnings=tuple(store.warnings))
