"""Suites that name nothing remote go to no network, and no library reports home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftcheck import privacy

ROOT = Path(__file__).parents[2]
CUT_OFF = ["unshare", "--map-root-user", "--net"]
"""A network namespace with nothing in it, for whoever may make one."""

LISTENS = """
import os, sys, traceback

def heard(event, arguments):
    if not event.startswith("socket.") or event not in NAMES:
        return
    address = arguments[0] if event.startswith("socket.get") else arguments[1]
    if event.startswith("socket.get") or isinstance(address, tuple):  # others are of this machine's own sockets
        with open(os.environ["HEARD"], "a") as file:
            file.write(f"{event} {address!r} of {''.join(traceback.format_stack(limit=6))}\\n")

NAMES = {f"socket.{name}" for name in "connect sendto sendmsg getaddrinfo gethostbyname gethostbyaddr".split()}
sys.addaudithook(heard)
"""
"""In every Python that starts: who looks for an address, or sends to one."""


def session(tmp_path: Path, arguments: list[str], *before: str, **environment: str) -> tuple[str, str]:
    """What a session printed that was cut off, and what of the network was asked for. CI isn't set: some libraries
    report home only outside of it."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(LISTENS)
    heard = tmp_path / "heard"
    in_ci = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST")
    unset = (*in_ci, "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", *privacy.TELEMETRY)
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    paths = os.pathsep.join([str(tmp_path / "hook"), str(ROOT)])
    command = [*before, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--ft-limit=8", "--ft-cache=off"]
    done = subprocess.run(
        [*command, "--ft-device=cpu", "--ft-seeds=1", *arguments],
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": paths, "HEARD": str(heard), "HF_HOME": str(tmp_path / "hf"), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, heard.read_text() if heard.exists() else ""


@pytest.mark.e2e
def test_a_quick_suite_runs_where_there_is_no_network_and_asks_for_none(tmp_path: Path) -> None:
    if subprocess.run([*CUT_OFF, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody make a network namespace (unshare --net)")
    reports = ["--ft-html=out.html", "--ft-tensorboard=curves", f"--ft-mlflow=sqlite:///{tmp_path}/mlflow.db"]
    suite = str(ROOT / "suites" / "quick" / "text_classification.ft.yaml")
    text, heard = session(tmp_path, [suite, *reports], *CUT_OFF)
    assert " smoke in " in text
    assert heard == ""


@pytest.mark.e2e
def test_no_library_reports_home(tmp_path: Path) -> None:
    """TRL does, and sends nothing where it is told; whether there is a network makes no difference."""
    pytest.importorskip("trl")
    _, heard = session(tmp_path, [str(ROOT / "suites" / "techniques" / "trainer.ft.yaml"), "-k", "answers"])
    assert heard == ""


def test_the_hook_hears(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(LISTENS)
    code = "import socket\ntry: socket.create_connection(('127.0.0.1', 9))\nexcept OSError: pass"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HEARD": str(tmp_path / "heard")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert "socket.connect ('127.0.0.1', 9)" in (tmp_path / "heard").read_text()


def test_telemetry_is_off_also_in_a_library_that_is_imported_already(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", False)
    for name in privacy.TELEMETRY:
        monkeypatch.delenv(name, raising=False)
    privacy.begin()
    assert constants.HF_HUB_DISABLE_TELEMETRY is True
    assert {name: os.environ[name] for name in privacy.TELEMETRY} == privacy.TELEMETRY
