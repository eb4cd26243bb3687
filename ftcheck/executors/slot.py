"""The process behind one slot of the local executor: takes one piece of work after the other until its parent is gone.

Started in an environment that pins it to its device and its share of the cores before torch is imported. What crosses
the pipe is pickled: it is private to the two processes, and nothing of it is kept.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from ftcheck import errors, privacy
from ftcheck.containing import contained
from ftcheck.errors import FtcheckError

if TYPE_CHECKING:
    from ftcheck.executors import SearchWork, Work
    from ftcheck.executors.deadline import Timeout
    from ftcheck.executors.launching import Elsewhere
    from ftcheck.finetune import Job, OnProgress, Progress
    from ftcheck.keys import Key
    from ftcheck.store import Stage, Store

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

    @classmethod
    def of(cls, work: Work, device: str) -> Order:
        """The work, to be done on what the other process calls `device`."""
        search = work.search
        return cls(
            job=replace(work.job, device=device),
            train=work.train,
            predict=work.predict,
            redo=work.redo,
            search=search and replace(search, job=replace(search.job, device=device)),
            timeout=work.timeout,
        )


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
    privacy.begin()
    pipe = Connection(descriptor)
    hello: Hello = pipe.recv()
    sys.path[:] = hello.path
    os.chdir(hello.folder)
    inbox: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, inbox), daemon=True).start()
    while True:
        pipe.send(_follow(hello.root, pipe, inbox))


def _receive(pipe: Connection, inbox: SimpleQueue[bytes]) -> None:
    """What the parent says, in order. Without a parent nobody wants the result: half-made work is never published.

    Bytes: unpickling an order imports what its suite names, which may fail, and takes the main thread.
    """
    try:
        while True:
            inbox.put(pipe.recv_bytes())
    except (EOFError, OSError):
        os._exit(1)


def telling_progress(say: Callable[[Any], None]) -> OnProgress:
    """Tells where a stage stands, now and then."""
    said = 0.0

    def on_progress(progress: Progress) -> None:
        nonlocal said
        if monotonic() - said >= PROGRESS_SECONDS:
            said = monotonic()
            say(progress)

    return on_progress


def telling_store(root: Path, pipe: Connection) -> Store:
    """The run store at `root`; what is published there is told to the parent."""
    from ftcheck.store import Store

    class TellingStore(Store):
        def published(self, stage: Stage, digest: str) -> None:
            pipe.send(Published(stage=stage, digest=digest))

    return TellingStore(root)


def _follow(root: Path, pipe: Connection, inbox: SimpleQueue[bytes]) -> Done | Failed:
    """Follow the next order."""

    def refuse_changed() -> None:
        pipe.send(Asking())
        answer: Failed | None = pickle.loads(inbox.get())  # noqa: S301  of this process's parent
        if answer is not None:
            raise answer.error()

    received = inbox.get()
    try:
        with contained(interrupts=True):
            order: Order = pickle.loads(received)  # noqa: S301  of this process's parent
    except Exception as error:  # noqa: BLE001  whatever a module of the user's raises, the parent raises it
        return Failed.of(error)
    return bring(order, telling_store(root, pipe), pipe.send, refuse_changed)


def bring(
    order: Order,
    store: Store,
    say: Callable[[Any], None],
    refuse_changed: Callable[[], None],
    *,
    only_search: bool = False,
    elsewhere: Elsewhere | None = None,
) -> Done | Failed:
    """Bring what is ordered into `store` (or only what must be found before), in this process. `say` is told where it
    stands, now and then. `elsewhere`: as in `Work`."""
    from ftcheck.executors import Work, inline, searching

    on_progress = telling_progress(say)
    work = Work(
        job=order.job,
        train=order.train,
        predict=order.predict,
        redo=order.redo,
        search=order.search,
        timeout=order.timeout,
        refuse_changed=refuse_changed,
        elsewhere=elsewhere,
    )

    def on_wait(message: str) -> None:
        say(Waiting(message=message))

    made: frozenset[str] = frozenset()
    try:
        with contained(interrupts=True):
            if only_search:
                searching.informed(work, store, on_progress, on_wait)
            else:
                made = inline.InlineExecutor().produce(work, store, on_progress, on_wait)
    except Exception as error:  # noqa: BLE001  whatever it is, the parent raises it
        return Failed.of(error)
    return Done(made=made, warnings=tuple(store.warnings))
