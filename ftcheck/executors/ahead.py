"""The queue of executors that work ahead (local, ray): which tasks are ready, and which wait for others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from ftcheck.errors import FtcheckError
from ftcheck.executors.slot import Done, Published, SlotError

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from ftcheck.executors import Work
    from ftcheck.store import Store


@dataclass(eq=False, slots=True, kw_only=True)
class Task:
    """Work that was announced (`Executor.begin`)."""

    work: Work
    seconds: float = math.inf
    """How long it took before; infinite where nobody knows."""
    asked: bool = False
    """Whether a caller of `produce` waits for it."""
    under_way: bool = False
    """Whether a process is at it."""
    begun: float = 0.0
    """When that process began, by the monotonic clock."""
    published: list[Published] = field(default_factory=list)
    """Entries that it has put into the store and that the store object of `produce`'s caller wasn't told of yet."""
    result: Done | FtcheckError | SlotError | None = None
    """What `produce` returns or raises; None while it isn't over."""

    @property
    def makes(self) -> set[str]:
        """Digests of the entries that it makes: no two tasks may make the same one at once."""
        search = self.work.search
        return {self.work.train.digest, self.work.predict.digest, *([search.key.digest] if search else [])}

    @property
    def pending(self) -> bool:
        return self.result is None


AnyTask = TypeVar("AnyTask", bound=Task)


def ready(tasks: Mapping[str, AnyTask]) -> list[AnyTask]:
    """Tasks that could begin now: no other is making the same entry, and the models that they start from are there.
    Those that a caller waits for come first, then the longest."""
    unfinished = [task for task in tasks.values() if task.pending]
    making: set[str] = set()
    for task in unfinished:
        if task.under_way:
            making |= task.makes
    coming = {digest for task in unfinished for digest in task.makes}
    found = []
    for task in unfinished:
        if not task.under_way and not (task.makes & making) and not (set(task.work.after) & coming):
            found.append(task)
            making |= task.makes
    return sorted(found, key=lambda task: (not task.asked, -task.seconds))


def forget(tasks: MutableMapping[str, AnyTask], failed: Task) -> None:
    """Drop the tasks that need what a failed one was to make, unless a caller waits for them: whoever asks for such a
    task later asks for what it needs first, and meets the failure there."""
    for digest, task in list(tasks.items()):
        waits = task.pending and not task.under_way and not task.asked and digest in tasks
        if waits and set(task.work.after) & failed.makes:
            del tasks[digest]
            forget(tasks, task)


def hand_over(tasks: Mapping[str, Task], task: Task, store: Store) -> frozenset[str]:
    """Return or raise what `produce` does for a task that is over. `store` is told of the entries that the task has
    published, and of those of the tasks that it needed, which nobody else may ever ask for."""
    _tell(tasks, task, store)
    if isinstance(task.result, Done):
        store.warnings.extend(task.result.warnings)
        return task.result.made
    assert isinstance(task.result, Exception)
    raise task.result


def _tell(tasks: Mapping[str, Task], task: Task, store: Store) -> None:
    for before in tasks.values():
        if before.makes & set(task.work.after):
            _tell(tasks, before, store)
    for entry in task.published:
        store.published(entry.stage, entry.digest)
    task.published.clear()
