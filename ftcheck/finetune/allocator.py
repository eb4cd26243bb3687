"""The C library's allocator, told to keep what a model frees.

glibc gives large blocks back to the kernel as they are freed, and each of the next step's tensors is faulted in again,
page by page: some ten thousand page faults a step of MiniLM.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
"""Parameters of mallopt(3)."""
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
_LARGE = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * 2**20}
"""The highest threshold that there is."""
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 * 2**20, _TRIM_THRESHOLD: 64 * 2**20, _TOP_PAD: 128 * 2**10}
"""glibc's own, the thresholds as high as it raises them by itself as large blocks are freed."""

_kept: list[str] = []
"""The devices for which memory is kept now."""


@contextmanager
def keeping(device: str) -> Iterator[None]:
    """Within, memory that is freed on a CPU stays the process's; at the end what is free is given back. Where the C
    library isn't glibc, nothing happens."""
    libc = _glibc() if device == "cpu" else None
    _set(libc, _KEEPING)
    _kept.append(device)
    try:
        yield
    finally:
        _kept.pop()
        _set(libc, _USUAL)
        trim()


@contextmanager
def but_large_blocks(device: str) -> Iterator[None]:
    """Within, blocks of 32 MiB and more are given back as they are freed, even where memory is kept: logits of batches
    that are all of another size don't fit where those before them were, and each time some more memory is taken."""
    libc = _glibc() if device == "cpu" and _kept else None
    _set(libc, _LARGE)
    try:
        yield
    finally:
        _set(libc, _KEEPING)


def trim() -> None:
    """Give back to the kernel what is free."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> Any:
    """None where there is another C library."""
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None
    except (OSError, TypeError):  # Windows
        return None


def _set(libc: Any, parameters: dict[int, int]) -> None:
    for parameter, value in parameters.items() if libc is not None else ():
        libc.mallopt(parameter, value)
