"""What this process may use of the machine's memory, also inside a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck import machine, sizes

GB = 10**9
MEMINFO = f"MemTotal:  {64 * GB // 1024} kB\nMemFree:  1 kB\nMemAvailable:  {40 * GB // 1024} kB\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control groups of a machine of 64 GB, 40 of them free."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    return tmp_path


def group(folder: Path, files: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")


def v2(limit: object, used: int, reclaimable: int = 0) -> dict[str, object]:
    return {"memory.max": limit, "memory.current": used, "memory.stat": f"anon 1\ninactive_file {reclaimable}"}


def v1(limit: object, used: int, reclaimable: int = 0) -> dict[str, object]:
    stat = f"inactive_file 1\ntotal_inactive_file {reclaimable}"
    return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}


@pytest.mark.parametrize(
    ("own", "groups", "total", "free"),
    [
        pytest.param(None, {}, 64, 40, id="no-control-groups"),
        pytest.param("0::/", {"": v2("max", 0)}, 64, 40, id="without-limit"),
        pytest.param("0::/", {"": v2(8 * GB, 5 * GB)}, 8, 3, id="container"),
        pytest.param("0::/", {"": v2(8 * GB, 5 * GB, 2 * GB)}, 8, 5, id="files-that-nobody-needs"),
        pytest.param("0::/", {"": v2(100 * GB, 0)}, 64, 40, id="more-than-there-is"),
        pytest.param(
            "0::/job/step", {"job": v2(16 * GB, 12 * GB), "job/step": v2("max", 12 * GB)}, 16, 4, id="parent-limits"
        ),
        pytest.param("0::/docker/8f", {"": v2(8 * GB, 1 * GB)}, 8, 7, id="path-of-the-host"),
        pytest.param("5:memory:/job\n1:cpu:/", {"memory/job": v1(8 * GB, 6 * GB, GB)}, 8, 3, id="version-1"),
        pytest.param("5:memory:/", {"memory": v1(9223372036854771712, 0)}, 64, 40, id="version-1-without-limit"),
        pytest.param("0::/", {"": {"memory.max": "lots"}}, 64, 40, id="unreadable"),
        pytest.param("0::/", {"": v2(8 * GB, 9 * GB)}, 8, 0, id="over-its-limit"),
    ],
)
def test_memory_is_what_the_narrowest_group_has(
    root: Path, own: str | None, groups: dict[str, dict[str, object]], total: int, free: int
) -> None:
    if own is not None:
        (root / "own").write_text(f"{own}\n")
    for name, files in groups.items():
        group(root / "groups" / name, files)
    assert round(machine.memory() / GB, 3) == total
    found = machine.free_memory()
    assert found is not None
    assert round(found / GB, 3) == free


def test_a_system_that_does_not_say_what_is_free(root: Path) -> None:
    (root / "meminfo").unlink()
    assert machine.memory() > 0
    assert machine.free_memory() is None


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        pytest.param(0, "0 B", id="none"),
        pytest.param(999, "999 B", id="bytes"),
        pytest.param(999.6, "1 kB", id="no thousand of a unit"),
        pytest.param(512e6, "512 MB", id="whole"),
        pytest.param(5_432_100_000, "5.43 GB", id="three digits"),
        pytest.param(1.5e12, "1.5 TB", id="tera"),
        pytest.param(float("nan"), "nan B", id="nobody knows"),
    ],
)
def test_sizes_are_said_with_three_digits(count: float, expected: str) -> None:
    assert sizes.in_words(count) == expected


def test_sizes_are_said_so_that_suites_could_say_them() -> None:
    assert sizes.in_bytes(sizes.in_words(1_230_000)) == 1_230_000
