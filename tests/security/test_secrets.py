"""No secret of the environment, of a URL or of git's configuration is found in anything that ftcheck writes or
prints."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftcheck import cli, privacy
from ftcheck.errors import shown
from tests import fake
from tests.plugin.conftest import Project, preloaded

__all__ = ["preloaded"]

NAMES = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "WANDB_API_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "GITHUB_TOKEN",
)
MARKERS = {name: f"Marker{place}Of{name.title().replace('_', '')}" for place, name in enumerate(NAMES)}
IN_URLS = {name: f"UrlMarker{name}" for name in ("remote", "query", "mlflow", "git", "library")}

LEAKY = """
import logging, os, sys
from tests import fake

def train(self, work, store, on_progress):
    token = os.environ["HF_TOKEN"]
    headers = {name: value for name, value in os.environ.items() if name in os.environ["NAMES"].split()}
    where = f"https://user:{os.environ['LIBRARY']}@hub.example/api?token={os.environ['LIBRARY']}"
    print("connecting with", headers, "to", where)
    print("the same", headers, file=sys.stderr)
    logging.getLogger("library").warning("%s at %s", headers, where)
    if work.job.case.name == "bad":
        raise RuntimeError(f"401 Unauthorized for {where}: authorization: Bearer {token} {headers}")
    return made_up(self, work, store, on_progress)

made_up = fake.FakeExecutor._made_up_training
fake.FakeExecutor._made_up_training = train
fake.install()
"""
SUITE = """
  good: {gates: {accuracy: {max_regression: 0.05}}, training: {learning_rate: 0.9}}
  bad: {}
"""


@pytest.fixture
def project(
    preloaded: None,
    pytester: pytest.Pytester,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    """A project in git whose fine-tuning knows secrets and tells them wherever it can."""
    made = Project(pytester)
    # The conftest.py that is loaded into this process changes it: other tests want it as it is.
    monkeypatch.setattr(fake.FakeExecutor, "_made_up_training", fake.FakeExecutor._made_up_training)
    (made.path / "conftest.py").write_text(LEAKY)
    made.suite(SUITE)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", "all"],
        ["remote", "add", "origin", f"https://user:{IN_URLS['git']}@git.example/x.git"],
    ):
        subprocess.run([*git, *arguments], cwd=made.path, check=True)
    temporary = tmp_path_factory.mktemp("temporary")
    for name, value in {
        **MARKERS,
        "NAMES": " ".join(NAMES),
        "LIBRARY": IN_URLS["library"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TMPDIR": str(temporary),
        "FTCHECK_CACHE_DIR": str(made.path / "cache"),
        "GITHUB_STEP_SUMMARY": str(made.path / "summary.md"),
        "COLUMNS": "400",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CI", raising=False)
    return made


def leaks(*texts: str, below: tuple[Path, ...] = ()) -> Iterator[str]:
    """Markers, and where they are."""
    found = {f"output {place}": text.encode() for place, text in enumerate(texts)}
    for folder in below:
        for path in folder.rglob("*"):
            if path.is_file() and ".git" not in path.parts:
                found[str(path)] = path.read_bytes() + str(path).encode()
    for place, content in found.items():
        for marker in (*MARKERS.values(), *IN_URLS.values()):
            if marker.encode() in content:
                yield f"{marker} in {place}"


REPORTS = (
    "--ft-json=out.json",
    "--ft-html=out.html",
    "--junitxml=out.xml",
    "--ft-tensorboard=curves",
    "--ft-details",
    "-o",
    "junit_logging=all",
)


COMMANDS = (
    "report out.json --markdown -o report.md",
    "card out.json model",
    "cache why good",
    "history suite.ft.yaml::good",
    "vendor suite.ft.yaml -o vendored",
)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(("-vv", "-l", "--showlocals"), id="locals"),
        pytest.param(("--ft-jobs=1", "--ft-executor=local", "-vv", "--showlocals"), id="own-process"),
        pytest.param(("-n1", "-rA", "--tb=native"), id="xdist"),
    ],
)
def test_no_secret_is_written_or_printed(
    project: Project, how: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if "-n1" in how:
        pytest.importorskip("xdist")
    if "--ft-executor=local" in how:  # where no conftest.py is loaded
        (project.path / "sitecustomize.py").write_text(LEAKY)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(project.path), os.environ["PYTHONPATH"]]))
    result = project.start(*REPORTS, *how, "--ft-update-new", "--ft-allow-ci-update")
    assert {"new": 1, "errors": 1}.items() <= result.parseoutcomes().items()
    output = "\n".join([*result.outlines, *result.errlines])
    assert "401 Unauthorized for https://***@hub.example/api?token=***" in output
    assert (project.path / "__baselines__").is_dir()
    temporary = Path(os.environ["TMPDIR"])
    if "-l" in how:
        monkeypatch.chdir(project.path)
        (project.path / "model").mkdir()
        for command in COMMANDS:
            with pytest.raises(SystemExit):
                cli.main(command.split())
        output += "".join(capfd.readouterr())
    assert list(leaks(output, below=(project.path, temporary))) == []


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(
            [f"--ft-remote=sftp://user:{IN_URLS['remote']}@127.0.0.1:9/x?token={IN_URLS['query']}"], id="remote"
        ),
        pytest.param([f"--ft-mlflow=http://user:{IN_URLS['mlflow']}@127.0.0.1:9"], id="tracker"),
        pytest.param([f"--ft-compare=https://user:{IN_URLS['git']}@git.example/x"], id="compare"),
    ],
)
def test_what_cannot_be_reached_tells_no_secret(
    project: Project, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = project.start(*REPORTS, *arguments, "-k", "good", "-vv", "-l", "--ft-remote-patience=1")
    output = "\n".join([*result.outlines, *result.errlines])
    assert "good" in output or "ERROR" in output
    command = "\n".join(line for line in output.splitlines() if not line.startswith("running:"))
    assert list(leaks(command, below=(project.path, Path(os.environ["TMPDIR"])))) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("https://user:pw@host/x", "https://***@host/x", id="user-and-password"),
        pytest.param("https://token@host", "https://***@host", id="user-alone"),
        pytest.param("GET /x?a=1&access_token=abc&b=2", "GET /x?a=1&access_token=***&b=2", id="query"),
        pytest.param("x?X-Amz-Signature=abc", "x?X-Amz-Signature=***", id="signed-url"),
        pytest.param("x?sv=1&sig=a%2Fb", "x?sv=1&sig=***", id="sas"),
        pytest.param("'Authorization': 'Bearer abc.def'", "'Authorization': 'Bearer ***'", id="header"),
        pytest.param(f"it is hf_{'a1' * 15}!", "it is ***!", id="hub-token"),
        pytest.param("the token is here, and a key=value pair", None, id="words"),
        pytest.param("a?monkey=banana&turkey=1", None, id="other-names"),
        pytest.param("s3://bucket/folder, user@host, a@b://c", None, id="no-credentials"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_nothing_else(text: str, expected: str | None) -> None:
    assert privacy.hidden(text) == (text if expected is None else expected)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        pytest.param("MY_API_KEY", "abcdefgh12", True, id="key"),
        pytest.param("CI_JOB_TOKEN", "abcdefgh12", True, id="token"),
        pytest.param("HF_TOKEN_PATH", "/home/u/token", False, id="path"),
        pytest.param("TOKENIZERS_PARALLELISM", "falsefalse", False, id="no-token"),
        pytest.param("SOME_TOKEN", "short", False, id="too-short"),
    ],
)
def test_secrets_of_the_environment_are_known_by_name(
    name: str, value: str, secret: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    privacy.begin()
    assert (value not in privacy.hidden(f"a {value} b")) is secret


def test_a_secret_is_not_cut_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "sesame-open-sesame")
    privacy.begin()
    assert "sesa" not in shown("x" * 110 + "sesame-open-sesame", 120)
