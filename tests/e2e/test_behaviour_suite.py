"""suites/behaviour: bodies that ask a fine-tuned model, on the shipped fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_bodies_ask_the_models_that_were_judged(own_cache: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "suites/behaviour"],
        cwd=ROOT,
        env={**os.environ, "FTCHECK_CACHE_DIR": str(own_cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
