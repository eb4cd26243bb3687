"""Where a fine-tuning happens, never what. An executor leaves its results in the run store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ftcheck import machine
from ftcheck.errors import TrainingError

if TYPE_CHECKING:
    from ftcheck.devices import Device
    from ftcheck.executors.deadline import Timeout
    from ftcheck.executors.launching import Elsewhere
    from ftcheck.finetune import Job, OnProgress
    from ftcheck.keys import Key
    from ftcheck.settings import Settings
    from ftcheck.spec import Case
    from ftcheck.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchWork:
    """A hyperparameter search whose result all runs of a case share."""

    job: Job
    """The template of the trials: they differ from it in what is searched."""
    key: Key
    redo: bool = False
    """Search again, even if the store has a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One run to bring into the store: train unless the model is there, then predict unless the predictions are."""

    job: Job
    train: Key
    predict: Key
    refuse_changed: Callable[[], None]
    """Called just before a stage is published, from any thread. Raises TrainingError where an input is no longer what
    the keys were made of."""
    redo: bool = False
    """`--ft-cache=refresh`: make both stages again and replace what the store had."""
    search: SearchWork | None = None
    """The search that has to be done before the training; None where the case has none."""
    after: tuple[str, ...] = ()
    """Train keys (digests) of other work whose models this one starts from; it was begun before this."""
    timeout: Timeout | None = None
    """The limit of each stage, training and predicting."""
    visible: tuple[str, ...] = ()
    """The devices that a training in several processes may use, as CUDA_VISIBLE_DEVICES names them; empty: all that
    this process sees."""
    peak: int | None = None
    """Bytes of memory at most in use when a run of the case like this one was trained the last time."""
    elsewhere: Elsewhere | None = None
    """The other machines of a training on several, this one being the first."""
    commits: Mapping[str, str] = field(default_factory=dict)
    """Which commits names on the Hub stood for when the keys were made, as in `Identifier.commits`."""


MOST_ON_DEVICE = 8
"""Trainings at once on one GPU, unless --ft-jobs says more: small models keep a large device busy by then."""


class Executor(Protocol):
    """Brings runs into the store. `begin` announces work, `produce` waits until it is done."""

    works_ahead: bool
    """Whether `begin` does anything: whether runs are made before a test asks for them."""

    def begin(self, work: Work, seconds: float | None) -> None:
        """Announce that `work` will be asked for, so that it can be started in the background. `seconds`: how long it
        took the last time, None where nobody knows."""

    def begun(self, predict: Key) -> bool:
        """Whether the work with this predict key was announced and not asked for yet."""

    def produce(
        self, work: Work, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]
    ) -> frozenset[str]:
        """Bring both stages into the store, and wait until they are there. Returns the stages that were made for this
        (`train`, `predict`); the others were in the store already.

        Raises whatever kept a stage from being made; nothing half-made is published.
        """

    def close(self) -> None:
        """End the executor's processes and give back what it holds. Work that nobody asked for is dropped."""


def refuse_alone(case: Case) -> None:
    """Raise TrainingError where a training asks for other machines, which only Ray has."""
    nodes = case.resources.nodes
    if nodes > 1:
        raise TrainingError(
            f"resources.nodes: {nodes} is a training on {nodes} machines, which --ft-executor=ray finds: leave it out "
            "to train on this one"
        )


def of(settings: Settings, device: Device, root: Path) -> Executor:
    """The executor that the settings name, with the run store at `root`. In pytest's own process runs wait for leases
    where the system has them."""
    devices = spread(settings.device, device)
    if settings.executor == "inline" and (settings.jobs or 1) == 1:
        from ftcheck.executors import inline
        from ftcheck.executors.leased import LeasedExecutor

        if find_spec("fcntl") is None:  # Windows has no such locks as leases are made of
            return inline.InlineExecutor()
        return LeasedExecutor(executor=inline.InlineExecutor(), devices=devices)
    if settings.executor == "ray":
        from ftcheck.executors.ray import RayExecutor

        return RayExecutor(address=settings.ray_address, jobs=settings.jobs, root=root)
    from ftcheck.executors.local import LocalExecutor

    return LocalExecutor(jobs=settings.jobs or slots(devices), devices=devices, root=root)


def slots(devices: Sequence[Device]) -> int:
    """How many trainings at once where nobody says: one on a CPU; on GPUs as many as have memory, at most
    MOST_ON_DEVICE on each, and no more than there are cores."""
    if devices[0].kind != "cuda":
        return 1
    return min(MOST_ON_DEVICE * len(devices), max(len(devices), len(machine.cores())))


def spread(named: str, device: Device) -> Sequence[Device]:
    """What trainings are spread over: all CUDA devices where --ft-device names none of them, else the one."""
    if device.kind != "cuda" or ":" in named:
        return (device,)
    from ftcheck.devices import cuda

    return cuda().devices
