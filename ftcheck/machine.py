"""What this machine has: cores and memory, as far as this process may use them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_MEMINFO = Path("/proc/meminfo")
_FILES = {"": ("memory.max", "memory.current"), "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
"""Controller (version 2 has none) -> the files of its limit and of what is used."""


def cores() -> tuple[int, ...]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def memory() -> int:
    """Bytes that all processes here may use together: the machine's, or what the control group is limited to."""
    total = _meminfo("MemTotal")
    if total is None:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *(limit for limit, _ in _limits())])


def free_memory() -> int | None:
    """Bytes that can still be had without swapping; None where the system doesn't say."""
    left = [limit - used for limit, used in _limits()]
    available = _meminfo("MemAvailable")
    return max(0, min(left if available is None else [available, *left])) if left or available is not None else None


def _meminfo(name: str) -> int | None:
    try:
        text = _MEMINFO.read_text("ascii", errors="replace")
    except OSError:  # not Linux
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def memory_groups() -> Iterator[tuple[str, Path]]:
    """(controller, folder) of each control group around this process that memory is accounted for in, the innermost
    first. The controller is "memory", or "" in version 2, which has one tree for all. None where there are no such
    groups, or they can't be seen."""
    try:
        lines = _OWN_GROUPS.read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        for controller in set(controllers.split(",")) & set(_FILES):
            root = CGROUPS / controller
            group = root / place.lstrip("/")
            # A container sees its own group at the root, by a path that is the host's.
            for folder in dict.fromkeys((group, *group.parents, root)):
                if folder.is_relative_to(root):
                    yield controller, folder


def _limits() -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of each control group around this process that limits memory. What the kernel would give
    back (pages of files that nobody used lately) isn't counted as used."""
    for controller, folder in memory_groups():
        if found := _limit(folder, *_FILES[controller]):
            yield found


def _limit(folder: Path, limit: str, used: str) -> tuple[int, int] | None:
    try:
        most, now = (folder / limit).read_text("ascii").strip(), int((folder / used).read_text("ascii"))
        stat = (folder / "memory.stat").read_text("ascii")
    except (OSError, ValueError):
        return None
    if not most.isdigit() or int(most) >= 1 << 60:  # "max", or what version 1 calls none
        return None
    # Version 1 has a line for the group alone, too.
    told = re.search(r"^total_inactive_file (\d+)$", stat, re.M) or re.search(r"^inactive_file (\d+)$", stat, re.M)
    return int(most), now - (int(told[1]) if told else 0)
