"""A prompt with a chosen and a rejected answer: what the model reads, likelihoods, the loss, records, natural input."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from ftcheck import tasks
from ftcheck.errors import CheckpointError, DataError, TrainingError
from ftcheck.tasks.preference import BETA, MARGIN, Options, Preferred
from tests import tiny

TASK: Any = tasks.get("preference")
OPTIONS = Options().model_dump()
GIVEN = {"prompt": ["the cat", "who ?"], "chosen": [" runs .", " ann"], "rejected": [" sleeps long .", " bob ."]}
ROWS = datasets.Dataset.from_dict(GIVEN)
TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


def said(role: str, content: str) -> list[dict[str, str]]:
    return [{"role": role, "content": content}]


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(model, tokenizer) of a GPT-2 with a chat template."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = tiny.gpt2(tmp_path_factory.mktemp("decoder"), head="GPT2LMHeadModel")
    (Path(path) / "chat_template.jinja").write_text(TEMPLATE)
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.pad_token = tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(path).eval(), tokenizer


def encoded(tokenizer: Any, rows: datasets.Dataset = ROWS, **given: Any) -> Any:
    return TASK.encode(rows, tokenizer, {}, {**OPTIONS, **given}, training=True)


def test_each_answer_is_read_after_the_prompt_and_ended(decoder: Any) -> None:
    _, tokenizer = decoder
    batch = TASK.collator(tokenizer, None)(list(encoded(tokenizer)))
    for row in range(2):
        for place, side in enumerate(("chosen", "rejected")):
            labels = batch["labels"][row, place]
            kept = batch["input_ids"][row, place][batch["attention_mask"][row, place] == 1]
            assert tokenizer.decode(kept) == f"<|endoftext|>{GIVEN['prompt'][row]}{GIVEN[side][row]}<|endoftext|>"
            assert tokenizer.decode(labels[labels != -100]) == f"{GIVEN[side][row]}<|endoftext|>"


def test_likelihoods_are_those_of_each_answer_alone(decoder: Any) -> None:
    """Whatever else is in the batch, summed over the answer's tokens."""
    model, tokenizer = decoder
    batch = TASK.collator(tokenizer, None)(list(encoded(tokenizer)))
    targets = {"labels": batch.pop("labels")}
    with torch.no_grad():
        logps, tokens = TASK.outputs(TASK.forward(model, batch, targets), targets)
    for row in range(2):
        for place, side in enumerate(("chosen", "rejected")):
            before = tokenizer(f"<|endoftext|>{GIVEN['prompt'][row]}")["input_ids"]
            after = tokenizer(f"{GIVEN[side][row]}<|endoftext|>")["input_ids"]
            with torch.no_grad():
                scores = model(torch.tensor([before + after])).logits[0].log_softmax(dim=-1)
            expected = sum(float(scores[len(before) + i - 1, token]) for i, token in enumerate(after))
            assert float(logps[row, place]) == pytest.approx(expected, rel=1e-4)
            assert int(tokens[row, place]) == len(after)


def test_the_loss_is_that_of_simpo() -> None:
    logits = torch.randn(4, 5, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.tensor([[[-100, -100, 1, 2, 3], [-100, 4, 5, -100, -100]]] * 2)
    output, targets = SimpleNamespace(logits=logits), {"labels": labels}
    logps, tokens = TASK.outputs(output, targets)
    rewards = BETA * logps / tokens
    expected = -torch.log(torch.sigmoid(rewards[:, 0] - rewards[:, 1] - MARGIN)).sum()
    loss = TASK.loss(output, targets, 0.0)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert TASK.items(targets) == 2
    loss.backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())
    with pytest.raises(TrainingError, match="is for classes"):
        TASK.loss(output, targets, 0.1)
    with pytest.raises(CheckpointError, match="no causal language model"):
        TASK.outputs(SimpleNamespace(logits=torch.zeros(4, 5)), targets)


def test_of_chats_the_last_turn_is_the_answer(decoder: Any) -> None:
    """Earlier turns of the assistant belong to the prompt."""
    _, tokenizer = decoder
    prompt = [*said("user", "cat"), *said("assistant", "mew"), *said("user", "dog")]
    rows = datasets.Dataset.from_list(
        [{"prompt": prompt, "chosen": said("assistant", "wuff"), "rejected": said("assistant", "moo")}]
    )
    assert TASK.check(rows, "train", {}, OPTIONS, "row {}".format) == []
    batch = TASK.collator(tokenizer, None)(list(encoded(tokenizer, rows)))
    texts = [tokenizer.decode(labels[labels != -100]) for labels in batch["labels"][0]]
    assert texts == ["wuff<|endoftext|>", "moo<|endoftext|>"]


def test_records_and_what_metrics_get_of_them(decoder: Any) -> None:
    logps, tokens = np.array([[-4.0, -9.0], [-8.0, -6.0]]), np.array([[2, 3], [4, 4]])
    before = np.array([[-5.0, -7.0], [-9.0, -6.0]])
    features = encoded(decoder[1])
    options = Options(reference=True).model_dump()
    records = TASK.decode([logps, tokens, before, tokens], features, ROWS, meta={}, options=options, tuned={})
    inputs = TASK.score_inputs(records, {}, options)
    assert set(inputs) == TASK.inputs(options)
    assert inputs["preference"] == (logps.tolist(), tokens.tolist())
    assert inputs["reward"] == ([[1.0, -2.0], [1.0, 0.0]], tokens.tolist())
    (worst,) = TASK.worst(records, {}, options)
    assert (worst.index, worst.gold, worst.predicted, worst.score) == (1, " ann", " bob .", 2.0)
    assert TASK.natural_output(records[0], {}) == Preferred(chosen=-4.0, rejected=-9.0)
    assert TASK.natural_output(records[0], {}).right
    alone = TASK.decode([logps, tokens], features, ROWS, meta={}, options=OPTIONS, tuned={})
    assert set(TASK.score_inputs(alone, {}, OPTIONS)) == TASK.inputs(OPTIONS) == {"preference"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param(
            {"prompt": 3, "chosen": "a", "rejected": "b"}, "column prompt must be text or a list of", id="number"
        ),
        pytest.param(
            {"prompt": "a", "chosen": None, "rejected": "b"}, "column chosen must be text or a list", id="null"
        ),
        pytest.param(
            {"prompt": "a", "chosen": said("assistant", "b"), "rejected": said("assistant", "c")},
            "prompt, chosen and rejected must be all texts, or all lists of messages",
            id="both-kinds",
        ),
    ],
)
def test_what_cannot_be_used_names_its_row(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as raised:
        TASK.check(datasets.Dataset.from_list([row]), "eval", {}, OPTIONS, "d.json:{}".format)
    assert str(raised.value).startswith(f"d.json:0: {message}")


def test_the_reader_is_told_of_what_was_cut_and_of_equal_answers(decoder: Any) -> None:
    assert encoded(decoder[1], max_length=8).notes == [
        "4 of 4 answers with their prompts were cut at 8 tokens: at the beginning of the prompt, and where that isn't "
        "enough at the end"
    ]
    same = datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "b"}])
    assert TASK.check(same, "train", {}, OPTIONS, "row {}".format) == ["1 of 1 rows have the same answer twice"]


def test_natural_inputs_are_three_texts_or_chats() -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert TASK.rows_from_input(("a", "b", "c")) == [row]
    assert TASK.rows_from_input([row, ("a", "b", "c")]) == [row, row]
    chat = {name: said("user", "x") for name in row}
    with pytest.raises(DataError, match="not both at once"):
        TASK.rows_from_input([row, chat])
    with pytest.raises(DataError, match="predict takes"):
        TASK.rows_from_input(("a", "b"))
