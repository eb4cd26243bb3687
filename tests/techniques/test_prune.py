"""`prune`: as many zeros as the suite says, where it says, in what is judged and what is kept."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.utils import prune as torch_prune

from ftcheck.errors import TechniqueError
from ftcheck.finetune.session import FineTuning
from ftcheck.finetune.techniques.masks import Masks, gradually
from ftcheck.finetune.techniques.prune import prunable
from tests import tiny
from tests.finetune.jobs import SENTENCES, TEXTS, loaded
from tests.keys import inputs
from tests.techniques.trainings import a_job, mistakes, tuning


def layers() -> list[tuple[str, Any]]:
    torch.manual_seed(0)
    return [("one", torch.nn.Linear(6, 10)), ("two", torch.nn.Linear(10, 4))]


def zeros(module: Any) -> int:
    return int((module.weight == 0).sum())


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("bert"))


@pytest.mark.parametrize("whole", [True, False], ids=["global", "layer"])
def test_magnitude_is_torchs_pruning(whole: bool) -> None:
    ours = layers()
    theirs = [module for _, module in copy.deepcopy(ours)]
    masks = Masks(ours, whole=whole)
    masks.prune(0.3)
    masks.bake()
    if whole:
        torch_prune.global_unstructured(
            [(module, "weight") for module in theirs], pruning_method=torch_prune.L1Unstructured, amount=0.3
        )
    else:
        for module in theirs:
            torch_prune.l1_unstructured(module, "weight", amount=0.3)
    for (_, one), other in zip(ours, theirs, strict=True):
        assert torch.equal(one.weight, other.weight)


def test_what_is_masked_by_size_stays_so() -> None:
    made = layers()
    masks = Masks(made, whole=True)
    masks.prune(0.3)
    before = [module.weight_mask == 0 for _, module in made]
    with torch.no_grad():
        for _, module in made:
            module.weight_orig[module.weight_mask == 0] = 100.0
    masks.prune(0.5)
    for (_, module), gone in zip(made, before, strict=True):
        assert bool((module.weight_mask[gone] == 0).all())


def test_movement_keeps_what_grows_also_if_it_is_masked() -> None:
    """Of y = Wx with the loss Σ y the derivative by W is x: a weight moves towards zero where w · x is above 0, and
    that is known of masked weights too."""
    layer = torch.nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, -1.0, 2.0]])
    masks = Masks([("", layer)], whole=True)
    masks.watch()
    layer.weight_mask.copy_(torch.tensor([[1.0, 0.0, 1.0]]))
    score = torch.nn.Parameter(torch.zeros(1, 3))
    adam = torch.optim.Adam([score])
    for _ in range(3):
        for part in (0.25, 0.75):  # two accumulated batches
            layer(part * torch.tensor([[1.0, 1.0, -0.25]])).sum().backward()
        masks.learn()
        score.grad = torch.tensor([[1.0, -1.0, -0.5]])  # w · x
        adam.step()
    torch.testing.assert_close(masks._score(layer), score.detach())
    masks.prune(1 / 3)
    assert layer.weight_mask.tolist() == [[0, 1, 1]]
    masks.bake()
    assert layer.weight.tolist() == [[0, -1, 2]]
    assert not layer._forward_pre_hooks


def test_evaluations_leave_movement_alone() -> None:
    layer = torch.nn.Linear(3, 1)
    masks = Masks([("", layer)], whole=True)
    masks.watch()
    with torch.no_grad():
        layer(torch.ones(1, 3))
    assert torch.equal(masks._score(layer), torch.zeros(1, 3))


def test_the_cubic_schedule_is_that_of_its_paper() -> None:
    found: list[tuple[int, float]] = []
    step = SimpleNamespace(max_steps=100, global_step=0)
    masks: Any = SimpleNamespace(pruned=0.0, learn=lambda: None)

    def prune(amount: float) -> None:
        masks.pruned = amount
        found.append((step.global_step, amount))

    masks.prune = prune
    callback = gradually(masks, amount=0.8, begin=0.1, until=0.6, updates=5)
    for step.global_step in range(1, 101):
        callback.on_step_end(None, step, None)
    assert [at for at, _ in found] == [20, 30, 40, 50, 60]
    assert [amount for _, amount in found] == pytest.approx([0.8 * (1 - (1 - n / 5) ** 3) for n in range(1, 6)])


def test_only_linear_layers_of_the_body_are_pruned(bert: Path) -> None:
    with tuning({}, path=bert) as made, made._stage():
        made._start(made._rows())
        names = {name for name, _ in prunable(made.model, None)}
        some = [name for name, _ in prunable(made.model, ["query", "output.dense"])]
        with pytest.raises(TechniqueError, match=r"no linear layer of the body ends in qurey; there are: dense, key"):
            prunable(made.model, ["qurey"])
    assert len(names) == 2 * 6
    assert all(name.startswith("encoder.layer.") for name in names)
    assert len(some) == 2 * 3


@pytest.mark.parametrize("head", ["LMHeadModel", "ForSequenceClassification"])
def test_a_decoders_layers_are_found_and_what_shares_the_embedding_is_not(head: str) -> None:
    import transformers

    config = transformers.GPT2Config(vocab_size=50, n_embd=8, n_layer=2, n_head=2, n_positions=16)
    found = prunable(getattr(transformers, f"GPT2{head}")(config), None)
    assert len(found) == 2 * 4
    encoder_decoder = transformers.T5Config(vocab_size=50, d_model=8, d_ff=16, d_kv=4, num_layers=1, num_heads=2)
    names = [name for name, _ in prunable(transformers.T5ForConditionalGeneration(encoder_decoder), None)]
    assert len(names) == 16
    assert "lm_head" not in names


CUBIC: dict[str, Any] = {"amount": 0.5, "schedule": "cubic", "updates": 3}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("options", "task"),
    [
        pytest.param({"amount": 0.4}, "text-classification", id="end"),
        pytest.param({"amount": 0.4, "schedule": "start", "scope": "layer"}, "text-classification", id="start-layer"),
        pytest.param(CUBIC, "text-classification", id="cubic"),
        pytest.param({"amount": 0.7, "method": "movement"}, "token-classification", id="movement"),
    ],
)
def test_the_kept_model_has_the_zeros_and_is_the_judged_one(
    options: dict[str, Any], task: str, bert: Path, tmp_path: Path
) -> None:
    rows = SENTENCES if task == "token-classification" else TEXTS
    named = {"prune": options}
    with tuning(named, rows, task=task, path=bert) as made:
        made.train()
        made.save(tmp_path)
        predicted = made.predict()
        weights = sum(module.weight.numel() for _, module in prunable(made.model, None))
    assert predicted.costs["sparsity"] == pytest.approx(options["amount"], abs=1 / 1000)
    with tuning(named, rows, task=task, path=bert) as again:
        again.load(tmp_path)
        found = prunable(again.model, None)
        assert sum(zeros(module) for _, module in found) == pytest.approx(options["amount"] * weights, abs=8)
        if options.get("scope") == "layer":
            assert all(zeros(module) == round(0.4 * module.weight.numel()) for _, module in found)
        repeated = again.predict()
        assert repeated.records == predicted.records
        assert repeated.costs["sparsity"] == predicted.costs["sparsity"]


@pytest.mark.e2e
def test_weights_that_are_pruned_at_the_start_stay_zero_and_the_others_learn(bert: Path) -> None:
    with tuning({"prune": {"amount": 0.4, "schedule": "start"}}, path=bert) as made, made._stage():
        made._start(made._rows())
        before = {name: module.weight_mask == 0 for name, module in prunable(made.model, None)}
        first = next(module.weight_orig.detach().clone() for _, module in prunable(made.model, None))
    with tuning({"prune": {"amount": 0.4, "schedule": "start"}}, path=bert) as made:
        made.train()
        for name, module in prunable(made.model, None):
            assert torch.equal(module.weight == 0, before[name])
        assert not torch.equal(first, next(module.weight for _, module in prunable(made.model, None)))


@pytest.mark.e2e
def test_a_training_that_stops_early_is_pruned_all_the_same(bert: Path) -> None:
    named = {"prune": {**CUBIC, "begin": 0.5, "until": 0.9}}
    training = {"max_steps": 40, "eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "loss"}
    from ftcheck.spec import EarlyStopping

    job = a_job(named, path=bert, training={**training, "learning_rate": 0.5}, early_stopping=EarlyStopping(patience=1))
    with FineTuning(job, loaded=loaded(train=TEXTS, eval=TEXTS, tune=TEXTS)) as made:
        trained = made.train()
        assert trained.log_history[-1]["step"] < 20
        assert made.predict().costs["sparsity"] == pytest.approx(0.5, abs=1 / 1000)


def test_movement_in_fp16_is_refused(bert: Path) -> None:
    with (
        tuning({"prune": {"amount": 0.5, "method": "movement"}}, path=bert, precision="fp16") as made,
        made._stage(),
        pytest.raises(TechniqueError, match="fp16 scales gradients"),
    ):
        made._start(made._rows())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param("prune: 1.0", "prune: expected a number below 1.0, got 1.0", id="everything"),
        pytest.param("prune: {method: movement}", "prune.amount: is missing", id="no-amount"),
        pytest.param(
            "prune: {amount: 0.5, method: movement, schedule: end}",
            "prune.schedule: movement is known only while training: cubic, or leave it out",
            id="movement-at-the-end",
        ),
        pytest.param(
            "prune: {amount: 0.5, schedule: cubic, begin: 0.8}",
            "prune.until: expected a part of the training above begin (0.8)",
            id="begins-after-its-end",
        ),
        pytest.param(
            "prune: {amount: 0.5, schedule: cubic}, data: {path: org/data, holdout: {tune: 0.1}}, "
            "training: {load_best_model_at_end: true, eval_strategy: epoch, save_strategy: epoch, "
            "metric_for_best_model: accuracy}",
            "prune.schedule: the best checkpoint may be one from before weights were pruned; leave out "
            "training.load_best_model_at_end, or prune at the end",
            id="best-checkpoint",
        ),
        pytest.param(
            "prune: {amount: 0.5, schedule: cubic}, lr_finder: {}",
            "prune.schedule: lr_finder trains a copy of the model, which has no masks: prune at the end",
            id="learning-rate-finder",
        ),
        pytest.param(
            "prune: 0.5, training: false",
            "prune: with `training: false` nothing is trained; leave it out",
            id="untrained",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(fields: str, expected: str) -> None:
    assert mistakes(fields) == [f"c.{expected}"]


def test_every_option_is_part_of_the_training_key(tmp_path: Path) -> None:
    from ftcheck.finetune import techniques

    made = inputs.case(tmp_path)

    def train(**options: Any) -> str:
        given = techniques.get("prune").read({"amount": 0.4, **options})
        train, predict = inputs.keys(replace(made, techniques={"prune": given}), tmp_path / "memo")
        assert "techniques" not in predict.components
        return train.digest

    changes: list[dict[str, Any]] = [
        {},
        {"amount": 0.5},
        {"method": "movement"},
        {"schedule": "start"},
        {"scope": "layer"},
        {"modules": ["query"]},
    ]
    assert len({train(**options) for options in changes}) == len(changes)
