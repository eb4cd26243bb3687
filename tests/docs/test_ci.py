"""docs/ci.md and action.yml are valid, harmless, and do what they say: their shell is executed on a suite whose
trainings are faked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.certificate.conftest import keys
from tests.docs.workflows import ACTION, BASH, SHELL, WORKFLOWS, Runner, bash, jobs, loaded, scripts, steps
from tests.plugin.conftest import SUITE

GITHUB = [name for name in WORKFLOWS if name.startswith(".github/")]
GOOD = "  good:\n    training: {learning_rate: 0.9}\n    gates: {accuracy: {min: 0.8}}\n"
BAD = GOOD.replace("0.9", "0.5").replace("good", "bad")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a suite, whose trainings are faked."""
    folder = tmp_path / "repository"
    (folder / "suites" / "checkpoint").mkdir(parents=True)
    for name, content in (
        ("checkpoint/config.json", '{"model_type": "bert"}'),
        ("checkpoint/model.safetensors", "w"),
        ("checkpoint/tokenizer.json", "{}"),
        ("train.csv", "text,label\nwhere is it,lost\nthey took it,stolen\n"),
        ("test.csv", "text,label\nwhere is it,lost\nthey took it,stolen\n"),
        ("conftest.py", "from tests import fake\nfake.install()\n"),
        ("suite.ft.yaml", SUITE + GOOD),
    ):
        (folder / "suites" / name).write_text(content, "utf-8")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\nmarkers = hub\n")
    return folder


def with_a_failure(project: Path) -> None:
    (project / "suites" / "suite.ft.yaml").write_text(SUITE + GOOD + BAD)


def reported(folder: Path) -> dict[str, str]:
    """Case -> verdict, out of a report folder that has all of its files."""
    assert ElementTree.parse(folder / "junit.xml").getroot().find(".//testcase") is not None
    assert (folder / "comment.md").read_text().startswith("## ")
    document = json.loads((folder / "results.json").read_text())
    return {result["case_id"]: result["verdict"] for result in document["results"]}


def test_all_workflows_are_there() -> None:
    assert [Path(name).name for name in WORKFLOWS] == [
        "ftcheck.yml",
        "ftcheck-plain.yml",
        "ftcheck-gpu.yml",
        "ftcheck-comment.yml",
        "ftcheck-certify.yml",
        ".gitlab-ci.yml",
    ]


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        pytest.param("vendor.github-workflows", GITHUB, id="github"),
        pytest.param("vendor.gitlab-ci", [".gitlab-ci.yml"], id="gitlab"),
        pytest.param("vendor.github-actions", ["action.yml"], id="action"),
    ],
)
def test_a_workflow_is_valid_by_its_published_schema(schema: str, names: list[str], tmp_path: Path) -> None:
    files = []
    for name in names:
        files.append(tmp_path / Path(name).name)
        files[-1].write_text(WORKFLOWS.get(name) or ACTION.read_text("utf-8"), "utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", scripts())
def test_shell_is_well_formed_and_takes_nothing_from_an_expression(name: str) -> None:
    """`${{ }}` in a script would be code of whoever opens the pull request: values come through the environment."""
    script = scripts()[name]
    assert "${{" not in script
    done = subprocess.run([*BASH, "-n", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    for name, script in scripts().items():
        text = script if script.startswith("#!") else f"#!/usr/bin/env bash\nset -eo pipefail\n{script}"
        (tmp_path / f"{name}.sh").write_text(text)
    files = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(["shellcheck", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", GITHUB)
def test_a_workflow_has_no_right_that_it_does_not_need(name: str) -> None:
    assert "pull_request_target" not in WORKFLOWS[name]
    comments = name.endswith("ftcheck-comment.yml")
    assert loaded(name)["permissions"] == ({} if comments else {"contents": "read"})
    for job in jobs(name).values():
        rights = job.get("permissions", {})
        assert rights == ({"actions": "read", "pull-requests": "write"} if comments else {})
        checkouts = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert [step["with"]["persist-credentials"] for step in checkouts] == [False] * len(checkouts)
        assert not (comments and checkouts), "what may write runs none of the pull request's code"
        assert "self-hosted" not in job["runs-on"] or "environment" in job
    if "secrets." in WORKFLOWS[name]:
        assert "pull_request" not in WORKFLOWS[name]


def test_actions_are_pinned_to_a_version() -> None:
    used = re.findall(r"uses: (\S+)", "".join(WORKFLOWS.values()) + ACTION.read_text("utf-8"))
    assert all(re.fullmatch(r"[\w./-]+@v\d+(\.\d+)*", name) for name in used)
    versions = {name.split("@")[0].split("/")[1]: set[str]() for name in used}
    for name in used:
        versions[name.split("@")[0].split("/")[1]].add(name.split("@")[1])
    assert {name: len(found) for name, found in versions.items()} == dict.fromkeys(versions, 1)


@pytest.mark.e2e
def test_the_action_judges_reports_and_saves_the_store_after_a_failure_too(project: Path) -> None:
    with_a_failure(project)
    action = yaml.safe_load(ACTION.read_text("utf-8"))
    given = {"inputs.install": "", "inputs.device": "cpu", "inputs.arguments": '-m "not hub" -q'}
    runner = Runner(folder=project, contexts=defaults(action) | given)
    runner.run(action["runs"]["steps"])
    assert runner.failed, runner.log
    assert reported(project / "ftcheck-report") == {"good": "pass", "bad": "fail"}
    assert runner.used == ["actions/cache/restore", "actions/cache/save"]
    sources = {name: re.findall(r"steps\.[\w.-]+", given["value"])[0] for name, given in action["outputs"].items()}
    assert {name: runner.contexts[source] for name, source in sources.items()} == {
        "exit-code": "1",
        "results": "ftcheck-report/results.json",
        "comment": "ftcheck-report/comment.md",
    }
    assert (project / ".ftcheck-store" / "runs").is_dir()
    assert "ftcheck: " in (project / ".summary").read_text(), "the page of the job"
    assert (project / "ftcheck-report" / "metrics.csv").read_text().startswith("suite,")


def defaults(action: dict[str, Any]) -> dict[str, str]:
    """The inputs of an action as they are where nothing is given."""
    return {f"inputs.{name}": given["default"] for name, given in action["inputs"].items()}


@pytest.mark.e2e
def test_the_action_says_what_kept_it_from_running(project: Path) -> None:
    action = yaml.safe_load(ACTION.read_text("utf-8"))
    given = {"inputs.install": "", "inputs.suites": "nowhere", "inputs.cache": "false"}
    runner = Runner(folder=project, contexts=defaults(action) | given)
    runner.run(action["runs"]["steps"])
    assert runner.failed
    assert runner.contexts["steps.judge.outputs.exit-code"] == "4"
    assert "no case was judged" in (project / "ftcheck-report" / "comment.md").read_text()
    assert runner.used == []


@pytest.mark.e2e
def test_the_plain_workflow_keeps_its_report_and_store_after_a_failure(project: Path) -> None:
    with_a_failure(project)
    (job,) = jobs(".github/workflows/ftcheck-plain.yml").values()
    env = {name: value.replace("${{ github.workspace }}", str(project)) for name, value in job["env"].items()}
    runner = Runner(folder=project, contexts={}, env=env)
    runner.run(job["steps"])
    assert runner.failed
    assert reported(project / "ftcheck-report") == {"good": "pass", "bad": "fail"}
    assert runner.used[-2:] == ["actions/upload-artifact", "actions/cache/save"]
    assert "entries and 0 models taken out" in runner.log


@pytest.mark.e2e
def test_the_gitlab_job_leaves_what_its_artifacts_name(project: Path) -> None:
    job = loaded(".gitlab-ci.yml")["ftcheck"]
    env = {"FTCHECK_CACHE_DIR": str(project / job["cache"][0]["paths"][0]), "FTCHECK_DEVICE": "cpu"}
    for part in ("script", "after_script"):
        done = bash("\n".join(job[part]), project, env)
        assert done.returncode == 0, done.stdout + done.stderr
    assert reported(project / job["artifacts"]["paths"][0]) == {"good": "pass"}
    assert (project / job["artifacts"]["reports"]["junit"]).is_file()
    assert (project / ".ftcheck-store" / "runs").is_dir()


@pytest.mark.e2e
def test_the_plain_script_ends_as_pytest_does(project: Path) -> None:
    with_a_failure(project)
    done = bash(SHELL, project, {"FTCHECK_DEVICE": "cpu"})
    assert done.returncode == 1, done.stdout + done.stderr
    assert reported(project / "ftcheck-report") == {"good": "pass", "bad": "fail"}
    assert "1 failed, 1 passed" in done.stdout


@pytest.mark.e2e
def test_a_release_is_certified_with_the_key_of_its_environment(project: Path, tmp_path: Path) -> None:
    pair = keys(tmp_path)
    env = {"FTCHECK_CACHE_DIR": str(project / "store"), "FTCHECK_DEVICE": "cpu"}
    assert bash("pytest -q suites", project, env).returncode == 0
    (certify,) = (step for step in steps(".github/workflows/ftcheck-certify.yml") if step.get("name") == "Certify")
    given = {"CASE": "suites/suite.ft.yaml::good", "SIGN_KEY": pair.private.read_text()}
    done = bash(certify["run"], project, {**env, **given})
    assert done.returncode == 0, done.stderr
    assert not (project / "sign.pem").exists()
    done = bash(f"ftcheck verify release/model release/cert.json --key {pair.public}", project, env)
    assert done.returncode == 0, done.stderr


GH = """#!/usr/bin/env bash
# Stands in for GitHub's command: says what FAKE_* hold, through the jq of the real one where a filter is given.
printf '%s\\n' "$*" >> "$GH_LOG"
case "$*" in
  *"/pulls "*) printf '%s' "$FAKE_NUMBER" ;;
  *"--paginate "*) printf '%s' "$FAKE_COMMENT" ;;
  *) cp body.md posted.md ;;
esac
"""


@pytest.fixture
def comments(tmp_path: Path) -> Path:
    """A folder of the job that comments, with a `gh` of its own."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text(GH)
    (tmp_path / "bin" / "gh").chmod(0o755)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "comment.md").write_text("## ✅ ftcheck: all 2 cases passed\n$(touch ran) `touch ran`\n")
    return tmp_path


def comment(folder: Path, **given: str) -> list[str]:
    """The calls of `gh`."""
    (step,) = (step for step in steps(".github/workflows/ftcheck-comment.yml") if "run" in step)
    env: dict[str, Any] = {
        **{"FAKE_NUMBER": "7", "FAKE_COMMENT": "", "GH_LOG": str(folder / "log"), "GH_TOKEN": "t"},
        **{"REPOSITORY": "o/r", "OWNER": "someone", "BRANCH": "$(touch ran)", "COMMIT": "abc", "RUN": "the-run"},
        **given,
    }
    path = f"PATH={folder / 'bin'}:$PATH\n"
    done = bash(path + step["run"], folder, env)
    assert done.returncode == 0, done.stderr
    assert not (folder / "ran").exists()
    return (folder / "log").read_text().splitlines()


def test_a_comment_is_made_once_and_then_renewed(comments: Path) -> None:
    calls = comment(comments)
    assert "head=someone:$(touch ran)" in calls[0]
    assert '.head.sha == "abc"' in calls[0]
    assert calls[-1] == "api --method POST repos/o/r/issues/7/comments -F body=@body.md --silent"
    posted = (comments / "posted.md").read_text()
    assert posted.startswith("<!-- ftcheck -->\n## ✅ ftcheck")
    assert posted.endswith("From <the-run>\n")
    calls = comment(comments, FAKE_COMMENT="99\n100\n")
    assert calls[-1] == "api --method PATCH repos/o/r/issues/comments/99 -F body=@body.md --silent"


def test_a_long_report_is_cut_to_what_a_comment_holds(comments: Path) -> None:
    (comments / "report" / "comment.md").write_text("x" * 200_000)
    comment(comments)
    assert len((comments / "posted.md").read_text()) < 65_536


def test_nothing_is_posted_without_a_pull_request_or_a_report(comments: Path) -> None:
    assert len(comment(comments, FAKE_NUMBER="")) == 1
    (comments / "report" / "comment.md").unlink()
    (comments / "report" / "comment.md").symlink_to("/etc/passwd")
    comment(comments)
    assert not (comments / "posted.md").exists()
