"""`ftcheck card`: which results go into which card."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck.report import jsonfile
from ftcheck.results import JudgedData
from tests.cli.conftest import Command
from tests.report import results

DATA = JudgedData(name="PolyAI/banking77", hub=True)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder, and results of one case, of several, and of one that was not judged."""
    (tmp_path / "intents-model").mkdir()
    one = results.case(data=DATA)
    for name, found in (
        ("one", [one]),
        ("two", [one, results.case(case_id="typos", nodeid="s::typos", data=DATA)]),
        ("smoke", [results.case(verdict="smoke", data=DATA)]),
        ("old", [results.case()]),
    ):
        jsonfile.write(tmp_path / f"{name}.json", found, complete=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("model", ["intents-model", "intents-model/README.md"])
def test_a_card_is_begun_and_then_left_as_it_is(here: Path, command: Command, model: str) -> None:
    from huggingface_hub import ModelCard

    path = here / "intents-model" / "README.md"
    code, out, _ = command("card", "one.json", model)
    assert (code, out) == (0, "intents-model/README.md: intents fail\n")
    written = path.read_bytes()
    assert ModelCard(written.decode()).data.model_name == "intents-model"
    assert command("card", "one.json", model)[0] == 0
    assert path.read_bytes() == written


def test_one_case_of_several_is_named(here: Path, command: Command) -> None:
    assert command("card", "two.json", "intents-model", "--case=typos")[0] == 0
    assert "::typos`" in (here / "intents-model" / "README.md").read_text()
    assert "::intents`" not in (here / "intents-model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["two.json", "intents-model"], "Give --case: typos, intents", id="which-case"),
        pytest.param(["one.json", "intents-model", "--case=intent"], "did you mean intents?", id="no-such-case"),
        pytest.param(["smoke.json", "intents-model"], "intents (smoke) was not judged", id="smoke"),
        pytest.param(["old.json", "intents-model"], "or by an older ftcheck", id="no-data"),
        pytest.param(["one.json", "no/model"], "there is no model no", id="no-folder"),
    ],
)
def test_what_cannot_be_written_is_said(here: Path, command: Command, arguments: list[str], expected: str) -> None:
    code, _, err = command("card", *arguments)
    assert code == 4
    assert expected in err
    assert not (here / "intents-model" / "README.md").exists()
