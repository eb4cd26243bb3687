"""Times commands as whole processes, in turn (A B A B ...), and prints medians, spreads and pairwise ratios.

A ratio is taken pair by pair, so that it holds where the machine's speed drifts.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One finished process: wall seconds, seconds of processor time, and its peak resident memory in bytes."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run(
    command: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, ok: Sequence[int] = (0,)
) -> Sample:
    """Run `command` to its end. Raises SystemExit with its output where it fails."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, cwd=cwd, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode not in ok:
        sys.exit(f"{' '.join(command)} exited with {process.returncode}:\n{output[-4000:]}")
    peak_bytes = usage.ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    return Sample(seconds, usage.ru_utime + usage.ru_stime, peak_bytes)


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
