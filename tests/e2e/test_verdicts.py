"""Margins and parts of the data with a real training: columns beside, documents, changed rows, traces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.project import ROWS, Done, Project

pytestmark = pytest.mark.e2e

LANGUAGES = ("de", "en", "fr")


@pytest.fixture
def judged(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """72 judged rows in three languages and twelve documents, each row with an id."""
    monkeypatch.delenv("CI", raising=False)
    lines = ["name,text,label,language,document"]
    for copy, language in enumerate(LANGUAGES):
        lines += [
            f"{language}{place},{'very ' * copy}{text},{label},{language},doc{place // 2}"
            for place, (text, label) in enumerate(ROWS)
        ]
    project.write(**{"test.csv": "\n".join(lines) + "\n"})
    return project


def case(more: str, training: str = "{num_train_epochs: 1, learning_rate: 1e-3}") -> str:
    return f"  c:\n    training: {training}\n    gates: {{accuracy: {{{more}}}}}\n"


def test_gates_on_parts_of_the_rows(judged: Project) -> None:
    judged.suite(case("min: 0, slices: {by: language, min: 0, min_examples: 20}"))
    found = judged.run()
    assert found.code == 0, found.text
    assert [gate["part"] for gate in found.results["c"]["gates"]] == ["", "language=de", "language=en", "language=fr"]
    judged.suite(case("slices: {by: length, min: 0, min_examples: 20}"))
    parts = [gate["part"] for gate in judged.run().results["c"]["gates"]]
    assert parts
    assert all(part.startswith("length=") and part.endswith("characters") for part in parts)
    judged.suite(case("slices: {by: label, min: 1, min_examples: 20}"))
    failed = judged.run()
    assert failed.code == 1
    assert "accuracy of label=moves" in failed.text


def test_naming_a_column_for_a_gate_trains_nothing_anew(judged: Project) -> None:
    judged.suite(case("min: 0"))
    judged.run()
    judged.suite(case("slices: {by: language, min: 0, min_examples: 20}"))
    (run,) = judged.run().results["c"]["runs"]
    assert (run["train"]["source"], run["predict"]["source"]) == ("store", "computed")


def test_a_column_that_is_not_there_is_one_clear_error(judged: Project) -> None:
    judged.suite(case("slices: {by: langauge, min: 0}"))
    found = judged.run()
    assert "have no column 'langauge'" in found.errors("c")
    assert "did you mean language?" in found.errors("c")


def test_documents_widen_the_interval(judged: Project) -> None:
    def width(found: Done) -> float:
        interval = found.results["c"]["metrics"][0]["interval"]
        return float(interval["high"] - interval["low"])

    judged.suite(case("min: 0"))
    rows = judged.run()
    judged.suite(case("min: 0") + "    cluster: document\n")
    documents = judged.run()
    assert documents.results["c"]["metrics"][0]["value"] == rows.results["c"]["metrics"][0]["value"]
    assert width(documents) != width(rows)


def test_what_changed_is_told_rows_arguments_and_where_the_training_parts(judged: Project) -> None:
    gate = "max_regression: 0.0"
    judged.suite(case(gate))
    assert judged.run("--ft-update").code == 0
    lines = (judged.path / "train.csv").read_text().splitlines()
    (judged.path / "train.csv").write_text("\n".join([lines[0], *lines[3:]]) + "\n")
    judged.suite(case(gate, "{num_train_epochs: 1, learning_rate: 1e-6}"))
    (reference,) = judged.run().results["c"]["references"]
    assert "2 of 24 training rows (2 gone, 0 new)" in reference["changes"]
    assert any(change.startswith("training.learning_rate 0.001 → 1e-06") for change in reference["changes"])
    assert reference["trace"] == "the training differs from step 1 on (seed 42)"
    judged.suite(case(gate))
    (judged.path / "train.csv").write_text("\n".join(lines) + "\n")
    test = (judged.path / "test.csv").read_text().splitlines()
    (judged.path / "test.csv").write_text("\n".join(test[:-6]) + "\n")
    found = judged.run()
    (reference,) = found.results["c"]["references"]
    assert reference["trace"] == "the same training: only the evaluation differs"
    assert (reference["examples"], reference["common"]) == (72, 66)
    assert "compared with the baseline on the 66 examples that both judged (6 are gone, 0 are new)" in found.unbroken


def test_other_evaluation_data_is_incomparable_not_a_pass(judged: Project) -> None:
    judged.suite(case("max_regression: 0.9"))
    judged.run("--ft-update")
    text = (judged.path / "test.csv").read_text()
    for old, new in (("the old", "an old"), ("very ", "so ")):
        text = text.replace(old, new)
    (judged.path / "test.csv").write_text(text)
    found = judged.run()
    assert found.results["c"]["verdict"] == "incomparable"
    assert "the evaluation data has changed" in found.unbroken


def test_a_case_may_be_compared_with_its_checkpoint(project: Project, tmp_path: Path) -> None:
    """A fine-tuned model as the checkpoint has a head, so that it can be judged as it is."""
    project.suite("  first: {}\n")
    assert project.run().code == 0
    (manifest,) = project.store.glob("runs/*/*/manifest.json")
    assert json.loads(manifest.read_text())
    (tmp_path / "tuned").symlink_to(manifest.parent / "model", target_is_directory=True)
    project.suite(
        f"  second:\n    checkpoint: {tmp_path / 'tuned'}\n    vs: base-checkpoint\n"
        "    gates: {accuracy: {max_regression: 0.5}}\n"
    )
    found = project.run()
    (gate,) = found.results["second"]["gates"]
    assert gate["comparison"]["against"] == "the base checkpoint", found.text
