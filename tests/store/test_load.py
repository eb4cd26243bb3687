"""benchmarks/load.py with small counts: nothing is lost or done twice, and a session doesn't walk the store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "benchmarks" / "load.py"


@pytest.mark.parametrize(
    ("arguments", "figures"),
    [
        pytest.param(["session", "--cases=6", "--small=2"], 6, id="a-session-of-many-cases"),
        pytest.param(["workers", "--workers=3", "--keys=4", "--seconds=3"], 1, id="many-processes-on-one-store"),
        pytest.param(["entries", "--entries=60", "--small=20"], 6, id="a-large-store"),
    ],
)
def test_the_load_test_holds(arguments: list[str], figures: int) -> None:
    environment = {"PYTHONPATH": str(SCRIPT.parent.parent), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, str(SCRIPT), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == figures
