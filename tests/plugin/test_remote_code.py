"""`--ft-allow-remote-code` counts where somebody types it, and nowhere that a pull request could write it."""

from __future__ import annotations

import pytest

from tests.plugin.conftest import Project

SHOW = """
from tests import fake
fake.install()
train = fake.FakeExecutor._made_up_training
def told(self, work, store, on_progress):
    fake.log(f"allowed {work.job.allow_remote_code}")
    train(self, work, store, on_progress)
fake.FakeExecutor._made_up_training = told
"""


@pytest.fixture
def told(project: Project) -> Project:
    """A project whose trainings say what they may."""
    (project.path / "conftest.py").write_text(SHOW)
    project.suite("  a: {}\n")
    return project


def allowed(project: Project) -> list[str]:
    return [line for line in project.stages() if line.startswith("allowed")]


def test_it_is_off_unless_it_is_given(told: Project) -> None:
    told.run().assert_outcomes(passed=1)
    assert allowed(told) == ["allowed False"]


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["one-process", "xdist"])
def test_the_command_line_gives_it(told: Project, workers: tuple[str, ...]) -> None:
    if workers:
        pytest.importorskip("xdist")
    told.run("--ft-allow-remote-code", *workers).assert_outcomes(passed=1)
    assert allowed(told) == ["allowed True"]


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["one-process", "xdist"])
@pytest.mark.parametrize(
    ("ini", "variables"),
    [
        pytest.param("addopts = -p no:cacheprovider --ft-allow-remote-code", {}, id="addopts"),
        pytest.param("addopts = -p no:cacheprovider", {"PYTEST_ADDOPTS": "--ft-allow-remote-code"}, id="variable"),
    ],
)
def test_pytest_s_other_ways_to_give_options_are_refused(
    told: Project, monkeypatch: pytest.MonkeyPatch, ini: str, variables: dict[str, str], workers: tuple[str, ...]
) -> None:
    if workers:
        pytest.importorskip("xdist")
    told.pytester.makeini(f"[pytest]\n{ini}\n")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = told.run(*workers)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --ft-allow-remote-code counts on the command line only: addopts * can't give it"]
    )
    assert told.stages() == []


def test_there_is_no_ini_key_and_no_variable_for_it(told: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCHECK_ALLOW_REMOTE_CODE", "1")
    told.pytester.makeini(
        "[pytest]\naddopts = -p no:cacheprovider -W ignore::pytest.PytestConfigWarning\nft_allow_remote_code = true\n"
    )
    told.run().assert_outcomes(passed=1)
    assert allowed(told) == ["allowed False"]
