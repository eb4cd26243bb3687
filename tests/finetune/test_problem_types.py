"""Sets of classes and numbers through training, tuning, saving and prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.errors import TrainingError
from ftcheck.finetune.predict import Predictor
from ftcheck.finetune.session import FineTuning
from tests.finetune.jobs import TEXTS, Row, job, loaded
from tests.finetune.test_traps import ONE_STEP, trained

ROWS_OF: dict[str, list[Row]] = {
    "multi_label_classification": [
        {"text": row["text"], "label": [word for word in ("cat", "sees", "sun") if word in row["text"]]}
        for row in TEXTS
    ],
    "regression": [{"text": row["text"], "label": float(len(row["text"].split())) / 4} for row in TEXTS],
}
"""Sets of 0 to 2 of 3 classes; numbers from 0.5 to 1.5."""
LEARNS: dict[str, Any] = {"num_train_epochs": 15, "learning_rate": 3e-3, "per_device_train_batch_size": 4}


def made(problem: str, path: Path, training: dict[str, Any], **options: Any) -> Any:
    return job("text-classification", path, options={"problem_type": problem, **options}, training=training, metrics=())


@pytest.mark.parametrize("problem", ROWS_OF)
def test_accumulating_batches_takes_the_step_of_one_large_batch(problem: str, still_bert: Path) -> None:
    rows = ROWS_OF[problem][:16]
    steps, losses = {}, {}
    for batch, times in ((16, 1), (8, 2)):
        training = {**ONE_STEP, "per_device_train_batch_size": batch, "gradient_accumulation_steps": times}
        steps[batch], result = trained(made(problem, still_bert, training), train=rows, eval=rows)
        losses[batch] = result.log_history[-1]["train_loss"]
    start, _ = trained(made(problem, still_bert, {**ONE_STEP, "learning_rate": 1e-30}), train=rows, eval=rows)
    large = torch.cat([(steps[16][name] - start[name]).flatten() for name in start])
    small = torch.cat([(steps[8][name] - start[name]).flatten() for name in start])
    assert float((small - large).norm() / large.norm()) < 1e-5
    assert losses[16] == pytest.approx(losses[8], rel=1e-5)


@pytest.mark.parametrize("problem", ROWS_OF)
def test_every_problem_type_learns_its_rows_and_answers_alike_when_loaded(
    problem: str, bert: Path, tmp_path: Path
) -> None:
    rows = ROWS_OF[problem]
    with FineTuning(made(problem, bert, LEARNS), loaded=loaded(train=rows, tune=rows, eval=rows)) as tuning:
        result = tuning.train()
        records = tuning.predict().records
        tuning.save(tmp_path / "model")
    if problem == "regression":
        assert result.tuned == {}
        assert max(abs(record["prediction"] - record["reference"]) for record in records) < 0.3
    else:
        assert set(result.tuned) == {"threshold"}
        assert any(note.startswith("tuned on 24 tune rows: threshold 0.") for note in result.notes)
        assert sum(record["prediction"] == record["reference"] for record in records) > 20
        assert [0, 0, 0] in [record["prediction"] for record in records], "no class at all is an answer"
    answers = Predictor(tuning.job, tmp_path / "model", meta=result.meta, tuned=result.tuned)
    said = answers.predict([row["text"] for row in rows])
    assert said == [answers._task.natural_output(record, dict(result.meta)) for record in records]
    one = answers.predict("cat runs")
    assert one == pytest.approx(0.5, abs=0.3) if problem == "regression" else one.labels == ("cat",)


def test_a_classifiers_head_starts_anew_for_numbers(tmp_path: Path) -> None:
    from tests import tiny

    path = tiny.bert(tmp_path, head="BertForSequenceClassification", labels=["a", "b", "c"])
    rows = ROWS_OF["regression"]
    weights, result = trained(made("regression", path, {"max_steps": 1}), train=rows, eval=rows)
    assert weights["classifier.weight"].shape == (1, 32)
    assert any("the head starts anew" in note for note in result.notes)


@pytest.mark.parametrize("problem", ROWS_OF)
def test_label_smoothing_is_refused_in_one_sentence(problem: str, bert: Path) -> None:
    rows = ROWS_OF[problem]
    with pytest.raises(TrainingError, match=r"label_smoothing_factor 0\.1 is for one class per text"):
        trained(made(problem, bert, {"max_steps": 1, "label_smoothing_factor": 0.1}), train=rows, eval=rows)
