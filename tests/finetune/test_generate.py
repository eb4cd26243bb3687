"""Generation by decoders: padded on the left, without their prompts, each prompt's own whatever its batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.finetune.generating import Generated, Writer
from ftcheck.tasks.features import EncodedRows, Gatherer
from tests import tiny

PROMPTS = ["the cat", "a", "who sees the big red dog ?", "Paris is", "the cat"]
SETTINGS = {"max_new_tokens": 12, "no_repeat_ngram_size": 3}


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Model and tokenizer: GPT-2 counts positions from the left, Llama's are relative; both want padding there."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path: Path = getattr(tiny, request.param)(tmp_path_factory.mktemp(request.param), initializer_range=0.3)
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.pad_token = tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(path).eval(), tokenizer


def generate(decoder: tuple[Any, Any], size: int, texts: list[str] = PROMPTS, **settings: Any) -> Generated:
    model, tokenizer = decoder
    gathered = Gatherer()
    gathered.add(tokenizer(texts), ["input_ids"])
    prompts = EncodedRows(tokens=gathered.tokens(), starts=gathered.starts())
    return Writer(
        model, tokenizer, prompts, {**SETTINGS, **settings}, device="cpu", precision="fp32", batch_size=size
    ).finish()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_each_prompt_is_continued_as_if_it_were_alone(decoder: tuple[Any, Any], size: int) -> None:
    model, tokenizer = decoder
    expected = []
    for text in PROMPTS:
        batch = tokenizer(text, return_tensors="pt")
        tokens = model.generate(**batch, **SETTINGS)[0, batch["input_ids"].shape[1] :]
        expected.append(tokenizer.decode(tokens, skip_special_tokens=True))
    found = generate(decoder, size).texts
    assert found == expected
    assert len(set(found)) == 4, "all alike: the order can't show"


def test_what_is_sampled_is_the_same_again_and_another_with_another_seed(decoder: tuple[Any, Any]) -> None:
    one, same, other = (generate(decoder, 2, do_sample=True, seed=seed).texts for seed in (3, 3, 4))
    assert one == same != other


def test_a_batch_draws_the_same_whatever_others_drew(decoder: tuple[Any, Any]) -> None:
    """So that halving batches where memory runs out gives what smaller batches would have given."""
    longest, *rest = sorted(PROMPTS, key=len, reverse=True)
    whole = generate(decoder, 2, [longest, *rest], do_sample=True, seed=3).texts
    assert generate(decoder, 2, [longest, rest[0]], do_sample=True, seed=3).texts == whole[:2]


def test_several_ends_are_known_and_none_is_no_end(decoder: tuple[Any, Any]) -> None:
    model, _ = decoder
    kept = model.generation_config.eos_token_id
    try:
        model.generation_config.eos_token_id = list(range(model.config.vocab_size))
        assert generate(decoder, 5).notes == ()
        model.generation_config.eos_token_id = None
        assert generate(decoder, 5).notes == (
            "5 of 5 generated texts reached max_new_tokens (12) without an end of their own",
        )
    finally:
        model.generation_config.eos_token_id = kept


def test_where_training_left_the_model_in_training_mode_nothing_is_dropped_out(decoder: tuple[Any, Any]) -> None:
    decoder[0].train()
    assert generate(decoder, 5).texts == generate(decoder, 5).texts
    assert not decoder[0].training


def test_nothing_is_warned_of(decoder: tuple[Any, Any], recwarn: pytest.WarningsRecorder) -> None:
    from ftcheck.finetune.quiet import quiet

    with quiet() as warnings:
        generate(decoder, 2)
    assert (warnings, list(recwarn)) == ([], [])


def test_progress_counts_prompts(decoder: tuple[Any, Any]) -> None:
    model, tokenizer = decoder
    gathered, told = Gatherer(), []
    gathered.add(tokenizer(PROMPTS), ["input_ids"])
    Writer(
        model,
        tokenizer,
        EncodedRows(tokens=gathered.tokens(), starts=gathered.starts()),
        {"max_new_tokens": 2},
        device="cpu",
        precision="fp32",
        batch_size=2,
        on_batch=lambda done, total: told.append((done, total)),
    ).finish()
    assert told == [(2, 5), (5, 5)], "two of them are the same, and answered together"


def test_the_random_numbers_that_it_draws_are_its_own(decoder: tuple[Any, Any]) -> None:
    """Whatever the state before: greedy search draws none, sampling starts from its seed."""
    torch.manual_seed(1)
    one = generate(decoder, 5, do_sample=True).texts
    torch.manual_seed(2)
    assert generate(decoder, 5, do_sample=True).texts == one
