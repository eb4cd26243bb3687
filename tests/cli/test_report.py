"""`ftcheck report`: a results file as another report."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck.cli import main
from ftcheck.report import jsonfile
from ftcheck.report.markdown import page
from tests.report import results


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "out.json"
    jsonfile.write(path, [results.case(), results.case(verdict="pass", nodeid="s::other", gates=())], complete=False)
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["report", *arguments])
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.out, captured.err


def test_the_table_is_the_terminal_s(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, str(written))
    assert code == 0
    assert "intents: fail (1 seed, n = 400, cpu fp32, trained in 41 s)" in out
    assert out.endswith("note: the session did not finish\n")


def test_markdown_of_a_file_is_that_of_the_session(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, str(written), "--markdown")
    assert code == 0
    assert out == page(jsonfile.read(written), complete=False)


def test_csv_goes_to_a_file(written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, str(written), "--csv", "-o", str(tmp_path / "new" / "out.csv"))
    assert (code, out) == (0, "")
    assert len((tmp_path / "new" / "out.csv").read_text().splitlines()) == 1 + 4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["no.json"], "no.json can't be read: No such file or directory", id="no-file"),
        pytest.param(["out.json", "--markdown", "--csv"], "--markdown and --csv: choose one", id="two-formats"),
        pytest.param(["out.json", "-o", "out.json/x"], "can't be written", id="no-place"),
    ],
)
def test_what_cannot_be_done_is_said(
    written: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(written.parent)
    code, _, err = run(capsys, *arguments)
    assert code == 4
    assert expected in err
