"""Sets of classes and numbers through the whole room: trained, tuned, judged, saved, asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.finetune.predict import Predictor
from ftcheck.finetune.session import FineTuning
from tests import tiny
from tests.finetune.jobs import TEXTS, Row, job, loaded

SETS: list[Row] = [
    {"text": row["text"], "label": [word for word in ("cat", "dog", "runs", "sleeps") if word in row["text"]]}
    for row in TEXTS
]
NUMBERS: list[Row] = [{"text": row["text"], "label": float(len(row["text"].split()))} for row in TEXTS]
LEARNS: dict[str, Any] = {"max_steps": 60, "learning_rate": 1e-2, "per_device_train_batch_size": 8, "weight_decay": 0.0}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder")
    return tiny.bert(path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def made(path: Path, problem_type: str, **fields: Any) -> Any:
    return job("text-classification", path, options={"problem_type": problem_type}, **fields)


def test_sets_are_learned_and_their_threshold_is_tuned(encoder: Path, tmp_path: Path) -> None:
    case = made(encoder, "multi_label_classification", training=LEARNS)
    with FineTuning(case, loaded=loaded(train=SETS, tune=SETS, eval=SETS)) as tuning:
        trained, predicted = tuning.train(), tuning.predict()
        tuning.save(tmp_path / "model")
    assert 0 < trained.tuned["threshold"] < 1
    wrong = sum(a != b for r in predicted.records for a, b in zip(r["prediction"], r["reference"], strict=True))
    assert wrong < 0.1 * sum(len(record["reference"]) for record in predicted.records)
    answers = Predictor(case, tmp_path / "model", meta=trained.meta, tuned=trained.tuned).predict(
        [row["text"] for row in SETS]
    )
    labels = trained.meta["labels"]
    expected = [{n for n, member in zip(labels, r["prediction"], strict=True) if member} for r in predicted.records]
    assert [set(answer.labels) for answer in answers] == expected


def test_numbers_are_learned(encoder: Path, tmp_path: Path) -> None:
    case = made(encoder, "regression", training=LEARNS)
    with FineTuning(case, loaded=loaded(train=NUMBERS, eval=NUMBERS)) as tuning:
        trained, predicted = tuning.train(), tuning.predict()
        tuning.save(tmp_path / "model")
    gold = torch.tensor([record["reference"] for record in predicted.records])
    error = float(((torch.tensor([r["prediction"] for r in predicted.records]) - gold) ** 2).mean())
    assert error < 0.3 * float(gold.var())
    one = Predictor(case, tmp_path / "model", meta=trained.meta, tuned={}).predict(NUMBERS[0]["text"])
    assert one == pytest.approx(predicted.records[0]["prediction"], abs=1e-4)


@pytest.mark.parametrize(("problem_type", "rows"), [("multi_label_classification", SETS), ("regression", NUMBERS)])
def test_accumulated_batches_train_as_one(encoder: Path, problem_type: str, rows: list[Row]) -> None:
    weights = []
    for size, steps in ((8, 1), (4, 2)):
        training = {"max_steps": 3, "per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        with FineTuning(made(encoder, problem_type, training=training), loaded=loaded(train=rows, eval=rows)) as tuning:
            tuning.train()
            weights.append({name: tensor.clone() for name, tensor in tuning.model.state_dict().items()})
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], atol=1e-5, rtol=1e-4)
