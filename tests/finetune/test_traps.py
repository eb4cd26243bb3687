"""The ways in which a Trainer gives wrong numbers silently: each closed, each test failing without what closes it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from ftcheck.finetune.session import FineTuning
from tests.finetune.jobs import ROWS, TEXTS, job, loaded

ONE_STEP = {"max_steps": 1, "optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}


def weights(tuning: FineTuning) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in tuning.model.state_dict().items()}


def trained(made: Any, **roles: Any) -> tuple[dict[str, torch.Tensor], Any]:
    with FineTuning(made, loaded=loaded(**roles)) as tuning:
        result = tuning.train()
        return weights(tuning), result


def differs(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("task", ROWS)
def test_accumulating_batches_takes_the_step_of_one_large_batch(task: str, smoothing: float, still_bert: Path) -> None:
    """One SGD step of learning rate 1 moves the weights by the gradient: the same for 8 as for 4 times 2."""
    steps = {}
    for batch, times in ((8, 1), (2, 4)):
        training = {
            **ONE_STEP,
            "per_device_train_batch_size": batch,
            "gradient_accumulation_steps": times,
            "label_smoothing_factor": smoothing,
        }
        rows = ROWS[task][:8]
        steps[batch], _ = trained(job(task, still_bert, training=training), train=rows, eval=rows)
    # learning rate 0 would be refused: the start is a training whose gradient is clipped to nothing
    start, _ = trained(
        job(task, still_bert, training={**ONE_STEP, "learning_rate": 1e-30}), train=ROWS[task][:8], eval=ROWS[task][:8]
    )
    large = torch.cat([(steps[8][name] - start[name]).flatten() for name in start])
    small = torch.cat([(steps[2][name] - start[name]).flatten() for name in start])
    assert float(small.norm() / large.norm()) == pytest.approx(1.0, abs=1e-5)
    assert float((small - large).norm() / large.norm()) < 1e-5


def test_a_token_counts_the_same_in_every_accumulated_batch(still_bert: Path) -> None:
    """Sentences of 1 and of 5 words: a mean of the batches' means would weigh the short ones fivefold."""
    rows = [
        {"tokens": ["Ann"], "tags": ["B-PER"]},
        {"tokens": ["the", "cat", "runs", "in", "Rome"], "tags": ["O", "O", "O", "O", "B-LOC"]},
    ]
    steps = [
        trained(
            job(
                "token-classification",
                still_bert,
                training={**ONE_STEP, "per_device_train_batch_size": batch, "gradient_accumulation_steps": 2 // batch},
            ),
            train=rows,
            eval=rows,
        )[0]
        for batch in (2, 1)
    ]
    assert differs(*steps) < 1e-5


def test_the_logged_loss_is_a_mean_whatever_is_accumulated(still_bert: Path) -> None:
    losses = []
    for batch, times in ((8, 1), (2, 4)):
        training = {**ONE_STEP, "per_device_train_batch_size": batch, "gradient_accumulation_steps": times}
        made = job("text-classification", still_bert, training=training)
        losses.append(trained(made, train=TEXTS[:8], eval=TEXTS)[1].log_history[-1]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("task", ROWS)
def test_predictions_belong_to_their_rows_under_group_by_length(task: str, bert: Path) -> None:
    """The Trainer's predict() would permute them with its sampler."""
    rows = ROWS[task]
    made = job(task, bert, training={"max_steps": 3, "train_sampling_strategy": "group_by_length"})
    with FineTuning(made, loaded=loaded(train=rows, eval=rows)) as tuning:
        tuning.train()
        together = tuning.predict().records
        alone = []
        for row in rows:
            tuning._loaded = loaded(eval=[row])
            alone.extend(tuning.predict().records)
    assert [record["index"] for record in together] == list(range(len(rows)))
    differing = [name for name in ("scores", "score", "null_score") if name in together[0]]
    for one, other in zip(together, alone, strict=True):
        for name in differing:
            assert one[name] == pytest.approx(other[name], abs=1e-4)
    assert len({str(record[differing[-1]]) for record in together}) > len(rows) / 4, "all alike: the order can't show"


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param({"eval_strategy": "steps", "eval_steps": 2}, id="evaluation"),
        pytest.param({"logging_steps": 1}, id="logging"),
        pytest.param(
            {
                "eval_strategy": "steps",
                "eval_steps": 2,
                "save_strategy": "steps",
                "save_steps": 2,
                "eval_on_start": True,
            },
            id="evaluation-first",
        ),
    ],
)
@pytest.mark.parametrize("task", ROWS)
def test_looking_at_a_training_does_not_change_its_weights(task: str, looks: dict[str, Any], bert: Path) -> None:
    """With dropout, so that any random number that the looking drew would show."""
    training = {"max_steps": 8, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    rows = ROWS[task]
    plain, _ = trained(job(task, bert, training=training), train=rows, tune=rows[:5], eval=rows)
    looked_at, _ = trained(job(task, bert, training={**training, **looks}), train=rows, tune=rows[:5], eval=rows)
    assert differs(plain, looked_at) == 0.0


def test_an_evaluation_that_draws_random_numbers_changes_nothing_either(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftcheck.finetune import predict

    training = {"max_steps": 6, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
    plain, _ = trained(job("text-classification", bert, training=training), train=TEXTS, tune=TEXTS, eval=TEXTS)
    run = predict.run

    def drawing(*args: Any, **kwargs: Any) -> Any:
        torch.rand(3)
        return run(*args, **kwargs)

    monkeypatch.setattr(predict, "run", drawing)
    evaluated = job("text-classification", bert, training={**training, "eval_strategy": "steps", "eval_steps": 1})
    assert differs(plain, trained(evaluated, train=TEXTS, tune=TEXTS, eval=TEXTS)[0]) == 0.0


def test_a_model_trained_in_bf16_is_left_with_its_plain_forward(bert: Path, tmp_path: Path) -> None:
    """accelerate leaves an autocast wrapper: logits would differ by 2e-4 while the dtype says float32."""
    made = job("text-classification", bert, training={"max_steps": 3}, precision="bf16")
    with FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS)) as tuning:
        tuning.train()
        tuning.save(tmp_path / "model")
        batch = tuning.tokenizer(["the cat runs"], return_tensors="pt")
        with torch.no_grad():
            after_training = tuning.model(**batch).logits
        tuning.load(tmp_path / "model")
        with torch.no_grad():
            after_loading = tuning.model(**batch).logits
    assert torch.equal(after_training, after_loading)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", ROWS)
def test_what_was_trained_answers_the_same_when_it_is_loaded(
    task: str, precision: str, bert: Path, tmp_path: Path
) -> None:
    rows = ROWS[task]
    made = job(task, bert, training={"max_steps": 3}, precision=precision)
    with FineTuning(made, loaded=loaded(train=rows, eval=rows)) as tuning:
        tuning.train()
        tuning.save(tmp_path / "model")
        first = tuning.predict()
    with FineTuning(made, loaded=loaded(eval=rows)) as tuning:
        tuning.load(tmp_path / "model")
        assert tuning.predict().records == first.records


@pytest.mark.parametrize("variable", ["bf16", "fp16"])
def test_the_environment_does_not_change_the_precision(
    variable: str, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = job("text-classification", bert, training={"max_steps": 3})
    plain, _ = trained(made, train=TEXTS, eval=TEXTS)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", variable)
    assert differs(plain, trained(made, train=TEXTS, eval=TEXTS)[0]) == 0.0
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == variable


def test_precisions_follow_each_other_in_one_process(bert: Path) -> None:
    """accelerate keeps its state in a singleton."""
    found = {}
    for place, precision in enumerate(("fp32", "bf16", "fp32")):
        made = job("text-classification", bert, training={"max_steps": 3}, precision=precision)
        found[place], _ = trained(made, train=TEXTS, eval=TEXTS)
    assert differs(found[0], found[2]) == 0.0
    assert differs(found[0], found[1]) > 0.0


@pytest.mark.parametrize("task", ROWS)
def test_a_half_precision_checkpoint_trains_in_full_precision(task: str, bert: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    AutoModel.from_pretrained(bert, dtype=torch.float16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path)
    made = job(task, tmp_path, training={"max_steps": 1})
    after, _ = trained(made, train=ROWS[task], eval=ROWS[task])
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
