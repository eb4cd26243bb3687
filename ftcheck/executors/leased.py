"""Runs of this process behind leases: pytest's own process, or one of pytest-xdist's workers, takes its part of the
machine before it trains, and gives it back when the run is in the store."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftcheck.devices import Device
    from ftcheck.executors import Executor, Work
    from ftcheck.executors.leases import Leases
    from ftcheck.finetune import OnProgress
    from ftcheck.keys import Key
    from ftcheck.store import Store


@dataclass(kw_only=True)
class LeasedExecutor:
    """What `executor` does, on whichever of `devices` has room for it."""

    executor: Executor
    devices: Sequence[Device]
    works_ahead: bool = False

    @cached_property
    def leases(self) -> Leases:
        from ftcheck.executors.leases import Leases

        return Leases(self.devices)

    def begin(self, work: Work, seconds: float | None) -> None:
        self.executor.begin(work, seconds)

    def begun(self, predict: Key) -> bool:
        return self.executor.begun(predict)

    def close(self) -> None:
        self.executor.close()

    def produce(
        self, work: Work, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]
    ) -> frozenset[str]:
        """As `Executor.produce`. Raises TrainingError, too, for what the machine can't give.

        How many threads torch has in this process was settled when it was imported: a suite's `cpus` don't count.
        """
        from ftcheck.executors import needs  # here, since most sessions find all they need

        device = self.devices[0]
        threads = needs.own_threads(len(self.leases.cores), on_gpu=device.kind == "cuda")
        with self.leases.lease(needs.of(_without_cpus(work), device, threads=threads), on_wait) as lease:
            return self.executor.produce(_on(work, lease.devices), store, on_progress, on_wait)


def _without_cpus(work: Work) -> Work:
    case = replace(work.job.case, resources=replace(work.job.case.resources, cpus=None))
    return replace(work, job=replace(work.job, case=case))


def _on(work: Work, devices: Sequence[Device]) -> Work:
    """The work, to be done on these."""
    from ftcheck.executors.process import visible

    name, given = str(devices[0]), os.environ.get("CUDA_VISIBLE_DEVICES")
    return replace(
        work,
        job=replace(work.job, device=name),
        search=work.search and replace(work.search, job=replace(work.search.job, device=name)),
        visible=tuple(visible(device.index, given) for device in devices if device.kind == "cuda"),
    )
