"""What makes importing and reading cheaper within a pytest that runs already."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache


@contextmanager
def uncollected() -> Iterator[None]:
    """For a block that makes many objects that stay, and hardly any garbage: the collector would look through them
    again and again. It goes on afterwards, if it was on."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@cache
def keep() -> None:
    """Take what there is by now for what stays until the process ends, so that the collector doesn't look through all
    of it again: pytest has it look twice in the end, Python once more. Only where all of it is ours: of what is garbage
    already, or becomes it, nobody would be told."""
    gc.freeze()


@contextmanager
def plainly() -> Iterator[None]:
    """For a block that imports modules of ftcheck, and what they need. pytest rewrites the asserts of a plugin's
    modules as it does those of tests; it looks at every import for that, and parses each module anew where Python
    writes no bytecode (PYTHONDONTWRITEBYTECODE, a folder that is read-only)."""
    hooks = {
        index: finder
        for index, finder in enumerate(sys.meta_path)
        if type(finder).__module__ == "_pytest.assertion.rewrite"
    }
    sys.meta_path[:] = [finder for index, finder in enumerate(sys.meta_path) if index not in hooks]
    try:
        with uncollected():
            yield
    finally:
        for index, hook in hooks.items():
            sys.meta_path.insert(index, hook)
