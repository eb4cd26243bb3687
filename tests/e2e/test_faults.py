"""Things that go wrong in a training, made to happen: each is an error of its case, and nothing of it is left."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.project import Project, csv

OWN = """
import os
import signal
import sys
import threading

from torch.utils.data import get_worker_info
from transformers import Trainer, TrainerCallback


class Leaves(TrainerCallback):
    def on_step_end(self, *args, **kwargs):
        sys.exit(0)


class InWorker(Trainer):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        collate = self.data_collator

        def collating(rows):
            if get_worker_info() is not None:
                self.harm()
            return collate(rows)

        self.data_collator = collating


class Dies(InWorker):
    def harm(self):
        os._exit(3)


class IsKilled(InWorker):
    def harm(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Blocks(InWorker):
    def harm(self):
        threading.Event().wait()


class Fails(InWorker):
    def harm(self):
        raise LookupError("no such row")


def raising(predictions, references):
    raise LookupError("no such answer")


def leaving(predictions, references):
    sys.exit(0)
"""
WATCH = f"""
import json
import os
import sys
import threading
from pathlib import Path

sys.path.append({str(Path(__file__).parents[2])!r})
from tests.executors.conftest import children


def pytest_runtest_logfinish(nodeid):
    held = dict(
        descriptors=len(os.listdir("/proc/self/fd")),
        threads=threading.active_count(),
        children=len(children(os.getpid())),
    )
    with Path("held.jsonl").open("a") as file:
        file.write(json.dumps(held) + "\\n")
"""
WORKERS = "training: {dataloader_num_workers: 1}"
CASES = f"""
  good: {{}}
  explodes: {{training: {{learning_rate: 1.0e10}}}}
  leaves: {{callbacks: ["own:Leaves"]}}
  worker_dies: {{trainer: "own:Dies", training: {{dataloader_num_workers: 2}}}}
  worker_is_killed: {{trainer: "own:IsKilled", {WORKERS}}}
  worker_blocks: {{trainer: "own:Blocks", {WORKERS}, timeout: 4s}}
  worker_fails: {{trainer: "own:Fails", {WORKERS}}}
  metric_raises: {{metrics: ["own:raising"]}}
  metric_leaves: {{metrics: ["own:leaving"]}}
  also_good: {{seeds: [7]}}
"""
DEAD = "; with training.dataloader_num_workers: 0 its error is seen"
ERRORS = {
    "explodes": "the loss is nan at step 2 of 3 (epoch 0.33), after ",
    "leaves": "code of the case's own ends the process at OWN:13: sys.exit(0)",
    "worker_dies": f"a worker of the data loader exited with status 3{DEAD}",
    "worker_is_killed": f"a worker of the data loader was killed by a signal (Killed), perhaps for memory{DEAD}",
    "worker_blocks": "timeout: 4s is over: stopped at ",
    "worker_fails": "a worker of the data loader fails at OWN:46: LookupError: no such row",
    "metric_raises": "own:raising fails at OWN:50: LookupError: no such answer",
    "metric_leaves": "code of the case's own ends the process at OWN:54: sys.exit(0)",
}


def living(project: Project) -> list[int]:
    """The processes that work in the project's folder."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and os.readlink(path / "cwd") == str(project.path):
                found.append(int(path.name))
        except OSError:  # it is gone, or another user's
            continue
    return found


def test_what_fails_costs_its_case_and_leaves_nothing(project: Project) -> None:
    """Processes, threads and descriptors after each case are those after the first one, which was good."""
    project.write(**{"own.py": OWN, "conftest.py": WATCH, "broken.py": "import sys\n\nsys.exit(0)\n"})
    project.suite(CASES)
    project.suite('  plugin: {task: "broken:Task"}\n', name="other.ft.yaml")
    done = project.run("--continue-on-collection-errors")
    assert done.code == pytest.ExitCode.TESTS_FAILED, done.text
    assert "broken:Task: importing broken fails at " in done.unbroken
    assert "broken.py:3: SystemExit: 0" in done.unbroken
    verdicts = {case: result["verdict"] for case, result in done.results.items()}
    assert verdicts == {"good": "pass", **dict.fromkeys(ERRORS, "error"), "also_good": "pass"}
    for case, expected in ERRORS.items():
        assert done.errors(case).startswith(expected.replace("OWN", str(project.path / "own.py")))
    assert "where it waited for a worker of the data loader" in done.errors("worker_blocks")
    held: list[dict[str, Any]] = [json.loads(line) for line in (project.path / "held.jsonl").read_text().splitlines()]
    assert len(held) == len(verdicts)
    assert held[0]["children"] == 0
    assert held == [held[0]] * len(held)
    assert living(project) == []


LIMIT = """
import resource


def pytest_runtest_logfinish(nodeid):
    if "::first" in nodeid:  # all that a training imports is there
        with open("/proc/self/status") as file:
            used = int(next(line for line in file if line.startswith("VmSize:")).split()[1]) * 1024
        resource.setrlimit(resource.RLIMIT_AS, (used + 256 * 2**20, resource.RLIM_INFINITY))
"""


def test_a_host_without_memory_is_told_or_gets_smaller_batches(project: Project) -> None:
    """In a process that may not have more than 256 MiB above what a small training leaves it with."""
    rows = [(" ".join(["the old cat"] * 21), "moves" if place % 2 else "rests") for place in range(1024)]
    project.write(**{"conftest.py": LIMIT, "train.csv": csv(rows), "test.csv": csv(rows[:8])})
    large = "training: {per_device_train_batch_size: 1024}"
    small = "data: {limit: {train: 64}}"
    project.suite(
        f"  first: {{{small}}}\n  fails: {{{large}}}\n  halves: {{{large}, on_oom: halve_batch}}\n"
        f"  fits: {{seeds: [7], {small}}}\n"
    )
    # What was freed is given back to the system at once, and not kept for what is of the same size.
    done = project.run("-p", "no:xdist", MALLOC_MMAP_THRESHOLD_="65536")
    verdicts = {case: result["verdict"] for case, result in done.results.items()}
    assert verdicts == {"first": "pass", "fails": "error", "halves": "pass", "fits": "pass"}, done.text
    error = done.errors("fails")
    assert error.startswith("out of memory on cpu, training with per_device_train_batch_size 1024 (")
    assert "MiB more were asked for): set on_oom: halve_batch" in error
    (note,) = [note for note in done.results["halves"]["notes"] if note.startswith("on_oom")]
    assert "memory ran out with per_device_train_batch_size 1024: trained with " in note
    assert note.endswith("which is the same 1,024 examples a step")
    assert "".join(note.split()) in "".join(done.text.split())
