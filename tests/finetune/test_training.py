"""Training: determinism, best checkpoints, what stops it, what it costs, and what it leaves behind."""

from __future__ import annotations

import contextlib
import gc
import math
import random
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ftcheck
from ftcheck.errors import DataError, TrainingError
from ftcheck.finetune import Progress
from ftcheck.finetune.session import FineTuning
from ftcheck.spec import EarlyStopping
from tests import tiny
from tests.finetune.jobs import QUESTIONS, ROWS, SENTENCES, TEXTS, UNANSWERABLE, job, loaded

LEARNS: dict[str, Any] = {"num_train_epochs": 15, "learning_rate": 3e-3, "per_device_train_batch_size": 4}
TEXT = "text-classification"


def train(made: Any, **roles: Any) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """(Trained, Predicted, weights) on the given rows; they are judged too unless `eval` says otherwise."""
    roles.setdefault("eval", roles["train"])
    with FineTuning(made, loaded=loaded(**roles)) as tuning:
        trained = tuning.train()
        predicted = tuning.predict()
        return trained, predicted, {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", ROWS)
def test_two_trainings_of_one_job_are_the_same_to_the_last_bit(task: str, precision: str, bert: Path) -> None:
    made = job(task, bert, training={"max_steps": 4, "learning_rate": 1e-3}, precision=precision)
    random.random(), np.random.random(), torch.rand(3)  # whatever came before must not matter
    one = train(made, train=ROWS[task])
    torch.rand(7)
    other = train(made, train=ROWS[task])
    assert all(torch.equal(one[2][name], other[2][name]) for name in one[2])
    assert one[1].records == other[1].records


def test_another_seed_makes_another_head_and_another_model(bert: Path) -> None:
    one, other = (train(job(TEXT, bert, training={"max_steps": 1}, seed=seed), train=TEXTS)[2] for seed in (1, 2))
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


def test_random_streams_go_on_as_if_nothing_had_been_trained(bert: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(1))

    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = draw(), draw()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    first = draw()
    train(job(TEXT, bert, training={"max_steps": 1}), train=TEXTS)
    assert (first, draw()) == expected


@pytest.mark.parametrize("task", ROWS)
def test_every_task_learns_its_training_rows(task: str, bert: Path) -> None:
    rows = ROWS[task]
    made = job(task, bert, training=LEARNS)
    trained, predicted, _ = train(made, train=rows, tune=rows)
    assert trained.log_history[-1]["train_loss"] < 1.5
    with FineTuning(made, loaded=loaded(train=rows, eval=rows, tune=rows)) as tuning:
        tuning.meta = trained.meta
        inputs = tuning.task.score_inputs(predicted.records, trained.meta, made.case.task_options)
    said, gold = next(iter(inputs.values()))
    right = [
        one == (other[0] if task == "question-answering" else other) for one, other in zip(said, gold, strict=True)
    ]
    assert sum(right) / len(right) > 0.9


def test_the_null_threshold_is_tuned_on_the_tune_split(bert: Path) -> None:
    rows = [*QUESTIONS, *UNANSWERABLE]
    made = job("question-answering", bert, training=LEARNS)
    trained, predicted, _ = train(made, train=rows, tune=rows)
    assert set(trained.tuned) == {"null_threshold"}
    assert any(note.startswith("tuned on 16 tune rows: null_threshold") for note in trained.notes)
    assert predicted.tuned == trained.tuned
    untuned = train(made, train=rows)[0]
    assert untuned.tuned == {}


def test_a_loss_that_is_not_finite_stops_at_its_step(still_bert: Path) -> None:
    made = job(
        TEXT, still_bert, training={"max_steps": 50, "learning_rate": 1e38, "max_grad_norm": 0.0, "optim": "sgd"}
    )
    steps: list[int] = []
    with (
        FineTuning(
            made, lambda progress: steps.append(progress.done), loaded=loaded(train=TEXTS, eval=TEXTS)
        ) as tuning,
        pytest.raises(
            TrainingError, match=r"the loss is (nan|inf) at step [23] of 50 .*nothing of this training is kept"
        ),
    ):
        tuning.train()
    assert max(steps) <= 2


def test_weights_broken_by_the_last_step_are_refused(still_bert: Path) -> None:
    """The last loss was finite: nothing but the weights shows it."""
    made = job(
        TEXT, still_bert, training={"max_steps": 1, "learning_rate": math.inf, "max_grad_norm": 0.0, "optim": "sgd"}
    )
    with (
        FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning,
        pytest.raises(TrainingError, match="weights that are no numbers"),
    ):
        tuning.train()


@pytest.mark.parametrize(
    ("training", "message"),
    [
        pytest.param({"no_such_argument": 1}, "no_such_argument", id="unknown-argument"),
        pytest.param({"optim": "no_such_optimizer"}, "no_such_optimizer", id="unknown-optimizer"),
        pytest.param({"optim": "lomo"}, "lomo", id="optimizer-that-is-not-installed"),
        pytest.param({"learning_rate": "fast"}, "", id="text-for-a-number"),
        pytest.param({"eval_strategy": "epoch"}, "eval_dataset", id="evaluation-without-tune-rows"),
        pytest.param({"lr_scheduler_type": "no_such_schedule"}, "no_such_schedule", id="unknown-schedule"),
    ],
)
def test_what_the_trainer_refuses_is_one_error(training: dict[str, Any], message: str, bert: Path) -> None:
    with pytest.raises(TrainingError) as raised:
        train(job(TEXT, bert, training={"max_steps": 1, **training}), train=TEXTS)
    assert str(raised.value).startswith("the Trainer refuses this training: ")
    assert message in str(raised.value)


@pytest.mark.parametrize("steps", [pytest.param({}, id="epochs"), pytest.param({"max_steps": 3}, id="steps")])
def test_a_training_of_no_batch_is_refused(steps: dict[str, Any], bert: Path) -> None:
    training = {"dataloader_drop_last": True, "per_device_train_batch_size": 1000, **steps}
    with pytest.raises(TrainingError, match="drops all 24 training rows: a batch is 1,000"):
        train(job(TEXT, bert, training=training), train=TEXTS)


def test_another_runtime_error_is_not_passed_off_as_memory(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcheck.tasks.text_classification import TextClassification

    def fails(*args: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(TextClassification, "loss", fails)
    with pytest.raises(RuntimeError, match="a bug"):
        train(job(TEXT, bert, training={"max_steps": 1}), train=TEXTS)


LOOKS: dict[str, Any] = {
    "max_steps": 12,
    "learning_rate": 3e-3,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "metric_for_best_model": "accuracy",
}


def evaluations(trained: Any, name: str = "eval_accuracy") -> list[float]:
    return [entry[name] for entry in trained.log_history if name in entry]


def test_metrics_of_the_case_are_logged_for_the_tune_split(bert: Path) -> None:
    trained, predicted, _ = train(job(TEXT, bert, training=LOOKS), train=TEXTS, tune=TEXTS)
    last = [entry for entry in trained.log_history if "eval_loss" in entry][-1]
    right = [record["prediction"] == record["reference"] for record in predicted.records]
    assert last["eval_accuracy"] == sum(right) / len(right)
    gold = [-math.log(record["scores"][record["reference"]]) for record in predicted.records]
    assert last["eval_loss"] == pytest.approx(sum(gold) / len(gold), rel=1e-4)
    assert len(evaluations(trained)) == 6


def test_the_best_checkpoint_is_kept_where_it_is_asked_for(bert: Path) -> None:
    """Learning rates that destroy what was learned: the last weights are not the best."""
    training = {**LOOKS, "learning_rate": 5e-2, "max_steps": 10, "save_strategy": "steps", "save_steps": 2}
    best = {**training, "load_best_model_at_end": True, "metric_for_best_model": "loss"}
    last = {**training, "metric_for_best_model": "loss"}
    losses = {}
    for name, chosen in (("best", best), ("last", last)):
        trained, predicted, _ = train(job(TEXT, bert, training=chosen), train=TEXTS, tune=TEXTS)
        told = evaluations(trained, "eval_loss")
        losses[name] = [-math.log(max(r["scores"][r["reference"]], 1e-300)) for r in predicted.records]
        wanted = min(told) if name == "best" else told[-1]
        assert sum(losses[name]) / len(losses[name]) == pytest.approx(wanted, rel=1e-3)
    assert sum(losses["best"]) < sum(losses["last"])


@pytest.mark.parametrize("stopping", [None, EarlyStopping(patience=2)], ids=["to-the-end", "stopped"])
def test_what_is_kept_is_chosen_by_the_tune_split_and_not_by_the_judged_one(
    bert: Path, stopping: EarlyStopping | None
) -> None:
    """Tune rows whose labels are all wrong: the better a model gets on the judged rows, the worse it gets on these, so
    what is kept has learned next to nothing."""
    other = {"moves": "rests", "rests": "moves"}
    wrong = [{**row, "label": other[row["label"]]} for row in TEXTS]
    training = {**LOOKS, "max_steps": 40, "metric_for_best_model": "loss"}
    best = {"save_strategy": "steps", "save_steps": 2, "load_best_model_at_end": True}
    made = job(TEXT, bert, training={**training, **best}, early_stopping=stopping)
    trained, predicted, _ = train(made, train=TEXTS, tune=wrong, eval=TEXTS)
    told = evaluations(trained, "eval_loss")
    kept = [-math.log(record["scores"][1 - record["reference"]]) for record in predicted.records]
    assert sum(kept) / len(kept) == pytest.approx(min(told), rel=1e-3)
    steps = trained.log_history[-1]["step"]
    assert steps == (40 if stopping is None else 2 * (told.index(min(told)) + 1 + stopping.patience))
    if stopping is None:
        assert max(told) > 2 * min(told), "the judged rows were learned meanwhile"


def test_early_stopping_stops_after_its_patience(bert: Path) -> None:
    training = {**LOOKS, "learning_rate": 1e-12, "max_steps": 40}
    made = job(TEXT, bert, training=training, early_stopping=EarlyStopping(patience=3))
    trained, _, _ = train(made, train=TEXTS, tune=TEXTS)
    assert len(evaluations(trained)) == 4  # the first is the best, then three no better
    assert trained.log_history[-1]["step"] == 8


def test_a_metric_where_less_is_better_is_known_to_be_so(bert: Path) -> None:
    from ftcheck import tasks
    from ftcheck.finetune.arguments import training_arguments

    for metric, greater in (("loss", False), ("eval_loss", False), ("accuracy", True), ("eval_macro_f1", True)):
        made = job(TEXT, bert, training={"metric_for_best_model": metric})
        assert training_arguments(made, tasks.get(TEXT), "unused").greater_is_better is greater


def test_progress_tells_where_it_stands(bert: Path) -> None:
    told: list[Progress] = []
    made = job(TEXT, bert, training={"max_steps": 3, "eval_strategy": "steps", "eval_steps": 3})
    with FineTuning(made, told.append, loaded=loaded(train=TEXTS, tune=TEXTS, eval=TEXTS)) as tuning:
        tuning.train()
        tuning.predict()
    steps = [progress for progress in told if progress.stage == "train"]
    assert [(progress.done, progress.total) for progress in steps] == [(1, 3), (2, 3), (3, 3)]
    assert all(p.loss is not None and 0 < p.loss < 5 and p.learning_rate is not None for p in steps)
    assert {progress.stage for progress in told} == {"load", "train", "evaluate", "predict"}
    assert (told[-1].done, told[-1].total) == (24, 24)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_whoever_is_told_may_stop_the_training(kind: type[BaseException], bert: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "train" and progress.done == 2:
            raise kind

    with (
        pytest.raises(kind),
        FineTuning(job(TEXT, bert, training={"max_steps": 5}), stop, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning,
    ):
        tuning.train()


def test_the_models_memory_is_given_back_even_after_an_error(bert: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == 2:
            raise ZeroDivisionError

    def trainers() -> int:
        gc.collect()
        return sum(type(thing).__name__ == "OurTrainer" for thing in gc.get_objects())

    before = trainers()
    tuning = FineTuning(job(TEXT, bert, training={"max_steps": 5}), stop, loaded=loaded(train=TEXTS, eval=TEXTS))
    with contextlib.suppress(ZeroDivisionError), tuning:
        tuning.train()
    assert tuning.model is None
    assert trainers() == before


def test_the_model_goes_with_its_session(bert: Path) -> None:
    with FineTuning(job(TEXT, bert, training={"max_steps": 1}), loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning:
        tuning.train()
        model = weakref.ref(tuning.model)
    assert model() is None


def test_nothing_is_printed_and_loggers_are_left_as_they_were(bert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    logging.set_verbosity_info()
    try:
        train(job(TEXT, bert, training={"max_steps": 2, "logging_steps": 1}), train=TEXTS)
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity_warning()
    assert capfd.readouterr() == ("", "")


def test_warnings_of_libraries_are_kept_and_fail_nothing(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite runs under `filterwarnings = error`."""
    import warnings

    from ftcheck.tasks.text_classification import TextClassification

    loss = TextClassification.loss

    def warns(*args: Any) -> Any:
        warnings.warn("something is odd", stacklevel=1)
        return loss(*args)

    monkeypatch.setattr(TextClassification, "loss", warns)
    trained = train(job(TEXT, bert, training={"max_steps": 3}), train=TEXTS)[0]
    assert trained.warnings == ("UserWarning: something is odd",)


def test_costs_are_told(bert: Path) -> None:
    trained, predicted, weights = train(job(TEXT, bert, training={"max_steps": 3}), train=TEXTS)
    assert set(trained.costs) == {
        "train_seconds",
        "train_samples_per_second",
        "peak_memory_bytes",
        "parameters",
        "trainable_parameters",
        "model_bytes",
    }
    assert trained.costs["parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert trained.costs["model_bytes"] == 4 * trained.costs["parameters"]
    assert trained.costs["peak_memory_bytes"] > 50e6
    assert all(value > 0 for value in (*trained.costs.values(), *predicted.costs.values()))
    assert set(predicted.costs) == {"eval_seconds", "eval_samples_per_second"}
    assert {"torch", "transformers", "threads", "device"} <= set(trained.environment)
    assert set(trained.rows) == {"train"}
    assert set(predicted.rows) == {"eval"}


@pytest.mark.parametrize("task", ROWS)
def test_what_crosses_the_store_is_json(task: str, bert: Path) -> None:
    """Or, in records, many floats in an array."""
    import json
    from array import array
    from dataclasses import asdict

    trained, predicted, _ = train(
        job(task, bert, training={"max_steps": 2, "eval_strategy": "epoch"}), train=ROWS[task], tune=ROWS[task]
    )
    for value in (trained, predicted):
        assert json.loads(json.dumps(asdict(value), allow_nan=False, default=array.tolist))


def test_rows_are_checked_before_anything_is_trained(bert: Path) -> None:
    told: list[str] = []
    rows = loaded(train=TEXTS, eval=[*TEXTS, {"text": "the cat", "label": "mvoes"}])
    with (
        FineTuning(job(TEXT, bert), lambda progress: told.append(progress.stage), loaded=rows) as tuning,
        pytest.raises(DataError, match=r'eval.csv:24: column label: label "mvoes" is not among the 2 classes.*moves'),
    ):
        tuning.train()
    assert "train" not in told


def test_a_smoke_run_knows_the_classes_of_all_its_rows(bert: Path) -> None:
    """A handful of training rows hasn't all classes."""
    rows = loaded(train=TEXTS[:2], eval=TEXTS[2:4])
    with FineTuning(job(TEXT, bert, training={"max_steps": 1}, limit=2), loaded=rows) as tuning:
        assert tuning.train().meta["labels"] == ["moves", "rests"]


def test_a_smoke_run_says_which_columns_do_not_go_together(bert: Path) -> None:
    rows = loaded(train=TEXTS[:2], eval=[{"text": "a", "label": 3}])
    with (
        FineTuning(job(TEXT, bert, limit=2), loaded=rows) as tuning,
        pytest.raises(DataError, match="the columns of train, eval differ in kind"),
    ):
        tuning.train()


def test_a_smoke_run_names_the_row_of_whichever_role_has_a_wrong_label(bert: Path) -> None:
    rows = loaded(train=TEXTS[:2], eval=[*TEXTS[2:4], {"text": "the cat", "label": None}])
    with (
        FineTuning(job(TEXT, bert, limit=3), loaded=rows) as tuning,
        pytest.raises(DataError, match=r"^eval\.csv:2: column label: the label is None"),
    ):
        tuning.train()


def test_judging_a_checkpoint_as_it_is_trains_nothing(tmp_path: Path) -> None:
    path = tiny.bert(tmp_path, head="BertForSequenceClassification", labels=["moves", "rests"])
    made = job(TEXT, path, trains=False)
    with FineTuning(made, loaded=loaded(eval=TEXTS)) as tuning:
        first = tuning.predict()
    with FineTuning(made, loaded=loaded(eval=TEXTS)) as tuning:
        trained = tuning.train()
        assert tuning.predict().records == first.records
    assert "train_seconds" not in trained.costs
    sizes = ("parameters", "trainable_parameters", "model_bytes")
    assert {name: first.costs[name] for name in sizes} == {name: trained.costs[name] for name in sizes}
    assert trained.log_history == ()


def test_judging_needs_a_model_first(bert: Path) -> None:
    with FineTuning(job(TEXT, bert), loaded=loaded(eval=TEXTS)) as tuning, pytest.raises(RuntimeError, match="train"):
        tuning.predict()


def test_what_is_said_of_the_judged_rows_stands_with_the_prediction(bert: Path, tmp_path: Path) -> None:
    """A stored model that answers another split must not repeat what was said of the first one."""
    rows = replace(
        loaded(train=TEXTS, eval=TEXTS), notes=("train: cut", "eval: shared"), judged_notes=("eval: shared",)
    )
    made = job(TEXT, bert, training={"max_steps": 1})
    with FineTuning(made, loaded=rows) as tuning:
        trained = tuning.train()
        tuning.save(tmp_path)
        assert (trained.notes, tuning.predict().notes) == (("train: cut",), ("eval: shared",))
    other = replace(rows, notes=("train: cut", "eval: limited"), judged_notes=("eval: limited",))
    with FineTuning(made, loaded=other) as tuning:
        tuning.load(tmp_path)
        assert tuning.predict().notes == ("eval: limited",)


def test_truncation_is_told_for_training_and_evaluation(bert: Path) -> None:
    made = job("token-classification", bert, training={"max_steps": 1}, options={"max_length": 5})
    trained, predicted, _ = train(made, train=SENTENCES)
    assert any(note.startswith("train: ") and "not trained on" in note for note in trained.notes)
    assert any(note.startswith("eval: ") and "count as tagged O" in note for note in predicted.notes)


@ftcheck.metric(greater_is_better=False)
def mistakes(predictions: list[int], references: list[int]) -> list[float]:
    return [float(found != right) for found, right in zip(predictions, references, strict=True)]


def test_a_metric_of_ones_own_may_choose_the_best_checkpoint(bert: Path) -> None:
    name = f"{__name__}:mistakes"
    training = {**LOOKS, "learning_rate": 5e-2, "max_steps": 10, "save_strategy": "steps", "save_steps": 2}
    training |= {"load_best_model_at_end": True, "metric_for_best_model": name}
    made = job(TEXT, bert, training=training, metrics=("accuracy", name))
    trained, predicted, _ = train(made, train=TEXTS, tune=TEXTS)
    told = evaluations(trained, f"eval_{name}")
    assert told == pytest.approx([1 - accuracy for accuracy in evaluations(trained)])
    wrong = [record["prediction"] != record["reference"] for record in predicted.records]
    assert sum(wrong) / len(wrong) == min(told)
