"""A project as a user has it: a real checkpoint of some kilobytes, a handful of rows, suites, and pytest."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import warm

HEAD = """
defaults:
  checkpoint: ./checkpoint
  task: text-classification
  precision: fp32
  data: {path: csv, files: {train: train.csv, test: test.csv}}
  training: {num_train_epochs: 1, per_device_train_batch_size: 8}
cases:
"""
"""What the cases of `Project.suite` share."""

NOUNS = ("cat", "dog", "bird", "fish", "sun", "moon")
VERBS = {"runs": "moves", "sees": "moves", "sleeps": "rests", "eats": "rests"}
ROWS = [
    (f"{'the old ' * (place % 3)}{noun} {verb}", label)
    for place, noun in enumerate(NOUNS)
    for verb, label in VERBS.items()
]
"""24 texts, two classes."""

INTERNAL = re.compile(r"Traceback|site-packages|ftcheck/[a-z_/]+\.py|INTERNALERROR")
"""What a user's mistake never shows: a traceback, or a frame of ftcheck or a library."""


def csv(rows: list[tuple[str, str]]) -> str:
    """A file of texts and labels."""
    return "".join(f"{text},{label}\n" for text, label in [("text", "label"), *rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A pytest run that ended."""

    code: int
    text: str
    """What it printed, both streams."""
    results: Mapping[str, Mapping[str, Any]]
    """Case id -> result, as written to JSON; empty where nothing was."""

    def section(self, case_id: str) -> str:
        """The screen of an error or a failure: what stands between its headline and the next."""
        found = re.findall(
            rf"^_+ (?:ERROR at setup of )?{re.escape(case_id)} _+\n(.*?)(?=^[_=]{{3,}} )", self.text, re.M | re.S
        )
        assert len(found) == 1, f"{len(found)} screens for {case_id} in:\n{self.text}"
        return str(found[0]).rstrip("\n")

    def errors(self, case_id: str) -> str:
        """The one message of a case that couldn't be measured, which the screen and the results both show."""
        result = self.results[case_id]
        assert result["verdict"] == "error", result
        assert self.section(case_id) == f"{case_id}: {result['error']}"
        return str(result["error"])

    @property
    def metrics(self) -> dict[str, Any]:
        """Case id -> its metrics."""
        return {case_id: result["metrics"] for case_id, result in self.results.items()}

    @property
    def unbroken(self) -> str:
        """The text with the table's line breaks taken out."""
        return re.sub(r"\n +", " ", self.text)


class Project:
    """A folder with a checkpoint, data and suites; and a run store of its own."""

    def __init__(self, path: Path, checkpoint: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.store = path / "store"
        self.link(checkpoint)
        self.write(
            **{
                "train.csv": csv(ROWS),
                "test.csv": csv(ROWS[4:12]),
                "pytest.ini": "[pytest]\naddopts = --strict-markers\n",
            }
        )

    def link(self, checkpoint: Path, name: str = "checkpoint") -> None:
        """Have `checkpoint` in the project under `name`."""
        (self.path / name).symlink_to(checkpoint, target_is_directory=True)

    def write(self, **files: str | bytes) -> None:
        """Files by name."""
        for name, content in files.items():
            (self.path / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    def suite(self, cases: str, name: str = "suite.ft.yaml") -> None:
        """A suite file of these cases (indented by two)."""
        self.write(**{name: HEAD + cases})

    def start(
        self, *arguments: str, store: Path | None = None, disk: str = "", **environment: str
    ) -> warm.Session | subprocess.Popen[str]:
        """pytest in a process of its own, with both streams in one pipe; `disk` is what it mounts, for itself only."""
        options = ["--ft-device=cpu", f"--ft-cache-dir={store or self.store}", *arguments, "-p", "no:cacheprovider"]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", **environment}
        if not disk:
            return warm.start(options, self.path, variables)
        return subprocess.Popen(
            [*namespace(), f'{disk} && exec "$@"', "sh", sys.executable, "-m", "pytest", *options],
            cwd=self.path,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
        )

    def run(self, *arguments: str, store: Path | None = None, disk: str = "", **environment: str) -> Done:
        """The same to its end, with results written."""
        (self.path / "out.json").unlink(missing_ok=True)
        process = self.start("--ft-json=out.json", *arguments, store=store, disk=disk, **environment)
        text, _ = process.communicate()
        return Done(code=process.wait(), text=text, results=self.results())

    def results(self, name: str = "out.json") -> dict[str, Mapping[str, Any]]:
        """Case id -> result."""
        path = self.path / name
        return {r["case_id"]: r for r in json.loads(path.read_text("utf-8"))["results"]} if path.exists() else {}

    def kept(self, stage: str = "runs") -> list[Path]:
        """The entries of the store."""
        return sorted((self.store / stage).glob("*/*"))

    def scratch(self) -> list[str]:
        """What is left in the store's folder for what isn't finished."""
        folder = self.store / "tmp"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def namespace() -> list[str]:
    """A command that runs a shell script where it may mount. Skips the test where there is no such thing."""
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    try:
        probe = subprocess.run([*command, "mount -t tmpfs none /mnt"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs `unshare` (util-linux)")
    if probe.returncode:
        pytest.skip(f"needs a mount namespace of its own: {probe.stderr.strip()}")
    return command


def interrupt(process: warm.Session | subprocess.Popen[str]) -> None:
    """Ctrl-C."""
    process.send_signal(signal.SIGINT)
