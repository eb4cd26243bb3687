"""What the tests of this room share."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture
def left_open() -> Iterator[None]:
    """`datasets` never closes a file that isn't read to its end: Python complains here, and in no later test."""
    yield
    gc.collect()
