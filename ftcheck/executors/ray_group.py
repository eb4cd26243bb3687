"""One training on several nodes of a Ray cluster: on each but the first, an actor starts that node's processes.

The nodes are those of the run's placement group. Ray brings code, files and environment to each, as to any run; what
the processes tell each other of the training goes over torch.distributed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftcheck import privacy
from ftcheck.errors import TrainingError
from ftcheck.executors import Work, launching, ray_cluster, ray_node
from ftcheck.executors.outcome import Outcome
from ftcheck.executors.ray_node import Errand, Lacking, Started
from ftcheck.executors.slot import Failed

if TYPE_CHECKING:
    from ftcheck.finetune import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """What a run says that has lost one of its other nodes, or its actor there."""

    started: Started | None
    """Where that was; None where it had not begun."""


def asked(job: Job) -> dict[str, Any]:
    """What a run asks of each of its nodes, as Ray's options."""
    resources = job.case.resources
    processes = resources.processes // resources.nodes
    options: dict[str, Any] = {"num_cpus": (resources.cpus or 1) * processes}
    if job.device.startswith("cuda"):
        options["num_gpus"] = processes if processes > 1 else min(resources.gpus or 1, 1)
    elif resources.memory is not None:
        options["memory"] = resources.memory * processes
    return options


def bundle(job: Job) -> dict[str, float]:
    """The same, as Ray names it in nodes and placement groups."""
    names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
    return {names[option]: amount for option, amount in asked(job).items()}


def placed(job: Job) -> Any:
    """A placement group for a run on several nodes, which Ray makes as soon as they have room; None for others."""
    from ray.util import placement_group

    nodes = job.case.resources.nodes
    return placement_group([bundle(job)] * nodes, strategy="STRICT_SPREAD") if nodes > 1 else None


def within(group: Any, node: int) -> dict[str, Any]:
    """Ray's option for what runs on the `node`-th node of a placement group."""
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    return {"scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=node)}


class Helper:
    """An actor: what a node does that isn't the first one of its training."""

    def __init__(self) -> None:
        privacy.begin()
        ray_node.end_with_node()
        self._started = ray_node.where()

    def look(self, errand: Errand) -> tuple[Started, Lacking]:
        """Where this is, and what is lacking here."""
        ray_node.find_modules(errand)
        return self._started, ray_node.lacking(errand)

    def attend(self, errand: Errand, node: int, endpoint: str) -> Outcome | Failed:
        """Train, with processes of this node, until they have ended. What they publish stays here."""
        address = self._started.address
        try:
            with ray_node.ready(errand, [], address) as (order, store, refuse_changed):
                work = Work(
                    job=order.job,
                    train=order.train,
                    predict=order.predict,
                    timeout=order.timeout,
                    refuse_changed=refuse_changed,
                )
                outcome = launching.attend(work, store, node, endpoint, address)
                refuse_changed()
                return outcome
        except Exception as error:  # noqa: BLE001  whatever it is, the first node raises it
            return Failed.of(error)


class Others:
    """The other nodes of a run, seen from its first one: `launching.Elsewhere`."""

    def __init__(self, errand: Errand) -> None:
        import ray

        self.address: str = ray.util.get_node_ip_address()
        self.gone: Gone | None = None
        self._errand = errand
        self._started: list[Started] = []
        self._under_way: list[Any] = []
        """Of each helper, what it does."""
        group, job = ray.util.get_current_placement_group(), errand.order.job
        self._helpers = [
            ray.remote(Helper).options(**asked(job), **within(group, node)).remote()
            for node in range(1, job.case.resources.nodes)
        ]

    def lacking(self) -> Lacking:
        """What is lacking on any of them. Raises TrainingError, having noted it, where one is gone."""
        import ray

        try:
            found = ray.get([helper.look.remote(self._errand) for helper in self._helpers])
        except ray.exceptions.RayActorError:
            self.gone = Gone(started=None)
            raise TrainingError("a node that was to train is gone") from None
        self._started = [started for started, _ in found]
        return Lacking(files=any(each.files for _, each in found), store=any(each.store for _, each in found))

    def begin(self, endpoint: str) -> None:
        self._under_way = [
            helper.attend.remote(self._errand, node, endpoint) for node, helper in enumerate(self._helpers, start=1)
        ]

    def failed(self) -> bool:
        import ray

        done, _ = ray.wait(self._under_way, num_returns=len(self._under_way), timeout=0)
        try:
            return any(isinstance(each, Failed) or not each.well for each in ray.get(done))
        except ray.exceptions.RayActorError:
            return True

    def outcomes(self, seconds: float | None) -> Sequence[Outcome]:
        import ray

        done, _ = ray.wait(self._under_way, num_returns=len(self._under_way), timeout=seconds)
        found = []
        for started, doing in zip(self._started, self._under_way, strict=True):
            try:
                found += [ray.get(doing)] if doing in done else []
                lost = doing not in done and not ray_cluster.alive(started.node)
            except ray.exceptions.RayActorError:
                lost = True
            if lost:
                self.gone = Gone(started=started)
                raise TrainingError(f"the process that trained on the node {started.address} is gone")
        for each in found:
            if isinstance(each, Failed):
                raise each.error()
        return found

    def end(self) -> None:
        """No helper is left afterwards, nor what it started."""
        import ray

        for helper in self._helpers:
            ray.kill(helper)


@contextmanager
def others(errand: Errand) -> Iterator[Others | None]:
    """The other nodes of a run; None where it has none."""
    if errand.order.job.case.resources.nodes == 1:
        yield None
        return
    found = Others(errand)
    try:
        yield found
    finally:
        found.end()
