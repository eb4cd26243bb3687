"""A suite whose training rows are streamed, through pytest: trained, found again, told why not, and from a Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.project import INTERNAL, ROWS, Project, csv
from tests.hub_server import serve

DATA = "path: csv, files: {train: train.csv, test: test.csv}, streaming: true"
HEAD = "cases:\n  streamed:\n    checkpoint: ./checkpoint\n    task: text-classification\n    precision: fp32\n"


def suite(data: str, training: str = "{max_steps: 6}") -> dict[str, str]:
    """A suite of one case."""
    return {"suite.ft.yaml": f"{HEAD}    data: {{{data}}}\n    training: {training}\n"}


def test_a_stream_is_trained_on_once_and_found_by_what_it_is(project: Project) -> None:
    project.write(**suite(f"{DATA}, shuffle_buffer: 100"))
    first = project.run()
    assert first.code == 0, first.text
    assert any(note.startswith("train: streamed, shuffled within") for note in first.results["streamed"]["notes"])
    again = project.run("--ft-cache=only")
    assert again.code == 0, again.text
    assert again.metrics == first.metrics
    project.write(**suite(f"{DATA}, shuffle_buffer: 0"))
    assert "has not been trained yet" in project.run("--ft-cache=only").errors("streamed")
    project.write(**suite(f"{DATA}, shuffle_buffer: 100"), **{"train.csv": csv([*ROWS, ("the cat", "moves")])})
    assert "has not been trained yet" in project.run("--ft-cache=only").errors("streamed")


def test_a_row_that_breaks_a_stream_is_one_error_and_nothing_is_kept(project: Project) -> None:
    project.write(**suite(f"{DATA}, shuffle_buffer: 0", "{max_steps: 200}"))
    project.write(**{"train.csv": csv(ROWS * 50) + "a,row,too,long\n"})
    done = project.run()
    assert done.code == 1
    assert done.errors("streamed").startswith("train.csv:1202: 4 fields where there are 2 columns")
    assert not INTERNAL.search(done.text)
    assert not project.kept()


def test_a_stream_without_steps_is_told_at_collection(project: Project) -> None:
    project.write(**suite(DATA, "{}"))
    done = project.run()
    assert done.code == 2
    assert "suite.ft.yaml:6 cases.streamed.data.streaming: needs training.max_steps" in done.unbroken


def test_rows_of_a_hub_are_streamed_and_only_the_judged_ones_kept(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"train.csv": csv(ROWS * 50).encode(), "test.csv": csv(ROWS[:8]).encode()}
    for name in ("TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with serve() as hub:
        commit = hub.put("datasets", "org/intents", files)
        for name, value in hub.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        project.write(**suite("path: org/intents, streaming: true"))
        first = project.run()
        assert first.code == 0, first.text
        assert not list((tmp_path / "hf").rglob("train.csv"))
        assert list((tmp_path / "hf").rglob(f"{commit}/test.csv"))
        asked = [request for request in hub.requests if "train.csv" in request]
        assert project.run().metrics == first.metrics
        assert [request for request in hub.requests if "train.csv" in request] == asked
