"""Twenty rounds of `python -m tests.chaos`; docs/reliability.md has the figures of more."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks into /proc")
def test_whatever_a_session_is_killed_at_the_next_one_gives_what_an_undisturbed_one_gives() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--rounds", "20", "--seed", "20"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [phases] = re.findall(r"20 rounds, 0 found something; phases: (.*); ends:", done.stdout)
    for phase in ("training", "predicting", "publishing", "baseline", "report", "history", "locking", "notes"):
        assert f"'{phase}': " in phases
