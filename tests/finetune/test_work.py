"""What a model did: tokens without padding, and operations as torch counts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.finetune import work
from ftcheck.finetune.session import FineTuning
from tests.finetune.jobs import TEXTS, job, loaded


def batch(*lengths: int) -> dict[str, torch.Tensor]:
    width = max(lengths)
    mask = torch.tensor([[int(place < length) for place in range(width)] for length in lengths])
    return {"input_ids": torch.ones_like(mask) * 7, "attention_mask": mask}


@pytest.mark.parametrize(
    ("given", "read", "squares", "places"),
    [
        pytest.param(batch(3, 5), 8, 34, 10, id="padded"),
        pytest.param({"input_ids": torch.ones(2, 4)}, 8, 32, 8, id="no mask"),
        pytest.param({n: t[None] for n, t in batch(3, 5).items()}, 8, 34, 10, id="rows of several texts"),
    ],
)
def test_padding_is_no_token(given: dict[str, torch.Tensor], read: int, squares: int, places: int) -> None:
    tokens = work.Tokens()
    tokens.count(given)
    tokens.count(given)
    assert (int(tokens.read), int(tokens.squares), tokens.places) == (2 * read, 2 * squares, 2 * places)


def encoder(head: str) -> Any:
    import transformers

    config = transformers.BertConfig(
        vocab_size=50, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=128, num_labels=5
    )
    return getattr(transformers, head)(config)


def decoder() -> Any:
    import transformers

    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=50, n_embd=64, n_layer=3, n_head=4))


@pytest.mark.parametrize(
    ("make", "per_token"),
    [
        pytest.param(lambda: encoder("BertForTokenClassification"), True, id="tagger"),
        pytest.param(lambda: encoder("BertForSequenceClassification"), False, id="classifier"),
        pytest.param(decoder, True, id="decoder"),
    ],
)
@pytest.mark.parametrize("trains", [True, False])
def test_operations_are_those_that_torch_counts(make: Any, per_token: bool, trains: bool) -> None:
    """Within what is left out: a classifier's head and pooler, and that nothing flows back into the input."""
    from torch.utils.flop_counter import FlopCounterMode

    model = make().train(trains)
    model.set_attn_implementation("eager")  # of the fused one torch doesn't count everything
    given = batch(24, 24, 24, 24)
    tokens = work.Tokens()
    tokens.count(given)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(trains):
        output = model(**given)
        if trains:
            output.logits.sum().backward()
    found = work.work(model, tokens, trains=trains, per_token=per_token, limit=None).operations
    assert found is not None
    assert found == pytest.approx(counter.get_total_flops(), rel=0.06)


def test_frozen_weights_take_no_gradient() -> None:
    model = encoder("BertForTokenClassification")
    tokens = work.Tokens()
    tokens.count(batch(24, 24))
    whole = work.work(model, tokens, trains=True, per_token=True, limit=None).operations
    for parameter in model.bert.parameters():
        parameter.requires_grad = False
    frozen = work.work(model, tokens, trains=True, per_token=True, limit=None).operations
    assert whole is not None
    assert frozen is not None
    assert 0.6 < frozen / whole < 0.75


def test_of_an_encoder_decoder_nothing_is_told() -> None:
    import transformers

    model = transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=32, num_layers=1, num_heads=2)
    )
    tokens = work.Tokens()
    tokens.count(batch(4))
    assert work.work(model, tokens, trains=True, per_token=True, limit=None).operations is None


def test_the_limit_of_a_device_is_measured_once() -> None:
    first = work.limit("cpu", "fp32")
    assert first > 0
    assert work.limit("cpu", "fp32") == first


@pytest.mark.parametrize("profile", [True, False])
def test_a_run_knows_what_it_spent(profile: bool, bert: Path) -> None:
    made = job(
        "text-classification", bert, training={"max_steps": 3, "per_device_train_batch_size": 4}, profile=profile
    )
    with FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning:
        trained, predicted = tuning.train(), tuning.predict()
    assert trained.spent is not None
    assert predicted.spent is not None
    assert {"data", "import", "model", "tokenize", "train"} <= trained.spent.seconds.keys()
    assert {"tokenize", "predict", "decode"} <= predicted.spent.seconds.keys()
    assert trained.spent.seconds["train"] >= trained.costs["train_seconds"]
    assert trained.costs["peak_memory_bytes"] == max(trained.spent.peak_bytes.values())
    for spent in (trained.spent, predicted.spent):
        assert spent.work is not None
        assert 0 < spent.work["tokens"] <= spent.work["places"]
        assert spent.work["operations"] > 0
        assert (spent.work["limit"] is not None) == profile
    with FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS)) as alone:
        alone.train()
        encoded = alone._encode(loaded(train=TEXTS, eval=TEXTS).roles["eval"], "eval")
    assert predicted.spent.work is not None
    assert predicted.spent.work["tokens"] == encoded.starts[-1]
