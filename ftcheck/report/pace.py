"""How often progress is told, how fast it goes, and the row that tells it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ftcheck.report import cells, numbers

if TYPE_CHECKING:
    from ftcheck.finetune import Progress

ON_TERMINAL = 0.2
"""Seconds between two updates."""
ELSEWHERE, LONGEST = 30.0, 300.0
"""Seconds until the first plain line; each next one takes twice as long, up to the longest."""


class Pace:
    """When there is something to say: every so often on a terminal, ever less often in a log."""

    def __init__(self, often: float | None) -> None:
        self._pause, self._longest = (ELSEWHERE, LONGEST) if often is None else (often, often)
        self._next = time.monotonic() + self._pause

    def due(self) -> bool:
        """Whether it's time; then the next pause begins."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._pause = min(2 * self._pause, self._longest)
        self._next = now + self._pause
        return True


class Speed:
    """How fast a stage goes, and how long it still takes: from its steps since it was first heard of."""

    def __init__(self) -> None:
        self._stage: tuple[int, str] | None = None
        self._first = 0
        self._since = 0.0

    def told(self, seed: int, progress: Progress) -> tuple[float, float] | None:
        """(steps a second, seconds left); None where that isn't known yet."""
        now = time.monotonic()
        if self._stage != (seed, progress.stage):
            self._stage, self._first, self._since = (seed, progress.stage), progress.done, now
        done, spent = progress.done - self._first, now - self._since
        if done <= 0 or spent <= 0 or progress.total <= 0:
            return None
        return done / spent, (progress.total - progress.done) * spent / done


def row(
    case_id: str, seed: int, progress: Progress, speed: Sequence[float] | None = None, width: int | None = None
) -> str:
    """`intents, seed 42: train 120/300, epoch 1.2, loss 0.341, lr 1.0e-04, 3.2 steps/s, 56 s left`. `speed`: steps a
    second, seconds left.

    Where that is wider than `width`, what matters least is left out, and the case's name shortened.
    """
    stage = progress.stage + (f" {progress.done}/{progress.total}" if progress.total else "")
    parts = {"stage": stage}
    if progress.epoch is not None:
        parts["epoch"] = f"epoch {progress.epoch:.1f}"
    if progress.loss is not None:
        parts["loss"] = f"loss {numbers.plain(progress.loss, 3)}"
    if progress.learning_rate is not None:
        parts["lr"] = f"lr {progress.learning_rate:.1e}"
    if speed is not None:
        parts["speed"] = f"{speed[0]:.3g} steps/s"
        parts["left"] = f"{numbers.seconds(speed[1])} left"

    def text(name: str) -> str:
        return f"{name}, seed {seed}: {', '.join(parts.values())}"

    if width is None:
        return text(case_id)
    for least in ("lr", "speed", "epoch", "loss"):
        if cells.width(text(case_id)) > width:
            parts.pop(least, None)
    return text(cells.cropped(case_id, max(12, cells.width(case_id) - (cells.width(text(case_id)) - width))))
