"""Which techniques go with a training in several processes, and what is said of those that don't."""

from __future__ import annotations

import pytest

from ftcheck.errors import SuiteErrors
from ftcheck.finetune.techniques import BUILT_IN
from tests.finetune.ranks import TECHNIQUES
from tests.techniques.trainings import case_of

ALONE = {
    "search": "{space: {learning_rate: {log: [1e-5, 1e-4]}}, trials: 2}",
    "quantization": "{qat: int8}",
    "freeze": "{patterns: base, unfreeze_layers_per_epoch: 1}",
    "padding": "parts",
    "prune": "{amount: 0.5, method: movement}",
    "trainer": "'transformers:Trainer'",
    "loop": "'tests.techniques.test_loop:train'",
}
TOGETHER = {
    "focal": "2.0",
    "dropout": "fast",
    "attention": "eager",
    "sampling": "sqrt",
    "augment": "{method: swap}",
    "folds": "2",
    "distill": "org/teacher",
    "parameter_groups": "{head: {learning_rate: 10}}",
    "quantization": "{post: int8}",
    "export": "onnx",
    "callbacks": "['transformers:EarlyStoppingCallback']",
    "optimizers": "'tests.techniques.test_own_trainers:optimizers'",
}
"""Those that work on rows, on the loss of each row, on the optimizer's groups, or after the training."""


def said(fields: str) -> list[str]:
    """What is said of processes in a suite with these fields, whatever else is wrong with it."""
    try:
        case_of(f"data: {{path: org/data, splits: {{tune: validation}}}}, {fields}")
    except SuiteErrors as found:
        return [error.message for error in found.errors if "processes" in error.message]
    return []


@pytest.mark.parametrize("name", ALONE)
def test_what_only_one_process_can_do_is_refused_when_the_suite_is_read(name: str) -> None:
    (message,) = said(f"resources: {{gpus: 2}}, {name}: {ALONE[name]}")
    assert message.startswith("can't be trained in 2 processes (resources.gpus): ")
    assert said(f"{name}: {ALONE[name]}") == []


@pytest.mark.parametrize("name", TOGETHER)
def test_what_several_can_do_is_not(name: str) -> None:
    assert said(f"resources: {{gpus: 2}}, {name}: {TOGETHER[name]}") == []


@pytest.mark.parametrize("spreads", ["fsdp: true", "deepspeed: {zero_optimization: {stage: 3}}"])
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("prune", "{amount: 0.5, schedule: cubic}", "a mask is as large as the whole weight; prune at the end"),
        ("prune", "{amount: 0.5}", None),
        ("optimizers", TOGETHER["optimizers"], "the Trainer takes no optimizer there that was made before the model"),
        ("focal", "2.0", None),
    ],
)
def test_what_needs_whole_weights_does_not_go_with_a_spread_model(
    spreads: str, name: str, options: str, expected: str | None
) -> None:
    fields = f"resources: {{gpus: 2}}, training: {{{spreads}}}, {name}: {options}"
    try:
        case_of(f"data: {{path: org/data, splits: {{tune: validation}}}}, {fields}")
    except SuiteErrors as found:
        (message,) = [error.message for error in found.errors if "can't be combined with training." in error.message]
        assert expected is not None
        assert expected in message
    else:
        assert expected is None


def test_every_technique_was_thought_of() -> None:
    assert {*ALONE, *TOGETHER, *TECHNIQUES} == set(BUILT_IN)


def test_a_technique_is_not_asked_of_training_that_is_wrong_by_itself() -> None:
    with pytest.raises(SuiteErrors) as found:
        case_of("freeze: {unfreeze_layers_per_epoch: 1}, training: {num_train_epochs: {a: 4}}")
    assert any(error.message.startswith("expected a number") for error in found.value.errors)
