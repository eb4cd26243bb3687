"""Trainings with techniques on rows in memory, and suites of them: what the tests of this room share."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ftcheck import catalogue
from ftcheck.errors import SuiteErrors
from ftcheck.finetune import Job, techniques
from ftcheck.finetune.session import FineTuning
from ftcheck.spec import Case, expand
from ftcheck.suitefile import parse
from tests import warm
from tests.finetune.jobs import TEXTS, Row, job, loaded

ROOT = Path(__file__).parents[2]
ENCODER = ROOT / "fixtures" / "encoder"
SUITES = ROOT / "suites" / "techniques"


def a_job(named: Mapping[str, Any], *, task: str = "text-classification", path: Path = ENCODER, **fields: Any) -> Job:
    """A job with these techniques, as a suite writes them; `training` has one epoch unless it says otherwise."""
    training = {"num_train_epochs": 1, "learning_rate": 1e-3, **fields.pop("training", {})}
    read = {name: techniques.get(name).read(value) for name, value in named.items()}
    return job(task, path, techniques=read, training=training, **fields)


def tuning(named: Mapping[str, Any], rows: Sequence[Row] | None = None, **fields: Any) -> FineTuning:
    """A fine-tuning, not begun yet, of a job with these techniques on these rows, judged on the same."""
    rows = TEXTS if rows is None else rows
    return FineTuning(a_job(named, **fields), loaded=loaded(train=rows, eval=rows))


def untrained(**fields: Any) -> dict[str, Any]:
    """The weights that a training begins with."""
    with tuning({}, **fields) as made, made._stage():
        made._start(made._rows())
        return weights(made.model)


def weights(model: Any) -> dict[str, Any]:
    """Copies of a model's parameters, by name."""
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Names of the weights that aren't bit-identical."""
    return {name for name, value in before.items() if not value.equal(after[name])}


def text_of(fields: str) -> str:
    """A suite whose only case `c` has these fields (flow style) besides an encoder, a task and data."""
    return (
        f"defaults: {{checkpoint: {ENCODER}, task: text-classification, data: org/data}}\ncases:\n  c: {{{fields}}}\n"
    )


def case_of(fields: str) -> Case:
    """The case that a suite with these fields declares."""
    (case,) = expand(parse(text_of(fields).encode(), Path("/suites/a.ft.yaml")), catalogue.installed())
    return case


def mistakes(fields: str) -> list[str]:
    """What is wrong with them: `KEY: message`, the key as seen from the file's cases."""
    with pytest.raises(SuiteErrors) as caught:
        case_of(fields)
    return [f"{error.location.key.removeprefix('cases.')}: {error.message}" for error in caught.value.errors]


def results_of(suites: Sequence[str], folder: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    """Suite -> case id -> result of shipped suites, run by one pytest in a process of its own."""
    out = folder / "out.json"
    paths = [str(path) for suite in suites for path in sorted(SUITES.glob(f"{suite}.*"))]
    options = ["--ft-device=cpu", "-q", "-p", "no:cacheprovider", f"--ft-cache-dir={folder / 'store'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CI": "true"}
    done = warm.run([*paths, *options, f"--ft-json={out}", *arguments], ROOT, environment)
    assert done.returncode in (0, 1), done.stdout
    found: dict[str, dict[str, Any]] = {suite: {} for suite in suites}
    for result in json.loads(out.read_text("utf-8"))["results"]:
        found[Path(result["suite"]).name.partition(".")[0]][result["case_id"]] = result
    return found


def cost(result: Mapping[str, Any], name: str) -> float:
    """A cost of a result's first run."""
    return float(result["runs"][0]["costs"][name])


def value(result: Mapping[str, Any], metric: str) -> float:
    """A metric's mean over seeds."""
    return next(float(found["value"]) for found in result["metrics"] if found["name"] == metric)
