"""A store's locks: files that last as long as somebody holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from filelock import FileLock

_POLL_SECONDS: Final = 0.2


class Locks:
    """Locks by name, in one folder. They are the operating system's: one ends with its process, however that ends.

    Whoever holds a lock last deletes its file before letting go. Whoever was waiting for it then has a file without a
    name, which filelock notices (from 3.21 on), and takes the lock anew.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held: WeakValueDictionary[str, FileLock] = WeakValueDictionary()

    @contextmanager
    def hold(self, name: str, *, wait: bool = True, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold `name`; entered again by its holder, hold on. `on_wait` is told once that another process has it.

        Raises OSError where no lock can be made, and Timeout where `wait` is False and another process has it.
        """
        from filelock import FileLock, Timeout  # here, since a session that finds all it needs locks nothing

        path = self.folder / f"{name}.lock"
        self.folder.mkdir(parents=True, exist_ok=True)
        # filelock tries a file that it may not make for ever, taking that for contention: find out first.
        with path.open("ab"):
            lock = self._held.setdefault(name, FileLock(path))
        outermost = not lock.is_locked
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise
            if on_wait is not None:
                on_wait()
            lock.acquire(poll_interval=_POLL_SECONDS)
        try:
            yield
        finally:
            if outermost:
                with suppress(OSError):  # it stays where that can't be: Windows, a disk that is read-only by now
                    path.unlink()
            lock.release()

    def sweep(self) -> None:
        """Delete what killed processes left, as far as this user may."""
        from filelock import Timeout

        for path in self.folder.glob("*.lock"):
            with suppress(Timeout, OSError), self.hold(path.name.removesuffix(".lock"), wait=False):
                pass
