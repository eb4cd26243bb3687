"""Checkpoints that can't be used: one clear error each; and those that can, loaded safely."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck import tasks
from ftcheck.errors import CheckpointError
from ftcheck.finetune import model as models
from ftcheck.finetune.session import FineTuning
from ftcheck.spec import Checkpoint
from tests import tiny
from tests.finetune.jobs import QUESTIONS, SENTENCES, TEXTS, job, loaded

TWO = {"problem_type": "single_label_classification", "labels": ["moves", "rests"], "from": "data"}


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target / "copy"))


def load(
    checkpoint: Path, task: str = "text-classification", *, training: bool = True, meta: Any = None, **given: Any
) -> Any:
    made = job(task, checkpoint, **given)
    return models.load(made, tasks.get(task), dict(meta or TWO), training=training)


def test_a_checkpoint_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such folder"):
        load(tmp_path / "none")


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "tf_model.h5"])
def test_pickled_weights_are_never_read(name: str, bert: Path, tmp_path: Path) -> None:
    path = copied(bert, tmp_path)
    (path / "model.safetensors").unlink()
    (path / name).write_bytes(b"not even a pickle")
    with pytest.raises(CheckpointError, match=f"pickled weights only \\({name}\\)"):
        load(path)


def test_a_checkpoint_without_weights(bert: Path, tmp_path: Path) -> None:
    path = copied(bert, tmp_path)
    (path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="there are no weights"):
        load(path)


@pytest.mark.parametrize("keep", [0, 4, 100, 5_000], ids=lambda keep: f"{keep}-bytes")
def test_weights_that_are_cut_off(keep: int, bert: Path, tmp_path: Path) -> None:
    path = copied(bert, tmp_path)
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"model_type": "no_such_model"}, "no_such_model", id="unknown-architecture"),
        pytest.param({"model_type": None}, "model_type", id="no-architecture"),
        pytest.param({"auto_map": {"AutoConfig": "own.Config"}, "model_type": "own"}, "runs only where", id="own-code"),
    ],
)
def test_a_config_that_cannot_be_followed(change: dict[str, Any], message: str, bert: Path, tmp_path: Path) -> None:
    path = copied(bert, tmp_path)
    config = {**json.loads((path / "config.json").read_text()), **change}
    (path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    (path / "own.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_a_config_that_is_no_json(bert: Path, tmp_path: Path) -> None:
    path = copied(bert, tmp_path)
    (path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(path)


def test_a_folder_without_a_tokenizer(bert: Path, tmp_path: Path) -> None:
    path = copied(bert, tmp_path)
    for file in path.glob("*token*"):
        file.unlink()
    (path / "vocab.txt").unlink(missing_ok=True)
    with pytest.raises(CheckpointError, match="there is no tokenizer in it"):
        load(path)


def test_a_body_that_is_missing_is_an_error_even_in_training(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = copied(bert, tmp_path)
    weights = load_file(path / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "encoder.layer.1" not in name}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"isn't a whole BertForSequenceClassification: .*and 13 more missing"):
        load(path)


def test_a_body_of_another_size_is_an_error(bert: Path, tmp_path: Path) -> None:
    path = copied(bert, tmp_path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(CheckpointError, match="another size"):
        load(path)


def test_a_head_of_another_size_starts_anew_in_training_and_says_so(tmp_path: Path) -> None:
    path = tiny.bert(tmp_path, head="BertForSequenceClassification", labels=["a", "b", "c"])
    model, _, notes = load(path)
    assert model.config.num_labels == 2
    assert notes == ["the head starts anew: classifier.weight has 3×32 in the checkpoint, 2×32 here"]


def test_a_head_of_the_same_size_is_kept(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    path = tiny.bert(tmp_path, head="BertForSequenceClassification", labels=["moves", "rests"])
    model, _, notes = load(path)
    before = AutoModelForSequenceClassification.from_pretrained(path)
    assert torch.equal(model.classifier.weight, before.classifier.weight)
    assert notes == []


@pytest.mark.parametrize(
    ("task", "rows", "head"),
    [
        ("text-classification", TEXTS, "classifier"),
        ("token-classification", SENTENCES, "classifier"),
        ("question-answering", QUESTIONS, "qa_outputs"),
    ],
)
def test_judging_a_checkpoint_as_it_is_needs_a_trained_head(task: str, rows: Any, head: str, bert: Path) -> None:
    made = job(task, bert, trains=False)
    with (
        FineTuning(made, loaded=loaded(eval=rows)) as tuning,
        pytest.raises(CheckpointError, match=f"no trained head for this task \\({head}"),
    ):
        tuning.predict()


def test_judging_a_checkpoint_with_another_head_size_names_both(tmp_path: Path) -> None:
    path = tiny.bert(tmp_path, head="BertForSequenceClassification", labels=["a", "b", "c"])
    with pytest.raises(
        CheckpointError, match=r"another size \(classifier.weight: 3×32 in the checkpoint, 2×32 needed\)"
    ):
        load(path, training=False)


def test_an_architecture_without_a_head_for_the_task(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTModel

    tiny.bert_tokenizer(tmp_path)
    ViTModel(ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)).save_pretrained(
        tmp_path
    )
    with pytest.raises(CheckpointError, match="no head for this task"):
        load(tmp_path)


def test_a_tokenizer_of_another_model(bert: Path, tmp_path: Path) -> None:
    path = tiny.bert(tmp_path / "small", vocab_size=50)
    with pytest.raises(CheckpointError, match="tokenizer knows 125 tokens, but the model embeds 50"):
        load(path)
    other = job("text-classification", bert, checkpoint=Checkpoint(path=str(path), local=True, tokenizer=str(bert)))
    with pytest.raises(CheckpointError, match="they don't belong together"):
        models.load(other, tasks.get("text-classification"), dict(TWO), training=True)


def test_a_decoder_pads_with_its_end_token_and_says_so(gpt2: Path) -> None:
    model, tokenizer, notes = load(gpt2)
    assert tokenizer.pad_token == "<|endoftext|>"
    assert model.config.pad_token_id == tokenizer.pad_token_id == model.config.eos_token_id
    assert notes == ["the tokenizer has no padding token: batches are padded with <|endoftext|>"]


def test_a_tokenizer_with_nothing_to_pad_with(bert: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path = copied(bert, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "pad_token_id": None}))
    settings = json.loads((path / "tokenizer_config.json").read_text())
    (path / "tokenizer_config.json").write_text(json.dumps({**settings, "pad_token": None}))
    with pytest.raises(CheckpointError, match="neither a padding token nor an end-of-text token"):
        load(path)


def test_a_decoder_classifies_a_batch_as_it_does_single_texts(gpt2: Path) -> None:
    """Without `pad_token_id` it refuses batches; with a wrong one it reads the padding."""
    made = job("text-classification", gpt2, training={"max_steps": 2})
    with FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning:
        tuning.train()
        together = [record["scores"] for record in tuning.predict().records]
        tuning._loaded = loaded(eval=TEXTS[7:8])
        assert tuning.predict().records[0]["scores"] == pytest.approx(together[7], abs=1e-6)


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        pytest.param(tiny.bert, 64, id="bert"),
        pytest.param(tiny.gpt2, 128, id="gpt2"),
        pytest.param(tiny.roberta, 62, id="roberta-numbers-from-2"),
    ],
)
def test_a_sequence_longer_than_the_model_allows_names_both(make: Any, limit: int, tmp_path: Path) -> None:
    path = make(tmp_path)
    _, tokenizer, _ = load(path, options={"max_length": limit})
    assert tokenizer.model_max_length == limit
    with pytest.raises(CheckpointError, match=f"max_length is {limit + 1}, but .* takes at most {limit} tokens"):
        load(path, options={"max_length": limit + 1})


@pytest.mark.parametrize("make", [tiny.bert, tiny.roberta, tiny.gpt2], ids=["bert", "roberta", "gpt2"])
def test_the_longest_sequence_really_fits(make: Any, tmp_path: Path) -> None:
    model, tokenizer, _ = load(make(tmp_path))
    batch = tokenizer(["a " * 500], truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape[1] == tokenizer.model_max_length
    model(**batch)


def test_words_are_found_by_a_byte_level_tokenizer(tmp_path: Path) -> None:
    """It demands `add_prefix_space` for texts that are words already."""
    path = tiny.roberta(tmp_path)
    made = job("token-classification", path, training={"max_steps": 1})
    with FineTuning(made, loaded=loaded(train=SENTENCES, eval=SENTENCES)) as tuning:
        tuning.train()
        assert tuning.predict().notes == ()


def test_the_hub_offline_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made = job(
        "text-classification", Path("/"), checkpoint=Checkpoint(path="nobody/nothing", local=False), offline=True
    )
    with pytest.raises(CheckpointError) as raised:
        models.load(made, tasks.get("text-classification"), dict(TWO))
    assert str(raised.value).startswith("checkpoint nobody/nothing: it isn't in the local cache")
