"""What a training is thought to take: as the formula says by hand, and never less than what torch keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.executors import estimate
from ftcheck.executors.estimate import Batch, Shape
from ftcheck.finetune import memory
from tests import tiny

BERT = Shape(parameters=109_482_240, width=768, layers=12, heads=12, inner=3072, vocabulary=30522, positions=512)
GPT2 = Shape(parameters=124_439_808, width=768, layers=12, heads=12, inner=3072, vocabulary=50257, positions=1024)
MB = 1e6

SHAPED = b'{"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 10}'


@pytest.mark.parametrize(
    ("shape", "batch", "options", "expected"),
    [
        pytest.param(
            BERT,
            Batch(texts=32, tokens=128, precision="fp32"),
            {},
            # 16 bytes a parameter; 12 layers of 4,096 tokens × (34 · 768 + 5 · 12 · 128) bytes, × 2.5
            16 * 109_482_240 + 12 * 4096 * (34 * 768 + 5 * 12 * 128) * 2.5,
            id="bert-base",
        ),
        pytest.param(
            BERT,
            Batch(texts=32, tokens=128, precision="bf16"),
            {},
            18 * 109_482_240 + 12 * 4096 * (34 * 768 + 5 * 12 * 128) * 2,
            id="bert-base-mixed",
        ),
        pytest.param(
            BERT,
            Batch(texts=32, tokens=128, precision="fp32"),
            {"checkpointing": True},
            16 * 109_482_240 + 12 * 4096 * 768 * 4 + 4096 * (34 * 768 + 5 * 12 * 128) * 2.5,
            id="bert-base-checkpointing",
        ),
        pytest.param(
            BERT,
            Batch(texts=32, tokens=128, precision="fp32"),
            {"optimizer": "adamw_bnb_8bit"},
            10 * 109_482_240 + 12 * 4096 * (34 * 768 + 5 * 12 * 128) * 2.5,
            id="bert-base-8-bit-adam",
        ),
        pytest.param(
            GPT2,
            Batch(texts=8, tokens=1024, precision="fp32", token_logits=True),
            {},
            16 * 124_439_808 + 12 * 8192 * (34 * 768 + 5 * 12 * 1024) * 2.5 + 3 * 4 * 8192 * 50257,
            id="gpt-2",
        ),
        pytest.param(
            GPT2,
            Batch(texts=8, tokens=1024, precision="bf16", token_logits=True),
            {"trained": 1_000_000, "weight_bytes": 0.5},
            0.5 * 123_439_808
            + 16e6
            + 2 * 124_439_808
            + 12 * 8192 * (34 * 768 + 5 * 12 * 1024) * 2
            + 3 * 4 * 8192 * 50257,
            id="gpt-2-qlora",
        ),
    ],
)
def test_by_hand(shape: Shape, batch: Batch, options: dict[str, Any], expected: float) -> None:
    assert estimate.training(shape, batch, **options) == int(expected)


def test_bert_base_and_gpt2_take_what_their_users_report() -> None:
    """5 to 6 GB for BERT-base at 32 × 128 in fp32; a 16 GB card is too small for GPT-2 at 8 × 1,024."""
    assert 5e9 < estimate.training(BERT, Batch(texts=32, tokens=128, precision="fp32")) < 6e9
    assert estimate.training(GPT2, Batch(texts=8, tokens=1024, precision="fp32", token_logits=True)) > 16e9


@pytest.mark.parametrize("texts", [1, 64])
def test_predicting_takes_the_logits_of_what_is_answered_at_once(texts: int) -> None:
    batch = Batch(texts=texts, tokens=512, precision="fp32", token_logits=True)
    more = estimate.evaluating(GPT2, batch) - estimate.evaluating(GPT2, replace(batch, token_logits=False))
    assert more == 2 * (4 * 512 * 50257 if texts == 1 else memory.LOGITS_AT_ONCE)


CASES = {
    "bert": ("BertForSequenceClassification", "BertConfig", {"intermediate_size": 512}),
    "distilbert": (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {"dim": 128, "hidden_dim": 512, "n_layers": 3, "n_heads": 4},
    ),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config", {"n_embd": 128, "n_layer": 3, "n_head": 4}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {"intermediate_size": 352}),
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"d_model": 128, "d_ff": 512, "d_kv": 32, "num_layers": 3, "num_heads": 4, "decoder_start_token_id": 0},
    ),
}
TEXTS, TOKENS = 16, 64


@pytest.mark.parametrize("bits", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", list(CASES))
def test_a_real_model_keeps_no_more_and_not_much_less(kind: str, bits: str, tmp_path: Path) -> None:
    """Counted: the weights, gradients and Adam's moments, and every tensor that autograd keeps, once."""
    model, expected = _made(kind, tmp_path)
    shape = Shape.read(tmp_path)
    assert shape is not None
    assert shape.parameters == sum(parameter.numel() for parameter in model.parameters())
    lm = "LM" in type(model).__name__ or "Generation" in type(model).__name__
    batch = Batch(texts=TEXTS, tokens=TOKENS, precision=bits, token_logits=lm)
    measured = _measured(model, bits, lm)
    assert measured <= estimate.training(shape, batch) <= 3 * measured
    assert shape.layers == expected


def _made(kind: str, folder: Path) -> tuple[Any, int]:
    """(the model, its layers)."""
    import torch
    import transformers

    name, config, sizes = CASES[kind]
    usual = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4} if len(sizes) == 1 else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = getattr(transformers, config)(vocab_size=2000, pad_token_id=0, **usual, **sizes)
        model = getattr(transformers, name)(made)
    model.save_pretrained(folder)
    return model, 6 if kind == "t5" else 3


def _measured(model: Any, precision: str, lm: bool) -> int:
    """Bytes of a training step: 16 for each parameter, and what is kept for the backward pass."""
    import torch

    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(1, 1000, (TEXTS, TOKENS))
    labels = ids if lm else torch.zeros(TEXTS, dtype=torch.long)
    model.train()
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss
    loss.backward()
    return int(16 * sum(parameter.numel() for parameter in model.parameters())) + sum(kept.values())


def test_an_adapter_trains_two_thin_matrices_beside_each_weight(tmp_path: Path) -> None:
    shape = Shape.read(tiny.bert(tmp_path))
    assert shape is not None
    linear = [(32, 32)] * 4 + [(64, 32), (32, 64)]
    per_layer = sum(8 * (rows + columns) for rows, columns in linear)
    pooler = 8 * (32 + 32)
    assert shape.adapter(8) == 2 * per_layer + pooler
    assert shape.adapter(8, ("pooler",)) == 2 * per_layer + pooler + 32 * 32


@pytest.mark.parametrize(
    ("config", "weights"),
    [
        pytest.param(b"{}", b"\x02\0\0\0\0\0\0\0{}", id="config-without-sizes"),
        pytest.param(b"{", b"\x02\0\0\0\0\0\0\0{}", id="config-that-is-no-json"),
        pytest.param(b"[]", b"", id="config-that-is-no-mapping"),
        pytest.param(b"[" * 100_000, b"", id="config-without-end"),
        pytest.param(SHAPED, None, id="weights-that-are-not-here-yet"),
        pytest.param(None, b"", id="no-config"),
        pytest.param(b'{"hidden_size": 8}', b"w", id="weights-that-are-none"),
        pytest.param(b'{"hidden_size": 8}', b"\xff" * 8, id="a-header-without-end"),
        pytest.param(b'{"hidden_size": 8}', b"\x08\0\0\0\0\0\0\0" + b'{"a": 1}', id="a-header-of-another-kind"),
    ],
)
def test_what_files_do_not_say_is_not_known(tmp_path: Path, config: bytes | None, weights: bytes | None) -> None:
    for name, content in (("config.json", config), ("model.safetensors", weights)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    assert Shape.read(tmp_path) is None


def test_weights_in_several_files_count_together(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(SHAPED)
    for number in range(2):
        header = json.dumps({"__metadata__": {}, f"layer.{number}.weight": {"shape": [3, 5]}}).encode()
        (tmp_path / f"model-{number}.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    shape = Shape.read(tmp_path)
    assert shape is not None
    assert shape.parameters == 30
    assert shape.inner == 16
