"""Text of data, suites and libraries can't act in any report: not on a terminal, nor in CI, Markdown, CSV or XML."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ftcheck import results as parts
from ftcheck.report import jsonfile, junit, markdown, terminal
from ftcheck.report.markup import csv_table
from ftcheck.report.rows import rows
from ftcheck.results import CaseResult
from tests.plugin.conftest import Project, preloaded, project
from tests.report import hostile

__all__ = ["preloaded", "project"]

OBEYED = re.compile(r"^\s*::[\w-]+[ :].*::|##\[|##vso\[|##teamcity\[", re.MULTILINE)
"""What GitHub's, Azure's and TeamCity's runners take for a command where a job prints it."""
WIDTHS = (40, 80, 400)


def printed(result: CaseResult) -> list[str]:
    """All that a terminal is given for a case."""
    lines = [line.text for width in WIDTHS for line in terminal.table([result], width=width, details=True)]
    lines += terminal.failure(result, Path("/project"), Path("/project")).splitlines()
    lines += [line.text for line in terminal.unfinished([result.nodeid], 80)]
    return [*lines, *terminal.unjudged(result).splitlines()]


@pytest.mark.parametrize("name", hostile.STRINGS)
@pytest.mark.parametrize("error", [0, 1], ids=["failed", "error"])
def test_a_terminal_gets_only_what_can_be_seen(name: str, error: int) -> None:
    lines = printed(hostile.case(hostile.STRINGS[name], error))
    assert [line for line in lines if not line.isprintable() and line.strip()] == []
    assert OBEYED.findall("\n".join(lines)) == []


@pytest.mark.parametrize("name", hostile.STRINGS)
def test_markdown_takes_it_for_text(name: str) -> None:
    page = markdown.page([hostile.case(hostile.STRINGS[name], 1)], complete=False, missing=(hostile.STRINGS[name],))
    assert all(char == "\n" or char.isprintable() for char in page)
    assert OBEYED.findall(page) == []
    tags = set(re.findall(r"</?([a-z]+)[^>]*>", re.sub(r"^    .*$", "", page, flags=re.MULTILINE)))
    assert tags <= {"details", "summary", "sub", "br", "code", "b"}


@pytest.mark.parametrize("name", hostile.STRINGS)
def test_a_results_file_gives_it_back_as_it_was(name: str, tmp_path: Path) -> None:
    made = hostile.case(hostile.STRINGS[name], 0)
    jsonfile.write(tmp_path / "out.json", [made], complete=True)
    text = (tmp_path / "out.json").read_text("utf-8")
    assert text.isascii() or "\x1b" not in text
    json.loads(text)
    (read,) = jsonfile.read(tmp_path / "out.json")
    assert isinstance(read, parts.CaseResult)
    written = hostile.STRINGS[name].encode("utf-8", "backslashreplace").decode()  # a lone surrogate is no text
    assert (read.case_id, read.worst[0].input) == (written, written)


@pytest.mark.parametrize("name", hostile.STRINGS)
def test_a_spreadsheet_gets_no_formula_and_no_broken_line(name: str) -> None:
    found = list(rows([hostile.case(hostile.STRINGS[name], 0)]))
    text = csv_table(list(found[0]), [list(row.values()) for row in found])
    read = list(csv.reader(io.StringIO(text)))
    assert {len(row) for row in read} == {len(found[0])}
    assert not [cell for row in read for cell in row if cell.startswith(("=", "@", "+"))]


@pytest.mark.parametrize("name", hostile.STRINGS)
def test_junit_properties_have_printable_names(name: str) -> None:
    assert all(key.isprintable() for key, _ in junit.properties(hostile.case(hostile.STRINGS[name], 0)))


HOSTILE_ROW = "\x1b[2J\u202e::error::x <![CDATA[ ]]> ##[error]"


def test_what_a_session_prints_and_its_junit_file_hold_no_command_of_the_data(project: Project) -> None:
    for split in ("train", "test"):
        (project.path / f"{split}.csv").write_text(f'text,label\n"{HOSTILE_ROW}",lost\nb,stolen\n')
    fake = (Path(__file__).parents[1] / "fake.py").read_text("utf-8")
    assert '"input": f"row {i}"' in fake
    (project.path / "conftest.py").write_text(
        "from tests import fake\nfake.install()\n"
        f"made_up = fake.examples.write\nfake.examples.write = lambda records, path: made_up("
        f"[{{**record, 'input': {HOSTILE_ROW!r}}} for record in records], path)\n"
    )
    project.suite("  a: {training: {learning_rate: 0.5}, gates: {accuracy: {min: 0.8}}}\n")
    result = project.start("-vv", "-rA", "--junitxml=out.xml", "-o", "junit_logging=all", "--ft-details")
    result.assert_outcomes(failed=1)
    output = "\n".join(result.outlines)
    assert r"\x1b[2J" in output
    assert "\x1b[2J" not in output
    assert OBEYED.findall(output) == []
    tree = ElementTree.parse(project.path / "out.xml")
    text = "".join(tree.getroot().itertext()) + "".join(
        value for element in tree.iter() for value in element.attrib.values()
    )
    assert "\x1b" not in text
    assert OBEYED.findall(text) == []
