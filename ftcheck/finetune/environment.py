"""What a stage ran on and what it took: recorded with the run, shown where it differs."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ftcheck.errors import chain
from ftcheck.finetune import allocator

LIBRARIES = ("torch", "transformers", "datasets", "accelerate", "tokenizers", "numpy")


def describe(device: str) -> dict[str, Any]:
    """Versions of what takes part, the machine, threads, and the accelerator's name and driver."""
    import torch

    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["device"] = device
    found["threads"] = torch.get_num_threads()
    found["cpu"] = _cpu()
    if device.startswith("cuda"):
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"] = torch.version.cuda
        found["cudnn"] = torch.backends.cudnn.version()
    return found


class PeakMemory:
    """The most memory used between `start` and `bytes`.

    CUDA: what torch allocated on the device. Elsewhere: the process's resident memory, whose high-water mark Linux lets
    us reset; where it doesn't, the mark since the process began.
    """

    def __init__(self, device: str) -> None:
        self._device = device

    def start(self) -> None:
        if self._device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(self._device)
            return
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        except OSError:  # not Linux, or a sandbox that forbids it: the mark stays what it was
            return

    def lap(self) -> int:
        """The most since `start` or the last lap; the next one begins."""
        found = self.bytes()
        self.start()
        return found

    def bytes(self) -> int:
        if self._device.startswith("cuda"):
            import torch

            return int(torch.cuda.max_memory_allocated(self._device))
        try:
            with open("/proc/self/status") as file:
                line = next(line for line in file if line.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024
        except (OSError, StopIteration):
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most if sys.platform == "darwin" else most * 1024


def give_back(device: str) -> None:
    """Return freed memory to the device (and, by collecting cycles, that of models that were let go)."""
    import gc

    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
    else:
        allocator.trim()


def let_go(error: BaseException) -> None:
    """Empty the frames that an error's traceback keeps: a model in them, or a data loader with its processes, would
    live as long as anyone remembers the error. Lines are still told; frames that still run stay as they are."""
    from traceback import clear_frames

    for link in chain(error):
        clear_frames(link.__traceback__)


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return platform.processor() or os.uname().machine
