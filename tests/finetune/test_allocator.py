"""On a CPU, memory that a model frees is kept for its next step, and given back at the end.

Measured in a Python of its own: the heap of one that has run other tests may have as large a block free.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

import pytest

from ftcheck.finetune import allocator
from tests.plugin.conftest import REPOSITORY

pytestmark = pytest.mark.skipif(allocator._glibc() is None, reason="the C library isn't glibc")
LARGE = 48 * 2**20
"""Bytes: more than glibc ever keeps by itself."""
PAGES = LARGE // resource.getpagesize()

MEASURE = """
import json, resource, sys
from pathlib import Path
from ftcheck.finetune import allocator

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(b"x") * int(sys.argv[2])
    del block
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

with allocator.keeping(sys.argv[1]):
    faults()
    within, kept = faults(), resident()
    most = 0
    with allocator.but_large_blocks(sys.argv[1]):
        for more in range(4):
            grown = bytearray(b"x") * ((4 + more) * int(sys.argv[2]))
            del grown
            most = max(most, resident() - kept)
    faults()
    again, kept = faults(), resident()
given_back = kept - resident()
with allocator.but_large_blocks(sys.argv[1]):
    pass
found = {"within": within, "large": most, "again": again, "given_back": given_back, "afterwards": faults()}
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Pages:
    """Of a large block."""

    within: int
    """Faulted in, as one is made and freed a second time while memory is kept."""
    large: int
    """Kept at most of larger blocks, each of another size, where those are given back."""
    again: int
    """Faulted in as one is made and freed a second time after those."""
    given_back: int
    """When memory is kept no longer."""
    afterwards: int
    """Faulted in by one more."""


@cache
def pages(device: str) -> Pages:
    command = [sys.executable, "-c", MEASURE, device, str(LARGE)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return Pages(**json.loads(done.stdout))


def test_a_block_is_faulted_in_once() -> None:
    assert pages("cpu").within < PAGES / 10
    assert pages("cpu").afterwards > PAGES / 2


def test_what_is_free_is_given_back_at_the_end() -> None:
    assert pages("cpu").given_back > PAGES / 2


def test_beside_a_gpu_nothing_is_changed() -> None:
    assert pages("cuda:0").within > PAGES / 2


def test_large_blocks_are_given_back_where_they_are_all_of_another_size() -> None:
    assert pages("cpu").large < 2 * PAGES
    assert pages("cpu").again < PAGES / 10, "and kept again afterwards"


def test_where_nothing_is_kept_nothing_is_changed() -> None:
    assert pages("cuda:0").afterwards > PAGES / 2
