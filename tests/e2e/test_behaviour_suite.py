"""suites/behaviour: bodies that ask a fine-tuned model, on the shipped fixtures."""

from __future__ import annotations

import os
from pathlib import Path

from tests import warm

ROOT = Path(__file__).resolve().parents[2]


def test_bodies_ask_the_models_that_were_judged(own_cache: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "FTCHECK_CACHE_DIR": str(own_cache)}
    done = warm.run(["-q", "-p", "no:cacheprovider", "suites/behaviour"], ROOT, environment)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
