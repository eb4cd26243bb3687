"""`ftcheck validate` and `ftcheck schema`."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from ftcheck.cli import main

ROOT = Path(__file__).resolve().parent.parent.parent
SUITE = """
cases:
  one:
    checkpoint: ./checkpoint
    task: text-classification
    data: {path: csv, files: {train: train.csv, test: train.csv}}
"""


@pytest.fixture(autouse=True)
def modules_are_forgotten(pytester: pytest.Pytester) -> None:
    """What a project's suites import."""


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in this process: starting one takes longer than what it does."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        try:
            main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "train.csv").write_text("text,label\na,b\n")
    return tmp_path


def test_a_right_suite_is_said_to_be_right(folder: Path) -> None:
    (folder / "suite.ft.yaml").write_text(SUITE)
    found = subprocess.run(
        [sys.executable, "-c", "from ftcheck.cli import main; main()", "validate", "."],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stdout, found.stderr) == (0, "1 case, no mistakes\n", "")


def test_a_projects_own_settings_of_pytest_do_no_harm(folder: Path) -> None:
    (folder / "suite.ft.yaml").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -ra --strict-markers -v\nfilterwarnings = error\n")
    found = command("validate", ".", cwd=folder)
    assert (found.returncode, found.stdout, found.stderr) == (0, "1 case, no mistakes\n", "")


def test_reports_of_the_projects_sessions_are_left_as_they_are(folder: Path) -> None:
    (folder / "suite.ft.yaml").write_text(SUITE)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --junitxml=junit.xml\nft_json = results.json\n")
    for name in ("junit.xml", "results.json"):
        (folder / name).write_text("of the last session")
    assert command("validate", ".", cwd=folder).returncode == 0
    assert {(folder / name).read_text() for name in ("junit.xml", "results.json")} == {"of the last session"}


def test_cases_that_a_project_leaves_out_are_validated(folder: Path) -> None:
    (folder / "suite.ft.yaml").write_text(SUITE + "    marks: [hub]\n")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -m 'not hub' -k nothing\n")
    found = command("validate", ".", cwd=folder)
    assert (found.returncode, found.stdout, found.stderr) == (0, "1 case, no mistakes\n", "")


def test_tasks_and_metrics_of_ones_own_are_imported_and_checked(folder: Path) -> None:
    (folder / "lib").mkdir()
    (folder / "pytest.ini").write_text("[pytest]\npythonpath = lib\n")
    (folder / "lib" / "mine.py").write_text(
        "from ftcheck.tasks.text_classification import TextClassification\n"
        "class Mine(TextClassification):\n    name = 'mine'\n"
        "def share(predictions, references):\n    return 1.0\n"
    )
    suite = SUITE.replace("text-classification", '"mine:Mine"')
    (folder / "suite.ft.yaml").write_text(suite + '    metrics: ["mine:share"]\n')
    found = command("validate", ".", cwd=folder)
    assert (found.returncode, found.stdout, found.stderr) == (0, "1 case, no mistakes\n", "")
    (folder / "suite.ft.yaml").write_text(suite + '    metrics: ["mine:shar"]\n')
    found = command("validate", ".", cwd=folder)
    assert found.returncode != 0
    assert "the metric mine:shar: mine has no shar; did you mean share?" in found.stdout + found.stderr


def test_the_suites_that_ship_are_right() -> None:
    found = command("validate", "suites", cwd=ROOT)
    assert (found.returncode, found.stderr) == (0, "")
    assert "no mistakes" in found.stdout


def test_all_mistakes_of_all_files_come_at_once(folder: Path) -> None:
    (folder / "a.ft.yaml").write_text(SUITE + "    gates: {acuracy: {min: 1}}\n    sedes: 3\n")
    (folder / "b.ft.yaml").write_text(SUITE.replace("text-classification", "text-clasification"))
    (folder / "test_c.py").write_text("import ftcheck\n@ftcheck.case(task='text-classification')\ndef test_c(): ...\n")
    found = command("validate", ".", cwd=folder)
    assert found.returncode == 1
    for expected in ("a.ft.yaml:7 ", "a.ft.yaml:8 ", "b.ft.yaml:5 ", "test_c.py:2 "):
        assert expected in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("paths", "code", "said"),
    [
        pytest.param(["nowhere"], 4, "file or directory not found: nowhere", id="no-such-path"),
        pytest.param(["."], 5, "no cases found", id="nothing-there"),
    ],
)
def test_nothing_to_check_is_no_success(tmp_path: Path, paths: list[str], code: int, said: str) -> None:
    found = command("validate", *paths, cwd=tmp_path)
    assert found.returncode == code
    assert said in found.stderr


@pytest.mark.parametrize("of", ["suite", "results", "certificate"])
def test_the_published_schema_is_the_one_in_force(of: str) -> None:
    found = command("schema", of, cwd=ROOT)
    assert json.loads(found.stdout) == json.loads((ROOT / "docs" / f"{of}.schema.json").read_text()), (
        f"run: ftcheck schema {of} > docs/{of}.schema.json"
    )


def test_an_unknown_schema_is_a_usage_error(tmp_path: Path) -> None:
    found = command("schema", "report", cwd=tmp_path)
    assert found.returncode == 4
    assert "there are suite, results and certificate" in found.stderr
