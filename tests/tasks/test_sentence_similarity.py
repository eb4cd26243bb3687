"""Pairs with a score: what the model reads, the embeddings, the loss, records, natural input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import torch

from ftcheck import tasks
from ftcheck.errors import DataError, TrainingError
from ftcheck.tasks.sentence_similarity import Embedded, Options, mean
from tests import tiny

TASK: Any = tasks.get("sentence-similarity")
OPTIONS = Options(scale=5).model_dump()
PAIRS = {"text": ["the cat runs", "a dog"], "text_pair": ["the old cat", "the big red house was old"]}
ROWS = datasets.Dataset.from_dict({**PAIRS, "label": [4.0, 0.5]})


def encoded(tokenizer: Any, rows: datasets.Dataset = ROWS, **given: Any) -> Any:
    return TASK.encode(rows, tokenizer, {}, {**OPTIONS, **given}, training=True)


def test_each_text_is_read_by_itself(tokenizer: Any) -> None:
    batch = TASK.collator(tokenizer, None)(list(encoded(tokenizer)))
    for place, column in enumerate(PAIRS):
        expected = tokenizer(PAIRS[column], padding="max_length", max_length=batch["input_ids"].shape[2])
        for name in ("input_ids", "attention_mask"):
            assert batch[name][:, place].tolist() == expected[name]
    assert batch["labels"].tolist() == pytest.approx([0.8, 0.1])


def test_embeddings_are_those_of_sentence_transformers(tokenizer: Any, tmp_path: Path) -> None:
    """Mean pooling over tokens that are no padding, and the cosine."""
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer, util
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling
    from transformers import AutoModel, AutoTokenizer

    path = str(tiny.bert(tmp_path))
    model = AutoModel.from_pretrained(path).eval()
    own = AutoTokenizer.from_pretrained(path)
    batch = TASK.collator(own, None)(list(encoded(own)))
    targets = {"labels": batch.pop("labels")}
    with torch.no_grad():
        output = TASK.forward(model, batch, targets)
    (found,) = TASK.outputs(output, targets)
    theirs = SentenceTransformer(modules=[Transformer(path), Pooling(32, pooling_mode="mean")], device="cpu")
    one, other = (theirs.encode(PAIRS[column], convert_to_tensor=True) for column in PAIRS)
    assert torch.allclose(output.embeddings[:, 0], one, atol=1e-5)
    assert torch.allclose(found, util.pairwise_cos_sim(one, other), atol=1e-5)


def test_padding_counts_nothing() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]])
    assert mean(hidden, torch.tensor([[1, 1, 0]])).tolist() == [[2.0, 3.0]]
    assert mean(hidden, torch.tensor([[0, 0, 0]])).tolist() == [[0.0, 0.0]]


def test_the_loss_is_the_squared_error_of_the_cosine() -> None:
    output = Embedded(embeddings=torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 2.0]]]))
    targets = {"labels": torch.tensor([0.5, 0.5])}
    assert TASK.loss(output, targets, 0.0).item() == pytest.approx(0.5)
    assert TASK.items(targets) == 2
    with pytest.raises(TrainingError, match="is for classes"):
        TASK.loss(output, targets, 0.1)


def test_records_are_on_the_scale_of_the_scores(tokenizer: Any) -> None:
    import numpy as np

    records = TASK.decode([np.array([0.8, -0.1])], encoded(tokenizer), ROWS, meta={}, options=OPTIONS, tuned={})
    assert [(r["prediction"], r["reference"]) for r in records] == [(4.0, 4.0), (-0.5, 0.5)]
    inputs = TASK.score_inputs(records, {}, OPTIONS)
    assert set(inputs) == TASK.inputs(OPTIONS)
    assert inputs["value"] == ([4.0, -0.5], [4.0, 0.5])
    (worst,) = TASK.worst(records, {}, OPTIONS)
    assert (worst.index, worst.score) == (1, 1.0)
    assert TASK.natural_output(records[0], {}) == 4.0


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        pytest.param("label", [4.0, 6.0], "d.csv:1: column label is 6, beyond task.scale, 5, the score", id="beyond"),
        pytest.param("label", ["4", "5"], "d.csv:0: column label must be a number, got '4'", id="text-for-number"),
        pytest.param("label", [4.0, float("nan")], "d.csv:1: column label must be a finite number", id="nan"),
        pytest.param("text", ["a", None], "d.csv:1: column text must be text, got None", id="null"),
    ],
)
def test_what_cannot_be_used_names_its_row(column: str, value: list[Any], message: str) -> None:
    rows = datasets.Dataset.from_dict({**ROWS.to_dict(), column: value})
    with pytest.raises(DataError) as raised:
        TASK.check(rows, "train", {}, OPTIONS, "d.csv:{}".format)
    assert str(raised.value).startswith(message)


def test_cut_texts_are_counted(tokenizer: Any) -> None:
    assert encoded(tokenizer, max_length=5).notes == ["1 texts were cut at 5 tokens"]


def test_natural_inputs_are_pairs() -> None:
    both = {"text": "a", "text_pair": "b"}
    assert TASK.rows_from_input(("a", "b")) == [both]
    assert TASK.rows_from_input([("a", "b"), both]) == [both, both]
    with pytest.raises(DataError, match="predict takes a pair of texts"):
        TASK.rows_from_input("a")


def test_a_pooler_that_the_checkpoint_lacks_is_not_missed(tmp_path: Path) -> None:
    """A masked language model has none; a body that is missing is an error still."""
    from transformers import AutoModel

    from ftcheck.errors import CheckpointError
    from ftcheck.finetune import model as models
    from ftcheck.finetune.model import Source

    path = tiny.bert(tmp_path / "masked", head="BertForMaskedLM")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    source = Source.folder(str(path))
    _, notes = models.load_model(source, TASK, {}, tokenizer, training=False, more={})
    assert notes == []
    whole = AutoModel.from_pretrained(path)
    weights = {name: tensor for name, tensor in whole.state_dict().items() if "layer.1" not in name}
    whole.save_pretrained(path, state_dict=weights)
    with pytest.raises(CheckpointError, match="isn't a whole BertModel"):
        models.load_model(source, TASK, {}, tokenizer, training=True, more={})
