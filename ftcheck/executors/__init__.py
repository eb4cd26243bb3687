"""Where a fine-tuning happens, never what. An executor leaves its results in the run store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ftcheck.devices import Device
    from ftcheck.executors.deadline import Timeout
    from ftcheck.finetune import Job, OnProgress
    from ftcheck.keys import Key
    from ftcheck.settings import Settings
    from ftcheck.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchWork:
    """A search that the runs of a case share."""

    job: Job
    """What the search's own runs are like."""
    key: Key
    redo: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One run to bring into the store: train unless it is there, then predict unless that is there."""

    job: Job
    train: Key
    predict: Key
    refuse_changed: Callable[[], None]
    """To be called just before a stage is published: raises where an input is no longer what the keys say."""
    redo: bool = False
    """`--ft-cache=refresh`: make both again, whatever the store has, and replace what it had."""
    search: SearchWork | None = None
    """What has to be found before the training."""
    after: tuple[str, ...] = ()
    """Digests of the train keys of other work, begun before this, whose models it needs."""
    timeout: Timeout | None = None
    """Of the training, and of the predicting."""


class Executor(Protocol):
    """Brings runs into the store."""

    works_ahead: bool
    """Whether there is a point in `begin`."""

    def begin(self, work: Work, seconds: float | None) -> None:
        """Say that `work` will be asked for: who can, begins with it. `seconds`: how long it took before."""

    def begun(self, predict: Key) -> bool:
        """Whether the work with this key was begun and not yet asked for."""

    def produce(
        self, work: Work, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]
    ) -> frozenset[str]:
        """Afterwards the store has both stages. Returns those made just now (`train`, `predict`); the others were
        found.

        Raises whatever kept a stage from being made; nothing half-made is published.
        """

    def close(self) -> None:
        """Give back what the executor holds. What was begun and not asked for is not made."""


def of(settings: Settings, device: Device, root: Path) -> Executor:
    """The executor that the settings name, with the run store at `root`."""
    if settings.executor == "inline" and (settings.jobs or 1) == 1:
        from ftcheck.executors import inline

        return inline.InlineExecutor()
    from ftcheck.executors.local import LocalExecutor

    devices = spread(settings.device, device)
    return LocalExecutor(jobs=settings.jobs or len(devices), devices=devices, root=root)


def spread(named: str, device: Device) -> Sequence[Device]:
    """What trainings are spread over: all CUDA devices where --ft-device names none of them, else the one."""
    if device.kind != "cuda" or ":" in named:
        return (device,)
    from ftcheck.devices import cuda

    return cuda().devices
