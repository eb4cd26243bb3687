"""Blocks, windows, and whether packed documents see each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, MambaConfig, MambaForCausalLM

from ftcheck import tasks
from ftcheck.tasks import documents, packing
from tests import tiny

TASK: Any = tasks.get("text-generation")
ROWS = ["the cat", "a", "", "the old dog sees a bird in the house", "eve"]


@pytest.mark.parametrize(
    ("length", "size", "stride", "expected"),
    [
        pytest.param(10, 4, 2, [(0, 1, 4), (2, 4, 6), (4, 6, 8), (6, 8, 10)], id="half"),
        pytest.param(9, 4, 3, [(0, 1, 4), (3, 4, 7), (6, 7, 9)], id="one-token-of-context"),
        pytest.param(4, 4, 2, [(0, 1, 4)], id="just-fits"),
        pytest.param(5, 4, 1, [(0, 1, 4), (1, 4, 5)], id="a-token-at-a-time"),
        pytest.param(2, 4, 2, [(0, 1, 2)], id="two-tokens"),
        pytest.param(1, 4, 2, [], id="one-token-has-nothing-before-it"),
        pytest.param(0, 4, 2, [], id="none"),
    ],
)
def test_windows(length: int, size: int, stride: int, expected: list[tuple[int, int, int]]) -> None:
    assert list(packing.windows(length, size, stride)) == expected


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("length", range(2, 20))
def test_windows_score_each_token_but_the_first_once(length: int, size: int) -> None:
    for stride in range(1, size):
        found = list(packing.windows(length, size, stride))
        assert [token for _, scored, end in found for token in range(scored, end)] == list(range(1, length))
        assert all(end - begin <= size and scored - begin >= min(begin, size - stride) for begin, scored, end in found)


@pytest.mark.parametrize(
    ("packed", "starts", "positions"),
    [
        pytest.param(True, [0, 4, 8, 10], [0, 1, 2, 0, 0, 1, 2, 3, 0, 1], id="packed"),
        pytest.param(False, [0, 3, 7, 8, 10], [0, 1, 2, 0, 1, 2, 3, 0, 0, 1], id="apart"),
    ],
)
def test_blocks(packed: bool, starts: list[int], positions: list[int]) -> None:
    found = packing.blocks([3, 5, 0, 2], 4, packed=packed)
    assert [array.tolist() for array in found] == [starts, positions]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make = getattr(tiny, request.param)
    head = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM"}[request.param]
    path: Path = make(tmp_path_factory.mktemp(request.param), head=head)
    return path


def logits_of_documents(model: Any, tokenizer: Any, *, apart: bool) -> list[tuple[list[int], torch.Tensor]]:
    """Each document of packed ROWS, and its logits in its block."""
    import datasets

    rows = datasets.Dataset.from_dict({"text": ROWS})
    found = documents.training(rows, tokenizer, max_length=64, join=None, packed=True, apart=apart)
    batch = packing.collator(tokenizer, 8)(list(found))
    batch.pop("labels")
    with torch.no_grad():
        logits = model(**batch).logits
    made, place = [], 0
    for text in ROWS:
        ids = [tokenizer.bos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]
        made.append((ids, logits[0, place : place + len(ids)]))
        place += len(ids)
    return made


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_packed_document_has_the_logits_that_it_has_alone(checkpoint: Path, attention: str) -> None:
    """Trap 5: even of a model whose config asks for a cache."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation=attention).eval()
    model.config.use_cache = True
    assert packing.keeps_apart(model)
    found = logits_of_documents(model, AutoTokenizer.from_pretrained(checkpoint, pad_token="<|endoftext|>"), apart=True)
    assert len(found) == len(ROWS)
    for ids, logits in found:
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([ids])).logits[0]
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=0)


def test_without_positions_documents_see_each_other(checkpoint: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, pad_token="<|endoftext|>")
    ids, logits = logits_of_documents(model, tokenizer, apart=False)[1]
    with torch.no_grad():
        alone = model(input_ids=torch.tensor([ids])).logits[0]
    assert (logits - alone).abs().max() > 0.01


def test_a_model_that_carries_a_state_along_does_not_keep_documents_apart() -> None:
    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4))
    assert not packing.keeps_apart(model)
    assert model.training


def test_asking_a_model_draws_no_random_numbers(checkpoint: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoint).train()
    before = torch.get_rng_state()
    packing.keeps_apart(model)
    assert torch.equal(before, torch.get_rng_state())
