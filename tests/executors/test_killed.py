"""The kernel's own word on whether it killed for memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck import machine
from ftcheck.executors import killed


@pytest.mark.parametrize(
    ("told", "files", "count"),
    [
        pytest.param("0::/jobs/a\n", {"jobs/a/memory.events": "low 0\noom 3\noom_kill 2\n"}, 2, id="version-2"),
        pytest.param(
            "9:name=systemd:/\n4:memory:/jobs/a\n0::/\n",
            {"memory/jobs/a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"},
            5,
            id="version-1",
        ),
        pytest.param("0::/of/the/host\n", {"memory.events": "oom_kill 1\n"}, 1, id="in-a-container"),
        pytest.param("0::/\n", {"memory.events": "low 0\n"}, None, id="not-counted"),
        pytest.param("0::/jobs/a\n", {}, None, id="not-readable"),
        pytest.param(None, {}, None, id="no-linux"),
    ],
)
def test_kills_for_memory_are_read_where_the_kernel_counts_them(
    told: str | None, files: dict[str, str], count: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CGROUPS", tmp_path / "root")
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "self")
    if told is not None:
        (tmp_path / "self").write_text(told)
    for name, content in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert killed.for_memory() == count


@pytest.mark.parametrize(
    ("code", "words"),
    [
        pytest.param(7, "exit status 7", id="status"),
        pytest.param(-9, "killed by SIGKILL", id="signal"),
        pytest.param(-36, "killed by signal 36", id="signal-without-a-name"),
    ],
)
def test_how_a_process_ended_has_a_name(code: int, words: str) -> None:
    assert killed.how(code) == words


@pytest.mark.parametrize(
    ("before", "after", "expected", "says"),
    [
        pytest.param(None, None, 0, " (out of memory? lower", id="nobody-says"),
        pytest.param(1, 2, 0, " (by the kernel, which ran out of memory: lower", id="killed-for-memory"),
        pytest.param(1, 2, 3_100_000_000, "memory: it was expected to take 3.1 GB; lower", id="what-was-needed"),
        pytest.param(1, 1, 3_100_000_000, " (not by the kernel for memory", id="killed-by-somebody"),
    ],
)
def test_what_is_said_of_it(before: int | None, after: int | None, expected: int, says: str) -> None:
    assert says in killed.hint(before, after, expected)
