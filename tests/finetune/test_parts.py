"""A batch is divided by length where that costs least, and its parts take the whole batch's step."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ftcheck.finetune import parts, techniques
from ftcheck.finetune.session import FineTuning
from tests.finetune.jobs import ROWS, TEXTS, job, loaded
from tests.techniques.trainings import mistakes

SGD = {"max_steps": 2, "optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant"}


def cost(lengths: list[int], divided: list[list[int]], overhead: int) -> int:
    return sum(overhead + len(part) * max(lengths[index] for index in part) for part in divided)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=9), st.integers(0, 100))
def test_no_other_division_costs_less(lengths: list[int], overhead: int) -> None:
    found = parts.divide(lengths, overhead)
    assert sorted(index for part in found for index in part) == list(range(len(lengths)))
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    others = (
        [order[low:high] for low, high in zip((0, *cuts), (*cuts, len(order)), strict=True)]
        for count in range(len(lengths))
        for cuts in combinations(range(1, len(lengths)), count)
    )
    assert cost(lengths, found, overhead) == min(cost(lengths, other, overhead) for other in others)


@pytest.mark.parametrize(
    ("lengths", "overhead", "expected"),
    [
        pytest.param([5, 50, 6, 5], 20, [[0, 3, 2], [1]], id="one long row"),
        pytest.param([5, 50, 6, 5], 150, [[0, 3, 2, 1]], id="not worth another pass"),
        pytest.param([7, 7, 7], 0, [[0, 1, 2]], id="all alike"),
        pytest.param([9], 10, [[0]], id="one row"),
    ],
)
def test_where_a_batch_is_divided(lengths: list[int], overhead: int, expected: list[list[int]]) -> None:
    assert parts.divide(lengths, overhead) == expected


def trained(made: Any, rows: Any) -> tuple[dict[str, torch.Tensor], Any]:
    with FineTuning(made, loaded=loaded(train=rows, eval=rows)) as tuning:
        result = tuning.train()
        return {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}, result


@pytest.fixture
def cheap_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Another pass costs nothing, so that even a tiny model's batches are divided; into how many parts each was."""
    monkeypatch.setattr(parts, "overhead", lambda model: 0)
    divided: list[int] = []
    divide = parts.divide

    def counted(lengths: Any, overhead: int) -> list[list[int]]:
        found = divide(lengths, overhead)
        divided.append(len(found))
        return found

    monkeypatch.setattr(parts, "divide", counted)
    return divided


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("task", ROWS)
def test_parts_take_the_step_of_the_whole_batch(
    task: str, accumulated: int, still_bert: Path, cheap_passes: list[int]
) -> None:
    """Without dropout the weights are those of whole batches, and so is the loss that is logged."""
    training = {**SGD, "per_device_train_batch_size": 4, "gradient_accumulation_steps": accumulated}
    rows = ROWS[task]
    if task == "question-answering":  # all of one length
        rows = [{**row, "context": row["context"] + " the cat runs" * index} for index, row in enumerate(rows)]
    weights, results = {}, {}
    for within in ("batch", "parts"):
        made = job(task, still_bert, training=training, techniques={"padding": {"within": within}})
        weights[within], results[within] = trained(made, rows)
    assert max(cheap_passes) > 1
    for name, whole in weights["batch"].items():
        np.testing.assert_allclose(weights["parts"][name], whole, atol=2e-6, err_msg=name)
    assert results["parts"].first_losses == pytest.approx(results["batch"].first_losses, rel=1e-5)
    logged = [[entry["loss"] for entry in r.log_history if "loss" in entry] for r in results.values()]
    assert logged[0] == pytest.approx(logged[1], rel=1e-4)


@pytest.mark.parametrize(
    ("given", "divides"),
    [
        pytest.param({}, False, id="default"),
        pytest.param({"padding": {"within": "batch"}}, False, id="batch"),
        pytest.param({"padding": {"within": "parts"}}, True, id="parts"),
        pytest.param(
            {"padding": {"within": "parts"}, "peft": techniques.get("peft").read({"method": "lora"})},
            True,
            id="parts, with an adapter",
        ),
    ],
)
def test_who_divides(given: dict[str, Any], divides: bool, still_bert: Path, cheap_passes: list[int]) -> None:
    training = {**SGD, "per_device_train_batch_size": 4}
    trained(job("text-classification", still_bert, training=training, techniques=given), TEXTS)
    assert bool(cheap_passes) == divides


def test_a_wider_model_pays_less_for_another_pass() -> None:
    from transformers import BertConfig

    class Model:
        def __init__(self, width: int) -> None:
            self.config = BertConfig(hidden_size=width)

    found = [parts.overhead(Model(width)) for width in (96, 384, 768, 4096)]
    assert found == sorted(found, reverse=True)
    assert found[1:] == [400, 100, 64]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param(
            "training: {include_num_input_tokens_seen: all}",
            "padding: parts can't be combined with training.include_num_input_tokens_seen, which counts whole batches",
            id="counted tokens",
        ),
        pytest.param(
            "training: {optim: adalomo}",
            "padding: parts can't be combined with training.optim adalomo, which steps at every pass",
            id="an optimizer within the pass",
        ),
        pytest.param(
            "loop: 'tests.techniques.trainings:mistakes'",
            "padding: can't be combined with loop: a loop takes whole batches",
            id="loop",
        ),
    ],
)
def test_what_parts_cannot_be_combined_with(fields: str, says: str) -> None:
    assert f"c.{says}" in [mistake.removeprefix("cases.") for mistake in mistakes(f"padding: parts, {fields}")]
