"""Fine-tunes on a Ray cluster: each run is a task of Ray's, on whichever node has what it asks for.

Ray queues what is ready; the longest is handed to it first. A run whose node dies is begun again on another; what a
training itself raises is an error at once, and so is a process that dies on a node that lives on. Everything here
happens in the thread that asks for a result.
"""

from __future__ import annotations

import os
import secrets
import sys
import sysconfig
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from ftcheck import inputs
from ftcheck.errors import FtcheckError, TrainingError, shown
from ftcheck.executors import ahead, needs, parcels, ray_cluster, ray_group
from ftcheck.executors.ahead import Task
from ftcheck.executors.parcels import EntryParcel, Parcel
from ftcheck.executors.ray_cluster import Joined
from ftcheck.executors.ray_group import Gone
from ftcheck.executors.ray_node import Answer, Errand, Lacking, Mailbox, Started, follow, reproduce, tail
from ftcheck.executors.slot import Done, Order, SlotError, Waiting
from ftcheck.keys.files import FileHashes
from ftcheck.store import Store
from ftcheck.store.entry import DamageError

if TYPE_CHECKING:
    from ftcheck.executors import Work
    from ftcheck.finetune import OnProgress
    from ftcheck.keys import Key
    from ftcheck.spec import Case

POLL = 0.2
"""Seconds between two looks at what runs say."""
RETRIES = 3
"""How often a run is begun again whose node died."""
SETTLE = 5.0
"""Seconds for which a node must live on before a process that died on it is taken for dead by itself."""
GRACE = 60.0
"""Seconds that a run has to stop what took too long, and to load before it."""
UNWIND = 5.0
"""Seconds that runs have to put away what they hold when the session ends."""
AUTOSCALING = 600.0
"""Seconds for which a run waits for a node that has what it asks for: a cluster may grow."""


@dataclass(eq=False, slots=True, kw_only=True)
class _Task(Task):
    ref: Any = None
    """What Ray calls it, while it is under way."""
    group: Any = None
    """The placement group of a run on several nodes, as long."""
    started: Started | None = None
    lost: float | None = None
    """When its process was found to be gone, while it isn't known why."""
    retries: list[str] = field(default_factory=list)
    """The nodes that died under it."""
    lacks_files: bool = False
    lacks_store: bool = False
    """What a node has said."""
    searches: bool = False
    """Whether it is its search that comes next. One by Ray Tune asks for what its trials take; the run that waits for
    them would hold the devices that they need."""


@dataclass(eq=False, kw_only=True)
class RayExecutor:
    """Trains and predicts on a Ray cluster."""

    address: str | None
    jobs: int | None
    """The most runs at once; None: as many as the cluster takes."""
    root: Path
    """Of the run store."""
    works_ahead: bool = True
    _tasks: dict[str, _Task] = field(default_factory=dict)
    """Predict digest -> what was begun, in order."""
    _token: str = field(default_factory=lambda: secrets.token_hex(16))
    _parcels: dict[str, Parcel] = field(default_factory=dict)
    """What nodes were sent: the path of a file -> it."""
    _entries: dict[str, EntryParcel] = field(default_factory=dict)
    """The same, of the store: the checksum of a manifest -> its entry."""
    _mailbox: Any = None
    _joined: Joined | None = None
    _refused: FtcheckError | None = None
    """Why there is no cluster."""

    def begin(self, work: Work, seconds: float | None) -> None:
        """As `Executor.begin`. The cluster is asked for nothing before somebody asks for a result."""
        task = self._task(work)
        if seconds is not None and not task.asked:
            task.seconds = seconds

    def begun(self, predict: Key) -> bool:
        return predict.digest in self._tasks

    def produce(
        self, work: Work, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]
    ) -> frozenset[str]:
        """As `Executor.produce`."""
        task = self._task(work)
        task.asked = True
        try:
            self._connect()
            while task.pending:
                self._submit()
                self._serve(task, on_progress, on_wait)
        finally:
            if not task.under_way:
                self._tasks.pop(work.predict.digest, None)
        return ahead.hand_over(self._tasks, task, store)

    def _task(self, work: Work) -> _Task:
        if work.predict.digest not in self._tasks:
            searches = work.search is not None and _by_ray(work.job.case)
            self._tasks[work.predict.digest] = _Task(work=work, searches=searches)
        return self._tasks[work.predict.digest]

    def close(self) -> None:
        """End what is under way. It is not published."""
        if self._mailbox is not None:
            self._end_all()
            self._probe.unlink(missing_ok=True)
        if self._joined is not None:
            self._joined.leave()
        self._mailbox, self._joined = None, None

    def _end_all(self) -> None:
        import ray

        running = [task for task in self._tasks.values() if task.under_way]
        refs = [task.ref for task in running]
        self._tasks.clear()
        self._parcels.clear()
        self._entries.clear()
        with suppress(ray.exceptions.RayError, ConnectionError):
            for ref in refs:
                ray.cancel(ref)
            _, left = ray.wait(refs, num_returns=len(refs), timeout=UNWIND) if refs else ([], [])
            for ref in left:
                ray.cancel(ref, force=True)
            if left:
                ray.wait(left, num_returns=len(left), timeout=UNWIND)
            for task in running:
                _stopped(task)
            ray.kill(self._mailbox)

    @property
    def _probe(self) -> Path:
        """Who sees this sees the store. The store's own cleaning takes it away where nobody did."""
        return self.root / "tmp" / f"{self._token}.probe"

    def _connect(self) -> None:
        """Raises what keeps the cluster from being used, every time that it is asked for."""
        if self._refused is not None:
            raise self._refused
        if self._mailbox is not None:
            return
        try:
            self._joined = ray_cluster.connect(self.address)
        except FtcheckError as error:
            self._refused = error
            raise
        self._mailbox = _new_mailbox()

    def _submit(self) -> None:
        """Hand to Ray what is ready, the longest first."""
        for task in ahead.ready(self._tasks):
            if self.jobs is not None and sum(other.under_way for other in self._tasks.values()) >= self.jobs:
                return
            if not self._forgotten(task):
                return
            try:
                self._send(task)
            except (FtcheckError, OSError) as error:
                self._ended(task, error if isinstance(error, FtcheckError) else TrainingError(str(error)))

    def _forgotten(self, task: _Task) -> bool:
        """Whether nothing that an earlier try said will be heard any more: it might come after what the next one says.
        If not, the mailbox doesn't answer now, and is asked again later."""
        import ray

        try:
            ray.get(self._mailbox.forget.remote(task.work.predict.digest))
        except ray.exceptions.ActorUnavailableError:
            return False
        except ray.exceptions.RayError:  # it is gone, and what it was told
            self._mailbox = _new_mailbox()
        return True

    def _send(self, task: _Task) -> None:
        import ray

        job = task.work.job
        options = {"num_cpus": 0} if task.searches else ray_group.asked(job)
        task.group = ray_group.placed(job)
        if task.group is not None:
            options |= ray_group.within(task.group, 0)
        threads = job.case.resources.cpus or needs.said_threads() or 1
        runtime = {"env_vars": {needs.THREADS: str(threads)}}
        # Ray's own retries would also repeat a process that dies of what it does.
        remote = ray.remote(follow).options(max_retries=0, runtime_env=runtime, **options)
        task.ref, task.under_way = remote.remote(self._errand(task), self._mailbox), True
        task.started, task.lost, task.begun = None, None, monotonic()

    def _errand(self, task: _Task) -> Errand:
        work = task.work
        self._probe.parent.mkdir(parents=True, exist_ok=True)
        self._probe.write_text(self._token, "ascii")
        places = list(dict.fromkeys(inputs.places(work.job.case)))
        hashes = FileHashes(self.root / "memo")
        files = {str(path): hashes.digest(path) for place in places for path in inputs.files(place)}
        return Errand(
            name=work.predict.digest,
            order=_order(work),
            root=self.root,
            token=self._token,
            path=tuple(_own_path()),
            folder=os.getcwd(),
            commits=work.commits,
            places=tuple(map(str, places)),
            only_search=task.searches,
            files=files,
            parcels=self._packed_files(files) if task.lacks_files else None,
            entries=self._packed_entries(work) if task.lacks_store else None,
        )

    def _packed_files(self, files: Mapping[str, str]) -> Mapping[str, Parcel]:
        for path, digest in files.items():
            if path not in self._parcels or self._parcels[path].blake3 != digest:
                self._parcels[path] = parcels.packed(Path(path))
        return {path: self._parcels[path] for path in files}

    def _packed_entries(self, work: Work) -> tuple[EntryParcel, ...]:
        """What of the store the run may need: the models that it starts from, what its search found, and what of itself
        is there."""
        store = Store(self.root)
        wanted: list[tuple[Any, str]] = [("runs", digest) for digest in work.job.parent_keys.values()]
        if not work.redo:
            wanted.append(("runs", work.train.digest))
        if work.search is not None and not work.search.redo:
            wanted.append(("searches", work.search.key.digest))
        packed = []
        for stage, digest in wanted:
            entry = store.get(stage, digest)
            if entry is not None:
                named = entry.manifest["checksum"]
                if named not in self._entries:
                    self._entries[named] = parcels.packed_entry(entry)
                packed.append(self._entries[named])
        return tuple(packed)

    def _serve(self, asked: _Task, on_progress: OnProgress, on_wait: Callable[[str], None]) -> None:
        """Take what runs say and what they come to, for a moment."""
        import ray

        running = {task.ref: task for task in self._tasks.values() if task.under_way and task.lost is None}
        refs = list(running)
        done: list[Any] = []
        if refs:
            done, _ = ray.wait(refs, timeout=POLL)
        else:
            sleep(POLL)
        for digest, said in self._heard().items():
            task = self._tasks.get(digest)
            if task is None:
                continue
            for message in said.values():
                if isinstance(message, Started):
                    if message != task.started:
                        task.started, task.begun = message, monotonic()
                elif task is asked and isinstance(message, Waiting):
                    on_wait(message.message)
                elif task is asked:
                    on_progress(message)
        for ref in done:
            self._take(running[ref])
        self._watch(asked, on_wait)

    def _heard(self) -> dict[str, dict[str, Any]]:
        import ray

        heard: dict[str, dict[str, Any]] = {}
        try:
            heard = ray.get(self._mailbox.heard.remote())
        except ray.exceptions.ActorUnavailableError:  # for a moment or for good, as the next call tells
            pass
        except ray.exceptions.RayError:  # it is gone: of those that know the old one no more is heard until they end
            self._mailbox = _new_mailbox()
        return heard

    def _take(self, task: _Task) -> None:
        """What a run came to."""
        import ray
        from ray import exceptions

        try:
            answer: Answer | Lacking | Gone = ray.get(task.ref)
            if isinstance(answer, Gone):
                task.started, task.lost = answer.started, monotonic()
                return
            if isinstance(answer, Lacking):
                task.lacks_files, task.lacks_store = (
                    task.lacks_files or answer.files,
                    task.lacks_store or answer.store,
                )
                _stopped(task)
                return
            for entry in answer.entries:
                parcels.take(entry, Store(self.root))
        except (
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.LocalRayletDiedError,
            exceptions.ObjectLostError,
        ):
            task.lost = monotonic()
            return
        except (exceptions.RayError, DamageError) as error:
            self._ended(task, TrainingError(_why(error)))
            return
        except FtcheckError as error:
            self._ended(task, error)
            return
        task.published.extend(answer.published)
        if task.searches and isinstance(answer.outcome, Done):
            assert task.work.search is not None
            task.work = replace(task.work, search=replace(task.work.search, redo=False))
            task.searches = False
            _stopped(task)
        elif isinstance(answer.outcome, Done):
            notes = tuple(
                f"the node {node} died while {task.work.job.case.id} was trained there; it was trained on another"
                for node in task.retries
            )
            self._ended(task, replace(answer.outcome, warnings=(*answer.outcome.warnings, *notes)))
        else:
            self._ended(task, answer.outcome.error())

    def _watch(self, asked: _Task, on_wait: Callable[[str], None]) -> None:
        """See to what is lost, too late, or not to be had."""
        for task in [task for task in self._tasks.values() if task.under_way]:
            timeout = task.work.timeout
            if task.lost is not None:
                self._lost(task, on_wait if task is asked else lambda message: None)
            elif task.started is None:
                self._wait_for_node(task, on_wait if task is asked else lambda message: None)
            elif timeout is not None and monotonic() > task.begun + 2 * timeout.seconds + GRACE:
                self._cancel(task)
                self._ended(task, timeout.error("from outside, since it didn't stop by itself"))

    def _lost(self, task: _Task, on_wait: Callable[[str], None]) -> None:
        """The process of a run is gone: with its node, or by itself."""
        assert task.lost is not None
        started = task.started
        if started is not None and ray_cluster.alive(started.node):
            if monotonic() - task.lost >= SETTLE:
                self._ended(task, TrainingError(self._last_words(task, started)))
            return
        where = started.address if started is not None else "that was to train it"
        if len(task.retries) == RETRIES:
            nodes = ", ".join(task.retries)
            self._ended(task, TrainingError(f"the nodes that trained it died, one after the other: {nodes}, {where}"))
            return
        task.retries.append(where)
        on_wait(f"the node {where} died: begun again on another")
        _stopped(task)
        task.lost = None

    def _last_words(self, task: _Task, started: Started) -> str:
        """What is told of a process that died while its node lives on."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(started.node, soft=False)
        said = ""
        with suppress(ray.exceptions.RayError):
            said = ray.get(
                ray.remote(tail).options(num_cpus=0, scheduling_strategy=there).remote(started.logs), timeout=GRACE
            )
        last = f"; the last that it printed: {shown(said[-500:], 500)}" if said else ""
        return (
            f"the process that trained it on the node {started.address} of the Ray cluster is gone (out of memory? ask "
            f"for more with resources: memory, or lower per_device_train_batch_size){last}; to see it here: "
            f"{reproduce(_order(task.work))}"
        )

    def _wait_for_node(self, task: _Task, on_wait: Callable[[str], None]) -> None:
        """A run that asks for what no node has waits for one that may come; not where the cluster is ours."""
        import ray

        job = task.work.job
        wanted = {} if task.searches else ray_group.bundle(job)
        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fit = sum(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in there)
        if fit >= job.case.resources.nodes:
            task.begun = monotonic()
            return
        told = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items())
        nodes = job.case.resources.nodes
        lack = "no node of the Ray cluster has" if nodes == 1 else f"{fit} of the {nodes} nodes wanted have"
        why = f"{lack} what it asks for ({told}{' of each' if nodes > 1 else ''})"
        grows = self._joined is not None and not self._joined.own
        if monotonic() - task.begun >= (AUTOSCALING if grows else 0.0):
            self._cancel(task)
            self._ended(task, TrainingError(f"{why}: lower its `resources`, or add a node"))
        else:
            on_wait(why)

    def _cancel(self, task: _Task) -> None:
        import ray

        ray.cancel(task.ref, force=True)

    def _ended(self, task: _Task, result: Done | FtcheckError | SlotError) -> None:
        task.result = result
        _stopped(task)
        if not isinstance(result, Done):
            ahead.forget(self._tasks, task)


def _stopped(task: _Task) -> None:
    """It is no longer under way: what of it Ray still has on several nodes ends."""
    from ray.util import remove_placement_group

    if task.group is not None:
        remove_placement_group(task.group)
    task.under_way, task.ref, task.group = False, None, None


def _new_mailbox() -> Any:
    """A mailbox on the node that this process is connected to: it lives as long as that."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()


def _order(work: Work) -> Order:
    """A process of Ray's sees its own GPUs only."""
    return Order.of(work, "cuda:0" if work.job.device.startswith("cuda") else work.job.device)


def _by_ray(case: Case) -> bool:
    """Whether the trials of the case's search are Ray's."""
    from ftcheck.finetune import techniques

    searching = techniques.searching(case)
    return searching is not None and searching.given.get("backend") == "ray"


def _own_path() -> list[str]:
    """What of `sys.path` is the user's own: neither Python's library nor where packages are installed."""
    installed = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    places = dict.fromkeys(os.path.abspath(place) for place in sys.path)
    return [
        place
        for place in places
        if os.path.isdir(place)
        and not any(Path(place).is_relative_to(each) for each in installed)
        and not {"site-packages", "dist-packages"} & set(Path(place).parts)
    ]


def _why(error: Exception) -> str:
    """An error of Ray's in one sentence."""
    from ray import exceptions

    if isinstance(error, exceptions.OutOfMemoryError):
        return (
            "its node ran out of memory, and Ray ended it: ask for more with resources: memory, or lower "
            "per_device_train_batch_size"
        )
    if isinstance(error, exceptions.RuntimeEnvSetupError):
        return f"its node could not be set up: {shown(error, 1000)}"
    if isinstance(error, exceptions.RayTaskError):
        error = error.cause or error
        return f"its node of the Ray cluster could not take it: {_first_line(error)}"
    return f"the Ray cluster failed: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    """Without the traceback that Ray puts into its messages."""
    return f"{type(error).__name__}: {shown((str(error).strip().splitlines() or [''])[0], 500)}"
