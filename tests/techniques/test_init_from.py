"""A case that starts from another's model: the right one, trained once, in the key, and better for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ftcheck import catalogue, suitefile
from ftcheck.devices import Device
from ftcheck.errors import SuiteErrors
from ftcheck.executors.inline import InlineExecutor
from ftcheck.finetune import techniques
from ftcheck.finetune.session import FineTuning
from ftcheck.finetune.techniques import Options, Technique
from ftcheck.keys import Identifier, diff
from ftcheck.pipeline import Pipeline
from ftcheck.runs import Run
from ftcheck.settings import Settings
from ftcheck.spec import Case, expand, link
from ftcheck.store import Listed, Store, listed, remove_model
from tests import tiny
from tests.cli.faked import Command
from tests.finetune.jobs import TEXTS, loaded
from tests.keys.inputs import case, changed
from tests.plugin.conftest import Project
from tests.techniques.trainings import a_job

HEAD = """
defaults: {checkpoint: ./checkpoint, task: text-classification, data: org/data, precision: fp32}
cases:
"""
CASES = """
  adapted: {keep_model: KEEP, training: {learning_rate: 0.9}}
  one: {keep_model: KEEP, init_from: case:adapted, training: {learning_rate: 0.8}}
  two: {keep_model: KEEP, init_from: case:adapted, training: {learning_rate: 0.7}}
"""
ALL = [f"{stage} {name} 42" for name in ("adapted", "one", "two") for stage in ("train", "predict")]


# Each model is trained once


@pytest.mark.parametrize("keep", ["all", "first", "none"])
def test_a_model_that_several_cases_start_from_is_trained_once_and_stays(ftcheck: Command, keep: str) -> None:
    """`keep_model` holds for the cases that nothing starts from."""
    project = ftcheck.project
    project.suite(CASES.replace("KEEP", keep))
    assert ftcheck.run(f"--ft-cache-dir={project.path / 'store'}").ret == 0
    assert project.stages() == ALL
    assert kept(project) == (1 if keep == "none" else 3)
    ftcheck.run(f"--ft-cache-dir={project.path / 'store'}")
    assert project.stages() == []


def test_workers_that_need_one_model_train_it_once(faked: Project) -> None:
    pytest.importorskip("xdist")
    faked.suite(CASES.replace("KEEP", "none"))
    faked.run("-n3").assert_outcomes(passed=3)
    assert sorted(faked.stages()) == sorted(ALL)


def test_choosing_one_case_trains_what_it_starts_from_first(ftcheck: Command) -> None:
    ftcheck.project.suite(CASES.replace("KEEP", "all"))
    ftcheck.run("-k", "two")
    assert ftcheck.project.stages() == [line for line in ALL if "one" not in line]


def test_what_is_made_anew_is_made_anew_once(ftcheck: Command) -> None:
    ftcheck.project.suite(CASES.replace("KEEP", "all"))
    ftcheck.run()
    ftcheck.project.stages()
    ftcheck.run("--ft-cache=refresh")
    assert ftcheck.project.stages() == ALL


def test_a_smoke_run_trains_a_smoke_runs_model(ftcheck: Command) -> None:
    ftcheck.project.suite(CASES.replace("KEEP", "all"))
    ftcheck.run()
    ftcheck.project.stages()
    ftcheck.run("--ft-limit=1", "-k", "one")
    assert ftcheck.project.stages() == [line for line in ALL if "two" not in line]


@pytest.mark.parametrize(
    ("more", "stages"),
    [
        pytest.param("", ["predict one 42"], id="whole"),
        pytest.param("adapter: {}, ", ["train adapted 42", "predict adapted 42", "predict one 42"], id="adapter"),
    ],
)
def test_a_trained_case_that_only_has_to_answer_needs_no_other_model_unless_it_keeps_a_part(
    ftcheck: Command, more: str, stages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(techniques.BUILT_IN, "adapter", f"{__name__}:Adapter")
    project = ftcheck.project
    project.suite(CASES.replace("KEEP, init", f"KEEP, {more}init").replace("KEEP", "all"))
    ftcheck.run(f"--ft-cache-dir={project.path / 'store'}")
    project.stages()
    remove_model(Store(project.path / "store"), "runs", trained(project, 0.9).digest)
    changed(project.path / "test.csv", b"where", b"there")
    ftcheck.run(f"--ft-cache-dir={project.path / 'store'}", "-k", "one")
    assert project.stages() == stages


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda store, run: remove_model(store, "runs", run.digest), id="taken-out"),
        pytest.param(lambda store, run: (run.entry.path / "model/model.safetensors").write_bytes(b"x"), id="damaged"),
    ],
)
def test_a_model_that_is_gone_is_trained_again(ftcheck: Command, harm: Callable[[Store, Listed], None]) -> None:
    project = ftcheck.project
    project.suite(CASES.replace("KEEP", "all"))
    ftcheck.run(f"--ft-cache-dir={project.path / 'store'}", "-k", "one")
    project.stages()
    harm(Store(project.path / "store"), trained(project, 0.9))
    ftcheck.run(f"--ft-cache-dir={project.path / 'store'}", "-k", "two")
    assert project.stages() == ["train adapted 42", "train two 42", "predict two 42"]


def test_the_plan_says_what_is_trained_first(ftcheck: Command) -> None:
    ftcheck.project.suite(CASES.replace("KEEP", "all"))
    ftcheck.run("--ft-plan", "-k", "one").stdout.fnmatch_lines(["one: train 1 seed after adapted, evaluate 1"])
    ftcheck.run("-k", "adapted")
    ftcheck.run("--ft-plan", "-k", "one").stdout.fnmatch_lines(["one: train 1 seed, evaluate 1"])
    ftcheck.run()
    ftcheck.run("--ft-plan", "-k", "one").stdout.fnmatch_lines(["one: 1 found in the store"])


def test_nothing_is_trained_where_nothing_may_be(ftcheck: Command) -> None:
    ftcheck.project.suite(CASES.replace("KEEP", "all"))
    result = ftcheck.run("--ft-cache=only", "-k", "one")
    result.stdout.fnmatch_lines(["*seed 42 has not been trained yet and --ft-cache=only forbids doing it*"])
    ftcheck.run("-k", "one")
    ftcheck.project.stages()
    assert ftcheck.run("--ft-cache=only", "-k", "one").ret == 0
    assert ftcheck.project.stages() == []


def test_each_seed_starts_from_its_own_or_else_from_the_first(ftcheck: Command) -> None:
    ftcheck.project.suite(
        "  adapted: {training: {learning_rate: 0.9}, seeds: [7, 43]}\n"
        "  one: {init_from: case:adapted, training: {learning_rate: 0.8}, seeds: [42, 43, 44]}\n"
    )
    ftcheck.run("-k", "one")
    stages = [line for line in ftcheck.project.stages() if line.startswith("train")]
    assert stages == ["train adapted 7", "train one 42", "train adapted 43", "train one 43", "train one 44"]


def test_a_chain_is_trained_from_its_beginning(ftcheck: Command) -> None:
    ftcheck.project.suite(
        "  last: {init_from: case:middle, training: {learning_rate: 0.8}}\n"
        "  middle: {init_from: {case: 'case:first'}, training: {learning_rate: 0.7}}\n"
        "  first: {training: {learning_rate: 0.9}}\n"
    )
    ftcheck.run("--ft-plan", "-k", "last").stdout.fnmatch_lines(["last: train 1 seed after first, middle, evaluate 1"])
    ftcheck.run("-k", "last")
    stages = [line for line in ftcheck.project.stages() if line.startswith("train")]
    assert stages == ["train first 42", "train middle 42", "train last 42"]


PYTHON = """
import ftcheck

shared = dict(
    checkpoint="./checkpoint", task="text-classification", precision="fp32",
    data={"path": "csv", "files": {"train": "train.csv", "test": "test.csv"}},
)

@ftcheck.case(**shared, init_from="case:test_adapted", training={"learning_rate": 0.8})
def test_one(finetuned): ...

@ftcheck.case(**shared, training={"learning_rate": 0.9})
def test_adapted(finetuned): ...
"""


def test_functions_of_one_module_may_start_from_each_other(ftcheck: Command) -> None:
    project = ftcheck.project
    path = project.path / "test_suite.py"
    path.write_text(PYTHON)
    assert ftcheck("validate", path.name).returncode == 0
    ftcheck.run("test_suite.py::test_one")
    assert [line for line in project.stages() if line.startswith("train")] == [
        "train test_adapted 42",
        "train test_one 42",
    ]
    (project.path / "test_wrong.py").write_text(PYTHON.replace("case:test_adapted", "case:test_adopted"))
    found = ftcheck("validate", "test_wrong.py")
    assert found.returncode == 1
    assert (
        "test_wrong.py:9 test_one.init_from: no case of this file has the id 'test_adopted'; did you mean test_adapted?"
        in found.stderr
    )


# What can't be


class Adapter(Technique):
    """Keeps something that isn't a whole model."""

    name = "adapter"
    description = "A part of a model."
    options = Options
    keeps = True


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        pytest.param(
            "  a: {init_from: case:b}\n  b: {init_from: case:a}\n",
            "5 b.init_from: cases need each other's models in a circle: a → b → a",
            id="circle",
        ),
        pytest.param(
            "  a: {init_from: case:a}\n",
            "4 a.init_from: cases need each other's models in a circle: a → a",
            id="itself",
        ),
        pytest.param(
            "  a: {init_from: case:bee}\n  beer: {}\n",
            "4 a.init_from: no case of this file has the id 'bee'; did you mean beer?",
            id="unknown",
        ),
        pytest.param(
            "  a: {init_from: case:b}\n  b: {training: false}\n",
            "4 a.init_from: b trains nothing (`training: false`): name its checkpoint instead",
            id="untrained",
        ),
        pytest.param(
            "  b: {checkpoint: ./other}\n  a: {init_from: case:b}\n",
            "5 a.init_from: b fine-tunes FOLDER/other, but this case's checkpoint is FOLDER/checkpoint: "
            "name the same one",
            id="another-checkpoint",
        ),
        pytest.param(
            "  b: {adapter: {}}\n  a: {init_from: case:b}\n",
            "5 a.init_from: b keeps no whole model (adapter) that another training could start from",
            id="adapters",
        ),
        pytest.param(
            "  a: {training: false, init_from: case:b}\n  b: {}\n",
            "4 cases.a.init_from: with `training: false` nothing is trained; leave it out",
            id="nothing-to-train",
        ),
        pytest.param(
            "  a: {init_from: b}\n  b: {}\n",
            "4 cases.a.init_from: expected case: and the id of a case of this file, got 'b' (text)",
            id="no-case",
        ),
    ],
)
def test_what_no_training_can_start_from_is_refused_where_it_stands(
    cases: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(techniques.BUILT_IN, "adapter", f"{__name__}:Adapter")
    for name in ("checkpoint", "other"):
        (tmp_path / name).mkdir()
    with pytest.raises(SuiteErrors) as raised:
        read(cases, tmp_path)
    assert str(raised.value.errors[0]) == f"{tmp_path / 'a.ft.yaml'}:{message.replace('FOLDER', str(tmp_path))}"


# The key


def chained(root: Path) -> tuple[Case, Case]:
    """(a case, one that starts from it)."""
    parent = case(root, id="adapted", precision="fp32")
    child = replace(parent, id="one", techniques={"init_from": {"case": "case:adapted"}})
    return parent, replace(child, parents={"init_from": parent})


def run(made: Case, root: Path, seed: int = 42) -> Run:
    """The run of a case, as a fresh session makes it."""
    pipeline = Pipeline(
        settings=Settings(),
        store=Store(root / "store"),
        identifier=Identifier(root / "memo"),
        device=Device(kind="cpu", name="a CPU"),
        executor=InlineExecutor(),
    )
    return pipeline.runs(made, [seed])[0]


def test_the_key_has_the_training_that_it_starts_from(tmp_path: Path) -> None:
    parent, child = chained(tmp_path)
    key = run(child, tmp_path).train
    assert key.components["parents"] == {"init_from": run(parent, tmp_path).train.digest}
    assert key.digest != run(replace(child, techniques={}, parents={}), tmp_path).train.digest
    for change in (
        {"training": {**(parent.training or {}), "learning_rate": 1e-4}},
        {"precision": "bf16"},
        {"seeds": (7,)},
        {"task_options": {**parent.task_options, "max_length": 64}},
    ):
        other = run(replace(child, parents={"init_from": replace(parent, **change)}), tmp_path).train
        assert [found.path for found in diff(key.components, other.components)] == ["parents.init_from"], change


@pytest.mark.e2e
def test_a_head_of_another_size_starts_anew_and_the_body_does_not(tmp_path: Path) -> None:
    """From a model of three classes to one of two: what a user expects, and a note that says so."""
    parent = tiny.bert(tmp_path / "parent", head="BertForSequenceClassification", labels=["a", "b", "c"])
    base = tiny.bert(tmp_path / "base", initializer_range=0.5)
    given = a_job({}, path=base, training={"max_steps": 1, "learning_rate": 0.0}, parents={"init_from": parent})
    with FineTuning(given, loaded=loaded(train=TEXTS, eval=TEXTS)) as made:
        result = made.train()
        found = made.model.state_dict()
    assert "the head starts anew: classifier.weight has 3×32 in the checkpoint, 2×32 here" in result.notes
    from safetensors.torch import load_file

    weights = load_file(parent / "model.safetensors")
    body = [name for name in weights if name.startswith("bert.encoder")]
    assert body
    assert all(found[name].equal(weights[name]) for name in body)


def test_what_does_not_change_the_other_model_does_not_change_the_key(tmp_path: Path) -> None:
    parent, child = chained(tmp_path)
    renamed = replace(parent, id="other", gates=(), metrics=(), keep_model="none", seeds=(41, 42), description="so")
    other = replace(child, techniques={"init_from": {"case": "case:other"}}, parents={"init_from": renamed})
    assert run(child, tmp_path).train == run(other, tmp_path).train


def test_of_several_seeds_each_has_its_own(tmp_path: Path) -> None:
    parent, child = chained(tmp_path)
    child = replace(child, parents={"init_from": replace(parent, seeds=(42, 43))})
    for seed, used in ((42, 42), (43, 43), (44, 42)):
        expected = run(parent, tmp_path, used).train.digest
        assert run(child, tmp_path, seed).train.components["parents"]["init_from"] == expected


def read(cases: str, folder: Path) -> list[Case]:
    """The cases of a suite file, linked."""
    declared = suitefile.parse((HEAD + cases).encode(), folder / "a.ft.yaml")
    return link(expand(declared, catalogue.installed()), catalogue.installed())


def trained(project: Project, learning_rate: float) -> Listed:
    """The stored run that was trained with this learning rate."""
    (found,) = (
        item
        for item in listed(Store(project.path / "store", read_only=True))
        if item.stage == "runs" and item.entry.components["training"]["learning_rate"] == learning_rate
    )
    return found


def kept(project: Project) -> int:
    """How many models are in the store."""
    return sum(bool(item.entry.model_size) for item in listed(Store(project.path / "store", read_only=True)))
