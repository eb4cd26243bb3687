"""The workflows of docs/ci.md and action.yml, and a runner that does what GitHub's does with their `run` steps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.plugin.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "ci.md").read_text("utf-8")
WORKFLOWS: dict[str, str] = {name: text for text, name in re.findall(r"```yaml\n(# (\S+)\n.*?)```", PAGE, re.DOTALL)}
"""File name -> the file, of every block that begins with one."""
ACTION = REPOSITORY / "action.yml"
SHELL: str = re.findall(r"<!-- plain-shell -->\n```bash\n(.*?)```", PAGE, re.DOTALL)[0]
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
"""How GitHub runs `shell: bash`."""

Step = Mapping[str, Any]


def loaded(name: str) -> dict[str, Any]:
    """A workflow. YAML 1.1 takes its key `on` for true."""
    found: dict[str, Any] = yaml.safe_load(WORKFLOWS[name])
    return found


def jobs(name: str) -> dict[str, Any]:
    """The jobs of a workflow of GitHub's."""
    found: dict[str, Any] = loaded(name)["jobs"]
    return found


def steps(name: str) -> list[Step]:
    """The steps of a workflow's only job."""
    (job,) = jobs(name).values()
    return list(job["steps"])


def scripts() -> dict[str, str]:
    """Every piece of shell, by a name that tells where it stands."""
    found = {"shell": SHELL}
    groups: dict[str, list[Step]] = {"action.yml": yaml.safe_load(ACTION.read_text("utf-8"))["runs"]["steps"]}
    groups |= {Path(name).stem: steps(name) for name in WORKFLOWS if name.startswith(".github/")}
    for group, found_steps in groups.items():
        for step in found_steps:
            if "run" in step:
                found[f"{group}-{step['name'].replace(' ', '-')}"] = step["run"]
    gitlab = loaded(".gitlab-ci.yml")["ftcheck"]
    for part in ("before_script", "script", "after_script"):
        found[f"gitlab-{part}"] = "\n".join(gitlab[part])
    return found


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """A job's, in which `pytest` and `ftcheck` are those of this interpreter."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FTCHECK_", "GITHUB_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "PYTHONPATH": str(REPOSITORY), "CI": "true", "RUNNER_OS": "Linux", **extra}


def bash(script: str, folder: Path, extra: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script in `folder`."""
    return subprocess.run(
        [*BASH, "-c", script], cwd=folder, env=environment(extra), capture_output=True, text=True, check=False
    )


@dataclass
class Runner:
    """Runs a job's steps in a folder; those that use an action are only noted."""

    folder: Path
    contexts: dict[str, str]
    """`inputs.suites` -> value."""
    env: dict[str, str] = field(default_factory=dict)
    skip: tuple[str, ...] = ("Install",)
    failed: bool = False
    used: list[str] = field(default_factory=list)
    log: str = ""

    def run(self, found: list[Step]) -> None:
        """All steps, as a job does: after a failure only those that ask for it."""
        for step in found:
            name = step.get("id", step.get("name", ""))
            happens = self._true(step["if"]) if "if" in step else not self.failed
            if self.failed and "always()" not in step.get("if", ""):
                happens = False
            outcome = "skipped"
            if happens and "uses" in step:
                self.used.append(step["uses"].partition("@")[0])
                outcome = "success"
            elif happens and step["name"] not in self.skip:
                outcome = self._execute(step, name)
            self.contexts |= {f"steps.{name}.outcome": outcome, f"steps.{name}.conclusion": outcome}

    def _execute(self, step: Step, name: str) -> str:
        output, summary = self.folder / ".output", self.folder / ".summary"
        output.write_text("")
        given = {key: self._filled(str(value)) for key, value in step.get("env", {}).items()}
        files = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_PATH": os.devnull}
        done = bash(step["run"], self.folder, {**self.env, **given, **files})
        self.log += f"--- {step['name']}\n{done.stdout}{done.stderr}"
        for line in output.read_text().splitlines():
            key, _, value = line.partition("=")
            self.contexts[f"steps.{name}.outputs.{key}"] = value
        self.failed |= done.returncode != 0
        return "success" if done.returncode == 0 else "failure"

    def _filled(self, text: str) -> str:
        return re.sub(r"\$\{\{\s*([\w.-]+)\s*\}\}", lambda match: self.contexts.get(match[1], ""), text)

    def _true(self, condition: str) -> bool:
        """A condition of the few forms that stand in our workflows."""
        text = re.sub(
            r"hashFiles\('([^']+)'\)",
            lambda match: repr("hash" if (self.folder / match[1]).exists() else ""),
            condition.replace("always()", "True").replace("&&", "and"),
        )
        text = re.sub(r"(?<!')\b(?:inputs|steps)\.[\w.-]+", lambda match: repr(self.contexts.get(match[0], "")), text)
        return bool(eval(text))
