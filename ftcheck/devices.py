"""Which device and precision a run uses, found out without torch.

CUDA is asked in a short-lived process of its own: initialising it here would make every later fork of this process
unable to use it, and libcuda, unlike NVML, sees what torch will see (CUDA_VISIBLE_DEVICES, MIG, the order of devices).
Without a libcuda on the machine that costs one failed `dlopen`, some tens of microseconds.
"""

from __future__ import annotations

import ctypes
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from uuid import UUID

from ftcheck import machine
from ftcheck.errors import UsageError, shown
from ftcheck.spec.case import Precision

CHOICES = "auto, cpu, cuda, cuda:N or mps"
_CUDA_TIMEOUT = 60.0
"""Seconds. Waking a machine with many sleeping GPUs takes several."""
_NVML = "libnvidia-ml.so.1"
_UNKNOWN = 1 << 60
_BF16_CUDA = (8, 0)
"""From Ampere on bf16 runs on tensor cores; before, it is emulated and slower than fp32."""
_BF16_CPU = frozenset({"amx_bf16", "avx512_bf16"})
"""x86 flags. A training step of MiniLM (33 M parameters, batch 32, one core with avx512_bf16) took 0.18 s instead of
0.45 s at 20 tokens and 1.3 s instead of 3.1 s at 128."""
_ASK_CUDA = """
import ctypes, json, sys
cuda = ctypes.CDLL(sys.argv[1])
def call(name, *arguments):
    code = getattr(cuda, name)(*arguments)
    if code:
        text = ctypes.c_char_p()
        cuda.cuGetErrorString(code, ctypes.byref(text))
        sys.exit(f"{name}: {(text.value or b'error %d' % code).decode(errors='replace')}")
call("cuInit", 0)
count = ctypes.c_int()
call("cuDeviceGetCount", ctypes.byref(count))
found = []
for index in range(count.value):
    device, name, major, minor = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_int(), ctypes.c_int()
    memory, uuid = ctypes.c_size_t(), ctypes.create_string_buffer(16)
    call("cuDeviceGet", ctypes.byref(device), index)
    call("cuDeviceGetName", name, 256, device)
    call("cuDeviceGetAttribute", ctypes.byref(major), 75, device)
    call("cuDeviceGetAttribute", ctypes.byref(minor), 76, device)
    call("cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    call("cuDeviceGetUuid_v2", uuid, device)
    found.append([name.value.decode(errors="replace"), major.value, minor.value, memory.value, uuid.raw.hex()])
print(json.dumps(found))
"""
_ASK_FREE = """
import ctypes, sys
class Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]
nvml = ctypes.CDLL(sys.argv[1])
def call(name, *arguments):
    code = getattr(nvml, name)(*arguments)
    if code:
        sys.exit(code)
call("nvmlInit_v2")
device, memory = ctypes.c_void_p(), Memory()
for kind in ("GPU", "MIG"):
    if not nvml.nvmlDeviceGetHandleByUUID(f"{kind}-{sys.argv[2]}".encode(), ctypes.byref(device)):
        break
else:
    sys.exit(1)
call("nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
print(memory.free)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device that is there. `str()` gives torch's name for it."""

    kind: Literal["cpu", "cuda", "mps"]
    index: int = 0
    name: str = ""
    capability: tuple[int, int] = (0, 0)
    """CUDA compute capability."""
    memory: int = 0
    """Bytes that it has of its own; 0: it shares the machine's, or that isn't known."""
    uuid: str = ""
    """What the driver calls it, whichever devices a process may see."""

    def __str__(self) -> str:
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind


@dataclass(frozen=True, slots=True)
class Cuda:
    """The CUDA devices that a process may use, or in one sentence why there are none."""

    devices: tuple[Device, ...] = ()
    why_none: str = ""


def resolve(device: str) -> Device:
    """The device that `--ft-device` names; `auto` is the first CUDA device, else Apple's GPU, else the CPU.

    Raises UsageError for a device that isn't there or can't be used by the installed torch.
    """
    kind, _, number = device.partition(":")
    if device == "auto":
        return next(_accelerators(), None) or cpu()
    if device == "cpu":
        return cpu()
    if device == "mps":
        if has_mps():
            return Device(kind="mps", name=platform.processor())
        raise UsageError(f"no mps device: it needs macOS on Apple silicon, this is {_machine()}; {_there()}")
    if kind != "cuda" or (":" in device and not re.fullmatch("[0-9]{1,4}", number)):
        raise UsageError(f"no device is called {shown(repr(device), 40)}: expected {CHOICES}")
    found = cuda()
    index = int(number or 0)
    if index < len(found.devices):
        return found.devices[index]
    if found.devices:
        raise UsageError(f"no CUDA device {device}: there are {len(found.devices)}; {_there()}")
    raise UsageError(f"no CUDA device: {found.why_none}; {_there()}")


def resolve_precision(precision: Precision, device: Device) -> Literal["fp32", "bf16", "fp16"]:
    """The precision that a case's `precision` means on `device`; `auto` is bf16 where the device is good at it.

    Raises UsageError for fp16 on a CPU, which has no arithmetic for it: the Trainer would train on, in fp32.
    """
    if precision == "auto":
        return "bf16" if _good_at_bf16(device) else "fp32"
    if precision == "fp16" and device.kind == "cpu":
        raise UsageError("precision: fp16 needs a GPU; on a CPU write bf16, fp32 or auto")
    return precision


def cpu() -> Device:
    """The CPU, by the name that the system gives it."""
    return Device(kind="cpu", name=_cpu_info()[0])


def has_mps() -> bool:
    """Whether this machine has Apple's GPU. Whether torch can use it, torch says."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


@cache
def cuda() -> Cuda:
    """The CUDA devices that torch will see, asked once in a process."""
    library = _libcuda()
    if library is None:
        return Cuda(why_none="this machine has no NVIDIA driver (libcuda)")
    if not torch_has_cuda():
        return Cuda(why_none="the installed torch was built without CUDA")
    return _asked(library)


def _asked(library: str) -> Cuda:
    """What `library` says in a process of its own."""
    command = [sys.executable, "-I", "-S", "-c", _ASK_CUDA, library]
    try:
        answer = subprocess.run(  # noqa: S603 - this interpreter and the code above
            command, capture_output=True, text=True, timeout=_CUDA_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return Cuda(why_none=f"the NVIDIA driver did not answer within {_CUDA_TIMEOUT:.0f} s")
    if answer.returncode:
        last = (answer.stderr.strip().splitlines() or [f"exit status {answer.returncode}"])[-1]
        return Cuda(why_none=f"the NVIDIA driver says {shown(last)}")
    found = tuple(
        Device(kind="cuda", index=index, name=name, capability=(major, minor), memory=memory, uuid=str(UUID(uuid)))
        for index, (name, major, minor, memory, uuid) in enumerate(json.loads(answer.stdout))
    )
    return Cuda(devices=found, why_none="" if found else "the NVIDIA driver sees no device (CUDA_VISIBLE_DEVICES?)")


def memory(device: Device) -> int:
    """Bytes that trainings on `device` may use together: its own, or the machine's, as far as this process may. A huge
    number where nobody knows."""
    return device.memory or (_UNKNOWN if device.kind == "cuda" else machine.memory())


def free_memory(device: Device) -> int | None:
    """Bytes of `device` that no process uses now; None where that can't be found out. NVML is asked in a process of its
    own, without a context on the device: one takes half a gigabyte."""
    if device.kind != "cuda":
        return machine.free_memory()
    if not device.uuid:
        return None
    command = [sys.executable, "-I", "-S", "-c", _ASK_FREE, _NVML, device.uuid]
    try:
        answer = subprocess.run(  # noqa: S603 - this interpreter and the code above
            command, capture_output=True, text=True, timeout=_CUDA_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    return None if answer.returncode else int(answer.stdout)


def _libcuda() -> str | None:
    """The name by which the driver's library loads here, if it does. Loading it initialises nothing."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(name)
    except OSError:
        return None
    return name


def torch_has_cuda() -> bool:
    """Whether the installed torch was built with CUDA, as its `version.py` says; True where that can't be read."""
    found = find_spec("torch")
    for folder in (found.submodule_search_locations or ()) if found else ():
        try:
            text = (Path(folder) / "version.py").read_text("utf-8")
        except OSError:
            continue
        if match := re.search(r"^cuda\b[^=\n]*=\s*(.+)$", text, re.MULTILINE):
            return match[1].strip() != "None"
    return True


def _accelerators() -> Iterator[Device]:
    yield from cuda().devices
    if has_mps():
        yield Device(kind="mps", name=platform.processor())


def _there() -> str:
    """What is there instead, for the end of an error."""
    names = [f"{device} ({shown(device.name, 60)})" for device in (*_accelerators(), cpu())]
    return f"available: {', '.join(names)}"


def _machine() -> str:
    return f"{platform.system()} on {platform.machine()}"


def _good_at_bf16(device: Device) -> bool:
    if device.kind == "cuda":
        return device.capability >= _BF16_CUDA
    return device.kind == "cpu" and bool(_BF16_CPU & _cpu_info()[1])


@cache
def _cpu_info() -> tuple[str, frozenset[str]]:
    """(model name, x86 feature flags) of the first processor; flags only where Linux tells them."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    fields = dict(re.findall(r"^(\S[^\t:]*?)\s*: (.*)$", text.partition("\n\n")[0], re.MULTILINE))
    return fields.get("model name", platform.machine()), frozenset(fields.get("flags", "").split())
