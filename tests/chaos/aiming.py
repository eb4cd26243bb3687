"""A signal from outside, while a training writes a checkpoint.

Weights are written in one call of a library, during which no thread of the session's own can run: another process looks
for the files as they appear. What lies there afterwards says where the signal came.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ftcheck.finetune.resuming import MANIFEST, STATE

WEIGHTS, OPTIMIZER, TRAINER = "model.safetensors", "optimizer.pt", "trainer_state.json"
ORDER = ("config.json", WEIGHTS, OPTIMIZER, "scheduler.pt", TRAINER, STATE, f"{MANIFEST}.new")
"""Files of a checkpoint, in the order in which they are written; there are others between them."""
AIMS = ("", WEIGHTS, OPTIMIZER, TRAINER, STATE, MANIFEST)
"""What is waited for: the folder itself, and files; older checkpoints are deleted after the last of them."""
LATEST = 0.004
"""Seconds at most between what is waited for and the signal."""
ELSEWHERE = "elsewhere"


@dataclass(kw_only=True)
class Watch:
    """Follows the checkpoints of a session in `path`."""

    path: Path
    seen: list[str] = field(default_factory=list)
    """The checkpoints' names as they appeared, `checkpoint-STEP`; those of one training after those of another."""
    number: int = -1
    """Which of them is meant, counted from 0."""
    file: str = ""
    delay: float = 0.0
    signal: signal.Signals = signal.SIGKILL

    def __call__(self, pid: int) -> None:
        """Send the signal to the process at its moment; return then, or when the process has ended."""
        known: set[Path] = set()
        while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            for place in sorted(_checkpoints(self.path) - known, key=_step):
                known.add(place)
                self.seen.append(place.name)
                if len(self.seen) == self.number + 1 and _appeared(place / self.file, pid):
                    time.sleep(self.delay)
                    os.kill(pid, self.signal)
                    return
            time.sleep(0.0002)


def drawn(path: Path, seen: Sequence[str], file: str, draw: random.Random, signals: Sequence[str]) -> Watch:
    """A moment within the writing of a checkpoint; not of a training's last, which isn't made to count."""
    last = max(seen, key=lambda name: _step(Path(name)))
    return Watch(
        path=path,
        number=draw.choice([number for number, name in enumerate(seen) if name != last]),
        file=file,
        delay=draw.uniform(0.0, LATEST),
        signal=signal.Signals[draw.choice(signals)],
    )


def standing(path: Path) -> str:
    """How far the writing of a checkpoint had come; ELSEWHERE where none is half-written, or half-deleted."""
    for place in sorted(_checkpoints(path), key=_step, reverse=True):
        try:
            wanted = json.loads((place / MANIFEST).read_bytes())["files"]
        except FileNotFoundError:
            there = [name for name in ORDER if (place / name).exists()]
            if not there:
                return "no file yet"
            return there[-1] if _whole(place / there[-1]) else f"{there[-1]}, cut short"
        if any(not (place / name).exists() for name in wanted):
            return "an older one, half deleted"
    return ELSEWHERE


def _checkpoints(path: Path) -> set[Path]:
    while True:
        with suppress(FileNotFoundError):  # a folder that is deleted meanwhile
            return set(path.glob("store/unfinished/*/checkpoints/checkpoint-*"))


def _step(place: Path) -> int:
    return int(place.name.partition("-")[2])


def _appeared(place: Path, pid: int) -> bool:
    """Wait for a file, as long as the process lives."""
    while not place.exists():
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return False
    return True


def _whole(place: Path) -> bool:
    """Whether a file was written to its end, as far as its own form tells."""
    if place.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(place, framework="numpy"):
                return True
        except SafetensorError:
            return False
    if place.suffix == ".pt":
        return zipfile.is_zipfile(place)
    try:
        json.loads(place.read_bytes())
    except ValueError:
        return False
    return True
