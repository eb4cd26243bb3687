"""benchmarks/measure.py tells what a process took."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

HELD = 300_000_000
RESETS_ITS_MARK = f"""
import time
held = bytearray(b"x") * {HELD}
time.sleep(0.5)
del held
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its high-water mark")
def test_memory_from_before_a_process_reset_its_mark_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As trainings do, phase by phase."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    sample = import_module("measure").run([sys.executable, "-c", RESETS_ITS_MARK])
    assert sample.peak_bytes >= HELD
