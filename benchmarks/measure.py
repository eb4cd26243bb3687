"""Times whole processes, or two ways of one computation, in turn (A B A B ...): medians, spreads and pairwise ratios.

A ratio is taken pair by pair, so that it holds where the machine's speed drifts.
"""

from __future__ import annotations

import gc
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Scores = Sequence[float]


@dataclass(frozen=True)
class Sample:
    """One finished process: wall seconds, seconds of processor time, its peak resident memory in bytes, and what it
    printed."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def run(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, ok: Sequence[int] = (0,)
) -> Sample:
    """Run `command` to its end. Raises SystemExit with its output where it fails."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        ended = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            marks = pool.submit(_highest_mark, process.pid, ended)
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            ended.set()
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode not in ok:
        sys.exit(f"{' '.join(command)} exited with {process.returncode}:\n{output[-4000:]}")
    peak_bytes = usage.ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    return Sample(seconds, usage.ru_utime + usage.ru_stime, max(peak_bytes, marks.result()), output)


def _highest_mark(pid: int, ended: threading.Event) -> int:
    """Bytes of the high-water mark of a process's memory, looked at every 50 ms. A training resets it as each of its
    phases begins, and what the kernel tells in the end is only the mark since the last time."""
    highest = 0
    while not ended.wait(0.05):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    highest = max(highest, int(line.split()[1]) * 1024)
    return highest


def median_and_range(values: Sequence[float], unit: str, digits: int = 2) -> str:
    """`1.23 s (1.20 to 1.31, 5 runs)`."""
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} {unit} ({low} to {high}, {len(values)} runs)"


def machine() -> str:
    """What the figures were measured on, for the report."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def against_reference(title: str, ours: Callable[[], Scores], reference: Callable[[], Scores], runs: int) -> None:
    """Print the seconds of processor time of both sides, who goes first changing from run to run, and their ratio.

    Processor time is what other work on the machine disturbs least. Raises AssertionError where their scores differ.
    """
    taken: tuple[list[float], list[float]] = [], []
    for run in range(runs):
        found: dict[int, Scores] = {}
        for side in (0, 1) if run % 2 == 0 else (1, 0):
            gc.collect()
            started = time.process_time()
            found[side] = (ours, reference)[side]()
            taken[side].append(time.process_time() - started)
        assert np.allclose(found[0], found[1], rtol=1e-9, atol=1e-12, equal_nan=True), (title, found)
    mine, theirs = ([1000 * seconds for seconds in side] for side in taken)
    ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    print(
        f"{title}: {median_and_range(mine, 'ms', 1)}, reference {median_and_range(theirs, 'ms', 1)}, ratio {ratio:.2f}"
    )
