"""Entries of the run store that are truncated, bit-flipped or half-written: done again, and the reader is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.project import INTERNAL, Done, Project


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    """Lose the second half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@dataclass(frozen=True)
class Damage:
    """What is done to one file of one stage, and what of the run must be made again for it."""

    stage: str
    name: str
    how: Callable[[Path], None]
    trains: bool = False
    predicts: bool = False


DAMAGES = {
    "run_manifest_truncated": Damage("runs", "manifest.json", truncate, trains=True),
    "run_manifest_flipped": Damage("runs", "manifest.json", flip, trains=True),
    "run_half_written": Damage("runs", "manifest.json", Path.unlink, trains=True),
    "weights_missing": Damage("runs", "model/model.safetensors", Path.unlink, trains=True),
    "predictions_truncated": Damage("predictions", "examples.parquet", truncate, predicts=True),
    "predictions_flipped": Damage("predictions", "examples.parquet", flip, predicts=True),
    "predictions_half_written": Damage("predictions", "manifest.json", Path.unlink, predicts=True),
    "scores_flipped": Damage("scores", "statistics.npz", flip),
}
WEIGHTS = ("weights_flipped", "weights_truncated")
"""Damaged where they are needed, since the predictions are gone."""


def entry(project: Project, done: Done, case_id: str, stage: str) -> Path:
    """Where a stage of a case is in the store."""
    run = done.results[case_id]["runs"][0]
    if stage == "scores":
        judged: str = run["predict"]["key"]
        [found] = [path for path in project.kept("scores") if judged in (path / "manifest.json").read_text()]
        return found
    key: str = run["train" if stage == "runs" else "predict"]["key"]
    return project.store / stage / key[:2] / key[2:]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Project:
    made = Project(tmp_path_factory.mktemp("damage") / "project", bert)
    names = (*DAMAGES, *WEIGHTS, "whole")
    made.suite("".join(f"  {name}: {{seeds: [{seed}]}}\n" for seed, name in enumerate(names)))
    return made


@pytest.fixture(scope="module")
def before(project: Project) -> Done:
    """The session that trained everything, whose store is damaged then."""
    done = project.run()
    assert done.code == pytest.ExitCode.OK, done.text
    for name, damage in DAMAGES.items():
        damage.how(entry(project, done, name, damage.stage) / damage.name)
    for name, how in zip(WEIGHTS, (flip, truncate), strict=True):
        shutil.rmtree(entry(project, done, name, "predictions"))
        how(entry(project, done, name, "runs") / "model" / "model.safetensors")
    return done


@pytest.fixture(scope="module")
def after(project: Project, before: Done) -> Done:
    """The session that met the damage."""
    return project.run()


@pytest.mark.parametrize("case_id", [*DAMAGES, *WEIGHTS])
def test_a_damaged_stage_is_made_again_and_the_reader_is_told(before: Done, after: Done, case_id: str) -> None:
    damage = DAMAGES.get(case_id, Damage("runs", "", Path.unlink, trains=True, predicts=True))
    result = after.results[case_id]
    [note] = [note for note in result["notes"] if "damaged" in note]
    assert note.startswith(f"the stored {damage.stage.removesuffix('s')} ")
    assert "is set aside in" in note
    assert f"note: {note}" in after.unbroken
    [run] = result["runs"]
    assert (run["train"]["source"] == "computed") == damage.trains
    assert (run["predict"]["source"] == "computed") == damage.predicts
    assert result["metrics"] == before.results[case_id]["metrics"]


def test_the_session_is_as_good_as_any(project: Project, after: Done) -> None:
    assert after.code == pytest.ExitCode.OK
    assert not INTERNAL.search(after.text), after.text
    assert after.results["whole"]["runs"][0]["train"]["source"] == "store"
    assert len(list((project.store / "quarantine").iterdir())) == len(DAMAGES) + len(WEIGHTS)
    assert project.scratch() == []


def test_afterwards_everything_is_found(project: Project, after: Done) -> None:
    assert after.results
    again = project.run("--ft-cache=only")
    assert again.code == pytest.ExitCode.OK, again.text
    assert "damaged" not in again.text
    assert again.metrics == after.metrics
