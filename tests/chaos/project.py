"""The project that is killed: two cases, a baseline, all reports; its fine-tuning faked, or real and tiny."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tests import tiny
from tests.e2e.project import ROWS, csv

SUITE = """
defaults:
  checkpoint: ./checkpoint
  task: text-classification
  precision: fp32
  data: {{path: csv, files: {{train: train.csv, test: test.csv}}}}
  training: {training}
cases:
  first: {{seeds: 2, gates: {{accuracy: {{min: 0.1, max_regression: 0.9}}}}}}
  second: {{seeds: [7], gates: {{accuracy: {{min: 0.1}}}}}}
"""
FAKE = "{{learning_rate: {rate}}}"
REAL = (
    "{{num_train_epochs: 2, per_device_train_batch_size: 4, learning_rate: {rate}, save_strategy: steps, save_steps: 2,"
    " train_sampling_strategy: group_by_length}}"
)
CONFTEST = """
import time
from tests import fake
from tests.chaos import events

if {faked}:
    fake.install()
    for name, phase in (("_made_up_training", "training"), ("_made_up_answers", "predicting")):
        def slowly(self, work, store, *rest, plain=getattr(fake.FakeExecutor, name), phase=phase):
            for _ in range(5):
                watching.of(phase)
                time.sleep(0.002)
            return plain(self, work, store, *rest)
        setattr(fake.FakeExecutor, name, slowly)

def pytest_configure(config):
    global watching
    watching = config.stash.setdefault("chaos", events.RUNNING)
    if not {faked}:
        events.take_part(watching)
"""
OPTIONS = (
    *(
        "-q",
        "-p",
        "ftcheck.plugin",
        "-p",
        "no:cacheprovider",
        "--ft-device=cpu",
        "--ft-cache-dir=store",
        "--ft-json=out.json",
    ),
    *("--ft-html=out.html", "--junitxml=out.xml", "--ft-update", "--ft-reason=why not", "--ft-allow-ci-update"),
)


ESCAPED = 70
"""The exit status of a session out of which an exception came: Ctrl-C where pytest doesn't catch it."""


def make(path: Path, *, faked: bool) -> None:
    """The project before any session."""
    path.mkdir(parents=True)
    (path / "temporary").mkdir()
    if faked:
        (path / "checkpoint").mkdir()
        for name, content in (("config.json", '{"model_type": "bert"}'), ("model.safetensors", "w")):
            (path / "checkpoint" / name).write_text(content)
        (path / "checkpoint" / "tokenizer.json").write_text("{}")
    else:
        tiny.bert(path / "checkpoint", hidden_size=128, intermediate_size=512)
    (path / "train.csv").write_text(csv(ROWS))
    (path / "test.csv").write_text(csv(ROWS[4:16]))
    (path / "pytest.ini").write_text("[pytest]\n")
    (path / "conftest.py").write_text(CONFTEST.format(faked=faked))


def suite(path: Path, rate: float, *, faked: bool) -> None:
    """Its suite, with this learning rate."""
    training = (FAKE if faked else REAL).format(rate=rate)
    (path / "suite.ft.yaml").write_text(SUITE.format(training=training))


def session(path: Path, watch: Callable[[int], None] | None = None, **environment: str) -> int:
    """A session in a process of its own, which is a copy of this one that has imported what sessions import: its exit
    status, negative for a signal. `watch` is called with the process's id."""
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what a shell runs in the background
        os.environ.update(environment, TMPDIR=str(path / "temporary"), CI="true")
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        os.environ["FTCHECK_RUNTIME_DIR"] = str(path / "leases")  # other sessions of the machine are not waited for
        os.chdir(path)
        with open(path / "said.txt", "w", encoding="utf-8") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        import pytest

        from tests.chaos import events

        events.RUNNING = events.watch(path)
        code = ESCAPED
        try:
            code = int(pytest.main([*OPTIONS, "suite.ft.yaml"]))
        except BaseException:  # noqa: BLE001  told
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if watch is not None:
        watch(child)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
