"""Logits that are made some places at a time: whatever stands behind a model's body, they are those of one forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
import transformers

from ftcheck.tasks import head, likelihood

PLACES = 13
SIZES = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
SEQ2SEQ = {"vocab_size": 90, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "init_std": 0.3}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "a-head": ("Llama", SIZES),
    "a-head-named-otherwise": ("GPTNeoX", SIZES),
    "a-body-in-a-body": ("OPT", {**SIZES, "word_embed_proj_dim": 16, "ffn_dim": 64}),
    "soft-cap": ("Gemma2", {**SIZES, "final_logit_softcapping": 3.0}),
    "scale": ("Granite", {**SIZES, "logits_scaling": 7.0}),
    "factor": ("Cohere", {**SIZES, "logit_scale": 0.3}),
    "a-decoder-alone": ("Bart", {**SEQ2SEQ, "is_decoder": True}),
}
MASKED = {"a-head-of-layers": "Bert", "a-decoder-that-is-a-head": "ModernBert"}
ENCODER_DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "scaled-states": ("T5ForConditionalGeneration", {"vocab_size": 90, "d_model": 32, "d_kv": 16, "num_layers": 1}),
    "bias": ("BartForConditionalGeneration", SEQ2SEQ),
}


@pytest.fixture(autouse=True)
def judging() -> Iterator[None]:
    with torch.no_grad():
        yield


def made(name: str, head_name: str, **config: Any) -> Any:
    torch.manual_seed(0)
    built = getattr(transformers, f"{name}Config")(**config)
    return getattr(transformers, f"{name}For{head_name}")(built).eval()


def forward(model: Any, *, places: int = PLACES, lines: int = 2) -> Callable[[], Any]:
    ids = torch.arange(1, lines * places + 1).view(lines, places) * 7 % 89 + 1
    more: dict[str, Any] = {"decoder_input_ids": ids.flip(0)} if model.config.is_encoder_decoder else {}
    return partial(model, input_ids=ids, **more)


def models() -> list[Any]:
    causal = [
        pytest.param(partial(made, name, "CausalLM", **given), id=id) for id, (name, given) in ARCHITECTURES.items()
    ]
    masked = [pytest.param(partial(made, name, "MaskedLM", **SIZES), id=id) for id, name in MASKED.items()]
    both = [
        pytest.param(partial(made, *name.split("For"), **given), id=id)
        for id, (name, given) in ENCODER_DECODERS.items()
    ]
    return [*causal, *masked, *both]


@pytest.mark.parametrize("build", models())
def test_parts_are_the_logits_of_one_forward(build: Callable[[], Any]) -> None:
    model = build()
    said = forward(model)
    whole = said().logits
    body = head.body(model, forward(model, places=head.ASKED_WITH, lines=1))
    assert body is not None
    parts = list(head.Parts(said, body, places=5))
    assert [part.shape[1] for part in parts] == [5, 5, 3]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-5)
    assert torch.equal(said().logits, whole), "the model is left as it was"


def test_the_body_runs_once() -> None:
    model = made("Bart", "ConditionalGeneration", **SEQ2SEQ)
    runs = []
    for module in (model.get_encoder(), model.get_decoder()):
        module.layers[0].register_forward_hook(lambda *given: runs.append(given[0]))
    said = forward(model)
    body = head.body(model, said)
    assert body is not None
    runs.clear()
    assert len(list(head.Parts(said, body, places=2))) == 7
    assert len(runs) == 2


def test_a_model_whose_logits_depend_on_other_places_is_left_whole() -> None:
    """Here each place's logits are less the mean of all: parts would be less the mean of their own."""
    model = made("Llama", "CausalLM", **SIZES)
    model.lm_head.register_forward_hook(lambda module, given, logits: logits - logits.mean(dim=1, keepdim=True))
    assert head.body(model, forward(model)) is None


def test_what_is_no_model_of_transformers_is_left_whole() -> None:
    class Plain(torch.nn.Module):  # type: ignore[misc]
        def forward(self, input_ids: Any) -> Any:
            return transformers.modeling_outputs.CausalLMOutput(logits=input_ids[..., None] * torch.ones(90))

    model: Any = Plain()
    assert head.body(model, partial(model, input_ids=torch.arange(13)[None])) is None


def test_a_body_that_fails_is_put_back() -> None:
    model = made("Llama", "CausalLM", **SIZES)
    body = head.body(model, forward(model))
    assert body is not None
    model.lm_head.register_forward_hook(lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(head.Parts(forward(model), body, places=2))
    assert "forward" not in vars(model.model)


def test_likelihoods_of_parts_are_those_of_all() -> None:
    model = made("Gemma2", "CausalLM", **{**SIZES, "final_logit_softcapping": 3.0})
    said = forward(model)
    body = head.body(model, said)
    assert body is not None
    labels = torch.arange(2 * PLACES).view(2, PLACES)
    labels[:, ::4] = -100
    whole = likelihood.by_token(said().logits, labels)
    times = []
    model.lm_head.register_forward_hook(lambda *given: times.append(1))
    parts = head.Parts(said, body, places=4)
    for found, same in zip(likelihood.by_token(parts, labels), whole, strict=True):
        torch.testing.assert_close(found, same, rtol=1e-5, atol=1e-5)
    assert float(likelihood.summed(parts, labels, 0.0)) == pytest.approx(float(whole[0].sum()), rel=1e-5)
    assert likelihood.by_line(parts, labels).tolist() == pytest.approx(whole[0].sum(dim=1).tolist(), rel=1e-5)
    assert len(times) == 4, "the head ran once for all three"
    likelihood.by_token(parts, labels.flip(0))
    assert len(times) == 8


@pytest.mark.parametrize("second_in_parts", [False, True])
def test_two_models_are_compared_place_by_place(second_in_parts: bool) -> None:
    model = made("Llama", "CausalLM", **SIZES)
    said = forward(model)
    body = head.body(model, said)
    assert body is not None
    second = head.Parts(said, body, places=6) if second_in_parts else said().logits
    pairs = list(head.pairs(head.Parts(said, body, places=4), second))
    assert [one.shape[1] for one, _ in pairs] == [4, 4, 4, 1]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert list(head.pairs(None, said().logits)) == []
