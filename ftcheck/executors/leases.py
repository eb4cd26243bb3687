"""Parts of this machine, given out between all processes of a user: pytest sessions, workers of pytest-xdist, slots.

A lease is a file in a folder of the user's (`folder`) with what it takes: memory and a part of one device or of
several, and cores. Its process holds the file's lock, which the system takes back with the process, however that ends:
a lease whose lock is free is nobody's. What waits has a file, too, so that the order of coming counts: whoever came
later is given what an earlier one couldn't have used anyway, and nothing that would make it wait longer ("backfilling",
as schedulers of clusters do: Lifka 1995, The ANL/IBM SP scheduling system).

    leases = Leases(devices)                       # of this process; cheap, asks nobody
    with leases.lease(need, on_wait) as lease:     # waits until there is room
        train_on(lease.devices, lease.cores)

    request = leases.ask(need)                     # for whoever has other things to do meanwhile
    lease = request.take()                         # None: not yet
    request.withdraw()                             # never mind

Leases come before the locks of the store: whoever holds one of those never waits for a lease.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from ftcheck import machine
from ftcheck.errors import TrainingError, UsageError
from ftcheck.sizes import in_words

with suppress(ImportError):  # Windows: `executors.of` makes no leases there
    import fcntl

if TYPE_CHECKING:
    from ftcheck.devices import Device

SHORTEST_POLL: Final = 0.005
POLL_SECONDS: Final = 0.2
"""Pauses between two looks of whoever waits: a quarter of the time that it has waited so far, within these bounds."""
FRESH_SECONDS: Final = 0.5
"""How long a device's free memory, once asked for, counts as known. Leases given meanwhile are subtracted anyway."""
PATIENCE: Final = 600.0
"""Seconds to wait for memory that processes without a lease are using: they may never give it back."""
_ROUNDING: Final = 1e-9
_MUTEX: Final = "lock"
_SUFFIX: Final = ".lease"


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What one run needs."""

    memory: int = 0
    """Bytes, of each of its devices."""
    part: float = 0.0
    """Of each of its devices, 0 to 1: two of 0.5 share one, whatever their memory; 1 is alone on it."""
    devices: int = 1
    """How many, at once."""
    cores: int = 1
    """In all."""
    said: bool = False
    """Whether the suite says how much memory: only then too much of it is an error. An estimate that is too high for
    the device gets all of it."""
    said_cores: bool = False
    """The same of cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A lease, or a request that waits, of any process."""

    order: int
    """Of its coming, and for a lease of its being given."""
    pid: int
    held: bool
    devices: tuple[str, ...]
    """The names of those that it has; while it waits: of those that will be kept for it."""
    memory: int
    part: float
    cores: int
    among: str
    """The cores that its process may run on."""
    beside: Mapping[str, int]
    """Device -> bytes that were used there by what has no lease."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A part of the machine, until it is released or the process ends."""

    devices: tuple[Device, ...]
    cores: int
    _file: _Held

    def release(self) -> None:
        """Give it back. Once is enough."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Request:
    """A place in the queue."""

    def __init__(self, leases: Leases, need: Need) -> None:
        self.need = need
        self.why = ""
        """What it waits for, after a `take` that gave nothing."""
        self._leases = leases
        self._file: _Held | None = None

    def take(self) -> Lease | None:
        """The lease, if there is room now. Raises TrainingError where what is in the way has no lease and stays, and
        UsageError where the files can't be written."""
        if self._file is None:
            self._file = _Held(self._leases.folder)
        try:
            lease, self.why, strangers = self._leases._take(self.need, self._file)
        except UsageError:
            self.withdraw()
            raise
        if lease is not None:
            self._file = None
        if lease is not None or not strangers:
            self._leases.waited.pop(self.need, None)
        elif time.monotonic() - self._leases.waited.setdefault(self.need, time.monotonic()) > PATIENCE:
            self.withdraw()
            raise TrainingError(
                f"{self.why}, for {PATIENCE / 60:.0f} minutes now: end what uses it, or lower resources.memory"
            )
        return lease

    def withdraw(self) -> None:
        """Leave the queue."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Leases:
    """What this process may have of the machine: these devices, and its cores."""

    def __init__(
        self,
        devices: Sequence[Device],
        *,
        cores: Sequence[int] | None = None,
        free: Callable[[Device], int | None] | None = None,
        place: Path | None = None,
    ) -> None:
        """`free` tells how many bytes of a device nobody uses, None where that isn't known; `place` is for the files.

        Without them: the cores of this process, what the driver or the system says, and `folder()`.
        """
        from ftcheck import devices as known

        self.devices = tuple(devices)
        self.cores = tuple(machine.cores() if cores is None else cores)
        self._free = free or known.free_memory
        self._names = {_name(device): device for device in devices}
        self._total = {name: known.memory(device) for name, device in self._names.items()}
        self._place = place
        self.waited: dict[Need, float] = {}
        """Since when only what has no lease is in the way of a need: the next that needs as much doesn't wait anew."""
        self._asked = -math.inf
        self._left: dict[str, int | None] = {}

    @property
    def folder(self) -> Path:
        """Where the files are, made when first needed. Raises UsageError."""
        if self._place is None:
            self._place = folder()
        return self._place

    def within(self, need: Need) -> Need:
        """The need as it can be met: an estimate is cut to what a device has. Raises TrainingError for one that can
        never be met."""
        if need.devices > len(self.devices):
            there = ", ".join(map(str, self.devices))
            raise TrainingError(
                f"resources.gpus: {need.devices} devices are asked for, this session has {len(self.devices)} "
                f"({there}): lower it, or let --ft-device name all"
            )
        if need.cores > len(self.cores) and need.said_cores:
            raise TrainingError(
                f"resources.cpus: {need.cores} cores are asked for, this process has {len(self.cores)}: lower it"
            )
        most = sorted(self._total.values(), reverse=True)[need.devices - 1]
        if need.memory > most and need.said:
            raise TrainingError(
                f"resources.memory: {in_words(need.memory)} are asked for, "
                f"{self.devices[0] if len(self.devices) == 1 else 'no device'} has "
                f"{f'more than {in_words(most)}' if len(self.devices) > 1 else in_words(most)}: lower it, or what the "
                "training needs (per_device_train_batch_size)"
            )
        return replace(need, memory=min(need.memory, most), cores=min(need.cores, len(self.cores)))

    def ask(self, need: Need) -> Request:
        """Queue up. Raises TrainingError for a need that can never be met."""
        return Request(self, self.within(need))

    def lease(self, need: Need, on_wait: Callable[[str], None] = lambda why: None) -> Lease:
        """Wait for a lease; `on_wait` is told why whenever the reason is another. Raises TrainingError for a need that
        can never be met, and where what is in the way has no lease and stays."""
        request, told, began = self.ask(need), "", time.monotonic()
        try:
            while (lease := request.take()) is None:
                if request.why != told:
                    told = request.why
                    on_wait(told)
                time.sleep(min(POLL_SECONDS, max(SHORTEST_POLL, (time.monotonic() - began) / 4)))
        finally:
            request.withdraw()
        return lease

    def _take(self, need: Need, file: _Held) -> tuple[Lease | None, str, bool]:
        """(the lease if there is room, what it waits for, whether only for what has no lease). The lease is written to
        `file`, or else the place in the queue."""
        if time.monotonic() - self._asked >= FRESH_SECONDS:  # may take long: not in `_alone`
            self._left = {name: self._free(device) for name, device in self._names.items()}
            self._asked = time.monotonic()
        try:
            with _alone(self.folder):
                others = [entry for path, entry in _entries(self.folder) if path != file.path]
                order = 1 + max((entry.order for entry in others), default=0)
                mine = self._entry(need, file.order or order)
                view = _View(
                    total=self._total,
                    free=self._left,
                    cores=len(self.cores),
                    held=[entry for entry in others if entry.held],
                    before=[entry for entry in others if not entry.held and entry.order < mine.order],
                )
                found = view.places(mine, need)
                if found:
                    beside = {name: view.beside(name) for name in found}
                    file.write(replace(mine, order=order, held=True, devices=found, beside=beside))
                    return Lease(tuple(self._names[name] for name in found), need.cores, file), "", False
                file.write(replace(mine, devices=view.kept(need)))
        except OSError as error:
            raise UsageError(f"{self.folder}, where processes share out devices: {error.strerror}") from None
        return None, view.why(mine, need), view.only_strangers(mine, need)

    def _entry(self, need: Need, order: int) -> _Entry:
        return _Entry(
            order=order,
            pid=os.getpid(),
            held=False,
            devices=(),
            memory=need.memory,
            part=need.part,
            cores=need.cores,
            among=",".join(map(str, self.cores)),
            beside={},
        )


@dataclass(frozen=True, slots=True)
class _View:
    """All that is held, and who came before, as one process sees it at one moment."""

    total: Mapping[str, int]
    free: Mapping[str, int | None]
    cores: int
    held: Sequence[_Entry]
    before: Sequence[_Entry]

    def places(self, mine: _Entry, need: Need) -> tuple[str, ...]:
        """The devices to be had now, those with most room first; none where it has to wait."""
        if not self._has_cores(mine):
            return ()
        found = [name for name in self._by_room() if self._has_part(name, mine) and self._has_memory(name, need)]
        return tuple(found[: need.devices]) if len(found) >= need.devices else ()

    def kept(self, need: Need) -> tuple[str, ...]:
        """The devices that are kept for whoever waits: when all that is held now is given back, it can have them."""
        return tuple([name for name in self._by_room() if need.memory <= self.total[name]][: need.devices])

    def beside(self, name: str) -> int:
        """Bytes of a device that are used without a lease. As the first lease of a device saw it: what later ones see
        is used by those before them, too."""
        known = [entry.beside.get(name, 0) for entry in self._on(name)]
        free = self.free[name]
        return max(known) if known else 0 if free is None else max(0, self.total[name] - free)

    def why(self, mine: _Entry, need: Need) -> str:
        """What it waits for, in words."""
        if self.only_strangers(mine, need):
            most = max(map(self._room, self.total))
            return (
                f"waiting for memory: {in_words(need.memory)} are needed and {in_words(most)} are free; the rest is "
                "used by processes that have no lease"
            )
        holders = sorted({entry.pid for entry in self.held or self.before})
        by = f"{'held' if self.held else 'asked for before'} by process {', '.join(map(str, holders))}"
        if not self._has_cores(mine):
            return f"waiting for cores: {need.cores} of {self.cores} are needed ({by})"
        many = f"{need.devices} devices with " if need.devices > 1 else ""
        asked = f"{need.part:g} of a device" if need.part else f"{many}{in_words(need.memory)}"
        return f"waiting for a device: {asked} are needed ({by})"

    def only_strangers(self, mine: _Entry, need: Need) -> bool:
        """Whether there would be room but for what has no lease."""
        there = [name for name in self.total if self._has_part(name, mine)]
        return not self.before and self._has_cores(mine) and len(there) >= need.devices

    def _on(self, name: str) -> list[_Entry]:
        return [entry for entry in self.held if name in entry.devices]

    def _by_room(self) -> list[str]:
        given = {name: sum(self._share(entry, name) for entry in self._on(name)) for name in self.total}
        return sorted(self.total, key=lambda name: (given[name], -self._room(name)))

    def _room(self, name: str) -> int:
        """Bytes to be had on a device: not given to anybody, and not used by anything else."""
        room = self.total[name] - self.beside(name) - sum(entry.memory for entry in self._on(name))
        free = self.free[name]
        return max(0, room if free is None else min(room, free))

    def _share(self, entry: _Entry, name: str) -> float:
        """Which part of a device an entry takes; its memory is such a part, too."""
        return max(entry.part, entry.memory / self.total[name])

    def _has_memory(self, name: str, need: Need) -> bool:
        """An estimate that is alone on its device is taken at less than its word."""
        return need.memory <= self._room(name) or not (need.said or self._on(name))

    def _has_part(self, name: str, mine: _Entry) -> bool:
        """Whether so much of a device isn't given, and isn't needed by who came before: that, what was given since, and
        this must have room together."""
        on = self._on(name)
        most = 1 + _ROUNDING - self._share(mine, name)
        return sum(self._share(entry, name) for entry in on) <= most and all(
            self._share(first, name) + sum(self._share(entry, name) for entry in on if entry.order > first.order)
            <= most
            for first in self.before
            if name in first.devices
        )

    def _has_cores(self, mine: _Entry) -> bool:
        """The same of cores."""
        held = [entry for entry in self.held if entry.among == mine.among]
        return sum(entry.cores for entry in held) + mine.cores <= self.cores and all(
            first.cores + sum(entry.cores for entry in held if entry.order > first.order) + mine.cores <= self.cores
            for first in self.before
            if first.among == mine.among
        )


@dataclass(eq=False, slots=True)
class _Held:
    """A file of this process, with its lock."""

    folder: Path
    order: int = 0
    path: Path | None = None
    descriptor: int = -1

    def write(self, entry: _Entry) -> None:
        """Say what it stands for. Only where no other process looks meanwhile (`_alone`)."""
        if self.path is None:
            self.descriptor, name = tempfile.mkstemp(dir=self.folder, suffix=_SUFFIX)
            self.path = Path(name)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            _OPEN.add(self.descriptor)
        self.order = entry.order
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, json.dumps(asdict(entry)).encode(), 0)

    def close(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            _OPEN.discard(self.descriptor)
            os.close(self.descriptor)
            self.path = None


_OPEN: Final[set[int]] = set()
"""Descriptors of this process. A forked child, such as a data loader's worker, would keep the locks of its parent."""


def _close_inherited() -> None:
    while _OPEN:
        with suppress(OSError):
            os.close(_OPEN.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


def folder() -> Path:
    """FTCHECK_RUNTIME_DIR, else a folder of the user's in the system's for temporary files. One for all stores, since
    they share the machine. Raises UsageError for one that isn't the user's own."""
    chosen = os.environ.get("FTCHECK_RUNTIME_DIR")
    place = Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"ftcheck-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.lstat()
    except OSError as error:
        raise UsageError(
            f"{place}, where processes share out devices: {error.strerror}; set FTCHECK_RUNTIME_DIR"
        ) from None
    if not chosen and (not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise UsageError(f"{place}, where processes share out devices, isn't yours alone: set FTCHECK_RUNTIME_DIR")
    return place


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """While no other process looks, or gives or takes."""
    descriptor = os.open(place / _MUTEX, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing alone leaves it to a child that was forked meanwhile
        os.close(descriptor)


def _entries(place: Path) -> list[tuple[Path, _Entry]]:
    """All that is held or waits, in order. What processes left that are gone is removed."""
    found = []
    for path in place.glob(f"*{_SUFFIX}"):
        with suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                # Empty where the disk was full when it was written, or another version of ftcheck's.
                with suppress(ValueError, TypeError, KeyError):
                    told = json.loads(file.read())
                    found.append((path, _Entry(**{**told, "devices": tuple(told["devices"])})))
            else:
                path.unlink(missing_ok=True)
    return sorted(found, key=lambda item: item[1].order)


def _name(device: Device) -> str:
    """What a device is called in every process, whichever others that one sees."""
    return device.uuid or str(device) if device.kind == "cuda" else "machine"
