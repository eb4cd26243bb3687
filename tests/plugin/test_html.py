"""`--ft-html`: the page of a session equals the one that is made of its results file later."""

from __future__ import annotations

import pytest

from ftcheck.cli import main
from tests.plugin.conftest import Project

CASES = "  good: {gates: {accuracy: {min: 0.3}}}\n  bad: {gates: {accuracy: {min: 0.99}}}\n"


def made_later(project: Project, results: str) -> str:
    page = project.path / "later.html"
    with pytest.raises(SystemExit) as end:
        main(["report", str(project.path / results), "--html", "-o", str(page)])
    assert not end.value.code
    return page.read_text("utf-8")


def test_a_report_of_a_report_is_the_report(project: Project) -> None:
    project.suite(CASES)
    project.run("--ft-json=out.json", "--ft-html=new/page.html")
    page = (project.path / "new" / "page.html").read_text("utf-8")
    assert "<h1" in page
    assert all(f"{name}</h3>" in page for name in ("good", "bad"))
    assert made_later(project, "out.json") == page


def test_without_a_results_file_there_is_a_page(project: Project) -> None:
    project.suite(CASES)
    project.run("--ft-html=page.html")
    assert "good</h3>" in (project.path / "page.html").read_text("utf-8")
    assert not list(project.path.glob("*.json"))


def test_an_interrupted_session_has_a_page_that_says_so(project: Project) -> None:
    project.suite(CASES)
    (project.path / "test_stop.py").write_text("def test_stop(): raise KeyboardInterrupt\n")
    project.start("suite.ft.yaml", "test_stop.py", "--ft-html=page.html", "--ft-json=out.json")
    page = (project.path / "page.html").read_text("utf-8")
    assert "The session did not finish" in page
    assert made_later(project, "out.json") == page


def test_a_page_that_cannot_be_written_is_an_error(project: Project) -> None:
    project.suite(CASES)
    (project.path / "file").touch()
    result = project.run("--ft-html=file/page.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["*ERROR: --ft-html: *page.html can't be written: *"])
