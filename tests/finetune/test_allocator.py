"""On a CPU, memory that a model frees is kept for its next step, and given back at the end."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from ftcheck.finetune import allocator

pytestmark = pytest.mark.skipif(allocator._glibc() is None, reason="the C library isn't glibc")
LARGE = 48 * 2**20
"""Bytes: more than glibc ever keeps by itself."""
PAGES = LARGE // resource.getpagesize()


def faults() -> int:
    """Pages faulted in as a large block is made, filled and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(b"x") * LARGE
    del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_block_is_faulted_in_once() -> None:
    with allocator.keeping("cpu"):
        faults()
        assert faults() < PAGES / 10
    assert faults() > PAGES / 2


def test_what_is_free_is_given_back_at_the_end() -> None:
    with allocator.keeping("cpu"):
        faults()
        kept = resident()
    assert resident() < kept - LARGE / 2


def test_beside_a_gpu_nothing_is_changed() -> None:
    with allocator.keeping("cuda:0"):
        faults()
        assert faults() > PAGES / 2


def test_large_blocks_are_given_back_where_they_are_all_of_another_size() -> None:
    with allocator.keeping("cpu"):
        faults()
        before = resident()
        with allocator.but_large_blocks("cpu"):
            for more in range(4):
                grown = bytearray(b"x") * ((4 + more) * LARGE)
                del grown
                assert resident() < before + 2 * LARGE
        faults()
        assert faults() < PAGES / 10, "and kept again afterwards"


def test_where_nothing_is_kept_nothing_is_changed() -> None:
    with allocator.but_large_blocks("cpu"):
        pass
    faults()
    assert faults() > PAGES / 2
