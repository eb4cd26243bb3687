"""`dropout: fast`: other masks of the same distribution, and torch's own again after the training."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ftcheck.finetune.session import FineTuning
from ftcheck.finetune.techniques.dropout import BLOCK, Dropout, draw, fast_masks
from tests.finetune.jobs import TEXTS, job, loaded


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool], ids=str)
@pytest.mark.parametrize("p", [0.9, 0.5, 0.001])
def test_each_of_four_elements_has_the_probability(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    mask = draw(torch.empty(250_000, 4, dtype=dtype), p).double()
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    deviation = (p * (1 - p) / len(mask)) ** 0.5
    assert mask.mean(0).tolist() == pytest.approx([p] * 4, abs=5 * deviation)
    correlation = torch.corrcoef(mask.T)[~torch.eye(4, dtype=torch.bool)]
    assert correlation.abs().max() < 5 / len(mask) ** 0.5


@pytest.mark.parametrize(("p", "expected"), [(0.0, 0.0), (1.0, 1.0), (1e-9, 0.0)])
def test_at_the_ends_nothing_is_drawn(p: float, expected: float) -> None:
    assert draw(torch.empty(7), p).tolist() == [expected] * 7


@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 1, 7)], ids=str)
def test_any_shape_and_layout(shape: tuple[int, ...]) -> None:
    mask = torch.empty(shape).transpose(0, -1) if len(shape) > 1 else torch.empty(shape)
    assert draw(mask, 0.5) is mask
    assert set(mask.flatten().tolist()) <= {0.0, 1.0}


def test_the_generator_that_is_given_decides() -> None:
    masks = [draw(torch.empty(1000), 0.5, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_a_mask_is_the_same_however_many_threads_draw_it() -> None:
    def backwards(fill: Any, lows: Any) -> Any:
        return [fill(low) for low in reversed(list(lows))]

    masks = []
    with ThreadPoolExecutor(3) as pool:
        for each in (map, pool.map, backwards):
            masks.append(draw(torch.empty(3, BLOCK), 0.9, generator=torch.Generator().manual_seed(1), each=each))
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])
    first, second, third = masks[0]
    assert torch.corrcoef(masks[0])[~torch.eye(3, dtype=torch.bool)].abs().max() < 5 / BLOCK**0.5
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_torchs_dropout_takes_the_masks_and_scales_as_ever() -> None:
    ones = torch.ones(1000)
    torch.manual_seed(3)
    plain = torch.nn.functional.dropout(ones, 0.25)
    with fast_masks():
        torch.manual_seed(3)
        fast = torch.nn.functional.dropout(ones, 0.25)
        torch.manual_seed(3)
        assert torch.equal(fast, draw(torch.empty(1000), 0.75) / 0.75)
    torch.manual_seed(3)
    assert torch.equal(torch.nn.functional.dropout(ones, 0.25), plain)
    assert not torch.equal(fast, plain)


def test_what_the_training_raises_leaves_torchs_own() -> None:
    with pytest.raises(KeyError), fast_masks():
        raise KeyError
    torch.manual_seed(0)
    plain = torch.empty(100).bernoulli_(0.5)
    torch.manual_seed(0)
    assert not torch.equal(plain, draw(torch.empty(100), 0.5))


def trained(bert: Path, **fields: Any) -> list[float]:
    made = job("text-classification", bert, training={"max_steps": 3, "learning_rate": 1e-2}, **fields)
    with FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning:
        return list(tuning.train().first_losses)


def test_a_training_is_another_one_and_the_same_each_time(bert: Path) -> None:
    """So it is with `torch`, which is what stands for nothing said."""
    fast = trained(bert, techniques={"dropout": {"masks": "fast"}})
    plain = trained(bert)
    assert fast == trained(bert, techniques={"dropout": {"masks": "fast"}})
    assert plain == trained(bert, techniques={"dropout": {"masks": "torch"}})
    assert fast != plain


def test_on_another_device_nothing_is_replaced() -> None:
    context: Any = SimpleNamespace(job=SimpleNamespace(device="cuda:0"))
    torch.manual_seed(0)
    plain = torch.empty(100).bernoulli_(0.5)
    with Dropout({"masks": "fast"}).during(context):
        torch.manual_seed(0)
        assert torch.equal(torch.empty(100).bernoulli_(0.5), plain)
