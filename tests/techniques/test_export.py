"""What is judged is the file that will be deployed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import TechniqueError
from ftcheck.finetune.predict import Predictor
from ftcheck.finetune.session import FineTuning
from tests.finetune.jobs import CHOICES, QUESTIONS, SENTENCES, TEXTS, Row, loaded
from tests.keys import inputs
from tests.techniques.trainings import a_job, case_of, mistakes, tuning

WHOLE = {"export": "onnx"}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("task", "rows", "named"),
    [
        pytest.param("text-classification", TEXTS, WHOLE, id="classes"),
        pytest.param("token-classification", SENTENCES, WHOLE, id="tags"),
        pytest.param("question-answering", QUESTIONS, WHOLE, id="answers"),
        pytest.param("multiple-choice", CHOICES, WHOLE, id="choices"),
        pytest.param("fill-mask", TEXTS, WHOLE, id="masks"),
        pytest.param(
            "text-classification", TEXTS, {**WHOLE, "peft": {"method": "lora", "parity": "merged"}}, id="merged"
        ),
    ],
)
def test_the_file_answers_as_the_model_does_for_batches_of_any_size(
    task: str, rows: list[Row], named: Mapping[str, Any], tmp_path: Path
) -> None:
    """Made of a batch of the longest rows, it answers shorter and fewer ones."""
    training = {"per_device_eval_batch_size": 5}
    with tuning(named, rows, task=task, training=training) as run:
        run.train()
        answered = run.predict()
        run.save(tmp_path / "model")
        assert type(run.answering()).__name__ == "Exported"
    assert 0 < answered.costs["parity_difference"] < 1e-4
    assert 0 < answered.costs["latency_p50_seconds"] <= answered.costs["latency_p95_seconds"]
    with FineTuning(run.job, loaded=loaded(train=rows, eval=rows)) as later:
        later.load(tmp_path / "model")
        assert later.predict().records == answered.records


@pytest.mark.e2e
def test_a_quantized_file_is_smaller_and_farther_away() -> None:
    found = {}
    for name, export in (("whole", "onnx"), ("int8", {"format": "onnx", "quantize": "int8"})):
        with tuning({"export": export}) as run:
            run.train()
            found[name] = run.predict().costs
    assert found["int8"]["model_bytes"] < 0.5 * found["whole"]["model_bytes"]
    assert found["int8"]["parity_difference"] > 10 * found["whole"]["parity_difference"]


@pytest.mark.e2e
def test_a_file_made_of_a_single_text_answers_padded_batches_and_can_be_had(tmp_path: Path) -> None:
    import onnxruntime
    import torch

    with tuning(WHOLE) as run:
        run.train()
        answered = run.predict()
        run.save(tmp_path / "model")
        predictor = Predictor(run.job, tmp_path / "model", meta=answered.meta, tuned=answered.tuned)
        with pytest.raises(TechniqueError, match="call `predict` before `save`"):
            predictor.model.save(tmp_path / "a.onnx")
        predictor.predict("the cat runs")
        batch = run.tokenizer(["the cat", "the old dog sees the moon"], padding=True, return_tensors="pt")
        with torch.inference_mode():
            assert float((predictor.model(**batch).logits - run.model(**batch).logits).abs().max()) < 1e-5
    predictor.model.save(tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert {one.name for one in session.get_inputs()} == set(batch)
    folder = predictor.model.path.parent
    predictor.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param("export: torchscript", "c.export: expected one of onnx", id="format"),
        pytest.param("export: onnx, task: text-generation", "c.export: goes with text-classification", id="decoders"),
        pytest.param(
            "export: onnx, quantization: {post: int8}", "c.export: can't export what quantization", id="rounded"
        ),
        pytest.param("export: onnx, peft: lora", "c.export: exports a whole model; merge the adapter", id="adapter"),
    ],
)
def test_what_cannot_be_is_refused_when_the_suite_is_read(fields: str, says: str) -> None:
    (mistake,) = mistakes(fields)
    assert mistake.startswith(says), mistake


@pytest.mark.parametrize(
    ("export", "most"),
    [
        pytest.param("onnx", [0.001], id="rounding of floats"),
        pytest.param("{format: onnx, max_difference: 0.1}", [0.1], id="given"),
        pytest.param("{format: onnx, quantize: int8}", [], id="quantized: whatever the suite says"),
    ],
)
def test_how_far_the_file_may_be_from_the_model_is_a_gate(export: str, most: list[float]) -> None:
    assert [gate.max for gate in case_of(f"export: {export}").gates] == most


def test_exporting_leaves_the_train_key_alone(tmp_path: Path) -> None:
    def keys(named: Mapping[str, Any]) -> tuple[str, str]:
        made = inputs.case(tmp_path, techniques=a_job(named).case.techniques)
        train, predict = inputs.keys(made, tmp_path / "memo")
        return train.digest, predict.digest

    plain, whole = keys({}), keys(WHOLE)
    small = keys({"export": {"format": "onnx", "quantize": "int8"}})
    assert plain[0] == whole[0] == small[0]
    assert len({plain[1], whole[1], small[1]}) == 3
    assert keys({"export": {"format": "onnx", "max_difference": 0.1}}) == whole
