"""How a process ended, in words: by which signal, and whether that was the kernel, for want of memory."""

from __future__ import annotations

import re
import signal

from ftcheck import machine
from ftcheck.sizes import in_words

_COUNTS = ("memory.events", "memory.oom_control")
"""The file of a control group that counts processes killed for memory, in version 2 and in version 1: `oom_kill N`."""


def how(code: int) -> str:
    """`exit status 7`, or of a negative code, as subprocess has it, `killed by SIGKILL`."""
    if code >= 0:
        return f"exit status {code}"
    known = {number.value: number.name for number in signal.Signals}
    return f"killed by {known.get(-code, f'signal {-code}')}"


def for_memory() -> int | None:
    """How many processes of this one's control group the kernel has killed for memory so far; None where it doesn't
    say."""
    for _, folder in machine.memory_groups():
        for name in _COUNTS:
            try:
                found = re.search(r"^oom_kill (\d+)$", (folder / name).read_text(encoding="utf-8"), re.MULTILINE)
            except OSError:
                continue
            if found is not None:
                return int(found[1])
    return None


def hint(before: int | None, after: int | None, expected: int) -> str:
    """What is said of a process that SIGKILL ended, and that was `expected` to take so many bytes (0: nobody knew)."""
    needed = f"it was expected to take {in_words(expected)}; " if expected else ""
    advice = f"{needed}lower per_device_train_batch_size, or --ft-jobs"
    if before is None or after is None:
        return f" (out of memory? {advice})"
    if after > before:
        return f" (by the kernel, which ran out of memory: {advice})"
    return " (not by the kernel for memory: it counts none)"
