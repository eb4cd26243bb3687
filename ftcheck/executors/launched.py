"""One training in several processes, seen from them: the launcher, and each process ("rank") that trains.

The launcher is torch.distributed.run's own, in a process of its own; what it starts meets at files of a private folder,
and all of them are connected to the process that wants the training: when that is gone, so are they.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

from ftcheck import privacy
from ftcheck.executors.slot import Failed, Hello, Waiting, telling_progress, telling_store

if TYPE_CHECKING:
    from ftcheck.executors.deadline import Timeout
    from ftcheck.finetune import Job, Trained
    from ftcheck.store import Store

SOCKET, MEETING, LOGS, LAUNCHER_LOG = "socket", "meeting", "logs", "launcher.log"
"""In the private folder."""
JOINING = 300
"""Seconds within which the launchers of all machines must have met."""
_MAIN = "from ftcheck.executors.launched import main; main({!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What of a training is done on this machine."""

    processes: int
    """Here."""
    node: int = 0
    """Which machine this is; the first one has the ranks from 0 on."""
    nodes: int = 1
    endpoint: str = ""
    """HOST:PORT, of the first machine, where several meet."""

    @property
    def ranks(self) -> range:
        first = self.node * self.processes
        return range(first, first + self.processes)

    def meeting(self, place: str) -> dict[str, Any]:
        """How the launchers meet, as fields of torch's LaunchConfig: one alone in its private folder."""
        if self.nodes == 1:
            return {
                "rdzv_backend": "c10d",
                "rdzv_endpoint": f"{place}/rendezvous",
                "rdzv_configs": {"store_type": "file"},
                "local_addr": "localhost",
            }
        return {
            "rdzv_backend": "static",
            "rdzv_endpoint": self.endpoint,
            "rdzv_configs": {"rank": self.node, "timeout": JOINING},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The first message: who this is. The launcher has no rank."""

    rank: int | None
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """To each rank, after a `Hello`: what to train."""

    job: Job
    model: Path
    """Where the first rank leaves the model."""
    timeout: Timeout | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """From a rank: it did its part. The first one saved the model."""

    trained: Trained
    warnings: tuple[str, ...]
    """Of its store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """From a rank: it failed, and ends."""

    failed: Failed
    at: float
    """Seconds since the epoch: who failed first is the cause."""
    follows: bool
    """Whether it failed for want of another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """From the launcher: no rank is left."""

    codes: Mapping[int, int]
    """Rank -> exit status, negative for a signal, of those that ended first and not well."""


def command(place: str, part: Part) -> str:
    """The Python code that `launch`es."""
    given = ", ".join(f"{name}={value!r}" for name, value in asdict(part).items())
    return f"from ftcheck.executors.launched import Part, launch; launch({place!r}, Part({given}))"


def launch(place: str, part: Part) -> None:
    """Be the launcher: start the ranks of `part`, which find their parent in the folder `place`, and wait until they
    have ended."""
    pipe = _connected(place, None)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=part.nodes,
        max_nodes=part.nodes,
        nproc_per_node=part.processes,
        run_id="ftcheck",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=f"{place}/{LOGS}", redirects=Std.ALL),
        **part.meeting(place),
    )
    codes = {}
    try:
        elastic_launch(config, sys.executable)("-c", _MAIN.format(place))
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
    pipe.send(Ended(codes=codes))


def main(place: str) -> None:
    """Be a rank, as the launcher's variables say which: train, and the first one saves."""
    privacy.begin()
    pipe = _connected(place, int(os.environ["RANK"]))
    hello: Hello = pipe.recv()
    sys.path[:] = hello.path
    os.chdir(hello.folder)
    try:
        order: Training = pipe.recv()  # which imports what suites name
        threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
        _train(order, Path(place), telling_store(hello.root, pipe), pipe)
    except Exception as error:  # noqa: BLE001  whatever it is, the parent raises it
        pipe.send(Broken(failed=Failed.of(error), at=time(), follows=_follows(error)))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)  # the others, which wait for this one, are ended by the launcher


def _follows(error: Exception) -> bool:
    """Whether it is what gloo and NCCL raise where another process is gone."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or "/gloo/" in str(error)


def _train(order: Training, place: Path, store: Store, pipe: Connection) -> None:
    from ftcheck.executors.deadline import deadline
    from ftcheck.executors.sharing import sharing
    from ftcheck.finetune import together
    from ftcheck.finetune.answering import silent
    from ftcheck.finetune.session import FineTuning

    job = order.job
    if job.device.startswith("cuda"):
        job = replace(job, device=f"cuda:{os.environ['LOCAL_RANK']}")
    together.check(job.case.resources.processes, int(os.environ["WORLD_SIZE"]))
    together.join(
        (place / MEETING).as_uri() if os.environ["GROUP_WORLD_SIZE"] == "1" else "env://",
        rank=int(os.environ["RANK"]),
        processes=job.case.resources.processes,
        device=job.device,
    )
    first = together.is_first()
    share = sharing(store, lambda message: pipe.send(Waiting(message=message)) if first else None)
    with (
        deadline(order.timeout),
        FineTuning(job, telling_progress(pipe.send) if first else silent, share=share) as tuning,
    ):
        trained = tuning.train()
        if first:
            tuning.save(order.model)
    pipe.send(Made(trained=trained, warnings=tuple(store.warnings)))


def _connected(place: str, rank: int | None) -> Connection:
    """A pipe to the parent. Who finds none has nobody to work for."""
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(f"{place}/{SOCKET}")
        pipe = Connection(made.detach())
    pipe.send(Joined(rank=rank, pid=os.getpid()))
    return pipe


def _end_with(pipe: Connection) -> None:
    """End this process when the parent does, which says nothing more."""
    try:
        pipe.recv()
    except (EOFError, OSError):
        os._exit(1)
