"""Code of a case's own that tries to end the process is an error of that case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ftcheck.errors import TrainingError, shown
from ftcheck.importpath import where

PANIC = "PanicException"
"""What libraries in Rust raise where they fail in a way of their own: no Exception, and of no class to be imported."""


@contextmanager
def contained(*, interrupts: bool = False) -> Iterator[None]:
    """`sys.exit()` in the block, and a library's panic, as a TrainingError. `interrupts`: so is a KeyboardInterrupt, in
    a process that no key reaches."""
    try:
        yield
    except SystemExit as error:
        raise TrainingError(
            f"code of the case's own ends the process{where(error)}: sys.exit({error.code!r})"
        ) from error
    except KeyboardInterrupt as error:
        if not interrupts:
            raise
        raise TrainingError(f"code of the case's own raises KeyboardInterrupt{where(error)}") from error
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise TrainingError(f"a library fails{where(error)}: {shown(error, 400)}") from error
