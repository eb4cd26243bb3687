"""One run on a node of a Ray cluster.

A node may have other files, libraries and disks than the machine where pytest runs. So the keys are made once more
here, out of what is here, before anything is trained and again before it is published. What a node lacks it says, and
is given: files that the case names, and entries of the run store where it doesn't see that.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import TYPE_CHECKING, Any

from ftcheck import privacy
from ftcheck.errors import FtcheckError, TrainingError, shown
from ftcheck.executors import parcels
from ftcheck.executors.parcels import EntryParcel, Parcel
from ftcheck.executors.slot import Done, Failed, Order, Published, bring

if TYPE_CHECKING:
    from ftcheck.executors.ray_group import Gone, Others
    from ftcheck.finetune import Job
    from ftcheck.keys import Identifier
    from ftcheck.store import Store

LOG_TAIL = 2000
"""Bytes of what a process printed last."""
_HERE = os.getcwd()
"""Where Ray put the Python files of pytest's working directory, if it did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a node is asked to do, and where it may find what it takes."""

    name: str
    order: Order
    root: Path
    """Of the run store, where pytest runs."""
    token: str
    """Of a file in it: whoever sees that sees the store."""
    path: tuple[str, ...]
    """What of `sys.path` isn't installed."""
    folder: str
    """pytest's working directory."""
    commits: Mapping[str, str]
    """As `Identifier.commits`."""
    places: tuple[str, ...]
    """Local files and folders that the case names."""
    files: Mapping[str, str]
    """Absolute path of each file in them -> its blake3."""
    only_search: bool
    """Find what must be found before the training, and no more."""
    parcels: Mapping[str, Parcel] | None = None
    """The files, once a node has said that it lacks one."""
    entries: tuple[EntryParcel, ...] | None = None
    """What of the store the run may need, once a node has said that it doesn't see that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Where a run is."""

    node: str
    address: str
    logs: tuple[tuple[str, int], ...]
    """Files that its process prints to, and how long they were when it began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """Nothing was begun: this is what the node hasn't got."""

    files: bool
    store: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a run, and what it has published, in the order in which it did."""

    outcome: Done | Failed
    published: tuple[Published, ...]
    entries: tuple[EntryParcel, ...] = ()
    """The same, packed, where the node doesn't see the store."""


class Mailbox:
    """An actor: where runs say how far they are. Of each the last word of a kind is kept."""

    def __init__(self) -> None:
        self._said: dict[str, dict[str, Any]] = {}

    def say(self, name: str, message: object) -> None:
        self._said.setdefault(name, {})[type(message).__name__] = message

    def heard(self) -> dict[str, dict[str, Any]]:
        """What was said since the last call: run -> kind -> message; where a run is, each time, since an answer may be
        lost on its way."""
        said, kept = self._said, Started.__name__
        self._said = {name: {kept: of[kept]} for name, of in said.items() if kept in of}
        return said

    def forget(self, name: str) -> None:
        """A run begins anew."""
        self._said.pop(name, None)


def follow(errand: Errand, mailbox: Any) -> Answer | Lacking | Gone:
    """Bring what is ordered into the store, or into one of this node's own whose entries are sent back."""
    import ray

    from ftcheck.executors import ray_group

    privacy.begin()
    end_with_node()
    started = where()
    with suppress(ray.exceptions.RayError):  # a run that nobody hears of is made all the same
        ray.get(mailbox.say.remote(errand.name, started))
    published: list[Published] = []
    try:
        find_modules(errand)
        with ray_group.others(errand) as others:
            found = _brought(errand, mailbox, published, started, others)
            return found if others is None or others.gone is None else others.gone
    except FtcheckError as error:
        return Answer(outcome=Failed.of(error), published=tuple(published))


def _brought(
    errand: Errand, mailbox: Any, published: list[Published], started: Started, others: Others | None
) -> Answer | Lacking:
    lacks = lacking(errand)
    if others is not None:
        there = others.lacking()
        lacks = Lacking(files=lacks.files or there.files, store=lacks.store or there.store)
    if lacks.files or lacks.store:
        return lacks
    with ready(errand, published, started.address) as (order, store, refuse_changed):
        outcome = bring(
            order,
            store,
            lambda said: mailbox.say.remote(errand.name, said),
            refuse_changed,
            only_search=errand.only_search,
            elsewhere=others,
        )
        return Answer(
            outcome=_told(outcome, started, errand),
            published=tuple(published),
            entries=() if _sees(errand) else tuple(_packed(store, published)),
        )


def where() -> Started:
    """Where this process is."""
    import ray

    context = ray.get_runtime_context()
    return Started(node=context.get_node_id(), address=ray.util.get_node_ip_address(), logs=_logs())


def lacking(errand: Errand) -> Lacking:
    """What this node hasn't got, and wasn't sent."""
    return Lacking(
        files=errand.parcels is None and not _has(errand.files),
        store=errand.entries is None and not _sees(errand),
    )


@contextmanager
def ready(
    errand: Errand, published: list[Published], address: str
) -> Iterator[tuple[Order, Store, Callable[[], None]]]:
    """(what to do here, the store to bring it to, what raises where an input has changed since). `published` collects.

    Raises TrainingError where this node, whose address it is, has other inputs than the keys say."""
    shared = _sees(errand)
    with _store(errand, published, shared=shared) as store:
        order = _here(errand, store, shared=shared)
        yield order, store, _checked(order.job, errand, address)


@cache
def end_with_node() -> None:
    """Let this process end when its node's own is gone, which started it: nobody wants the result, and Ray would have
    it train on to its end."""
    node = os.getppid()

    def watch() -> None:
        while os.getppid() == node:
            sleep(1)
        os._exit(1)

    threading.Thread(target=watch, name="ftcheck-watch", daemon=True).start()


def tail(logs: tuple[tuple[str, int], ...]) -> str:
    """The end of what was printed to `logs` since."""
    said = b""
    for path, before in logs:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(before, size - LOG_TAIL))
            said += file.read()
    return said.decode(errors="replace").strip()


def reproduce(order: Order) -> str:
    """The command that does the same in pytest's own process."""
    case = order.job.case
    return f"pytest {case.suite} -k {case.id} --ft-executor=inline"


def _logs() -> tuple[tuple[str, int], ...]:
    """The files that this process prints to, and their lengths."""
    found = {os.path.realpath(f"/proc/self/fd/{number}") for number in (1, 2)}
    return tuple((path, os.path.getsize(path)) for path in sorted(found) if os.path.isfile(path))


def find_modules(errand: Errand) -> None:
    """Let Python find what it finds where pytest runs: at the same place, or where Ray has put it."""
    for place in reversed(errand.path):
        below = os.path.relpath(place, errand.folder)
        sent = os.path.normpath(os.path.join(_HERE, below))
        found = place if os.path.isdir(place) or below.startswith("..") else sent
        if found not in sys.path:
            sys.path.insert(0, found)
    if os.path.isdir(errand.folder):
        os.chdir(errand.folder)


def _sees(errand: Errand) -> bool:
    try:
        return (errand.root / "tmp" / f"{errand.token}.probe").read_text("ascii") == errand.token
    except (OSError, UnicodeDecodeError):
        return False


def _cache() -> Path:
    """Where this node keeps what it was sent."""
    from ftcheck.store import default_cache_dir

    return default_cache_dir() / "ray"


def _has(files: Mapping[str, str]) -> bool:
    """Whether every file is here, at its place, with its content."""
    from ftcheck.keys.files import FileHashes

    hashes = FileHashes(_cache() / "memo")
    try:
        return all(hashes.digest(Path(path)) == digest for path, digest in files.items())
    except (OSError, FtcheckError):
        return False


@contextmanager
def _store(errand: Errand, published: list[Published], *, shared: bool) -> Iterator[Store]:
    """The store that all see, or one that lasts as long as the run, with what it may need. `published` collects."""
    from ftcheck.store import Stage, Store

    class TellingStore(Store):
        def published(self, stage: Stage, digest: str) -> None:
            published.append(Published(stage=stage, digest=digest))

    if shared:
        yield TellingStore(errand.root)
        return
    with TemporaryDirectory(prefix="ftcheck-") as folder:
        store = TellingStore(Path(folder))
        for entry in errand.entries or ():
            parcels.take(entry, store)
        published.clear()
        yield store


def _here(errand: Errand, store: Store, *, shared: bool) -> Order:
    """The order with the places that its files have on this node."""
    places: dict[str, str] = {}
    if errand.parcels is not None and not _has(errand.files):
        tree = parcels.laid_out(errand.parcels, _cache())
        places = {place: f"{tree}{place}" for place in errand.places}

    def here(job: Job) -> Job:
        folders = {technique: store.place("runs", digest) / "model" for technique, digest in job.parent_keys.items()}
        tensorboard = job.tensorboard if shared else None
        return replace(job, case=parcels.moved(job.case, places), parents=folders, tensorboard=tensorboard)

    search = errand.order.search
    return replace(
        errand.order,
        job=here(errand.order.job),
        search=search and replace(search, job=here(search.job)),
    )


def _checked(job: Job, errand: Errand, address: str) -> Callable[[], None]:
    """What raises TrainingError where an input has changed since. Raises it now where the node has other inputs than
    the keys say: another library, another file."""
    from ftcheck.keys import Identifier

    identifier = Identifier(_cache() / "memo", offline=job.offline, commits=errand.commits)
    if changes := _changes(job, errand.order, identifier):
        raise TrainingError(
            f"the node {address} of the Ray cluster isn't what the keys say ({changes}): give it the same libraries "
            "and files, or take it out of the cluster"
        )

    def refuse_changed() -> None:
        if changes := _changes(job, errand.order, identifier):
            raise TrainingError(
                f"an input changed on the node {address} while it was being used ({changes}): nothing is kept; "
                "run again"
            )

    return refuse_changed


def _changes(job: Job, order: Order, identifier: Identifier) -> str:
    """How the keys of a run, made here, differ from those that were ordered; empty where they don't."""
    from ftcheck.runs import Run

    with identifier.at_once():
        here = Run.of(job, identifier)
    changes = Run(job=order.job, train=order.train, predict=order.predict).changes(here)
    return "; ".join(dict.fromkeys(shown(change, 200) for change in changes[:3]))


def _told(outcome: Done | Failed, started: Started, errand: Errand) -> Done | Failed:
    """With an error that isn't ftcheck's own, where it was and how to see it."""
    if isinstance(outcome, Done) or outcome.kind:
        return outcome
    sys.stdout.flush()
    sys.stderr.flush()
    said = tail(started.logs)
    where = f"on the node {started.address} of the Ray cluster; to see it here: {reproduce(errand.order)}"
    last = f"\nthe last that was printed there:\n{said}" if said else ""
    return replace(outcome, traceback=f"{outcome.traceback}{where}{last}")


def _packed(store: Store, published: list[Published]) -> Iterator[EntryParcel]:
    for one in published:
        entry = store.get(one.stage, one.digest, used=False)
        if entry is not None:
            yield parcels.packed_entry(entry)
