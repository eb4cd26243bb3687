"""A learning-rate range test: it reads the curve rightly, says so, and changes nothing of the training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ftcheck import catalogue, suitefile
from ftcheck.errors import SuiteErrors
from ftcheck.finetune import Job, Trained
from ftcheck.finetune.session import FineTuning
from ftcheck.finetune.techniques import Options, Technique, lr_finder
from ftcheck.finetune.techniques.lr_finder import LrFinder, diverged, read, smooth
from ftcheck.spec import expand
from tests import tiny
from tests.finetune import jobs
from tests.finetune.jobs import TEXTS, loaded
from tests.keys.inputs import case, keys

GIVEN = LrFinder.read({"from": 1e-6, "to": 1.0, "steps": 60})


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With dropout, whose random numbers would tell."""
    return tiny.bert(tmp_path_factory.mktemp("bert"))


def trained(job: Job) -> tuple[Trained, dict[str, Any]]:
    """What a training leaves, and its weights."""
    with FineTuning(job, loaded=loaded(train=TEXTS, tune=TEXTS, eval=TEXTS)) as tuning:
        found = tuning.train()
        return found, {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}


def job(bert: Path, task: str = "text-classification", **training: Any) -> Job:
    given = {"num_train_epochs": 2, "learning_rate": 1e-3, **training}
    return jobs.job(task, bert, training=given)


def with_finder(made: Job) -> Job:
    return replace(made, case=replace(made.case, techniques={"lr_finder": GIVEN}))


@pytest.mark.e2e
@pytest.mark.parametrize(
    "training",
    [
        pytest.param({}, id="plain"),
        pytest.param(
            {"gradient_accumulation_steps": 2, "lr_scheduler_type": "cosine", "warmup_steps": 2}, id="schedule"
        ),
        pytest.param(
            {
                "eval_strategy": "epoch",
                "save_strategy": "epoch",
                "load_best_model_at_end": True,
                "metric_for_best_model": "loss",
            },
            id="best",
        ),
    ],
)
def test_the_training_is_the_same_with_and_without(bert: Path, training: Mapping[str, Any]) -> None:
    made = job(bert, **training)
    (plain, before), (tested, after) = trained(made), trained(with_finder(made))
    assert all(bool((before[name] == after[name]).all()) for name in before)
    assert plain.first_losses == tested.first_losses
    assert "lr_finder" in tested.records
    assert plain.records == {}


@pytest.mark.e2e
def test_a_language_models_masks_are_the_same_with_and_without(tmp_path: Path) -> None:
    """The collator draws them."""
    path = tiny.bert(tmp_path / "bert", head="BertForMaskedLM")
    made = job(path, "fill-mask")
    rows = [{"text": row["text"]} for row in TEXTS]
    weights = []
    for each in (made, with_finder(made)):
        with FineTuning(each, loaded=loaded(train=rows, eval=rows)) as tuning:
            tuning.train()
            weights.append({name: tensor.clone() for name, tensor in tuning.model.state_dict().items()})
    assert all(bool((weights[0][name] == weights[1][name]).all()) for name in weights[0])


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("rate", "told"),
    [
        pytest.param(1e-8, "below", id="too-small"),
        pytest.param(5.0, "above", id="too-large"),
        pytest.param(None, "", id="sensible"),
    ],
)
def test_a_learning_rate_outside_the_sensible_range_is_warned_of(bert: Path, rate: float | None, told: str) -> None:
    found, _ = trained(with_finder(job(bert, learning_rate=1e-3)))
    record = found.records["lr_finder"]
    notes = found.notes
    assert 1e-5 < record["steepest"] <= record["lowest"] < 1
    if rate is None:
        rate = record["lowest"] / 10
    if rate != 5.0:  # a training with such a rate ends with an error of its own
        notes = trained(with_finder(job(bert, learning_rate=rate)))[0].notes
    else:
        reading = lr_finder.Reading(steepest=record["steepest"], lowest=record["lowest"])
        notes = tuple(f"lr_finder: {note}" for note in lr_finder._notes(reading, rate, 60))
    warnings = [note for note in notes if note.startswith("lr_finder: warning")]
    assert [told in note for note in warnings] == ([True] if told else [])


@pytest.mark.e2e
def test_the_curve_rises_as_said_and_ends_where_the_loss_diverges(bert: Path) -> None:
    record = trained(with_finder(job(bert)))[0].records["lr_finder"]
    rates = record["learning_rate"]
    assert len(rates) == len(record["loss"]) == len(record["smoothed"]) <= 60
    assert rates[0] == pytest.approx(1e-6)
    ratio = (1.0 / 1e-6) ** (1 / 59)
    assert [after / before for before, after in pairwise(rates)] == pytest.approx([ratio] * (len(rates) - 1))


# Reading a curve

RATES = [10 ** (-6 + 0.1 * step) for step in range(60)]


def valley(rate: float) -> float:
    """Falls fastest at 1e-4, is lowest at 1e-3, and rises steeply."""
    x = math.log10(rate)
    return 2 - 1 / (1 + math.exp(-8 * (x + 4))) + max(0.0, x + 3) ** 2 * 3


def test_a_known_curve_is_read_rightly() -> None:
    reading = read(RATES, [valley(rate) for rate in RATES])
    assert reading is not None
    assert reading.steepest == pytest.approx(1e-4, rel=0.01)
    assert reading.lowest == pytest.approx(1e-3, rel=0.3)
    assert reading.sensible == (reading.lowest / 100, reading.lowest)


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param([1.0] * 60, id="flat"),
        pytest.param([1 + step / 60 for step in range(60)], id="rising"),
        pytest.param([1 / (1 + step) for step in range(9)], id="too-short"),
        pytest.param([], id="empty"),
    ],
)
def test_a_curve_that_says_nothing_is_not_read(losses: list[float]) -> None:
    assert read(RATES[: len(losses)], losses) is None
    assert "no learning rate can be read" in next(lr_finder._notes(None, 1e-3, len(losses)))


def test_smoothing_keeps_a_constant() -> None:
    assert smooth([2.0] * 30) == pytest.approx([2.0] * 30)


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        pytest.param([1.0] * 20, False, id="flat"),
        pytest.param([1.0] * 12 + [100.0], True, id="jump"),
        pytest.param([1.0, 100.0], False, id="too-early"),
        pytest.param([1.0, math.nan], True, id="nan"),
    ],
)
def test_it_ends_where_the_loss_diverges(losses: list[float], ends: bool) -> None:
    assert diverged(losses) is ends


# The key, and what can't be


def test_the_curve_is_part_of_the_result(tmp_path: Path) -> None:
    plain = case(tmp_path)
    tested, others = (replace(plain, techniques={"lr_finder": LrFinder.read(given)}) for given in ({}, {"steps": 200}))
    digests = {keys(made, tmp_path)[0].digest for made in (plain, tested, others)}
    assert len(digests) == 3
    spelled_out = {"from": 1e-7, "to": 1.0, "steps": 100}
    assert LrFinder.read(spelled_out) == LrFinder.read({}) == spelled_out


class OwnWay(Technique):
    """Trains by itself."""

    name = "own_way"
    description = "A loop."
    options = Options

    def train(self, *args: Any, **kwargs: Any) -> None:
        return None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            "lr_finder: {from: 1, to: 1e-7}", "lr_finder.to: expected more than `from`, 1, got 1e-07", id="falling"
        ),
        pytest.param("lr_finder: {steps: 5}", "lr_finder.steps: expected a number of at least 20, got 5", id="short"),
        pytest.param("lr_finder: {form: 1e-7}", "lr_finder.form: no such key; did you mean from?", id="unknown"),
        pytest.param(
            "lr_finder: {}, data: {path: org/data, streaming: true}, training: {max_steps: 10}",
            "lr_finder: needs all training rows at once; leave out data.streaming",
            id="stream",
        ),
        pytest.param(
            "lr_finder: {}, own_way: {}",
            "lr_finder: can't be combined with own_way, which trains in a way of its own",
            id="own-way",
        ),
        pytest.param(
            "lr_finder: {}, training: false",
            "lr_finder: with `training: false` nothing is trained; leave it out",
            id="nothing-to-train",
        ),
    ],
)
def test_what_cannot_be_tested_is_refused(
    fields: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftcheck.finetune import techniques

    monkeypatch.setitem(techniques.BUILT_IN, "own_way", f"{__name__}:OwnWay")
    head = "defaults: {checkpoint: org/model, task: text-classification, data: org/data}\ncases:\n"
    with pytest.raises(SuiteErrors) as raised:
        expand(suitefile.parse(f"{head}  c: {{{fields}}}\n".encode(), tmp_path / "a.ft.yaml"), catalogue.installed())
    (error, *_) = raised.value.errors
    assert f"{error.location.key}: {error.message}" == f"cases.c.{message}"
