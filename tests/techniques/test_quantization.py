"""Weights of few bits: under an adapter, in training, or after it; judged as they are deployed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import TechniqueError
from ftcheck.finetune.session import FineTuning
from tests import tiny
from tests.finetune.jobs import DOCUMENTS, QUESTIONS, SENTENCES, TEXTS, UNANSWERABLE, Row, loaded
from tests.keys import inputs
from tests.techniques.trainings import ENCODER, a_job, changed, mistakes, tuning, weights

QLORA = {"quantization": {"load": "4bit"}, "peft": {"method": "lora", "r": 2}}
QLORA_8 = {"quantization": {"load": "8bit"}, "peft": {"method": "lora", "r": 2}}


@pytest.fixture(scope="session")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.t5(tmp_path_factory.mktemp("t5"), dropout_rate=0.0)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("task", "rows", "named"),
    [
        pytest.param("text-classification", TEXTS, QLORA, id="QLoRA in 4 bits"),
        pytest.param("token-classification", SENTENCES, QLORA_8, id="QLoRA in 8 bits"),
        pytest.param("text-classification", TEXTS, {"quantization": {"qat": "int8"}}, id="QAT"),
        pytest.param("token-classification", SENTENCES, {"quantization": {"post": "int4"}}, id="afterwards"),
        pytest.param("summarization", DOCUMENTS, {"quantization": {"qat": "int4"}}, id="QAT of what writes"),
        pytest.param(
            "text-classification",
            TEXTS,
            {"peft": {"method": "lora", "parity": "merged"}, "quantization": {"post": "int8"}},
            id="merged, then quantized",
        ),
    ],
)
def test_what_was_kept_answers_as_before(
    task: str, rows: list[Row], named: Mapping[str, Any], t5: Path, tmp_path: Path
) -> None:
    path = t5 if task == "summarization" else ENCODER
    with tuning(named, rows, task=task, path=path) as run:
        run.train()
        answered = run.predict()
        run.save(tmp_path / "model")
    assert not list(tmp_path.rglob("*.bin"))
    with FineTuning(run.job, loaded=loaded(train=rows, eval=rows)) as later:
        later.load(tmp_path / "model")
        assert later.predict().records == answered.records


@pytest.mark.e2e
@pytest.mark.parametrize(("kind", "bits"), [("int8", 8), ("int4", 4)])
def test_a_quantized_model_is_as_large_as_its_bits_and_the_kept_one_stays_whole(kind: str, bits: int) -> None:
    with tuning({"quantization": {"post": kind}}) as run:
        trained = run.train()
        before = weights(run.model)
        answered = run.predict()
        assert changed(before, weights(run.model)) == set()
        linear = sum(m.weight.numel() for m in run.model.modules() if type(m).__name__ == "Linear")
    saved = trained.costs["model_bytes"] - answered.costs["model_bytes"]
    assert saved == pytest.approx(linear * (32 - bits) / 8, rel=0.05)
    assert answered.costs["parity_difference"] > 0
    assert any(f"of its weights in {bits} bits" in note for note in answered.notes)


@pytest.mark.e2e
def test_training_for_quantization_sees_the_model_that_is_judged() -> None:
    """The outputs that the training optimizes are those of the quantized model, not of the kept one."""
    import torch

    with tuning({"quantization": {"qat": "int4"}}, training={"max_steps": 1}) as run, run._stage():
        run._start(run._rows())
        run.model.eval()
        tokens = torch.arange(10, 30).view(2, 10)
        with torch.inference_mode():
            trained = run.model(input_ids=tokens).logits
            run.model = run.applied.techniques[0].finish(run.model, run._context(None))
            kept = run.model(input_ids=tokens).logits
            judged = run.answering()(input_ids=tokens).logits
    assert float((trained - judged).abs().max()) < 1e-5
    assert float((kept - judged).abs().max()) > 1e-3


@pytest.mark.e2e
def test_a_quantized_checkpoint_is_judged_without_training(tmp_path: Path) -> None:
    path = tiny.bert(tmp_path, head="BertForSequenceClassification", labels=("moves", "rests"))
    with tuning({"quantization": {"post": "int8"}}, path=path, trains=False) as run:
        assert run.predict().costs["parity_difference"] > 0


@pytest.mark.e2e
def test_what_is_quantized_afterwards_has_no_part_in_what_training_tunes() -> None:
    """A training is found by its key, which doesn't know of it: a threshold must be the same with and without."""
    rows = [*QUESTIONS, *UNANSWERABLE]
    tuned = []
    for named in ({}, {"quantization": {"post": "int4"}}, {"export": "onnx"}):
        with FineTuning(
            a_job(named, task="question-answering"), loaded=loaded(train=rows, tune=rows, eval=rows)
        ) as run:
            tuned.append(run.train().tuned)
    assert tuned[0]
    assert tuned[0] == tuned[1] == tuned[2]


@pytest.mark.e2e
def test_layers_too_narrow_for_four_bits_are_said(t5: Path) -> None:
    with (
        tuning(QLORA, DOCUMENTS, task="summarization", path=t5) as run,
        pytest.raises(TechniqueError, match=r"4 bits need layers whose inputs are a multiple of 64; .* load 8bit"),
    ):
        run.train()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param("quantization: {}", "c.quantization: expected one of load, qat, post, got none", id="none"),
        pytest.param(
            "quantization: {qat: int8, post: int8}",
            "c.quantization: expected one of load, qat, post, got qat and",
            id="two",
        ),
        pytest.param(
            "quantization: {load: 4bit}", "c.quantization.load: can't be trained by itself", id="nothing that trains"
        ),
        pytest.param(
            "quantization: {qat: int8}, peft: lora",
            "c.quantization.qat: trains the weights that peft freezes",
            id="qat of an adapter",
        ),
        pytest.param(
            "quantization: {post: int8}, peft: lora",
            "c.quantization.post: quantizes whole weights",
            id="half of an adapter",
        ),
        pytest.param(
            "quantization: {load: 4bit}, peft: {method: lora, parity: merged}",
            "c.peft.parity: can't be combined with quantization.load",
            id="merging into 4 bits",
        ),
        pytest.param(
            "quantization: {qat: int8}, training: false", "c.quantization.qat: with `training: false`", id="no training"
        ),
        pytest.param("quantization: {post: int3}", "c.quantization.post: expected one of int8, int4", id="3 bits"),
    ],
)
def test_what_cannot_be_is_refused_when_the_suite_is_read(fields: str, says: str) -> None:
    (mistake,) = mistakes(fields)
    assert mistake.startswith(says), mistake


def test_quantizing_afterwards_leaves_the_train_key_alone(tmp_path: Path) -> None:
    def keys(named: Mapping[str, Any]) -> tuple[str, str]:
        made = inputs.case(tmp_path, techniques=a_job(named).case.techniques)
        train, predict = inputs.keys(made, tmp_path / "memo")
        return train.digest, predict.digest

    plain = keys({})
    post = {kind: keys({"quantization": {"post": kind}}) for kind in ("int8", "int4")}
    assert {train for train, _ in post.values()} == {plain[0]}
    assert len({plain[1], *(predict for _, predict in post.values())}) == 3
    trained = [keys({"quantization": {"qat": kind}})[0] for kind in ("int8", "int4")]
    assert len({plain[0], *trained}) == 3
    assert keys(QLORA)[0] != keys(QLORA_8)[0]
