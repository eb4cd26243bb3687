"""A device that isn't there is a usage error that says what is; precision follows what the device is good at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ftcheck import devices
from ftcheck.devices import Cuda, Device
from ftcheck.errors import UsageError

H200 = Device(kind="cuda", index=0, name="NVIDIA H200", capability=(9, 0))
T4 = Device(kind="cuda", index=1, name="Tesla T4", capability=(7, 5))
NO_CUDA = Cuda(why_none="no driver")
CPU = Device(kind="cpu", name="Some CPU")

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Make this machine another one."""

    def make(cuda: Cuda = NO_CUDA, mps: bool = False, flags: frozenset[str] = frozenset()) -> None:
        monkeypatch.setattr(devices, "cuda", lambda: cuda)
        monkeypatch.setattr(devices, "has_mps", lambda: mps)
        monkeypatch.setattr(devices, "_cpu_info", lambda: ("Some CPU", flags))

    return make


@pytest.mark.parametrize(
    ("asked", "cuda", "mps", "expected"),
    [
        pytest.param("auto", (), False, "cpu", id="auto-cpu"),
        pytest.param("auto", (H200, T4), False, "cuda:0", id="auto-first-cuda"),
        pytest.param("auto", (), True, "mps", id="auto-mps"),
        pytest.param("cpu", (H200,), False, "cpu", id="cpu-beside-cuda"),
        pytest.param("cuda", (H200, T4), False, "cuda:0", id="cuda"),
        pytest.param("cuda:1", (H200, T4), False, "cuda:1", id="second-cuda"),
        pytest.param("mps", (), True, "mps", id="mps"),
    ],
)
def test_a_device_that_is_there(
    machine: Machine, asked: str, cuda: tuple[Device, ...], mps: bool, expected: str
) -> None:
    machine(Cuda(devices=cuda), mps)
    assert str(devices.resolve(asked)) == expected


@pytest.mark.parametrize(
    ("asked", "cuda", "expected"),
    [
        pytest.param("cuda", (), "no CUDA device: no driver; available: cpu (Some CPU)", id="no-cuda"),
        pytest.param("cuda:3", (), "no CUDA device: no driver; available: cpu (Some CPU)", id="no-cuda-by-number"),
        pytest.param(
            "cuda:2",
            (H200, T4),
            "no CUDA device cuda:2: there are 2; available: cuda:0 (NVIDIA H200), cuda:1 (Tesla T4), cpu (Some CPU)",
            id="number-too-high",
        ),
        pytest.param("mps", (), "no mps device: it needs macOS on Apple silicon, this is ", id="no-mps"),
        pytest.param("gpu", (), "no device is called 'gpu': expected auto, cpu, cuda, cuda:N or mps", id="unknown"),
        pytest.param("", (), "no device is called ''", id="empty"),
        pytest.param("cuda:", (H200,), "no device is called 'cuda:'", id="no-number"),
        pytest.param("cuda:-1", (H200,), "no device is called 'cuda:-1'", id="negative"),
        pytest.param("cuda:1.5", (H200,), "no device is called 'cuda:1.5'", id="fraction"),
        pytest.param("cpu:0", (), "no device is called 'cpu:0'", id="numbered-cpu"),
        pytest.param("CUDA", (H200,), "no device is called 'CUDA'", id="capitals"),
    ],
)
def test_a_device_that_is_not_there_is_a_usage_error(
    machine: Machine, asked: str, cuda: tuple[Device, ...], expected: str
) -> None:
    machine(Cuda(devices=cuda, why_none="" if cuda else "no driver"))
    with pytest.raises(UsageError) as caught:
        devices.resolve(asked)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize(
    ("precision", "device", "flags", "expected"),
    [
        pytest.param("auto", H200, (), "bf16", id="auto-new-gpu"),
        pytest.param("auto", T4, (), "fp32", id="auto-old-gpu"),
        pytest.param("auto", Device(kind="cuda", capability=(8, 0)), (), "bf16", id="auto-ampere"),
        pytest.param("auto", CPU, (), "fp32", id="auto-cpu"),
        pytest.param("auto", CPU, ("avx512f", "avx512_bf16"), "bf16", id="auto-cpu-avx512-bf16"),
        pytest.param("auto", CPU, ("amx_bf16", "amx_tile"), "bf16", id="auto-cpu-amx"),
        pytest.param("auto", Device(kind="mps"), ("amx_bf16",), "fp32", id="auto-mps"),
        pytest.param("bf16", CPU, (), "bf16", id="asked-for-on-any-cpu"),
        pytest.param("fp32", H200, (), "fp32", id="asked-for-on-gpu"),
        pytest.param("fp16", T4, (), "fp16", id="fp16-on-gpu"),
    ],
)
def test_precision(machine: Machine, precision: Any, device: Device, flags: tuple[str, ...], expected: str) -> None:
    machine(flags=frozenset(flags))
    assert devices.resolve_precision(precision, device) == expected


def test_fp16_on_a_cpu_is_refused() -> None:
    """The Trainer would go on in fp32 without a word."""
    with pytest.raises(UsageError, match="precision: fp16 needs a GPU; on a CPU write bf16, fp32 or auto"):
        devices.resolve_precision("fp16", CPU)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param(
            f'print(\'[["A", 9, 0, 80, "{1:032x}"], ["B", 8, 6, 24, "{2:032x}"]]\')',
            Cuda(
                devices=(
                    Device(kind="cuda", index=0, name="A", capability=(9, 0), memory=80, uuid=str(UUID(int=1))),
                    Device(kind="cuda", index=1, name="B", capability=(8, 6), memory=24, uuid=str(UUID(int=2))),
                )
            ),
            id="two",
        ),
        pytest.param(
            "print('[]')", Cuda(why_none="the NVIDIA driver sees no device (CUDA_VISIBLE_DEVICES?)"), id="none-visible"
        ),
        pytest.param(
            "import sys; sys.exit('cuInit: no CUDA-capable device is detected')",
            Cuda(why_none="the NVIDIA driver says cuInit: no CUDA-capable device is detected"),
            id="driver-error",
        ),
        pytest.param(
            "import os; os._exit(3)", Cuda(why_none="the NVIDIA driver says exit status 3"), id="crash-without-words"
        ),
    ],
)
def test_the_driver_is_asked_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, code: str, expected: Cuda
) -> None:
    monkeypatch.setattr(devices, "_ASK_CUDA", code)
    assert devices._asked("libcuda.so.1") == expected


def test_a_driver_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_ASK_CUDA", "import time; time.sleep(60)")
    monkeypatch.setattr(devices, "_CUDA_TIMEOUT", 0.2)
    assert devices._asked("x").why_none == "the NVIDIA driver did not answer within 0 s"


def _compiled(folder: Path, source: str, **words: str) -> str:
    """The path of a library of this C, with words replaced."""
    for word, value in words.items():
        source = source.replace(word, value)
    (folder / "fake.c").write_text(source)
    library = folder / "fake.so"
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, folder / "fake.c"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C compiler")
    return os.fspath(library)


FAKE_DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return FAILS; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strcpy(name, device ? "B" : "A"); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device) { *value = which == 75 ? 9 : device; return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (device + 1) * 50000000000; return 0; }
int cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, device + 1, 16); return 0; }
int cuGetErrorString(int error, const char **text) { *text = "no CUDA-capable device is detected"; return 0; }
"""


@pytest.mark.parametrize("fails", [0, 100])
def test_the_driver_is_spoken_to_as_its_interface_says(tmp_path: Path, fails: int) -> None:
    """With a library of the driver's shape: names, capabilities, and an error in its own words."""
    found = devices._asked(_compiled(tmp_path, FAKE_DRIVER, FAILS=str(fails)))
    if fails:
        assert found.why_none == "the NVIDIA driver says cuInit: no CUDA-capable device is detected"
    else:
        assert [(device.name, device.capability) for device in found.devices] == [("A", (9, 0)), ("B", (9, 1))]
        assert [device.memory for device in found.devices] == [50_000_000_000, 100_000_000_000]
        assert found.devices[1].uuid == "02020202-0202-0202-0202-020202020202"


FAKE_NVML = """
#include <string.h>
int nvmlInit_v2(void) { return FAILS; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    *device = (void *) 7;
    return strcmp(uuid, "KIND-02020202-0202-0202-0202-020202020202") ? 6 : 0;
}
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory) {
    memory[0] = 100000000000; memory[1] = 99000000000; memory[2] = 1000000000;
    return device != (void *) 7;
}
"""


@pytest.mark.parametrize(
    ("fails", "kind", "expected"),
    [
        pytest.param(0, "GPU", 99_000_000_000, id="device"),
        pytest.param(0, "MIG", 99_000_000_000, id="part-of-a-device"),
        pytest.param(0, "NIC", None, id="unknown"),
        pytest.param(9, "GPU", None, id="no-driver"),
    ],
)
def test_free_memory_is_asked_of_nvml_by_uuid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int, kind: str, expected: int | None
) -> None:
    monkeypatch.setattr(devices, "_NVML", _compiled(tmp_path, FAKE_NVML, FAILS=str(fails), KIND=kind))
    gpu = Device(kind="cuda", memory=1, uuid="02020202-0202-0202-0202-020202020202")
    assert devices.free_memory(gpu) == expected


def test_free_memory_without_nvml_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_NVML", "no-such-library.so")
    assert devices.free_memory(Device(kind="cuda", memory=1, uuid="u")) is None


def test_the_memory_of_a_cpu_is_the_machines() -> None:
    free = devices.free_memory(CPU)
    assert free is not None
    assert 0 < free < devices.memory(CPU)


def test_nothing_is_started_where_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_libcuda", lambda: None)
    monkeypatch.setattr(devices, "_asked", lambda library: pytest.fail("asked a driver that isn't there"))
    assert devices.cuda.__wrapped__() == Cuda(why_none="this machine has no NVIDIA driver (libcuda)")


def test_a_torch_without_cuda_is_told_apart_from_a_missing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_libcuda", lambda: "libcuda.so.1")
    monkeypatch.setattr(devices, "torch_has_cuda", lambda: False)
    assert devices.cuda.__wrapped__().why_none == "the installed torch was built without CUDA"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("cuda: Optional[str] = None\n", False, id="cpu-build"),
        pytest.param("__version__ = '2.13'\ncuda: Optional[str] = '13.0'\n", True, id="cuda-build"),
        pytest.param("nothing = 1\n", True, id="cannot-tell"),
        pytest.param(None, True, id="no-file"),
    ],
)
def test_torch_tells_in_its_source_whether_it_has_cuda(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: bool
) -> None:
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('nobody imports torch here')")
    if text is not None:
        (package / "version.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert devices.torch_has_cuda() is expected


def test_the_cpu_of_this_machine_has_a_name() -> None:
    name, flags = devices._cpu_info()
    assert name
    assert isinstance(flags, frozenset)
    assert str(devices.resolve("cpu")) == "cpu"
