"""Training on streamed rows: by steps, as on rows that are read at once, and one sentence for what can't be used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.errors import DataError
from ftcheck.finetune.data.files import CHUNK
from ftcheck.finetune.data.rows import digest
from ftcheck.finetune.session import FineTuning
from ftcheck.spec import Data
from tests import tiny
from tests.finetune.jobs import DOCUMENTS, ROWS, SENTENCES, TEXTS, Row, job

TEXT = "text-classification"
STEPS: dict[str, Any] = {"max_steps": 5, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


def files(folder: Path, streaming: bool = True, **splits: Sequence[Row]) -> Data:
    """JSON lines by split, the training rows streamed as they come; `test` has them too unless it is given."""
    splits.setdefault("test", splits["train"])
    for split, rows in splits.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(dict(row)) + "\n" for row in rows))
    fields: dict[str, Any] = {"splits": {"tune": "tune"}} if "tune" in splits else {}
    paths = {split: (str(folder / f"{split}.jsonl"),) for split in splits}
    return Data(kind="reader", path="jsonl", files=paths, streaming=streaming, shuffle_buffer=0, **fields)


def run(made: Any) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """(Trained, Predicted, weights)."""
    with FineTuning(made) as tuning:
        trained, predicted = tuning.train(), tuning.predict()
        return trained, predicted, {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}


@pytest.mark.parametrize("task", ROWS)
def test_rows_in_order_give_the_model_that_they_give_when_they_are_read_at_once(
    task: str, bert: Path, tmp_path: Path
) -> None:
    """To the last bit, dropout included, over two batches of accumulation."""
    # An epoch at most: its last batch isn't filled up with rows of the next one.
    training = {**STEPS, "max_steps": len(ROWS[task]) // 8, "gradient_accumulation_steps": 2}
    streamed = run(job(task, bert, data=files(tmp_path, train=ROWS[task]), training=training))
    whole = files(tmp_path, streaming=False, train=ROWS[task])
    other = run(job(task, bert, data=whole, training={**training, "train_sampling_strategy": "sequential"}))
    assert all(torch.equal(streamed[2][name], other[2][name]) for name in other[2])
    assert streamed[1].records == other[1].records
    assert streamed[0].meta == other[0].meta


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, seq2seq: Mapping[str, Path]) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "text-generation": tiny.gpt2(folder / "gpt2", head="GPT2LMHeadModel"),
        "fill-mask": tiny.bert(folder / "bert", head="BertForMaskedLM"),
        "summarization": seq2seq["t5"],
    }


@pytest.mark.parametrize(
    ("task", "rows"),
    [
        pytest.param("text-generation", [{"text": row["text"]} for row in TEXTS], id="text-generation"),
        pytest.param("fill-mask", [{"text": row["text"]} for row in TEXTS], id="fill-mask"),
        pytest.param("summarization", DOCUMENTS, id="summarization"),
    ],
)
def test_models_that_write_train_on_streams_too(
    task: str, rows: Sequence[Row], models: Mapping[str, Path], tmp_path: Path
) -> None:
    """Packed blocks included: a batch then holds what is no tensor."""
    made = job(task, models[task], data=files(tmp_path, train=rows), training=STEPS, metrics=())
    trained, predicted, _ = run(made)
    assert trained.log_history[-1]["step"] == 5
    assert trained.rows["train"]["count"] % len(rows) == 0
    assert len(predicted.records) == len(rows)


def test_a_stream_learns_its_rows(bert: Path, tmp_path: Path) -> None:
    data = files(tmp_path, train=TEXTS, tune=TEXTS)
    training = {"max_steps": 90, "per_device_train_batch_size": 4, "learning_rate": 3e-3, "report_to": "none"}
    training |= {"eval_strategy": "steps", "eval_steps": 45}
    made = job(TEXT, bert, data=data, training=training)
    trained, predicted, _ = run(made)
    assert sum(r["prediction"] == r["reference"] for r in predicted.records) == len(TEXTS)
    assert [entry["step"] for entry in trained.log_history if "eval_accuracy" in entry] == [45, 90]


def test_what_was_trained_on_is_recorded_and_said(bert: Path, tmp_path: Path) -> None:
    data = files(tmp_path, train=TEXTS, test=TEXTS[:3])
    trained, predicted, _ = run(job(TEXT, bert, data=data, training=STEPS))
    with FineTuning(job(TEXT, bert, data=files(tmp_path, streaming=False, train=TEXTS), training=STEPS)) as whole:
        hashes = whole._rows().roles["train"].hashes
    # 5 batches of 4, and the next one, which is read ahead: one time around.
    assert trained.rows["train"] == {"count": len(TEXTS), "hashes": digest(hashes)}
    assert trained.notes[0] == (
        "train: streamed, in the order it has; what a task learns from rows before training is of the first 24"
    )
    assert predicted.notes == ("3 of 3 judged rows are also trained on, word for word",)


def test_the_seed_decides_the_order(bert: Path, tmp_path: Path) -> None:
    data = replace(files(tmp_path, train=TEXTS), shuffle_buffer=100)
    made = [run(job(TEXT, bert, data=data, training=STEPS, seed=seed))[0] for seed in (1, 1, 2)]
    assert made[0].rows["train"] == made[1].rows["train"] != made[2].rows["train"]
    assert made[0].log_history[0]["loss"] == made[1].log_history[0]["loss"]


def test_no_more_rows_are_encoded_than_the_steps_need(bert: Path, tmp_path: Path) -> None:
    data = files(tmp_path, train=TEXTS * 300, test=TEXTS)
    trained, _, _ = run(job(TEXT, bert, data=data, training=STEPS))
    assert trained.rows["train"]["count"] == CHUNK


def test_a_class_that_comes_late_is_one_error_unless_the_suite_names_it(bert: Path, tmp_path: Path) -> None:
    rows = [*(TEXTS * 50)[: CHUNK + 100], {"text": "the cat", "label": "purrs"}]
    data = files(tmp_path, train=rows, test=TEXTS)
    training = {**STEPS, "per_device_train_batch_size": 100, "max_steps": 12}
    with FineTuning(job(TEXT, bert, data=data, training=training)) as tuning, pytest.raises(DataError) as raised:
        tuning.train()
    assert str(raised.value) == (
        f'{tmp_path}/train.jsonl:1101: column label: label "purrs" is not among the 2 classes of the training rows '
        "(known: moves, rests); if it is right, name all classes: task: {labels: [...]}"
    )
    named = job(TEXT, bert, data=data, training=training, options={"labels": ("moves", "rests", "purrs")})
    assert run(named)[0].rows["train"]["count"] >= len(rows)


def test_what_the_task_refuses_is_found_in_later_chunks_too(bert: Path, tmp_path: Path) -> None:
    rows = [*(SENTENCES * 90)[: 2 * CHUNK], {"tokens": ["Ann", "runs"], "tags": ["B-PER"]}]
    data = files(tmp_path, train=rows, test=SENTENCES)
    training = {**STEPS, "per_device_train_batch_size": 100, "max_steps": 30}
    made = job("token-classification", bert, data=data, training=training)
    with FineTuning(made) as tuning, pytest.raises(DataError, match=r"train\.jsonl:2001: 2 tokens but 1 tags"):
        tuning.train()
