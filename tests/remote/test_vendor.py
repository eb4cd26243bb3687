"""`ftcheck vendor`: a folder that suites run from without a network, under the keys that they have outside."""

from __future__ import annotations

import ensurepip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch
from zipfile import ZipFile

import pytest
from blake3 import blake3

from ftcheck import vendoring
from ftcheck.errors import DataError, FtcheckError, UsageError
from ftcheck.vendoring import LOCK
from tests import tiny
from tests.cli.faked import Command
from tests.e2e.project import ROWS, csv
from tests.hub_server import serve
from tests.plugin.conftest import REPOSITORY, Project

CASE = "  good:\n    training: {learning_rate: 0.9}\n    gates: {accuracy: {max_regression: 0.05}}\n"
ON_HUB = """
cases:
  hub:
    checkpoint: org/tiny
    task: text-classification
    data: {path: org/rows}
    training: {max_steps: 1, per_device_train_batch_size: 4}
    seeds: 1
    precision: fp32
"""


@pytest.fixture(autouse=True)
def elsewhere_the_hub_is_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`--ft-vendor` is for the rest of a process, and many tests share this one."""
    from huggingface_hub import constants

    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.setattr(constants, name, getattr(constants, name))
    with patch.dict(os.environ):
        yield


@pytest.fixture
def suites(faked: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose suite, in a folder, was run and accepted."""
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(faked.path / "store"))
    text = faked.suite(CASE).read_text().replace("./checkpoint", "../checkpoint")
    (faked.path / "suite.ft.yaml").unlink()
    (faked.path / "suites").mkdir()
    text = text.replace("train.csv", "../train.csv").replace("test.csv", "../test.csv")
    (faked.path / "suites" / "suite.ft.yaml").write_text(text)
    return faked


@pytest.mark.parametrize("named", ["suites", "suites/suite.ft.yaml"], ids=["folder", "file"])
def test_vendored_suites_have_the_same_keys_and_baselines(
    suites: Project, ftcheck: Command, named: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ftcheck.accept()
    done = ftcheck("vendor", named, "-o", "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 case")
    the_lock_has_every_file_s_hash(suites.path / "out")
    elsewhere = tmp_path_factory.mktemp("else where") / "out"
    shutil.move(suites.path / "out", elsewhere)
    for name in ("suites", "checkpoint", "train.csv", "test.csv"):
        path = suites.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    suites.stages()
    run = ftcheck.run(
        str(elsewhere / "tree" / "suites"), f"--ft-vendor={elsewhere}", "--ft-cache=only", "--ft-json=out.json"
    )
    assert (run.ret, suites.stages()) == (pytest.ExitCode.OK, [])
    assert suites.results()["good"]["verdict"] == "pass"


def the_lock_has_every_file_s_hash(out: Path) -> None:
    lock = json.loads((out / LOCK).read_text())
    found = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    del found[LOCK]
    assert lock["files"] == {
        name: {"size": len(content), "blake3": blake3(content).hexdigest()} for name, content in found.items()
    }
    assert {"tree/checkpoint/model.safetensors", "tree/train.csv", "tree/suites/suite.ft.yaml"} <= set(found)


def absolute(project: Project) -> None:
    suite = project.path / "suites" / "suite.ft.yaml"
    suite.write_text(suite.read_text().replace("../checkpoint", str(project.path / "checkpoint")))
    (project.path / "suites" / "conftest.py").write_text(
        "import shutil\nfrom pathlib import Path\n"
        f"if 'tree' in __file__: shutil.rmtree({str(project.path / 'checkpoint')!r})\n"
    )


def occupied(project: Project) -> None:
    (project.path / "out").mkdir()
    (project.path / "out" / "precious").touch()


def no_case(project: Project) -> None:
    (project.path / "suites" / "suite.ft.yaml").unlink()


@pytest.mark.parametrize(
    ("spoil", "out", "code", "said"),
    [
        pytest.param(absolute, "out", 1, "the vendored suites can't be collected", id="a path that is left behind"),
        pytest.param(occupied, "out", 4, "is there already: give a new folder", id="the folder isn't empty"),
        pytest.param(lambda _: None, "suites/out", 4, "give a folder outside", id="the folder is among the suites"),
        pytest.param(no_case, "out", 4, "there is no case in", id="no case"),
    ],
)
def test_what_cannot_be_vendored_is_told(
    suites: Project, ftcheck: Command, spoil: Callable[[Project], None], out: str, code: int, said: str
) -> None:
    spoil(suites)
    done = ftcheck("vendor", "suites", "-o", out)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


@pytest.mark.parametrize(
    ("spoil", "error", "said"),
    [
        pytest.param(lambda hub: hub.joinpath("w").write_bytes(b"X"), DataError, "isn't what was", id="a byte changed"),
        pytest.param(lambda hub: hub.joinpath("w").unlink(), DataError, "is missing or", id="a file gone"),
        pytest.param(lambda hub: hub.parent.joinpath(LOCK).write_text("{}"), UsageError, "KeyError", id="no lock"),
        pytest.param(lambda hub: hub.parent.joinpath(LOCK).unlink(), UsageError, "FileNotFound", id="no lock file"),
    ],
)
def test_what_comes_from_the_hub_is_compared_with_the_lock(
    tmp_path: Path, spoil: Callable[[Path], object], error: type[Exception], said: str
) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "w").write_bytes(b"w")
    file = {"size": 1, "blake3": str(blake3(b"w").hexdigest())}
    (tmp_path / LOCK).write_text(json.dumps({"format": 1, "files": {"hub/w": file}}))
    spoil(hub)
    with pytest.raises(error, match=said):
        vendoring.use(tmp_path, tmp_path / "memo")
    assert os.environ.get("HF_HUB_CACHE") != str(hub)


def wheel(folder: Path, name: str) -> None:
    """A wheel with one module, as an index would have it."""
    info = f"{name}-1.0.dist-info"
    with ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as made:
        made.writestr(f"{name}.py", "IT = 'works'\n")
        made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{info}/RECORD", "")


@pytest.mark.e2e
def test_the_wheels_are_those_of_the_libraries_that_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, environment = tmp_path / "index", tmp_path / "environment"
    index.mkdir()
    wheel(index, "installed")
    wheel(index, "another")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = str(environment / "bin" / "python")
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(index), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    subprocess.run([python, "-m", "pip", "install", "-q", "installed"], check=True)
    subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", "setuptools"], check=True)
    bundled = Path(ensurepip.__file__).parent / "_bundled"  # of pip itself, which is installed too
    monkeypatch.setenv("PIP_FIND_LINKS", f"{index} {bundled}")
    monkeypatch.setattr(sys, "executable", python)
    vendoring._wheels(tmp_path / "wheels")
    names = {path.name.partition("-")[0] for path in (tmp_path / "wheels").iterdir()}
    assert names == {"installed", "pip", "requirements.txt"}
    monkeypatch.setenv("PIP_FIND_LINKS", str(bundled))
    with pytest.raises(FtcheckError, match=r"could not get the wheels: .*installed"):
        vendoring._wheels(tmp_path / "none")


def test_a_folder_that_nobody_vendored_is_refused(suites: Project, ftcheck: Command) -> None:
    ftcheck.run("suites", "--ft-vendor=.", "--ft-json=out.json")
    assert "is no folder that `ftcheck vendor` wrote" in str(suites.results()["good"]["error"])


@pytest.mark.e2e
def test_suites_on_the_hub_train_from_the_folder_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*cut_off, "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody make a network namespace (unshare --net)")
    for name in ("TRANSFORMERS_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    (tmp_path / "hub.ft.yaml").write_text(ON_HUB)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    out = tmp_path / "out"
    with serve() as hub, monkeypatch.context() as online:
        hub.put("models", "org/tiny", tiny.bert(tmp_path / "tiny"))
        hub.put("datasets", "org/rows", {"train.csv": csv(ROWS).encode(), "test.csv": csv(ROWS[:8]).encode()})
        for name, value in hub.environment(tmp_path / "hf").items():
            online.setenv(name, value)
        ftcheck = [sys.executable, "-c", "from ftcheck.cli import main; main()"]
        assert "all keys are the same there" in run(*ftcheck, "vendor", "hub.ft.yaml", "-o", str(out))
    assert not [path for path in out.rglob("*") if path.is_symlink()]
    pytest_ = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--ft-device=cpu", f"--ft-vendor={out}"]
    monkeypatch.setenv("HF_HOME", str(tmp_path / "nothing"))
    run(*cut_off, *pytest_, str(out / "tree"))
