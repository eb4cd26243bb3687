"""A Ray cluster of several nodes on this machine, whose processes fake the fine-tuning."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.executors.conftest import children
from tests.plugin.conftest import REPOSITORY

MEMORY = 80 * 1024**2
"""Bytes of each node's object store: hardly more than the least that Ray takes."""
OPEN = {"RAY_AUTH_MODE": "disabled"}
"""For a cluster and all that connect to it. Otherwise the first of a process's own has it ask for a token, which it
writes below HOME, at every cluster from then on."""
SITE = """
import json, os
from pathlib import Path

def told():
    return json.loads(Path({told!r}).read_text())

from ftcheck.keys import code

version = code._version
code._version = lambda name: told().get("version " + name) or version(name)

from ftcheck.executors import inline
from tests import fake

class Told(fake.FakeExecutor):
    def produce(self, work, *given):
        variables = told()
        os.environ.update(variables)
        os.environ["FAKE_FAILURE"] = variables.get("fail " + work.job.case.name, "")
        with open({pids!r}, "a") as file:
            file.write(str(os.getpid()) + "\\n")
        if "real" in variables:
            return super(fake.FakeExecutor, self).produce(work, *given)
        return super().produce(work, *given)

    def _made_up_training(self, work, store, on_progress):
        if work.job.case.resources.processes == 1:
            return super()._made_up_training(work, store, on_progress)
        fake.log(f"train {{work.job.case.name}} {{work.job.seed}}")
        self._train_together(work, store, on_progress, lambda message: None)

if "FAKE_RANKS" in told():
    from tests.executors import ranks

    os.environ["FAKE_RANKS"] = told()["FAKE_RANKS"]
    ranks.install()
inline.InlineExecutor = Told
"""
"""What every Python of the cluster runs first: the fine-tuning is faked as `Nodes.tell` says."""


class Nodes:
    """A head that trains nothing, and nodes with one CPU each."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        self._told, self._pids = folder / "told.json", folder / "pids"
        self.tell()
        (folder / "sitecustomize.py").write_text(SITE.format(told=str(self._told), pids=str(self._pids)))
        self._environment = {
            "PYTHONPATH": os.pathsep.join(map(str, (folder, REPOSITORY))),
            "FTCHECK_CACHE_DIR": str(folder / "cache"),
            "RAY_USAGE_STATS_ENABLED": "0",
            **OPEN,
            "RAY_memory_monitor_refresh_ms": "0",  # other processes of the machine may need what they like
        }
        with self._in_environment():
            self._cluster = Cluster(
                initialize_head=True,
                head_node_args={"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False},
            )
        self.nodes = [self.add(), self.add()]

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @contextmanager
    def _in_environment(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self._environment.items():
                patch.setenv(name, value)
            yield

    def add(self) -> Any:
        with self._in_environment():
            return self._cluster.add_node(num_cpus=1, object_store_memory=MEMORY)

    def tell(self, variables: Mapping[str, str] | None = None) -> None:
        """The environment of what is faked on the nodes; `fail NAME`: FAKE_FAILURE of one case; `version NAME`: of a
        library there; FAKE_RANKS: what processes that train together do; `real`: nothing is faked."""
        self._told.write_text(json.dumps(variables or {}))
        self._pids.unlink(missing_ok=True)

    @property
    def pids(self) -> list[int]:
        """The processes that have begun with a run since the last `tell`."""
        return [int(line) for line in self._pids.read_text().splitlines()] if self._pids.exists() else []

    def ranks(self, node: Any = None) -> list[int]:
        """The processes on a node (default: on all) that train together with others, and their launchers."""
        below = [pid for each in ([node] if node else self.nodes) for pid in children(_raylet(each))]
        return [pid for pid in below if "ftcheck.executors.launched" in _command(pid)]

    def training(self) -> Any:
        """The node on which the last run was begun."""
        return next(node for node in self.nodes if self.pids[-1] in children(_raylet(node)))

    @contextmanager
    def apart(self, *hidden: Path) -> Iterator[None]:
        """A node with three CPUs whose own, empty disks hide these folders. Skips where there can be none."""
        mounts = " && ".join(f"mount -t tmpfs none {path}" for path in hidden)
        own = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-m", "--map-root-user"]
        if shutil.which("unshare") is None or subprocess.run([*own, "sh", "-c", mounts]).returncode:
            pytest.skip("needs the right to mount")
        ray = f"{sys.executable} -m ray.scripts.scripts start --block --address={self.address} --num-cpus=3"
        node = subprocess.Popen(
            [*own, "sh", "-c", f"{mounts} && exec {ray} --object-store-memory={MEMORY}"],
            env={**os.environ, **self._environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            below = children(node.pid)
            node.terminate()
            node.wait(30)
            for pid in below:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def kill(self, node: Any) -> None:
        """Let a machine die: its raylet and all processes of it at once."""
        raylet = _raylet(node)
        for pid in (raylet, *children(raylet)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)
        self.nodes.remove(node)

    def close(self) -> None:
        self._cluster.shutdown()


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def _raylet(node: Any) -> int:
    (found,) = (info.process.pid for info in node.all_processes["raylet"])
    return int(found)


@contextmanager
def started(folder: Path) -> Iterator[Nodes]:
    nodes = Nodes(folder)
    try:
        yield nodes
    finally:
        nodes.close()
