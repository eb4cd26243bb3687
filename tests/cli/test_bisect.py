"""`ftcheck bisect`: changes since the baseline are put back one at a time, and ranked by what they explain."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from ftcheck import catalogue, recipes, suitefile
from ftcheck.baselines import Accepted, Entry
from ftcheck.errors import BaselineError
from ftcheck.finetune import Job
from ftcheck.putback import Past, cause_of, put_back
from ftcheck.spec import Case, Checkpoint, Data, EarlyStopping, expand
from tests.cli.faked import Command
from tests.plugin.conftest import Project
from tests.techniques.trainings import SUITES

CASE = "suite.ft.yaml::good"


def good(training: str) -> str:
    """A case with these arguments, a margin and two seeds."""
    return f"  good:\n    training: {{{training}}}\n    seeds: 2\n    gates: {{accuracy: {{max_regression: 0.05}}}}\n"


def git(folder: Path, *arguments: str) -> None:
    name = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    subprocess.run(["git", "-C", str(folder), *name, *arguments], check=True, capture_output=True)


def table(out: str) -> list[tuple[str, str]]:
    """(share, what) of the table's lines."""
    lines = [line for line in out.splitlines() if " % " in line and "share" not in line]
    return [(before.split()[-1], after.strip()) for before, _, after in (line.partition(" % ") for line in lines)]


def test_the_change_that_moved_the_metric_is_named_first(faked: Project, ftcheck: Command) -> None:
    faked.suite(good("learning_rate: 0.9, weight_decay: 0.1"))
    ftcheck.accept()
    faked.suite(good("learning_rate: 0.6, warmup_steps: 5"))
    done = ftcheck("bisect", CASE)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("suite.ft.yaml::good: accuracy 0.595, the baseline 0.895 (cpu, accepted ")
    found = table(done.stdout)
    assert found[0] == ("100", "all that changed")
    assert found[1] == ("100", "training.learning_rate 0.9 → 0.6")
    assert set(found[2:4]) == {("0", "training.warmup_steps (none) → 5"), ("0", "training.weight_decay 0.1 → (none)")}
    assert found[4:] == [
        ("100", "all of these together"),
        ("0", "none of these: it remains with all of them put back"),
    ]
    # As it is, and three variants; with all put back it is the baseline, which the store has.
    assert len([line for line in faked.stages() if "train" in line]) == 2 * 4
    ftcheck("bisect", CASE)
    assert faked.stages() == []


def test_of_folds_too_the_change_that_moved_the_metric_is_named(faked: Project, ftcheck: Command) -> None:
    faked.suite(good("learning_rate: 0.9, weight_decay: 0.1") + "    folds: 4\n")
    ftcheck.accept()
    faked.suite(good("learning_rate: 0.6, weight_decay: 0.1") + "    folds: 5\n")
    done = ftcheck("bisect", CASE)
    assert (done.returncode, done.stderr) == (0, "")
    found = table(done.stdout)
    assert ("100", "training.learning_rate 0.9 → 0.6") in found
    assert ("0", "techniques.folds.n 4 → 5") in found


def test_files_are_put_back_out_of_git_and_the_rest_is_named(faked: Project, ftcheck: Command) -> None:
    git(faked.path, "init", "-q")
    git(faked.path, "add", "train.csv", "checkpoint")
    git(faked.path, "commit", "-qm", "data")
    faked.suite(good("learning_rate: 0.9"))
    ftcheck.accept()
    (faked.path / "train.csv").write_text("text,label\nchanged,lost\n")
    (faked.path / "test.csv").write_text("text,label\nchanged too,lost\n")
    (faked.path / "checkpoint" / "model.safetensors").write_text("v")
    faked.suite(good("learning_rate: 0.7"))
    done = ftcheck("bisect", CASE, "--metric", "macro_f1")
    assert done.returncode == 0, done.stderr
    put, _, left = done.stdout.partition("can't be put back here:")
    assert "macro_f1" in put
    assert "training.learning_rate 0.9 → 0.7" in put
    assert "checkpoint.files.model.safetensors" in put
    assert "data.rows.train[0].blake3" in put
    assert "data.rows.test[0].blake3" in left
    assert "test.csv has changed, and git has no commit with what the baseline was made with" in left


def test_nothing_changed_is_said(faked: Project, ftcheck: Command) -> None:
    faked.suite(good("learning_rate: 0.9"))
    ftcheck.accept()
    done = ftcheck("bisect", CASE)
    assert done.returncode == 0
    assert "nothing that a result depends on has changed" in done.stdout
    assert faked.stages() == []


def test_what_cannot_be_explained_is_one_sentence(faked: Project, ftcheck: Command) -> None:
    faked.suite(good("learning_rate: 0.9"))
    done = ftcheck("bisect", CASE)
    assert (done.returncode, "good has no baseline for cpu" in done.stderr) == (1, True)
    ftcheck.accept()
    done = ftcheck("bisect", CASE, "--metric", "acuracy")
    assert (done.returncode, "did you mean accuracy?" in done.stderr) == (4, True)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("training.learning_rate", "training.learning_rate", id="argument"),
        pytest.param("training.lr_scheduler_kwargs.power", "training.lr_scheduler_kwargs", id="argument-of-parts"),
        pytest.param("evaluation.per_device_eval_batch_size", "training.per_device_eval_batch_size", id="evaluation"),
        pytest.param("checkpoint.files.model.safetensors", "checkpoint", id="checkpoint"),
        pytest.param("tokenizer.files.tokenizer.json", "checkpoint", id="tokenizer"),
        pytest.param("task.options.labels[0]", "task.labels", id="task-option"),
        pytest.param("decoding.threshold", "task.threshold", id="how-answers-are-read"),
        pytest.param("data.rows.train[0].blake3", "data.rows.train", id="rows"),
        pytest.param("data.rows", "data.rows.", id="rows-of-one-side"),
        pytest.param("data.limit.train", "data.limit", id="limit"),
        pytest.param("early_stopping.patience", "early_stopping", id="early-stopping"),
        pytest.param("techniques.loop.options.epsilon", "techniques.loop", id="technique"),
        pytest.param("techniques.loop.code.train", "techniques.loop.code", id="code-of-ones-own"),
        pytest.param("techniques.callbacks.code[0].Mine", "techniques.callbacks.code", id="one-of-several"),
        pytest.param("transformers", "transformers", id="version"),
    ],
)
def test_a_component_belongs_to_what_puts_it_back(path: str, expected: str) -> None:
    assert cause_of(path) == expected


def case(folder: Path, **changes: Any) -> Case:
    bare = Case(
        id="good", suite=folder / "suite.ft.yaml", line=1, checkpoint=Checkpoint(path="org/model", local=False),
        task="text-classification", task_options={"max_length": 64}, data=Data(kind="hub", path="org/data"),
        training={"learning_rate": 0.1, "num_train_epochs": 2},
    )  # fmt: skip
    return replace(bare, **changes)


def entry(old: Case, components: Mapping[str, Any] | None = None) -> Entry:
    job = Job(case=old, seed=1, device="cpu", precision="fp32", checkpoint_revision="c1", data_revision="d1")
    return Entry(
        device="cpu", accepted=Accepted(date="2026-11-02"), metrics={}, seeds=(1,), examples=1, fixed=False,
        components=components or {}, keys={}, statistics="", digest="", recipe=recipes.recorded(job),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "now"),
    [
        pytest.param(
            "training.learning_rate", {"training": {"learning_rate": 0.5, "num_train_epochs": 2}}, id="changed"
        ),
        pytest.param("training.num_train_epochs", {"training": {"learning_rate": 0.1}}, id="gone"),
        pytest.param("training.seed", {"training": {"learning_rate": 0.1, "num_train_epochs": 2, "seed": 1}}, id="new"),
        pytest.param("training", {"training": None}, id="no-training"),
        pytest.param("task.max_length", {"task_options": {"max_length": 8}}, id="task-option"),
        pytest.param("early_stopping", {"early_stopping": EarlyStopping(patience=3)}, id="early-stopping"),
        pytest.param("precision", {"precision": "bf16"}, id="precision"),
    ],
)
def test_a_value_of_the_recipe_is_put_back(tmp_path: Path, name: str, now: dict[str, Any]) -> None:
    old = case(tmp_path)
    past = Past(commit="", suite=old.suite, folder=tmp_path)
    assert put_back(name, entry(old), past)(replace(old, **now)) == old


@pytest.mark.parametrize("suite", sorted(SUITES.glob("*.ft.yaml")), ids=lambda path: path.stem)
def test_a_technique_is_put_back_as_it_was(suite: Path, tmp_path: Path) -> None:
    """A baseline has its options complete, which a suite needn't write."""
    for old in expand(suitefile.read(suite), catalogue.installed()):
        for name in old.techniques.keys() - {"init_from", "distill"}:
            past = Past(commit="", suite=old.suite, folder=tmp_path)
            assert put_back(f"techniques.{name}", entry(old), past)(replace(old, techniques={})) == replace(
                old, techniques={name: old.techniques[name]}
            )


@pytest.mark.parametrize("field", ["splits", "limit", "columns", "holdout", "name"])
def test_a_selection_of_the_data_is_put_back(tmp_path: Path, field: str) -> None:
    old = case(tmp_path)
    value: Any = {"splits": {"eval": "test"}, "limit": {"train": 5}, "columns": {"text": "t"}, "holdout": {"eval": 0.1},
                  "name": "x"}[field]  # fmt: skip
    now = replace(old, data=replace(old.data, **{field: value}))
    assert put_back(f"data.{field}", entry(old), Past(commit="", suite=old.suite, folder=tmp_path))(now) == old


def test_hub_names_are_put_back_at_the_commit_that_was_used(tmp_path: Path) -> None:
    old = case(tmp_path)
    now = case(tmp_path, checkpoint=Checkpoint(path="org/other", local=False), data=Data(kind="hub", path="org/new"))
    past = Past(commit="", suite=old.suite, folder=tmp_path)
    back = put_back("data.hub", entry(old), past)(put_back("checkpoint", entry(old), past)(now))
    assert back.checkpoint == Checkpoint(path="org/model", local=False, revision="c1")
    assert (back.data.path, back.data.revision) == ("org/data", "d1")


@pytest.mark.parametrize(
    "name", ["transformers", "code", "device_type", "data.reader", "data.files", "task", "techniques.loop.code"]
)
def test_what_no_suite_says_is_not_put_back(tmp_path: Path, name: str) -> None:
    old = case(tmp_path)
    with pytest.raises(BaselineError, match="put"):
        put_back(name, entry(old), Past(commit="", suite=old.suite, folder=tmp_path))


def test_a_files_content_is_found_in_its_history_wherever_it_is(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    git(tmp_path, "init", "-q", "project")
    data = project / "train.csv"
    for content in ("one", "two", "three"):
        data.write_text(content)
        git(project, "add", "-A")
        git(project, "commit", "-qm", content)
    past = Past(commit="", suite=project / "suite.ft.yaml", folder=tmp_path / "out")
    assert past.file("train.csv", blake3(b"three").hexdigest()) == data
    assert past.file("train.csv", blake3(b"one").hexdigest()).read_text() == "one"
    with pytest.raises(BaselineError, match="git has no commit"):
        past.file("train.csv", blake3(b"never").hexdigest())


@pytest.mark.parametrize("is_folder", [pytest.param(False, id="file"), pytest.param(True, id="folder")])
def test_local_data_is_put_back(tmp_path: Path, is_folder: bool) -> None:
    project = tmp_path / "project"
    (project / "rows").mkdir(parents=True)
    git(tmp_path, "init", "-q", "project")
    for content in ("one", "two"):
        for name in ("data.csv", "rows/a.csv"):
            (project / name).write_text(content)
        git(project, "add", "-A")
        git(project, "commit", "-qm", content)
    one = blake3(b"one").hexdigest()
    path = project / ("rows" if is_folder else "data.csv")
    old = case(project, data=Data(kind="local", path=str(path)))
    known = {"files": {"a.csv": one}} if is_folder else {"rows": {"train": [{"blake3": one, "suffix": ".csv"}]}}
    past = Past(commit="", suite=old.suite, folder=tmp_path / "out")
    name = "data.files" if is_folder else "data.rows.train"
    back = put_back(name, entry(old, {"train": {"data": known}}), past)(old)
    found = Path(back.data.path) / "a.csv" if is_folder else Path(back.data.path)
    assert found.read_text() == "one"
    assert path.exists()
