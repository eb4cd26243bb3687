"""`attention: eager`: a training of plain products, and the default wherever a model answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import TechniqueError
from ftcheck.finetune.quiet import quiet
from ftcheck.finetune.session import FineTuning
from ftcheck.finetune.techniques.attention import Attention
from tests.finetune.jobs import TEXTS, job, loaded
from tests.techniques.trainings import mistakes

EAGER = {"attention": {"training": "eager"}}
STEPS = {"max_steps": 3, "learning_rate": 1e-2}


def tuning(path: Path, *, training: dict[str, Any] = STEPS, **fields: Any) -> Any:
    made = job("text-classification", path, training=training, **fields)
    return FineTuning(made, loaded=loaded(train=TEXTS, eval=TEXTS, tune=TEXTS))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, bool]]:
    """(how a BERT's attention was computed, whether the model was in training mode)."""
    from transformers.models.bert import modeling_bert

    found: set[tuple[str, bool]] = set()
    functions = modeling_bert.ALL_ATTENTION_FUNCTIONS

    def watched(name: str, compute: Any) -> Any:
        def watching(module: Any, *args: Any, **kwargs: Any) -> Any:
            found.add((name, module.training))
            return compute(module, *args, **kwargs)

        return watching

    monkeypatch.setattr(
        modeling_bert, "eager_attention_forward", watched("eager", modeling_bert.eager_attention_forward)
    )
    monkeypatch.setitem(functions, "sdpa", watched("sdpa", functions["sdpa"]))
    return found


def test_training_is_eager_and_each_look_at_the_model_is_not(bert: Path, computed: set[tuple[str, bool]]) -> None:
    """Also at the end of an epoch within the training."""
    training = {"num_train_epochs": 2, "eval_strategy": "epoch", "gradient_accumulation_steps": 2}
    with tuning(bert, training=training, techniques=EAGER) as eager:
        eager.train()
        eager.predict()
    assert computed == {("eager", True), ("sdpa", False)}


def test_by_default_all_is_as_it_was(bert: Path, computed: set[tuple[str, bool]]) -> None:
    """`auto` is what stands for nothing said."""
    losses = []
    for techniques in ({}, {"attention": {"training": "auto"}}):
        with tuning(bert, techniques=techniques) as usual:
            losses.append(usual.train().first_losses)
    assert computed == {("sdpa", True)}
    assert losses[0] == losses[1]


def test_without_dropout_it_is_the_same_training_but_for_rounding(still_bert: Path) -> None:
    with tuning(still_bert) as usual, tuning(still_bert, techniques=EAGER) as eager:
        expected = usual.train().first_losses
        assert eager.train().first_losses == pytest.approx(expected, rel=1e-4)


def test_all_parts_of_a_model_are_told(seq2seq: Mapping[str, Path]) -> None:
    """An encoder and a decoder, and what PEFT wraps."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSeq2SeqLM, PreTrainedModel

    with quiet():
        bart = AutoModelForSeq2SeqLM.from_pretrained(seq2seq["bart"])
        model = get_peft_model(bart, LoraConfig(target_modules="all-linear"))
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]

    def found() -> set[str]:
        return {part.config._attn_implementation for part in parts}

    context: Any = None
    (steps,) = Attention({"training": "eager"}).callbacks(context, model)
    assert len(parts) > 2
    assert found() == {"sdpa"}
    steps.on_step_begin()
    assert found() == {"eager"}
    steps.on_step_end()
    assert found() == {"sdpa"}


def test_a_model_that_cant_is_refused(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertForSequenceClassification as Bert
    from transformers import BertModel

    for kind in (Bert, BertModel):
        monkeypatch.setattr(kind, "_can_set_attn_implementation", classmethod(lambda cls: False))
    with (
        tuning(bert, techniques=EAGER) as eager,
        pytest.raises(TechniqueError, match=r"^attention: BertForSequenceClassification can't .* than sdpa; leave"),
    ):
        eager.train()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("attention: sdpa", "attention: expected one of auto, eager, got 'sdpa'"),
        ("attention: eager, loop: 'm:f'", "can't be combined"),
    ],
)
def test_what_is_wrong_is_said_when_the_suite_is_read(fields: str, expected: str) -> None:
    assert any(expected in mistake for mistake in mistakes(fields))
