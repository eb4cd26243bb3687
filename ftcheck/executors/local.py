"""Fine-tunes in worker processes of this machine, several runs at once.

Each slot is one process, started when there is first work for it and kept, and forked from one that has imported the
libraries (`forkserver`) where there may be several; it is pinned to the devices that its lease is for, and to as many
threads. A thread of its own serves all slots: it gives them work, asks for leases, answers them and takes their
results, also while a test's body runs. What is meant for the reader (progress, what is waited for) and for the caller's
store is left with the task, for the thread that asks for its result.
"""

from __future__ import annotations

import math
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from ftcheck.errors import FtcheckError, TrainingError, shown
from ftcheck.executors import ahead, killed, needs, process
from ftcheck.executors.ahead import Task
from ftcheck.executors.forkserver import SUPPORTED, ForkServer
from ftcheck.executors.leases import POLL_SECONDS, Lease, Leases, Need, Request
from ftcheck.executors.process import SlotProcess
from ftcheck.executors.slot import Asking, Done, Failed, Order, Published, SlotError, Waiting

if TYPE_CHECKING:
    from ftcheck.devices import Device
    from ftcheck.executors import Work
    from ftcheck.finetune import OnProgress
    from ftcheck.keys import Key
    from ftcheck.store import Store

GRACE = 60.0
"""Seconds that a slot has to stop what took too long, and to load before it."""
LOOK_AHEAD = 64
"""Of so many tasks one that has room is looked for, where the first have none."""


@dataclass(eq=False, slots=True, kw_only=True)
class _Task(Task):
    told: deque[Any] = field(default_factory=deque)
    """Progress and waiting that `produce` has not told its caller of; nothing before somebody asks."""
    why: str = ""
    """What it waits for, as it was told last."""


@dataclass(eq=False, slots=True, kw_only=True)
class _Slot:
    """One process, and what it does."""

    process: SlotProcess
    task: _Task | None = None
    lease: Lease | None = None


@dataclass(eq=False, kw_only=True)
class LocalExecutor:
    """Trains and predicts in at most `jobs` processes at once."""

    jobs: int
    devices: Sequence[Device]
    """What slots are spread over."""
    root: Path
    """Of the run store."""
    works_ahead: bool = True
    _tasks: dict[str, _Task] = field(default_factory=dict)
    """Predict digest -> what was begun, in order."""
    _slots: list[_Slot] = field(default_factory=list)
    _requests: dict[Need, Request] = field(default_factory=dict)
    """Places in the queue for parts of the machine: one for all tasks that need the same, whichever comes first."""
    _changed: threading.Condition = field(default_factory=threading.Condition)
    """Guards all of this; told of when a task has something for who asked for it."""
    _thread: threading.Thread | None = None
    _server: ForkServer | None = None
    """What slots are made of, where it pays."""
    _bell: tuple[Connection, Connection] = field(default_factory=lambda: Pipe(duplex=False))
    """Rung when there is more to do than to hear the slots."""
    _rung: bool = False
    _closing: bool = False
    _broken: BaseException | None = None
    """Of the thread: raised by who waits for it."""
    _kills: int | None = field(default_factory=killed.for_memory)
    """How many processes the kernel has killed for memory."""

    @cached_property
    def leases(self) -> Leases:
        return Leases(self.devices)

    @cached_property
    def threads(self) -> int:
        """Of a slot's process whose suite doesn't say: its share of the cores."""
        cores = len(self.leases.cores)
        return min(cores, needs.said_threads() or max(1, cores // self.jobs))

    def begin(self, work: Work, seconds: float | None) -> None:
        """As `Executor.begin`: done when there is room, the longest first; what nobody knows of counts as long."""
        with self._changed:
            self._task(work, math.inf if seconds is None else seconds)
            self._ring()

    def begun(self, predict: Key) -> bool:
        with self._changed:
            return predict.digest in self._tasks

    def produce(
        self, work: Work, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]
    ) -> frozenset[str]:
        """As `Executor.produce`. A slot's process that dies costs what it was doing, and nothing else."""
        with self._changed:
            task = self._task(work, math.inf)
            task.asked = True
            self._ring()
        while (message := self._next(task)) is not None:
            if isinstance(message, Waiting):
                on_wait(message.message)
            else:
                on_progress(message)
        with self._changed:
            del self._tasks[work.predict.digest]
            return ahead.hand_over(self._tasks, task, store)

    def close(self) -> None:
        """End all processes. What they were doing is not published."""
        with self._changed:
            self._closing = True
            if self._thread is not None:
                self._ring()
        try:
            if self._thread is not None:
                self._thread.join()
        finally:  # also where Ctrl-C is pressed once more
            process.end([slot.process for slot in self._slots])
        for slot in self._slots:
            slot.process.ended()
            self._give_back(slot)
        if self._server is not None:
            self._server.close()
        self._keep(())
        self._slots.clear()
        self._tasks.clear()
        self._thread, self._server, self._closing = None, None, False

    def _next(self, task: _Task) -> Any:
        """What is to be told of a task, waited for; None once it is over."""
        with self._changed:
            self._changed.wait_for(lambda: task.told or not task.pending or self._broken is not None)
            if self._broken is not None:
                raise self._broken
            return task.told.popleft() if task.told else None

    def _task(self, work: Work, seconds: float) -> _Task:
        return self._tasks.setdefault(work.predict.digest, _Task(work=work, seconds=seconds))

    def _ring(self) -> None:
        """Have the thread look at the tasks anew; the first time, start it."""
        if not self._rung:
            self._rung = True
            self._bell[1].send_bytes(b"")
        if self._thread is None:
            if SUPPORTED and self.jobs > 1:
                with suppress(OSError):  # told of when a slot can't be started either
                    self._server = ForkServer.start()
            self._thread = threading.Thread(target=self._serve, name="ftcheck-slots", daemon=True)
            self._thread.start()

    def _serve(self) -> None:
        """What the thread does, until `close`."""
        try:
            while True:
                with self._changed:
                    self._rung = False
                    if self._closing:
                        return
                    waits = self._assign()
                    timeout = min(self._patience(), POLL_SECONDS if waits else math.inf)
                    pipes = {slot.process.pipe: slot for slot in self._slots if slot.task is not None}
                for pipe in wait([*pipes, self._bell[0]], None if timeout == math.inf else timeout):
                    if pipe is self._bell[0]:
                        self._bell[0].recv_bytes()
                    else:
                        self._hear(pipes[pipe])  # type: ignore[index]
        except BaseException as error:  # noqa: BLE001  raised by who waits
            with self._changed:
                self._broken = error
                self._changed.notify_all()

    def _assign(self) -> bool:
        """Give slots what is ready and has room, the longest first. Returns whether something waits for room."""
        refused: set[Need] = set()
        for task in ahead.ready(self._tasks)[:LOOK_AHEAD]:
            if sum(slot.task is not None for slot in self._slots) >= self.jobs:
                break
            threads = task.work.job.case.resources.cpus or self.threads
            try:
                need = self.leases.within(needs.of(task.work, self.devices[0], threads=threads))
                lease = None if need in refused else self._lease(need)
                if lease is not None:
                    self._send(self._slot(lease, threads), task, lease)
                    continue
            except FtcheckError as error:
                self._failed(task, error)
                continue
            refused.add(need)
            if task.asked and task.why != self._requests[need].why:
                task.why = self._requests[need].why
                self._tell(task, Waiting(message=task.why))
        self._keep(refused)
        if refused and all(slot.task is None for slot in self._slots):
            self._end_idle(len(self._slots))  # they may be what has the memory
        return bool(refused)

    def _lease(self, need: Need) -> Lease | None:
        """A part of the machine, if there is room. Raises TrainingError where there never will be."""
        request = self._requests.pop(need, None) or self.leases.ask(need)
        lease = request.take()
        if lease is None:
            self._requests[need] = request
        return lease

    def _keep(self, wanted: Collection[Need]) -> None:
        """Leave the queue but for these needs: what can't be used now isn't kept from others."""
        for need in [need for need in self._requests if need not in wanted]:
            self._requests.pop(need).withdraw()

    def _tell(self, task: _Task, message: Any) -> None:
        if task.asked:
            task.told.append(message)
            self._changed.notify_all()

    def _slot(self, lease: Lease, threads: int) -> _Slot:
        """An idle slot with the lease's devices and so many threads, started where there is none, in another's place
        if there are `jobs`. Where none can be started, the lease is given back; raises TrainingError."""
        for slot in self._slots:
            if slot.task is None and (slot.process.devices, slot.process.threads) == (lease.devices, threads):
                return slot
        if len(self._slots) >= self.jobs:
            self._end_idle(1)
        try:
            started = SlotProcess.start(lease.devices, threads, self.root, self._server)
        except OSError as error:
            lease.release()
            raise TrainingError(f"no process can be started to train it: {shown(error, 300)}") from error
        slot = _Slot(process=started)
        self._slots.append(slot)
        return slot

    def _end_idle(self, count: int) -> None:
        for slot in [slot for slot in self._slots if slot.task is None][:count]:
            self._slots.remove(slot)
            slot.process.ended()

    def _send(self, slot: _Slot, task: _Task, lease: Lease) -> None:
        slot.task, slot.lease = task, lease
        task.under_way, task.begun = True, monotonic()
        try:
            slot.process.send(Order.of(task.work, slot.process.device))
        except OSError:
            self._lost(slot)
        except (pickle.PicklingError, AttributeError, TypeError) as error:  # nothing was sent yet
            self._ended(slot, _not_to_be_sent(error))

    def _hear(self, slot: _Slot) -> None:
        """Take one message of a slot."""
        task = slot.task
        assert task is not None
        try:
            message = slot.process.pipe.recv()
            if isinstance(message, Asking):  # looks at files, which may take long
                slot.process.send(_refusal(task))
        except (EOFError, OSError):
            message = None
        with self._changed:
            match message:
                case None:
                    self._lost(slot)
                case Done():
                    self._ended(slot, message)
                case Failed():
                    self._ended(slot, message.error())
                case Published():
                    task.published.append(message)
                case Asking():
                    pass
                case _:
                    self._tell(task, message)

    def _patience(self) -> float:
        """Seconds until the first slot has to be stopped from outside, after those that don't stop by themselves
        were."""
        left = math.inf
        for slot in list(self._slots):
            if slot.task is None or slot.task.work.timeout is None:
                continue
            task, timeout = slot.task, slot.task.work.timeout
            now = task.begun + 2 * timeout.seconds + GRACE - monotonic()
            if now <= 0:
                slot.process.signal(signal.SIGKILL)
                self._lost(slot)
                task.result = timeout.error("from outside, since it didn't stop by itself")
                now = 0.0
            left = min(left, now)
        return left

    def _ended(self, slot: _Slot, result: Done | FtcheckError | SlotError) -> None:
        """What a slot was doing is over, and its part of the machine free."""
        task = slot.task
        assert task is not None
        slot.task, task.under_way = None, False
        self._give_back(slot)
        if isinstance(result, Done):
            task.result = result
            self._changed.notify_all()
        else:
            self._failed(task, result)

    def _failed(self, task: _Task, error: FtcheckError | SlotError) -> None:
        task.result = error
        ahead.forget(self._tasks, task)
        self._changed.notify_all()

    def _lost(self, slot: _Slot) -> None:
        """Its process is gone, and what it was doing failed."""
        self._slots.remove(slot)
        code, said = slot.process.ended()
        before, self._kills = self._kills, killed.for_memory()
        hint = killed.hint(before, self._kills, self._expected(slot)) if code == -signal.SIGKILL else ""
        last = f"; the last that it printed: {shown(said[-500:], 500)}" if said else ""
        self._ended(slot, TrainingError(f"the process that trained it is gone: {killed.how(code)}{hint}{last}"))

    def _expected(self, slot: _Slot) -> int:
        """Bytes of the host that its run was expected to take; 0: nobody knows."""
        if slot.task is None or self.devices[0].kind == "cuda":
            return 0
        return needs.of(slot.task.work, self.devices[0], threads=self.threads).memory

    @staticmethod
    def _give_back(slot: _Slot) -> None:
        if slot.lease is not None:
            slot.lease.release()
            slot.lease = None


def _not_to_be_sent(error: Exception) -> TrainingError:
    """What is said of work that names a function which no other process finds."""
    return TrainingError(
        f"it can't be handed to another process ({shown(error, 200)}): define its data function with `def` at the top "
        "of a module, or train with --ft-executor=inline"
    )


def _refusal(task: _Task) -> Failed | None:
    try:
        task.work.refuse_changed()
    except Exception as error:  # noqa: BLE001  whatever it is, it is the task's, not the thread's
        return Failed.of(error)
    return None
