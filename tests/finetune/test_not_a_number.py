"""A model that is broken: no metric is computed of what is no number, and the error says where it began."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck import tasks
from ftcheck.errors import TrainingError
from ftcheck.finetune.generating import Writer
from ftcheck.finetune.session import FineTuning
from tests import tiny
from tests.finetune.jobs import DOCUMENTS, NOUNS, ROWS, TEXTS, Row, job, loaded

TEXT = "text-classification"
PAIRS: list[Row] = [
    {"text": f"the {noun} runs", "text_pair": f"a {noun} sleeps", "label": float(place % 2)}
    for place, noun in enumerate(NOUNS)
]
CHOSEN: list[Row] = [{"prompt": f"the {noun}", "chosen": " runs .", "rejected": " red ."} for noun in NOUNS]
ROWS_OF: Mapping[str, list[Row]] = {
    **ROWS,
    "text-generation": [{"text": row["text"]} for row in TEXTS],
    "fill-mask": [{"text": row["text"]} for row in TEXTS],
    "summarization": DOCUMENTS,
    "translation": [{"source": row["document"], "target": row["summary"]} for row in DOCUMENTS],
    "sentence-similarity": PAIRS,
    "preference": CHOSEN,
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "summarization": {"max_target_length": 8},
    "translation": {"max_target_length": 8},
    "sentence-similarity": {"scale": 1},
}


@pytest.fixture(scope="module")
def checkpoints(
    tmp_path_factory: pytest.TempPathFactory, seq2seq: Mapping[str, Path], bert: Path
) -> Mapping[str, Path]:
    """Task -> a checkpoint that it takes."""
    decoder = tiny.gpt2(tmp_path_factory.mktemp("decoder"), head="GPT2LMHeadModel")
    masked = tiny.bert(tmp_path_factory.mktemp("masked"), head="BertForMaskedLM")
    return {
        **dict.fromkeys(tasks.BUILT_IN, bert),
        **dict.fromkeys(("text-generation", "preference"), decoder),
        **dict.fromkeys(("summarization", "translation"), seq2seq["t5"]),
        "fill-mask": masked,
    }


def break_(model: Any) -> None:
    """One weight of the many, which every answer comes from."""
    name, weight = next((n, w) for n, w in model.named_parameters() if "norm" in n.lower() or "ln_f" in n)
    assert name
    with torch.no_grad():
        weight[0] = math.nan


@pytest.mark.parametrize("task", tasks.BUILT_IN)
def test_no_task_answers_with_a_broken_model(task: str, checkpoints: Mapping[str, Path]) -> None:
    rows = ROWS_OF[task]
    made = job(task, checkpoints[task], options=OPTIONS.get(task), training={"max_steps": 1})
    with FineTuning(made, loaded=loaded(train=rows, eval=rows, tune=rows)) as tuning:
        tuning.train()
        break_(tuning.model)
        for answering in (tuning.score, tuning.predict):
            with pytest.raises(TrainingError, match=r"that are no numbers \(NaN\), so that nothing can be measured"):
                answering()


@pytest.mark.parametrize("beams", [pytest.param(1, id="greedy"), pytest.param(2, id="beams")])
def test_no_text_is_written_by_a_broken_model(beams: int, checkpoints: Mapping[str, Path]) -> None:
    """The largest of NaNs is the first token of the vocabulary."""
    rows = [{"prompt": row["prompt"], "completion": [row["chosen"]]} for row in CHOSEN]
    options = {"generation": {"max_new_tokens": 4, "num_beams": beams}}
    made = job("text-generation", checkpoints["text-generation"], options=options, training={"max_steps": 1})
    with FineTuning(made, loaded=loaded(train=rows, eval=rows)) as tuning:
        tuning.train()
        prompts = tuning._prompts(tuning._rows(), "eval")
        assert prompts is not None
        arguments = tuning.task.generation(tuning.tokenizer, tuning.meta, made.case.task_options)

        def written() -> list[str]:
            return (
                Writer(tuning.model, tuning.tokenizer, prompts, arguments, device="cpu", precision="fp32", batch_size=4)
                .finish()
                .texts
            )

        assert len(written()) == len(rows)
        break_(tuning.model)
        with pytest.raises(TrainingError, match="scores of tokens that are no numbers"):
            written()


def test_a_weight_that_is_broken_from_the_start_is_named(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(bert / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"][3] = math.nan
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with (
        FineTuning(job(TEXT, tmp_path, training={"max_steps": 3}), loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning,
        pytest.raises(
            TrainingError,
            match=r"the loss is nan at step 1 of 3 \(epoch 0\.00\): weights were no numbers before it "
            r"\(bert\.encoder\.layer\.1\.output\.dense\.bias\): look at the checkpoint",
        ),
    ):
        tuning.train()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("training", "advice"),
    [
        pytest.param({}, "lower training.learning_rate (it is 1e+10) or max_grad_norm, or train in", id="clipped"),
        pytest.param(
            {"max_grad_norm": 0.0, "optim": "sgd"},
            "lower training.learning_rate (it is 1e+10) or leave out max_grad_norm: 0, which clips nothing, or train",
            id="not-clipped",
        ),
    ],
)
def test_a_training_that_explodes_says_where_it_began(
    precision: str, training: dict[str, Any], advice: str, still_bert: Path
) -> None:
    made = job(TEXT, still_bert, training={"max_steps": 20, "learning_rate": 1e10, **training}, precision=precision)
    with FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning, pytest.raises(TrainingError) as raised:
        tuning.train()
    said = str(raised.value)
    assert re.match(r"the loss is (nan|inf) at step \d+ of 20 \(epoch \d\.\d\d\), after \S+ at the step before: ", said)
    assert "nothing of this training is kept" in said
    assert advice in said
    told = float(said.partition("after ")[2].split()[0])
    assert math.isfinite(told)
