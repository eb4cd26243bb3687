"""What is frozen ends as it began, bit for bit, and the rest is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import TechniqueError
from ftcheck.finetune.parameters import depths
from ftcheck.finetune.techniques import freeze
from tests import tiny
from tests.keys import inputs
from tests.techniques.trainings import a_job, case_of, changed, mistakes, tuning, untrained, weights

BASE = ("bert.*",)
LOW = ("bert.embeddings.*", "bert.encoder.layer.0.*")


def moved(named: Any, **training: Any) -> tuple[set[str], set[str]]:
    """Names of the parameters that a training with weight decay changed, and of all."""
    before = untrained()
    with tuning({"freeze": named}, training={"weight_decay": 0.5, **training}) as made:
        made.train()
        return changed(before, weights(made.model)), set(before)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("named", "frozen"),
    [
        pytest.param("base", BASE, id="all but the head"),
        pytest.param(["*.embeddings.*", "*.layer.0.*"], LOW, id="patterns"),
        pytest.param({"all_but_last": 2}, LOW, id="all but the last two of three layers"),
        pytest.param(
            {"all_but_last": 0}, ("bert.embeddings.*", "bert.encoder.*"), id="all but what follows the layers"
        ),
    ],
)
@pytest.mark.parametrize("optim", ["adamw_torch_fused", "sgd"])
def test_what_is_frozen_stays_bit_identical_and_all_else_is_trained(
    named: Any, frozen: tuple[str, ...], optim: str
) -> None:
    found, names = moved(named, optim=optim)
    rest = {name for name in names if not any(fnmatchcase(name, pattern) for pattern in frozen)}
    assert found <= rest
    # What is added to all keys of an attention alike changes no weight of it: its gradient is rounding.
    assert {name for name in rest - found if not name.endswith("key.bias")} == set()


@pytest.mark.e2e
def test_layers_below_the_frozen_ones_of_checkpointed_activations_are_trained() -> None:
    """Recomputing activations loses the gradient where nothing that it starts from has one."""
    training = {"weight_decay": 0.5, "gradient_checkpointing": True}
    found, names = moved(["*.embeddings.*"], **training)
    assert found == {name for name in names if ".embeddings." not in name}


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("count", "epochs"),
    [
        pytest.param(1, [{3}, {3, 2}, {3, 2, 1}, {3, 2, 1, 0}, {3, 2, 1, 0}], id="a layer each epoch"),
        pytest.param(2, [{3, 2}, {3, 2, 1, 0}, {3, 2, 1, 0}], id="two layers each epoch"),
    ],
)
def test_layers_are_unfrozen_from_the_top_one_epoch_after_another(
    count: int, epochs: list[set[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What trains in an epoch: the top layer goes with the pooler, and the embeddings come last."""
    seen: list[dict[str, Any]] = []
    snapshots(monkeypatch, seen)
    with tuning(
        {"freeze": {"patterns": "base", "unfreeze_layers_per_epoch": count}},
        training={"weight_decay": 0.5, "num_train_epochs": len(epochs) + 1},
    ) as made:
        trained = made.train()
        depth = depths(made.model).of
        seen.append(weights(made.model))
    found = [
        {min(depth[name], 3) for name in changed(before, after) if not name.startswith("classifier")}
        for before, after in pairwise(seen)
    ]
    assert found == [set(), *epochs]
    assert trained.costs["trainable_parameters"] == trained.costs["parameters"]


def snapshots(monkeypatch: pytest.MonkeyPatch, seen: list[dict[str, Any]]) -> None:
    """Note the weights as each epoch begins."""
    made = freeze._unfreezing

    def watched(*given: Any) -> Any:
        callback = made(*given)
        began = callback.on_epoch_begin

        def on_epoch_begin(*args: Any, model: Any, **kwargs: Any) -> None:
            seen.append(weights(model))
            began(*args, model=model, **kwargs)

        callback.on_epoch_begin = on_epoch_begin
        return callback

    monkeypatch.setattr(freeze, "_unfreezing", watched)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("named", "training", "says"),
    [
        pytest.param(
            ["bert.encoder.layers.*"], {}, "did you mean bert.encoder.layer?", id="a pattern that matches nothing"
        ),
        pytest.param("bass", {}, "no parameter's name matches 'bass'", id="a word that is no pattern"),
        pytest.param("*", {}, "all parameters of BertForSequenceClassification are frozen", id="everything"),
        pytest.param(
            {"all_but_last": 4}, {}, "freeze.all_but_last is 4, but BertForSequenceClassification has 3", id="no layers"
        ),
        pytest.param(
            {"patterns": "base", "unfreeze_layers_per_epoch": 1},
            {"max_steps": 2},
            "nothing would ever be unfrozen; raise training.max_steps",
            id="steps within an epoch",
        ),
    ],
)
def test_what_a_model_cannot_do_is_said_before_it_trains(named: Any, training: Mapping[str, Any], says: str) -> None:
    with tuning({"freeze": named}, training=training) as made, pytest.raises(TechniqueError) as caught:
        made.train()
    assert says in str(caught.value)
    assert str(caught.value).startswith("freeze")


def test_a_head_that_shares_the_embeddings_is_frozen_with_them(tmp_path: Path) -> None:
    path = tiny.gpt2(tmp_path, head="GPT2LMHeadModel")
    rows = [{"text": "the cat runs"}] * 4
    with (
        tuning({"freeze": "base"}, rows, task="text-generation", path=path) as made,
        pytest.raises(TechniqueError, match="shares its weights"),
    ):
        made.train()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param("freeze: {}", "c.freeze: expected either patterns or all_but_last", id="nothing"),
        pytest.param(
            "freeze: {patterns: base, all_but_last: 1}", "c.freeze: expected either patterns or all_but_last", id="both"
        ),
        pytest.param("freeze: []", "c.freeze: expected a list of 1 or more, got an empty list", id="no pattern"),
        pytest.param(
            "freeze: base, training: false", "c.freeze: with `training: false` nothing is trained", id="false"
        ),
        pytest.param(
            "freeze: {patterns: base, unfreeze_layers_per_epoch: 1}, training: {num_train_epochs: 1}",
            "c.freeze.unfreeze_layers_per_epoch: with one epoch nothing is ever unfrozen",
            id="one epoch",
        ),
        pytest.param(
            "freeze: {patterns: base, unfreeze_layers_per_epoch: 1}, training: {max_steps: 9}, "
            "data: {path: org/data, streaming: true, splits: {train: train, eval: test}}",
            "c.freeze.unfreeze_layers_per_epoch: a stream has no epochs",
            id="a stream",
        ),
    ],
)
def test_what_cannot_be_is_refused_when_the_suite_is_read(fields: str, says: str) -> None:
    (mistake,) = mistakes(fields)
    assert mistake.startswith(says)


def test_the_short_form_is_the_long_one() -> None:
    assert case_of("freeze: base").techniques == case_of("freeze: {patterns: base}").techniques


def test_each_option_is_part_of_the_train_key(tmp_path: Path) -> None:
    given = ["base", "bert.*", {"all_but_last": 1}, {"patterns": "base", "unfreeze_layers_per_epoch": 1}]
    cases = [inputs.case(tmp_path, techniques=a_job({"freeze": value}).case.techniques) for value in given]
    found = {inputs.keys(made, tmp_path / "memo")[0].digest for made in [inputs.case(tmp_path), *cases]}
    assert len(found) == 5


@pytest.mark.parametrize(
    ("make", "head", "layers", "expected"),
    [
        pytest.param(
            tiny.t5,
            "AutoModelForSeq2SeqLM",
            4,
            {
                "shared.weight": 0,
                "encoder.block.1.layer.0.SelfAttention.q.weight": 2,
                "encoder.final_layer_norm.weight": 2,
                "decoder.block.0.layer.1.EncDecAttention.q.weight": 3,
                "decoder.final_layer_norm.weight": 5,
            },
            id="t5",
        ),
        pytest.param(
            tiny.bart,
            "AutoModelForSeq2SeqLM",
            4,
            {"model.encoder.layernorm_embedding.weight": 0, "model.decoder.layers.1.fc1.weight": 4},
            id="bart",
        ),
        pytest.param(
            tiny.gpt2,
            "AutoModelForCausalLM",
            2,
            {"transformer.wpe.weight": 0, "transformer.h.1.ln_1.weight": 2, "transformer.ln_f.weight": 3},
            id="gpt2",
        ),
        pytest.param(
            tiny.bert,
            "AutoModelForSequenceClassification",
            2,
            {"bert.encoder.layer.0.output.dense.weight": 1, "bert.pooler.dense.weight": 3, "classifier.bias": 3},
            id="bert",
        ),
    ],
)
def test_how_deep_parameters_lie(
    make: Callable[[Path], Path], head: str, layers: int, expected: Mapping[str, int], tmp_path: Path
) -> None:
    import transformers

    found = depths(getattr(transformers, head).from_pretrained(make(tmp_path)))
    assert found.layers == layers
    assert {name: found.of[name] for name in expected} == expected
