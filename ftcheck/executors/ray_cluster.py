"""The Ray cluster of a session: one that is there already, or one of its own on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ftcheck.errors import FtcheckError, MissingExtraError, TrainingError, UsageError, shown
from ftcheck.executors import ray_guard

PATIENCE = 30.0
"""Seconds that a cluster may take to answer. Ray itself tries a dead address for ever."""
ANSWERING = 5.0
"""Seconds that a node may take to let itself be called."""
_PROBE = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='CRITICAL')"
_NOT_SENT = frozenset({"__pycache__", "node_modules", "site-packages"})


def check() -> None:
    """Raise MissingExtraError where Ray isn't installed."""
    if find_spec("ray") is None:
        raise MissingExtraError("--ft-executor=ray", "ray", "ray")


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A cluster that this process is connected to."""

    leave: Callable[[], object]
    """Leaves it, and ends one of our own; does nothing where it isn't for us to leave."""
    own: bool
    """Whether we have started it: no node will come to it."""


def connect(address: str | None) -> Joined:
    """Connect this process to the cluster at `address` (default: that of RAY_ADDRESS, else a new one on this machine),
    unless it is connected to one.

    Nodes of a cluster that was there are sent ftcheck and the Python files of the working directory. Raises UsageError
    for what is no address, TrainingError for a cluster that doesn't answer or can't take that.
    """
    check()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no telemetry
    import ray

    if ray.is_initialized():
        return Joined(leave=lambda: None, own=False)
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    given: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == "local":
            return Joined(leave=_started(given), own=True)
        _check_alive(address)
        with TemporaryDirectory(prefix="ftcheck-") as folder:
            collect_code(Path(folder))
            ray.init(address=address, runtime_env={"working_dir": folder}, **given)
    except FtcheckError:
        raise
    except Exception as error:
        raise TrainingError(
            f"the Ray cluster {shown(address)} can't be used: {type(error).__name__}: {shown(error, 500)}"
        ) from error
    return Joined(leave=ray.shutdown, own=False)


def _started(given: dict[str, Any]) -> Callable[[], object]:
    """Connect this process to a cluster of its own; what ends it."""
    import ray

    with ray_guard.guarded() as end:
        ray.init(address="local", include_dashboard=False, **given)

    def leave() -> None:
        ray.shutdown()
        end()

    return leave


def alive(node: str) -> bool:
    """Whether a node is there: by what Ray knows, which takes a while to notice, and by whether it lets itself be
    called."""
    import ray

    known = next((each for each in ray.nodes() if each["NodeID"] == node), None)
    if known is None or not known["Alive"]:
        return False
    try:
        socket.create_connection((known["NodeManagerAddress"], known["NodeManagerPort"]), timeout=ANSWERING).close()
    except OSError:
        return False
    return True


def collect_code(target: Path) -> None:
    """Copy to `target`, which nodes get as their working directory, ftcheck and the Python files of this process's."""
    import ftcheck

    package = Path(ftcheck.__file__).parent
    for source, below in ((Path.cwd(), target), (package, target / package.name)):
        for place, folders, names in os.walk(source):
            folders[:] = [name for name in folders if name not in _NOT_SENT and not name.startswith(".")]
            if "pyvenv.cfg" in names:
                folders.clear()
                continue
            folder = below / Path(place).relative_to(source)
            for name in names:
                if name.endswith(".py") and os.path.isfile(os.path.join(place, name)):  # no link that leads nowhere
                    folder.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(Path(place, name), folder / name)


def _check_alive(address: str) -> None:
    """Ask the cluster for an answer, within PATIENCE."""
    kind, separator, rest = address.rpartition("://")
    if separator and kind != "ray":
        raise UsageError(f"--ft-ray-address: expected HOST:PORT, auto or ray://HOST:PORT, got {shown(address)}")
    if address != "auto":
        host, _, port = rest.rpartition(":")
        if not host or not port.isdigit():
            raise UsageError(f"--ft-ray-address: expected HOST:PORT, auto or ray://HOST:PORT, got {shown(address)}")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
        except (OSError, OverflowError) as error:
            raise TrainingError(
                f"no Ray cluster answers at {shown(address)} ({shown(error)}): is it running (`ray status`), and can "
                "this machine reach it?"
            ) from None
    if kind == "ray":
        return  # Ray's client gives up by itself
    # In a process that can be killed: Ray tries on and on where something else listens.
    try:
        done = subprocess.run(  # noqa: S603  this Python, with our own words
            [sys.executable, "-c", _PROBE, address], capture_output=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise TrainingError(f"no Ray cluster answered at {shown(address)} within {PATIENCE:g} s") from None
    if done.returncode:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise TrainingError(
            f"the Ray cluster {shown(address)} can't be used: {shown(last, 300)} (one that wants tokens needs "
            "RAY_AUTH_MODE=token here)"
        )
