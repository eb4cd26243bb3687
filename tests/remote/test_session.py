"""What --ft-remote does in a session: nothing is trained twice by two machines, and no verdict depends on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.faked import Command
from tests.plugin.conftest import Project

CASE = "  good:\n    training: {learning_rate: 0.9}\n    seeds: 2\n    gates: {accuracy: {min: 0.8}}\n"
TRAINED = ["train good 42", "predict good 42", "train good 43", "predict good 43"]
MODEL = """
import ftcheck

@ftcheck.case(
    checkpoint="./checkpoint", task="text-classification", precision="fp32",
    data={"path": "csv", "files": {"train": "train.csv", "test": "test.csv"}}, training={"learning_rate": 0.9},
)
def test_model(finetuned):
    run = finetuned._open().runs[0]
    whole = finetuned._store.get("runs", run.run.train.digest, model=True)
    assert whole.read("model/model.safetensors") == b"weights of seed 42"
"""


@pytest.fixture
def machine(faked: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Go to another machine: one with a store of its own."""

    def go(name: str) -> None:
        monkeypatch.setenv("FTCHECK_CACHE_DIR", str(faked.path / name))

    go("one")
    return go


@pytest.fixture
def url(faked: Project) -> str:
    return f"file://{faked.path}/remote"


def weights(folder: Path) -> int:
    return len(list(folder.rglob("*.safetensors")))


def test_what_one_machine_trained_the_other_finds(
    faked: Project, ftcheck: Command, machine: Callable[[str], None], url: str
) -> None:
    faked.suite(CASE)
    assert ftcheck.run(f"--ft-remote={url}").ret == pytest.ExitCode.OK
    assert faked.stages() == TRAINED
    machine("two")
    result = ftcheck.run(f"--ft-remote={url}", "--ft-cache=only", "--ft-json=out.json")
    assert (result.ret, faked.stages()) == (pytest.ExitCode.OK, [])
    assert faked.results()["good"]["verdict"] == "pass"
    assert "remote" not in result.stdout.str()
    assert weights(faked.path / "one") == 2
    assert weights(faked.path / "two") == 0  # a verdict needs no model


def test_a_plan_counts_what_the_remote_has_models_too(
    faked: Project, ftcheck: Command, machine: Callable[[str], None], url: str
) -> None:
    faked.suite(CASE)
    ftcheck.run(f"--ft-remote={url}")
    machine("two")
    ftcheck.run("--ft-plan", f"--ft-remote={url}").stdout.fnmatch_lines(["*2 found in the store*"])
    faked.path.joinpath("test.csv").write_text("text,label\nsome other row,lost\n")
    ftcheck.run("--ft-plan", f"--ft-remote={url}").stdout.fnmatch_lines(["*0 to train, 2 to evaluate*"])


def test_a_body_that_needs_the_model_gets_it(
    faked: Project, ftcheck: Command, machine: Callable[[str], None], url: str
) -> None:
    (faked.path / "test_model.py").write_text(MODEL)
    assert ftcheck.run(f"--ft-remote={url}").ret == pytest.ExitCode.OK
    machine("two")
    assert ftcheck.run(f"--ft-remote={url}", "--ft-cache=only").ret == pytest.ExitCode.OK


def test_an_untrusted_pull_request_reads_and_publishes_nothing(
    faked: Project, ftcheck: Command, machine: Callable[[str], None], url: str
) -> None:
    faked.suite(CASE)
    assert ftcheck.run(f"--ft-remote={url}", "--ft-remote-readonly").ret == pytest.ExitCode.OK
    assert not (faked.path / "remote").exists()


def test_refresh_takes_nothing_from_the_remote_and_replaces_what_it_has(
    faked: Project, ftcheck: Command, machine: Callable[[str], None], url: str
) -> None:
    faked.suite(CASE)
    ftcheck.run(f"--ft-remote={url}")
    before = {path: path.read_bytes() for path in (faked.path / "remote").rglob("manifest.json")}
    faked.stages()
    machine("two")
    assert ftcheck.run(f"--ft-remote={url}", "--ft-cache=refresh").ret == pytest.ExitCode.OK
    assert faked.stages() == TRAINED
    after = {path: path.stat().st_mtime_ns for path in (faked.path / "remote").rglob("manifest.json")}
    assert set(after) == set(before)


def test_xdist_s_workers_share_it(faked: Project, ftcheck: Command, machine: Callable[[str], None], url: str) -> None:
    faked.suite(CASE)
    assert faked.run("-n1", f"--ft-remote={url}").ret == pytest.ExitCode.OK
    assert faked.stages() == TRAINED
    machine("two")
    result = ftcheck.run("--ft-cache=only", f"--ft-remote={url}")
    assert (result.ret, faked.stages()) == (pytest.ExitCode.OK, [])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param("sftp://ada:hunter2@127.0.0.1:1/a", "ConnectionRefusedError", id="nobody listens"),
        pytest.param("nonsense://ada:hunter2@host/a", "Protocol not known", id="no such protocol"),
    ],
)
def test_a_remote_that_cannot_be_used_is_one_note_without_its_password(
    faked: Project, ftcheck: Command, machine: Callable[[str], None], given: str, said: str
) -> None:
    if given.startswith("sftp"):
        pytest.importorskip("sshfs")
    faked.suite(CASE)
    result = ftcheck.run(f"--ft-remote={given}", "--ft-json=out.json", "--junitxml=junit.xml", "-vv", "--showlocals")
    assert (result.ret, faked.stages()) == (pytest.ExitCode.OK, TRAINED)
    output = " ".join((result.stdout.str() + result.stderr.str()).split())
    assert output.count("the session goes on without it") == 1
    assert said in output
    assert "6 results were not uploaded" in output
    written = [path for path in faked.path.rglob("*") if path.is_file()]
    assert not [path for path in written if b"hunter2" in path.read_bytes()]
    assert "hunter2" not in output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param("bucket/folder", "*is no URL: write s3://BUCKET/FOLDER*", id="no URL"),
        pytest.param("ada:hunter2@host", "*the remote … is no URL*", id="no URL, and a password"),
    ],
)
def test_what_is_no_url_is_a_usage_error(faked: Project, ftcheck: Command, given: str, said: str) -> None:
    result = ftcheck.run(f"--ft-remote={given}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])
    assert "hunter2" not in result.stderr.str()


def test_the_ini_file_may_name_it(faked: Project, ftcheck: Command, machine: Callable[[str], None], url: str) -> None:
    faked.suite(CASE)
    faked.pytester.makeini(f"[pytest]\naddopts = -p no:cacheprovider\nft_remote = {url}\n")
    assert ftcheck.run().ret == pytest.ExitCode.OK
    assert (faked.path / "remote" / "runs").is_dir()


def test_a_run_out_of_the_store_imports_no_fsspec(faked: Project) -> None:
    faked.suite(CASE)
    url = f"--ft-remote=file://{faked.path}/remote"
    assert faked.run(url).ret == pytest.ExitCode.OK
    faked.pytester.makeconftest(
        "import sys\nfrom tests import fake\nfake.install()\n"
        "def pytest_unconfigure():\n    print('IMPORTED', 'fsspec' in sys.modules)\n"
    )
    result = faked.start(url, "-s")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["IMPORTED False"])
