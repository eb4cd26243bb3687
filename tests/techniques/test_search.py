"""A search of hyperparameters: better than its first trial, done once, gone on with after a crash, in the key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck import catalogue, suitefile
from ftcheck.errors import SuiteErrors, TechniqueError, TrainingError
from ftcheck.finetune.session import FineTuning
from ftcheck.finetune.techniques import search
from ftcheck.finetune.techniques.search import Search
from ftcheck.keys import search_key
from ftcheck.spec import Data, expand
from ftcheck.store import Store, listed
from tests import tiny, warm
from tests.finetune import jobs
from tests.finetune.jobs import TEXTS
from tests.keys.inputs import case, keys
from tests.techniques.searches import SPACE, Searched, searched

__all__ = ["searched"]

SHIPPED = Path(__file__).parents[2] / "suites" / "techniques" / "search.ft.yaml"


@pytest.mark.e2e
def test_the_best_trial_beats_the_first_and_is_what_all_seeds_train(tmp_path: Path) -> None:
    """The suite that ships: one search for both seeds, judged on other rows than it looked at."""
    arguments = [f"--ft-cache-dir={tmp_path}", f"--ft-json={tmp_path / 'out.json'}", "--ft-seeds=2", "--ft-device=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = warm.run([str(SHIPPED), "-p", "no:cacheprovider", *arguments], Path.cwd(), environment)
    assert done.returncode == 0, done.stdout
    results = {result["case_id"]: result for result in json.loads((tmp_path / "out.json").read_text())["results"]}
    accuracy = {name: results[name]["metrics"][0]["value"] for name in ("searched", "unsearched")}
    assert accuracy["searched"] > accuracy["unsearched"] + 0.1
    store = Store(tmp_path, read_only=True)
    (found,) = (item.entry for item in listed(store) if item.stage == "searches")
    trials = found.content["record"]["trials"]
    assert len(trials) == 5
    assert trials[0]["training"] == {"learning_rate": 5e-5, "per_device_train_batch_size": 32}
    assert found.content["record"]["best"] != 1
    kept = [item.entry.content["records"] for item in listed(store) if item.stage == "runs"]
    assert sorted(kept, key=len) == [{}, {}, {"search": found.content["record"]}, {"search": found.content["record"]}]
    told = [[trial["value"] for trial in run["search"]["trials"]] for run in results["searched"]["runs"]]
    assert told == [[trial["value"] for trial in trials]] * 2
    assert any("search: best of 5 trials: accuracy" in note for note in results["searched"]["notes"])
    assert list((tmp_path / "unfinished").iterdir()) == []


def rows() -> Any:
    """Train and tune rows that a tiny model learns; the eval split is there because a case must have one."""
    import datasets

    whole = datasets.Dataset.from_list([dict(row) for row in TEXTS])
    return datasets.DatasetDict(train=whole, validation=whole, test=whole)


@pytest.mark.e2e
def test_a_trial_is_trained_as_the_case_will_be_and_may_be_given_up(tmp_path: Path) -> None:
    given = Search.read(
        {"space": {"learning_rate": {"log": [1e-6, 3e-2]}}, "trials": 8, "metric": "loss", "pruner": "median"}
    )
    made = jobs.job(
        "text-classification",
        tiny.bert(tmp_path / "bert"),
        training={"learning_rate": 1e-3, "num_train_epochs": 3, "eval_strategy": "epoch"},
        data=Data(kind="callable", path="rows", factory=rows, splits={"tune": "validation", "eval": "test"}),
        techniques={"search": given},
        seed=0,
    )
    found = Search(given).search(made, tmp_path, lambda progress: None)
    trials = found.record["trials"]
    assert {trial["state"] for trial in trials} == {"complete", "pruned"}
    training = {**(made.case.training or {}), **found.training}
    with FineTuning(replace(made, case=replace(made.case, techniques={}, training=training))) as tuning:
        tuning.train()
        assert tuning.score()["loss"] == min(trial["value"] for trial in trials if trial["state"] == "complete")


# What a search does, with scores in the place of trainings


def test_trials_keep_the_types_of_their_fields(searched: Searched) -> None:
    trials = searched.trials()
    for trial in trials:
        kinds = {name: type(value) for name, value in trial["training"].items()}
        assert kinds == {
            "learning_rate": float,
            "per_device_train_batch_size": int,
            "max_steps": int,
            "warmup_steps": float,
        }
    assert {trial["training"]["max_steps"] for trial in trials} <= {10, 20, 30, 40, 50}


def test_the_first_trial_is_what_the_case_says(searched: Searched) -> None:
    first = searched.trials(training={"learning_rate": 3e-5, "weight_decay": 0.1})[0]
    assert first["training"]["learning_rate"] == 3e-5
    assert "weight_decay" not in first["training"]


@pytest.mark.parametrize(
    ("options", "best"),
    [
        pytest.param({}, max, id="metric"),
        pytest.param({"direction": "minimize"}, min, id="minimize"),
        pytest.param({"metric": "loss"}, min, id="loss"),
        pytest.param({"metric": "loss", "direction": "maximize"}, max, id="maximize-loss"),
    ],
)
def test_the_better_trial_wins(searched: Searched, options: Mapping[str, Any], best: Callable[..., Any]) -> None:
    found = searched.found(**options)
    trials = found.record["trials"]
    winner = best(trials, key=lambda trial: trial["value"])
    assert (found.record["best"], found.training) == (winner["number"], winner["training"])


def test_equal_trials_are_the_first(searched: Searched) -> None:
    searched.score = lambda *_: 0.5
    assert searched.found().record["best"] == 1


def test_a_trial_that_cannot_be_trained_is_one_of_them(searched: Searched) -> None:
    def score(trials: Any, training: Mapping[str, Any], done: int, tell: Any) -> float:
        if done % 2 == 0:
            raise TrainingError("the loss is nan at step 3")
        return float(training["learning_rate"])

    searched.score = score
    found = searched.found()
    states = [trial["state"] for trial in found.record["trials"]]
    assert states == ["failed", "complete"] * 4
    assert found.record["trials"][0]["error"] == "the loss is nan at step 3"
    assert "the first failed; 4 failed" in found.notes[0]


def test_a_search_without_a_trained_trial_says_why(searched: Searched) -> None:
    def score(*_: Any) -> float:
        raise TrainingError("out of memory on cpu")

    searched.score = score
    with pytest.raises(TechniqueError, match=r"none of 8 trials .* the last: out of memory on cpu"):
        searched.found()


def test_trials_that_lag_behind_are_given_up(searched: Searched) -> None:
    def score(trials: Any, training: Mapping[str, Any], done: int, tell: Callable[[float, int], None]) -> float:
        for step in range(1, 6):
            tell(1.0 if done < 5 else 0.1, step)
        return 1.0 if done < 5 else 0.1

    searched.score = score
    states = [trial["state"] for trial in searched.trials(pruner="median")]
    assert states == ["complete"] * 5 + ["pruned"] * 3


KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from ftcheck.finetune.techniques.search import _Trials
from tests.techniques.searches import Searched

def score(trials, training, done, tell):
    if done == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    return training["learning_rate"]

_Trials.score = score
Searched(Path({folder!r})).found_here()
"""


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_search_that_was_killed_goes_on_as_if_nothing_had_been(searched: Searched, after: int) -> None:
    whole = Searched(searched.folder / "whole")
    whole.patch, whole.score = searched.patch, searched.score
    expected = whole.trials()
    script = KILLED.format(path=sys.path, after=after, folder=str(searched.folder))
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    journal = searched.folder / search.JOURNAL
    with journal.open("ab") as file:  # what was being written when it ended
        file.write(b'{"op_code":')
    made: list[int] = []

    def score(trials: Any, training: Mapping[str, Any], done: int, tell: Any) -> float:
        made.append(done)
        return float(training["learning_rate"])

    searched.score = score
    found = searched.trials()
    assert made == list(range(after, 8))
    assert [(trial["training"], trial["value"]) for trial in found] == [
        (trial["training"], trial["value"]) for trial in expected
    ]


def test_what_ends_a_search_is_no_trial(searched: Searched) -> None:
    """Ctrl-C or `-x` breaks it off; the trial is made again."""

    def score(trials: Any, training: Mapping[str, Any], done: int, tell: Any) -> float:
        if done == 3:
            raise KeyboardInterrupt
        return 0.5

    searched.score = score
    with pytest.raises(KeyboardInterrupt):
        searched.found()
    searched.score = lambda *_: 0.5
    assert [trial["state"] for trial in searched.trials()] == ["complete"] * 8


# The key


def searching(root: Path, **options: Any) -> Any:
    given = Search.read({"space": SPACE, **options})
    made = case(root, techniques={"search": given})
    return replace(made, data=replace(made.data, splits={"tune": "validation"}))


@pytest.mark.parametrize(
    "options",
    [
        {"trials": 21},
        {"seed": 1},
        {"metric": "loss"},
        {"pruner": "median"},
        {"direction": "minimize"},
        {"space": {**SPACE, "learning_rate": {"log": [1e-5, 2e-2]}}},
        {"backend": "ray"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_the_key_has_the_definition_of_the_search(tmp_path: Path, options: Mapping[str, Any]) -> None:
    assert keys(searching(tmp_path), tmp_path)[0] != keys(searching(tmp_path, **options), tmp_path)[0]


def test_what_a_search_takes_by_default_may_be_said(tmp_path: Path) -> None:
    said = searching(tmp_path, metric="accuracy", direction="maximize", trials=20)
    assert keys(searching(tmp_path), tmp_path)[0] == keys(said, tmp_path)[0]


def test_the_runs_of_a_case_share_one_search_and_another_case_has_another(tmp_path: Path) -> None:
    made = searching(tmp_path)
    found = search_key(keys(made, tmp_path, seed=0)[0])
    assert found == search_key(keys(replace(made, id="other", gates=(), seeds=(7, 8)), tmp_path, seed=0)[0])
    assert found != search_key(keys(replace(made, training={"weight_decay": 0.1}), tmp_path, seed=0)[0])
    assert found.components["versions"]["optuna"] != "not installed"


# What can't be

HEAD = """
defaults: {checkpoint: org/model, task: text-classification, data: {path: org/data, splits: {tune: validation}}}
cases:
"""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            "data: org/other, search: {space: {learning_rate: {log: [1e-5, 1e-3]}}}",
            "search: scores its trials on rows that are not judged: give data.splits.tune or data.holdout.tune (naming "
            "the judged split there says that you mean it)",
            id="no-tune-rows",
        ),
        pytest.param(
            "search: {space: {learning_rat: {log: [1e-5, 1e-3]}}}",
            "search.space.learning_rat: no such TrainingArguments field; did you mean learning_rate?",
            id="no-field",
        ),
        pytest.param(
            "search: {space: {seed: {choice: [1, 2]}}}",
            "search.space.seed: the case's `seeds` says this",
            id="owned-field",
        ),
        pytest.param(
            "search: {space: {report_to: {choice: [none, all]}}}",
            "search.space.report_to: no trained model depends on it",
            id="no-effect",
        ),
        pytest.param(
            "search: {space: {per_device_train_batch_size: {uniform: [8, 16.5]}}}",
            "search.space.per_device_train_batch_size: expected a whole number, got 16.5",
            id="not-whole",
        ),
        pytest.param(
            "search: {space: {learning_rate: {log: [0, 1e-3]}}}",
            "search.space.learning_rate: expected a number above 0, got 0",
            id="zero-rate",
        ),
        pytest.param(
            "search: {space: {weight_decay: {log: [0, 1e-3]}}}",
            "search.space.weight_decay: log needs bounds above 0, got 0",
            id="log-of-zero",
        ),
        pytest.param(
            "search: {space: {learning_rate: {log: [1e-3, 1e-5]}}}",
            "search.space.learning_rate: the lower bound 0.001 is not below the upper one, 1e-05",
            id="upside-down",
        ),
        pytest.param(
            "search: {space: {learning_rate: {log: [1e-5, 1e-3], choice: [1e-4, 1e-3]}}}",
            "search.space.learning_rate: expected one of log: [low, high], uniform: [low, high], choice: [...]",
            id="two-kinds",
        ),
        pytest.param(
            "search: {space: {learning_rate: {loguniform: [1e-5, 1e-3]}}}",
            "search.space.learning_rate.loguniform: no such key; did you mean uniform?",
            id="unknown-kind",
        ),
        pytest.param(
            "search: {space: {lr_scheduler_type: {choice: [linear, square]}}}",
            "search.space.lr_scheduler_type: expected one of",
            id="no-choice",
        ),
        pytest.param(
            "training: {learning_rate: 0.1}, search: {space: {learning_rate: {log: [1e-5, 1e-3]}}}",
            "search.space.learning_rate: training.learning_rate is 0.1, which the first trial takes, but not among "
            "these values: widen them, or leave it out there",
            id="outside",
        ),
        pytest.param(
            "search: {space: {learning_rate: {log: [1e-5, 1e-3]}}, concurrent: 2}",
            "search: concurrent goes with backend: ray; else trials run one after another",
            id="concurrent",
        ),
        pytest.param(
            "search: {space: {learning_rate: {log: [1e-5, 1e-3]}}, metric: acuracy}",
            "search.metric: expected loss or a metric of the case, got 'acuracy'; did you mean accuracy?",
            id="no-metric",
        ),
        pytest.param(
            "search: {space: {learning_rate: {log: [1e-5, 1e-3]}}, pruner: median}",
            "search.pruner: needs training.eval_strategy (steps or epoch): it looks at each evaluation",
            id="nothing-to-prune-by",
        ),
        pytest.param(
            "training: false, search: {space: {learning_rate: {log: [1e-5, 1e-3]}}}",
            "search: with `training: false` nothing is trained; leave it out",
            id="nothing-to-train",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_where_it_stands(fields: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteErrors) as raised:
        expand(suitefile.parse(f"{HEAD}  c: {{{fields}}}\n".encode(), tmp_path / "a.ft.yaml"), catalogue.installed())
    (error, *_) = raised.value.errors
    assert f"{error.location.key}: {error.message}".startswith(f"cases.c.{message}")
