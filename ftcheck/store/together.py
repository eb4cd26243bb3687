"""Work done side by side within a time, by threads that nobody waits for once it is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")

_POLL_SECONDS: Final = 0.25


class GivenUpError(Exception):
    """Raised inside work that is still going on when its time is over."""


class Meter:
    """What has been moved so far, in bytes. `add` ends the work that calls it, once nobody waits for that any more."""

    def __init__(self) -> None:
        self.moved = 0
        self._over = threading.Event()
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.moved += count
        if self._over.is_set():
            raise GivenUpError

    def stop(self) -> None:
        self._over.set()

    @property
    def stopped(self) -> bool:
        return self._over.is_set()


def together(
    works: Sequence[Callable[[Meter], T]],
    seconds: float,
    *,
    threads: int,
    on_moved: Callable[[int], None] = lambda moved: None,
) -> list[T]:
    """What `works` return, done by `threads` at a time. `on_moved` is told now and then how many bytes were moved.

    Raises what the first that fails raises, and TimeoutError after `seconds`. Not concurrent.futures: its threads are
    waited for when the process ends, and one that hangs in a library's call to a dead server would hang it too.
    """
    todo: SimpleQueue[tuple[int, Callable[[Meter], T]]] = SimpleQueue()
    done: SimpleQueue[tuple[int, list[T], BaseException | None]] = SimpleQueue()
    meter = Meter()
    for item in enumerate(works):
        todo.put(item)

    def work_off() -> None:
        while not meter.stopped:
            try:
                index, work = todo.get_nowait()
            except Empty:
                return
            try:
                done.put((index, [work(meter)], None))
            except BaseException as error:  # noqa: BLE001  raised again by who waits
                done.put((index, [], error))

    for _ in range(min(threads, len(works))):
        threading.Thread(target=work_off, name="ftcheck-transfer", daemon=True).start()
    results: dict[int, T] = {}
    end = time.monotonic() + seconds
    try:
        while len(results) < len(works):
            left = end - time.monotonic()
            try:
                index, made, error = done.get(timeout=max(0.0, min(_POLL_SECONDS, left)))
            except Empty:
                if left <= 0:
                    raise TimeoutError from None
                on_moved(meter.moved)
                continue
            if error is not None:
                raise error
            (results[index],) = made
        on_moved(meter.moved)
    finally:
        meter.stop()
    return [results[index] for index in range(len(works))]
