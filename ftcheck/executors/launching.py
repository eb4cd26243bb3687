"""One training in several processes, seen from the one that wants it: starts them, hears them, and ends them.

`launched.py` is what they do.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, Self

from ftcheck import machine
from ftcheck.errors import TrainingError
from ftcheck.executors import needs, refuse_alone
from ftcheck.executors.launched import LAUNCHER_LOG, LOGS, SOCKET, Broken, Ended, Joined, Made, Part, Training, command
from ftcheck.executors.outcome import LOG_TAIL, Outcome, cause
from ftcheck.executors.slot import Hello, Published, Waiting
from ftcheck.finetune import Progress

if TYPE_CHECKING:
    from ftcheck.executors import Work
    from ftcheck.finetune import Job, OnProgress, Trained
    from ftcheck.store import Store

GRACE = 60.0
"""Seconds that the processes have to stop by themselves what took too long."""
LAST_WORDS = 10.0
"""Seconds that the launcher has to end the others and to tell how the first one ended."""
_TICK = 1.0


class Elsewhere(Protocol):
    """The other machines of a training."""

    address: str
    """Of this one, where they reach it."""

    def begin(self, endpoint: str) -> None:
        """Let each start its processes, which meet at `endpoint`."""

    def failed(self) -> bool:
        """Whether one of them is known to have ended, and not well."""

    def outcomes(self, seconds: float | None) -> Sequence[Outcome]:
        """What the processes of each came to; who hasn't ended within `seconds` is ended, and has none. Raises what
        kept one of them from training."""


def train(work: Work, model: Path, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]) -> Trained:
    """Train the job of `work` in as many processes as its case asks for; its model is in the folder `model` then.

    Raises what the first of them that failed raised, an error that isn't ftcheck's own as a TrainingError with its
    traceback. Whatever happens, none of them is left on this machine.
    """
    elsewhere = work.elsewhere
    if elsewhere is None:
        refuse_alone(work.job.case)
        with _Ranks(work, model, _part(work.job, 0, ""), store.root) as ranks:
            outcomes = [ranks.heard_out(store, on_progress, on_wait)]
    else:
        part = _part(work.job, 0, f"{elsewhere.address}:{_free_port()}")
        elsewhere.begin(part.endpoint)
        with _Ranks(work, model, part, store.root, address=elsewhere.address, others_failed=elsewhere.failed) as ranks:
            outcome = ranks.heard_out(store, on_progress, on_wait)
        outcomes = [outcome, *elsewhere.outcomes(None if outcome.well else LAST_WORDS)]
    if not all(outcome.well for outcome in outcomes):
        raise cause(outcomes, work.job.case.resources.processes)
    made = outcomes[0].made[0]
    store.warnings.extend(made.warnings)
    return made.trained


def attend(work: Work, store: Store, node: int, endpoint: str, address: str) -> Outcome:
    """Do the part of a training that this machine has, which is the `node`-th of several and has this `address`."""
    part = _part(work.job, node, endpoint)
    with _Ranks(work, Path(), part, store.root, address=address) as ranks:
        return ranks.heard_out(store, lambda progress: None, lambda message: None)


def _part(job: Job, node: int, endpoint: str) -> Part:
    resources = job.case.resources
    return Part(processes=resources.processes // resources.nodes, node=node, nodes=resources.nodes, endpoint=endpoint)


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("", 0))
        return int(asked.getsockname()[1])


def environment(job: Job, part: Part, visible: Sequence[str] = (), address: str = "") -> Mapping[str, str]:
    """What must stand before torch is imported: which devices there are, and each process's share of the cores.
    `address`: of this machine, where it is one of several.

    Raises TrainingError where there are fewer devices than processes.
    """
    kind, _, index = job.device.partition(":")
    if kind == "mps":
        raise TrainingError(f"resources.gpus asks for {part.processes} devices, and mps is one; leave it out")
    share = max(1, len(machine.cores()) // part.processes)
    made = {needs.THREADS: str(job.case.resources.cpus or min(share, needs.said_threads() or share))}
    if kind == "cuda":
        made["CUDA_VISIBLE_DEVICES"] = ",".join(_devices(part.processes, int(index or 0), visible))
    if sys.platform == "linux" and (kind != "cuda" or part.nodes > 1):  # not what the host's name leads to
        made["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME") or _interface(address)
    return made


def _interface(address: str) -> str:
    """The network interface that has `address`; the loopback one where there is none to be reached from."""
    import psutil

    if not address:
        return "lo"
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address == address for one in addresses):
            return str(name)
    raise TrainingError(
        f"no network interface here has the address {address}, under which other machines know this one: set "
        "GLOO_SOCKET_IFNAME on it"
    )


def _devices(wanted: int, first: int, visible: Sequence[str]) -> Sequence[str]:
    """As many names for CUDA_VISIBLE_DEVICES as are wanted, from the device `first` on."""
    from ftcheck import devices
    from ftcheck.executors.process import visible as name_of

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = visible or [name_of(device.index, given) for device in devices.cuda().devices[first:]]
    if len(visible) < wanted:
        raise TrainingError(
            f"resources.gpus asks for {wanted} devices, and this training may use {len(visible)} "
            f"({', '.join(visible) or 'none'}): ask for fewer, or give more (CUDA_VISIBLE_DEVICES, --ft-device=cuda)"
        )
    return visible[:wanted]


class _Ranks:
    """The launcher and its processes: started on entry, gone on exit."""

    def __init__(
        self,
        work: Work,
        model: Path,
        part: Part,
        root: Path,
        *,
        address: str = "",
        others_failed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._hello = Hello(root=root, path=tuple(sys.path), folder=os.getcwd())
        self._order = Training(job=work.job, model=model, timeout=work.timeout)
        self._part = part
        self._given = environment(work.job, part, work.visible, address)
        self._address = address
        self._others_failed = others_failed
        self._peers: dict[Connection, Joined | None] = {}
        """Pipe -> who is at its other end, once that was said."""
        self._made: dict[int, Made] = {}
        self._broken: dict[int, Broken] = {}
        self._lost: list[int] = []
        """Ranks that are gone without a word, the first one first."""
        self._ended: Ended | None = None
        self._begun = monotonic()
        self._failed_at: float | None = None
        self._patience = LAST_WORDS
        """Seconds for the last words, from then on."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._place = Path(stack.enter_context(TemporaryDirectory(prefix="ftcheck-")))
            self._server = stack.enter_context(socket.socket(socket.AF_UNIX))
            try:
                self._server.bind(str(self._place / SOCKET))
            except OSError as error:
                raise TrainingError(
                    f"processes that train together can't meet in {self._place}: {error}; set TMPDIR to another folder"
                ) from error
            self._server.listen()
            log = stack.enter_context((self._place / LAUNCHER_LOG).open("wb"))
            self._launcher = subprocess.Popen(  # noqa: S603  this Python, with our own words
                [sys.executable, "-c", command(str(self._place), self._part)],
                env={**os.environ, **self._given},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process, which ends them
            )
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def heard_out(self, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]) -> Outcome:
        """Hear them until they have ended: what they came to."""
        heard = True
        while not self._over(heard=heard):
            speaking = wait([self._server, *self._peers], _TICK)
            heard = bool(speaking)
            for one in speaking:
                if one is self._server:
                    accepted, _ = self._server.accept()
                    self._peers[Connection(accepted.detach())] = None
                    continue
                assert isinstance(one, Connection)
                match self._heard(one):
                    case Published(stage=stage, digest=digest):
                        store.published(stage, digest)
                    case Waiting(message=message):
                        on_wait(message)
                    case Progress() as progress:
                        on_progress(progress)
        return self._outcome()

    def _heard(self, pipe: Connection) -> Any:
        """What one of them says, after this object has taken note of what is for it."""
        peer = self._peers[pipe]
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            self._gone(pipe)
            return None
        rank = None if peer is None else peer.rank
        match message:
            case Joined():
                self._peers[pipe] = message
                if message.rank is not None:
                    with suppress(OSError):  # it is gone again, which is heard next
                        pipe.send(self._hello)
                        pipe.send(self._order)
            case Made() if rank is not None:
                self._made[rank] = message
            case Broken() if rank is not None:
                self._broken[rank] = message
                self._fail()
            case Ended():
                self._ended = message
        return message

    def _gone(self, pipe: Connection) -> None:
        peer = self._peers.pop(pipe)
        pipe.close()
        if peer is not None and peer.rank is not None and peer.rank not in {*self._made, *self._broken}:
            self._lost.append(peer.rank)
            self._fail()

    def _ranks(self) -> list[Joined]:
        """Those that have joined and are not known to be gone."""
        return [peer for peer in self._peers.values() if peer is not None and peer.rank is not None]

    def _fail(self) -> None:
        if self._failed_at is None:
            self._failed_at = monotonic()

    def _over(self, *, heard: bool) -> bool:
        """Whether there is nothing more to be heard; `heard`: just now there was. Raises TrainingError when the time is
        over."""
        now, timeout = monotonic(), self._order.timeout
        ended = self._ended is not None or self._launcher.poll() is not None
        if ended and not (heard and self._ranks()):
            return True
        if self._failed_at is None and self._others_failed():
            self._fail()
            self._patience = _TICK  # what ended those was heard by now, if it was one of these
        if self._failed_at is not None:
            return now - self._failed_at > self._patience
        if timeout is not None and now - self._begun > timeout.seconds + GRACE:
            processes = self._order.job.case.resources.processes
            raise timeout.error(f"from outside, since its {processes} processes didn't stop by themselves")
        return False

    def _outcome(self) -> Outcome:
        outcome = Outcome(
            ranks=self._part.ranks,
            made=self._made,
            broken=self._broken,
            lost=self._lost,
            codes=self._ended.codes if self._ended is not None else {},
            address=self._address,
            launcher=_end_of([self._place / LAUNCHER_LOG]),
        )
        return replace(outcome, printed={rank: self._printed(rank) for rank in {*outcome.gone, *outcome.broken}})

    def _printed(self, rank: int) -> str:
        logs = (self._place / LOGS).glob(f"*/attempt_0/{rank - self._part.ranks[0]}/std*.log")
        return _end_of(sorted(logs, reverse=True))  # errors last

    def _end(self) -> None:
        """No process is left afterwards. Those who have not joined yet find nobody, and end."""
        self._server.close()
        ranks = [] if self._ended is not None else self._ranks()
        for peer in ranks:
            with suppress(ProcessLookupError):
                os.killpg(peer.pid, signal.SIGKILL)  # and what it started: data loaders
        if ranks or self._ended is not None:  # the launcher takes note of their ends, and ends
            with suppress(subprocess.TimeoutExpired):
                self._launcher.wait(timeout=LAST_WORDS)
        for pipe in self._peers:
            pipe.close()
        try:
            self._launcher.wait(timeout=LAST_WORDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._launcher.pid, signal.SIGKILL)
            self._launcher.wait()


def _end_of(logs: Iterable[Path]) -> str:
    text = ""
    for path in logs:
        with path.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_TAIL))
            text += log.read().decode(errors="replace")
    return text
