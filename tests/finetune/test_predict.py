"""Prediction: results in the rows' order, whatever the batches; natural input and output; loading what was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ftcheck import tasks
from ftcheck.errors import CheckpointError, DataError
from ftcheck.finetune import predict
from ftcheck.finetune.predict import Predictor
from ftcheck.finetune.session import BESIDE, FineTuning
from tests import tiny
from tests.finetune.jobs import CHOICES, CITIES, QUESTIONS, ROWS, SENTENCES, TEXTS, job, loaded, question

LEARNS: dict[str, Any] = {"num_train_epochs": 15, "learning_rate": 3e-3, "per_device_train_batch_size": 4}


@pytest.fixture(scope="module")
def saved(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path, Any]]:
    """Task -> (job, saved model, Trained): models that know their training rows."""
    found = {}
    for task, rows in ROWS.items():
        made = job(task, bert, training=LEARNS)
        directory = tmp_path_factory.mktemp("saved") / "model"
        with FineTuning(made, loaded=loaded(train=rows, eval=rows)) as tuning:
            found[task] = (made, directory, tuning.train())
            tuning.save(directory)
    return found


def predictor(saved: Any, task: str) -> Predictor:
    made, directory, trained = saved[task]
    return Predictor(made, directory, meta=trained.meta, tuned=trained.tuned)


@pytest.mark.parametrize("size", [1, 3, 7, 24, 1000])
@pytest.mark.parametrize("task", ROWS)
def test_batches_change_results_by_no_more_than_rounding(task: str, size: int, saved: Any) -> None:
    one, other = outputs_of(saved[task], ROWS[task], 1), outputs_of(saved[task], ROWS[task], size)
    for array, same in zip(one.arrays, other.arrays, strict=True):
        np.testing.assert_allclose(array, same, atol=1e-4)
    assert one.loss == pytest.approx(other.loss, rel=1e-4)


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_decoders_that_pad_on_the_left_answer_alike_in_any_batch(task: str, kind: str, tmp_path: Path) -> None:
    """GPT-2 counts positions from the left, padding included; Llama's are relative."""
    path = getattr(tiny, kind)(tmp_path / "base", padding_side="left")
    made = job(task, path, training={"max_steps": 2})
    with FineTuning(made, loaded=loaded(train=ROWS[task], eval=ROWS[task])) as tuning:
        trained = tuning.train()
        assert tuning.tokenizer.padding_side == {"gpt2": "right", "llama": "left"}[kind]
        tuning.save(tmp_path / "model")
    one, other = (outputs_of((made, tmp_path / "model", trained), ROWS[task], size) for size in (1, 24))
    for array, same in zip(one.arrays, other.arrays, strict=True):
        np.testing.assert_allclose(array, same, atol=1e-4)


def outputs_of(saved: Any, rows: Any, size: int) -> predict.Answers:
    """What a saved model says in batches of a size."""
    made, directory, _ = saved
    with FineTuning(made, loaded=loaded(eval=rows)) as tuning:
        tuning.load(directory)
        features = tuning._encode(tuning._rows().roles["eval"], "eval")
        return predict.run(
            tuning.model,
            features,
            tuning.task.collator(tuning.tokenizer, None),
            tuning.task,
            device="cpu",
            precision="fp32",
            batch_size=size,
        )


@pytest.mark.parametrize("task", ROWS)
def test_outputs_are_those_of_the_model_row_by_row(task: str, saved: Any) -> None:
    made, directory, _ = saved[task]
    with FineTuning(made, loaded=loaded(eval=ROWS[task])) as tuning:
        tuning.load(directory)
        features = tuning._encode(tuning._rows().roles["eval"], "eval")
        outputs = tuning._run(tuning.model, features, None, "predict").arrays
        for index in range(len(features)):
            inputs = tuning.task.collator(tuning.tokenizer, None)([features[index]])
            targets = {name: inputs.pop(name) for name in tuning.task.targets}
            with torch.no_grad():
                expected = tuning.task.outputs(tuning.model(**inputs), targets)
            part = (
                slice(features.starts[index], features.starts[index + 1])
                if tuning.task.per_token
                else slice(index, index + 1)
            )
            for array, tensor in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(array[part], tensor[0] if tuning.task.per_token else tensor, atol=1e-4)


def test_batches_are_sorted_by_length_and_told(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, directory, _ = saved["text-classification"]
    widths, told = [], []
    with FineTuning(made, lambda p: told.append((p.done, p.total)), loaded=loaded(eval=TEXTS)) as tuning:
        tuning.load(directory)
        forward = tuning.model.forward

        def noted(**given: Any) -> Any:
            widths.append(given["input_ids"].shape[1])
            return forward(**given)

        monkeypatch.setattr(tuning.model, "forward", noted)
        monkeypatch.setattr(predict, "BATCH_SIZE", 8)
        tuning.predict()
    assert widths == sorted(widths, reverse=True)
    assert len(set(widths)) > 1
    assert told[-3:] == [(8, 24), (16, 24), (24, 24)]


@pytest.mark.parametrize("task", ROWS)
def test_the_predictor_answers_as_the_judged_predictions_say(task: str, saved: Any) -> None:
    made, directory, _ = saved[task]
    rows = ROWS[task]
    natural: dict[str, list[Any]] = {
        "text-classification": [row["text"] for row in TEXTS],
        "token-classification": [row["tokens"] for row in SENTENCES],
        "question-answering": [(row["question"], row["context"]) for row in QUESTIONS],
        "multiple-choice": [(row["question"], row["choices"]) for row in CHOICES],
    }
    with FineTuning(made, loaded=loaded(eval=rows)) as tuning:
        tuning.load(directory)
        records = tuning.predict().records
        expected = [tuning.task.natural_output(record, tuning.meta) for record in records]
    answers = predictor(saved, task)
    assert answers.predict(natural[task]) == expected
    assert answers.predict(natural[task][:0]) == []
    answers.close()
    assert answers.model is None


def test_natural_answers_are_right_after_training(saved: Any) -> None:
    texts = predictor(saved, "text-classification")
    assert texts.predict("the old cat runs").label == "moves"
    assert [one.label for one in texts.predict(["dog sleeps", "fish sees"])] == ["rests", "moves"]
    words = predictor(saved, "token-classification")
    assert [(e.text, e.type, e.start, e.end) for e in words.predict("Bob eats in Rome .")] == [
        ("Bob", "PER", 0, 1),
        ("Rome", "LOC", 3, 4),
    ]
    questions = predictor(saved, "question-answering")
    row = question("Ann", CITIES[0])
    answer = questions.predict({"question": row["question"], "context": row["context"]})
    assert answer.answer == row["context"][answer.start : answer.end] == "Paris"
    assert 0 < answer.score <= 1


def test_the_predictor_refuses_what_is_no_input(saved: Any) -> None:
    with pytest.raises(DataError, match="predict takes"):
        predictor(saved, "text-classification").predict(3)


def test_a_checkpoint_as_it_is_answers_too(tmp_path: Path) -> None:
    path = tiny.bert(tmp_path, head="BertForSequenceClassification", labels=["no", "yes"])
    made = job("text-classification", path, trains=False)
    meta = {"labels": ["no", "yes"], "from": "model", "problem_type": "single_label_classification"}
    answer = Predictor(made, None, meta=meta, tuned={}).predict("the cat")
    assert set(answer.scores) == {"no", "yes"}


@pytest.mark.parametrize("content", [None, "", "{}", "[1]"], ids=["missing", "empty", "incomplete", "no-object"])
def test_a_saved_model_without_what_belongs_beside_it(content: str | None, saved: Any, tmp_path: Path) -> None:
    import shutil

    made, directory, _ = saved["text-classification"]
    copy = Path(shutil.copytree(directory, tmp_path / "copy"))
    (copy / BESIDE).unlink()
    if content is not None:
        (copy / BESIDE).write_text(content)
    with (
        FineTuning(made, loaded=loaded(eval=TEXTS)) as tuning,
        pytest.raises(CheckpointError, match=f"{BESIDE}: can't be read"),
    ):
        tuning.load(copy)


@pytest.mark.parametrize("task", ROWS)
def test_what_is_saved_holds_no_pickle(task: str, saved: Any) -> None:
    names = {path.name for path in saved[task][1].iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", BESIDE} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]


def test_saved_classes_are_in_the_models_config(saved: Any) -> None:
    from transformers import AutoConfig

    assert AutoConfig.from_pretrained(saved["text-classification"][1]).id2label == {0: "moves", 1: "rests"}


def test_a_task_is_one_instance() -> None:
    assert tasks.get("text-classification") is tasks.get("text-classification")
