"""Where the real data sets and the real checkpoint are, and how much of them a run uses.

`FTCHECK_REAL_DATA`: the folder of the data sets (docs/real-data.md says what is in it).
`FTCHECK_REAL_CHECKPOINT`: a folder with a small BERT, e.g. sentence-transformers/all-MiniLM-L6-v2.
`FTCHECK_REAL`: `ci` (default), a part of the data sets and of their rows, minutes on two cores; or `full`, everything.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import pytest

Value = TypeVar("Value")

FULL = os.environ.get("FTCHECK_REAL", "ci") == "full"


def skip_without_real_input() -> None:
    """For the top of a suite file: skip it as a whole, saying which variable is missing."""
    for name in ("FTCHECK_REAL_DATA", "FTCHECK_REAL_CHECKPOINT"):
        if not os.environ.get(name):
            pytest.skip(f"{name} names no folder (docs/real-data.md)", allow_module_level=True)


def skip_unless_full() -> None:
    """For the top of a suite file of the whole alone: skip it in CI, saying so."""
    if not FULL:
        pytest.skip("a part of FTCHECK_REAL=full (docs/real-data.md)", allow_module_level=True)


def data() -> Path:
    """The folder of the data sets."""
    return Path(os.environ["FTCHECK_REAL_DATA"]).resolve()


def files(reader: str, **by_split: str) -> dict[str, Any]:
    """`data` fields for files below FTCHECK_REAL_DATA."""
    return {"path": reader, "files": {split: str(data() / name) for split, name in by_split.items()}}


def checkpoint() -> str:
    return str(Path(os.environ["FTCHECK_REAL_CHECKPOINT"]).resolve())


def sized(*, ci: Value, full: Value) -> Value:
    """What a suite says for the size that is asked for."""
    return full if FULL else ci
