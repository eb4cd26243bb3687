"""A baseline whose writing is cut off at any point is the old one or the new one."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from ftcheck import baselines, writing
from tests.plugin.conftest import Project

UPDATE = ("--ft-update", "--ft-allow-ci-update", "--ft-reason=why not")


class Killed(BaseException):
    """What no library catches."""


def accept(project: Project, rate: float) -> bytes:
    """Accept a result, and return its baseline."""
    project.suite(f"  good: {{training: {{learning_rate: {rate}}}, gates: {{accuracy: {{max_regression: 0.01}}}}}}\n")
    assert project.run(*UPDATE).ret == pytest.ExitCode.OK
    return place(project).read_bytes()


def place(project: Project) -> Path:
    return baselines.place(project.path / "suite.ft.yaml", "good")


def test_cut_off_anywhere_it_is_the_old_one_or_the_new_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    accept(project, 0.8)
    folder, kept = place(project).parent, project.path / "kept"
    shutil.copytree(folder, kept)
    accept(project, 0.9)
    new = baselines.read(place(project)).entries["cpu"]
    statistics = (folder / new.statistics).read_bytes()
    plain, found = os.replace, []
    for step in range(10):
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        calls = iter(range(10))

        def stops(one: str, other: str, step: int = step, calls: object = calls) -> None:
            if next(calls) == step:  # type: ignore[call-overload]
                raise Killed
            plain(one, other)

        monkeypatch.setattr(os, "replace", stops)
        try:
            baselines.write(place(project), new, statistics)
        except Killed:
            monkeypatch.setattr(os, "replace", plain)
            read = baselines.read(place(project))
            entry = read.entries["cpu"]
            found.append(entry.metrics["accuracy"].value)
            for one in (entry, *filter(None, [entry.anchor])):
                assert read.statistics(one).metrics
            continue
        break
    assert found == pytest.approx([0.79, 0.79, 0.79, 0.89])  # before: anchor, statistics, JSON; then the last step
    assert list(folder.glob(".*.next")) == []


def test_scratch_files_of_a_killed_process_go_with_the_next_writing(tmp_path: Path) -> None:
    path, old, young = tmp_path / "a[1].json", tmp_path / ".a[1].json.x.tmp", tmp_path / ".a[1].json.y.tmp"
    for left in (old, young):
        left.touch()
    os.utime(old, (time.time() - 2 * writing.STALE,) * 2)
    writing.replace_whole(path, b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, young])  # that of a process that still writes is left
    assert path.read_bytes() == b"whole"
