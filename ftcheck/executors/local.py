"""Fine-tunes in worker processes of this machine, several runs at once.

Each slot is one process, started when there is first work for it and kept, so that libraries are imported once; it is
pinned to its device, among those that this process may use, and to its share of the cores. Everything here happens in
the thread that asks for a result: while it waits, it serves all slots.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from tempfile import TemporaryFile
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO

from ftcheck.errors import FtcheckError, TrainingError, shown
from ftcheck.executors.slot import Asking, Done, Failed, Hello, Order, Published, SlotError, Waiting

if TYPE_CHECKING:
    from ftcheck.devices import Device
    from ftcheck.executors import Work
    from ftcheck.finetune import OnProgress
    from ftcheck.keys import Key
    from ftcheck.store import Store

LOG_TAIL = 2000
"""Bytes of what a process that died printed last."""
GRACE = 60.0
"""Seconds that a slot has to stop what took too long, and to load before it."""
_THREADS = "OMP_NUM_THREADS"
_MAIN = "from ftcheck.executors.slot import main; main({})"


@dataclass(eq=False, slots=True, kw_only=True)
class _Task:
    """Work that was begun. `result` is what `produce` returns or raises."""

    work: Work
    seconds: float
    """How long it took before; infinite where nobody knows."""
    asked: bool = False
    """Whether somebody waits for it."""
    slot: _Slot | None = None
    begun: float = 0.0
    """When it was given to its slot."""
    published: list[Published] = field(default_factory=list)
    """What it has put into the store, and `produce` has not told its caller's store of."""
    result: Done | FtcheckError | SlotError | None = None

    @property
    def makes(self) -> set[str]:
        """The digests that no other task may be making meanwhile."""
        search = self.work.search
        return {self.work.train.digest, self.work.predict.digest, *([search.key.digest] if search else [])}

    @property
    def pending(self) -> bool:
        return self.result is None


@dataclass(eq=False, slots=True, kw_only=True)
class _Slot:
    """One worker process."""

    number: int
    device: Device
    process: subprocess.Popen[bytes]
    pipe: Connection
    log: BinaryIO
    task: _Task | None = None

    def ended(self) -> tuple[int, str]:
        """Wait until the process is gone: its exit status, negative for a signal, and the end of what it printed."""
        self.pipe.close()
        try:
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        with self.log as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - LOG_TAIL))
            return code, log.read().decode(errors="replace").strip()


@dataclass(eq=False, kw_only=True)
class LocalExecutor:
    """Trains and predicts in `jobs` processes."""

    jobs: int
    devices: Sequence[Device]
    """What slots are spread over."""
    root: Path
    """Of the run store."""
    works_ahead: bool = True
    _tasks: dict[str, _Task] = field(default_factory=dict)
    """Predict digest -> what was begun, in order."""
    _slots: list[_Slot] = field(default_factory=list)

    def begin(self, work: Work, seconds: float | None) -> None:
        """As `Executor.begin`: done when there is room, the longest first; what nobody knows of counts as long."""
        self._tasks.setdefault(work.predict.digest, _Task(work=work, seconds=math.inf if seconds is None else seconds))
        self._assign()

    def begun(self, predict: Key) -> bool:
        return predict.digest in self._tasks

    def produce(
        self, work: Work, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]
    ) -> frozenset[str]:
        """As `Executor.produce`. A slot's process that dies costs what it was doing, and nothing else."""
        task = self._tasks.setdefault(work.predict.digest, _Task(work=work, seconds=math.inf))
        task.asked = True
        while task.pending:
            self._assign()
            self._serve(task, on_progress, on_wait)
        del self._tasks[work.predict.digest]
        self._hand_over(task, store)
        if isinstance(task.result, Done):
            store.warnings.extend(task.result.warnings)
            return task.result.made
        assert isinstance(task.result, Exception)
        raise task.result

    def _hand_over(self, task: _Task, store: Store) -> None:
        """Tell the store what was published for a task, and for those before it: nobody may ask for them."""
        for before in self._tasks.values():
            if before.makes & set(task.work.after):
                self._hand_over(before, store)
        for entry in task.published:
            store.published(entry.stage, entry.digest)
        task.published.clear()

    def close(self) -> None:
        """End all processes. What they were doing is not published."""
        for slot in self._slots:
            with suppress(ProcessLookupError):
                os.killpg(slot.process.pid, signal.SIGTERM)  # and what it started
        for slot in self._slots:
            slot.ended()
        self._slots.clear()
        self._tasks.clear()

    def _assign(self) -> None:
        """Give idle slots what is ready, the longest first."""
        ready = sorted(self._ready(), key=lambda task: (not task.asked, -task.seconds))
        for task in ready:
            slot = next((slot for slot in self._slots if slot.task is None), None)
            if slot is None and len(self._slots) < self.jobs:
                slot = self._start()
            if slot is None:
                return
            self._send(slot, task)

    def _ready(self) -> list[_Task]:
        """Tasks that nothing unfinished stands before: what makes the same, or the model that they start from."""
        unfinished = [task for task in self._tasks.values() if task.pending]
        making: set[str] = set()
        for task in unfinished:
            if task.slot is not None:
                making |= task.makes
        coming = {digest for task in unfinished for digest in task.makes}
        found = []
        for task in unfinished:
            if task.slot is None and not (task.makes & making) and not (set(task.work.after) & coming):
                found.append(task)
                making |= task.makes
        return found

    def _send(self, slot: _Slot, task: _Task) -> None:
        work = task.work
        job = replace(work.job, device=_within(slot.device))
        search = work.search and replace(work.search, job=replace(work.search.job, device=job.device))
        slot.task, task.slot = task, slot
        task.begun = monotonic()
        order = Order(
            job=job,
            train=work.train,
            predict=work.predict,
            redo=work.redo,
            search=search,
            timeout=work.timeout,
        )
        try:
            slot.pipe.send(order)
        except OSError:
            self._lost(slot)

    def _serve(self, asked: _Task, on_progress: OnProgress, on_wait: Callable[[str], None]) -> None:
        """Take what slots say until one of them has said something."""
        patience = self._patience()
        by_pipe = {slot.pipe: slot for slot in self._slots if slot.task is not None}
        for pipe in wait(list(by_pipe), patience):
            slot = by_pipe[pipe]  # type: ignore[index]
            task = slot.task
            assert task is not None
            try:
                message = slot.pipe.recv()
            except (EOFError, OSError):
                self._lost(slot)
                continue
            match message:
                case Done():
                    self._ended(slot, message)
                case Failed():
                    self._ended(slot, message.error())
                case Published():
                    task.published.append(message)
                case Asking():
                    slot.pipe.send(_refusal(task))
                case Waiting():
                    if task is asked:
                        on_wait(message.message)
                case _:
                    if task is asked:
                        on_progress(message)

    def _patience(self) -> float | None:
        """Seconds until the first slot has to be stopped from outside, after it was: it doesn't stop by itself."""
        found = []
        for slot in list(self._slots):
            if slot.task is None or slot.task.work.timeout is None:
                continue
            timeout = slot.task.work.timeout
            left = slot.task.begun + 2 * timeout.seconds + GRACE - monotonic()
            if left <= 0:
                task = slot.task
                with suppress(ProcessLookupError):
                    os.killpg(slot.process.pid, signal.SIGKILL)
                self._lost(slot)
                task.result = timeout.error("from outside, since it didn't stop by itself")
                return 0.0
            found.append(left)
        return min(found, default=None)

    def _ended(self, slot: _Slot, result: Done | FtcheckError | SlotError) -> None:
        assert slot.task is not None
        slot.task.result, slot.task.slot = result, None
        failed = slot.task if not isinstance(result, Done) else None
        slot.task = None
        if failed is not None:
            self._forget(failed)

    def _forget(self, failed: _Task) -> None:
        """What was to come after a task that failed isn't begun: whoever asks for it meets the failure first."""
        for digest, task in list(self._tasks.items()):
            if task.pending and task.slot is None and set(task.work.after) & failed.makes:
                del self._tasks[digest]
                self._forget(task)

    def _lost(self, slot: _Slot) -> None:
        """Its process is gone, and what it was doing failed."""
        self._slots.remove(slot)
        code, said = slot.ended()
        why = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        hint = " (out of memory? lower per_device_train_batch_size, or --ft-jobs)" if code == -signal.SIGKILL else ""
        last = f"; the last that it printed: {shown(said[-500:], 500)}" if said else ""
        self._ended(slot, TrainingError(f"the process that trained it is gone: {why}{hint}{last}"))

    def _start(self) -> _Slot:
        number = next(n for n in range(self.jobs) if n not in {slot.number for slot in self._slots})
        device = self.devices[number % len(self.devices)]
        ours, theirs = Pipe()
        log = TemporaryFile()  # noqa: SIM115  lives as long as its slot
        with theirs:
            process = subprocess.Popen(  # noqa: S603  this Python, with our own words
                [sys.executable, "-c", _MAIN.format(theirs.fileno())],
                env={**os.environ, **self._environment(device)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the parent, which ends its slots
            )
        slot = _Slot(number=number, device=device, process=process, pipe=ours, log=log)
        self._slots.append(slot)
        with suppress(OSError):  # told when it is sent work
            ours.send(Hello(root=self.root, path=tuple(sys.path), folder=os.getcwd()))
        return slot

    def _environment(self, device: Device) -> Mapping[str, str]:
        """What must stand before torch is imported."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        made = {_THREADS: os.environ.get(_THREADS) or str(max(1, cores // self.jobs))}
        if device.kind == "cuda":
            made["CUDA_VISIBLE_DEVICES"] = visible(device.index, os.environ.get("CUDA_VISIBLE_DEVICES"))
        return made


def visible(index: int, given: str | None) -> str:
    """CUDA_VISIBLE_DEVICES for a process that is to see one of the devices that this one, with `given`, sees."""
    names = [name.strip() for name in given.split(",")] if given else []
    return names[index] if index < len(names) else str(index)


def _within(device: Device) -> str:
    """The device by the name that it has where no other is visible."""
    return "cuda:0" if device.kind == "cuda" else str(device)


def _refusal(task: _Task) -> Failed | None:
    try:
        task.work.refuse_changed()
    except FtcheckError as error:
        return Failed.of(error)
    return None
