"""Learning rates and weight decays of their own: by depth, and by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import TechniqueError
from ftcheck.finetune import techniques, trainer
from ftcheck.finetune.techniques import Optimized
from ftcheck.finetune.techniques.parameter_groups import ParameterGroups
from tests.keys import inputs
from tests.techniques.trainings import ENCODER, a_job, changed, mistakes, tuning, untrained, weights

SGD = {"optim": "sgd", "max_steps": 1, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}


def trained(named: Mapping[str, Any], **training: Any) -> dict[str, Any]:
    with tuning(named, training=training) as made:
        made.train()
        return weights(made.model)


def optimizers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The optimizers that trainings make from here on."""
    made: list[Any] = []
    kind = trainer._trainer_class(None, reads_rows=False)
    create = kind.create_optimizer

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(create(self, *args, **kwargs))
        return made[-1]

    monkeypatch.setattr(kind, "create_optimizer", noted)
    return made


@pytest.mark.e2e
@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch", "sgd", "adafactor", "rmsprop", "adagrad"])
def test_groups_that_change_nothing_give_the_trainers_own_result(optim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    training = {"optim": optim, "weight_decay": 0.1, "warmup_steps": 2}
    plain = trained({}, **training)
    made = optimizers(monkeypatch)
    given = {"parameter_groups": [{"match": "classifier.*", "weight_decay": 0.3}]}
    monkeypatch.setattr(
        ParameterGroups, "optimized", lambda self, model: {name: Optimized() for name, _ in model.named_parameters()}
    )
    assert changed(plain, trained(given, **training)) == set()
    assert len(made[0].param_groups) == 2


@pytest.mark.e2e
def test_a_step_of_sgd_moves_a_parameter_by_its_factor() -> None:
    start = untrained()
    plain = trained({}, **SGD, learning_rate=1.0)
    given = [{"match": "classifier.*", "learning_rate_factor": 10}, {"match": "*layer.0*", "learning_rate_factor": 0.5}]
    found = trained({"parameter_groups": given}, **SGD, learning_rate=1.0)
    for name, factor in (("classifier.weight", 10), ("bert.encoder.layer.0.output.dense.weight", 0.5)):
        step = (found[name] - start[name]).norm() / (plain[name] - start[name]).norm()
        assert float(step) == pytest.approx(factor, rel=1e-4)
    assert found["bert.pooler.dense.weight"].equal(plain["bert.pooler.dense.weight"])


@pytest.mark.e2e
def test_a_layer_learns_slower_than_the_one_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three layers: 0.5 to the power of 0 (head), 1, 2, 3 and 4 (embeddings), and each decays weights as before."""
    made = optimizers(monkeypatch)
    with tuning({"layer_lr_decay": 0.5}, training={**SGD, "weight_decay": 0.1, "learning_rate": 1.0}) as run:
        run.train()
        names = {id(parameter): name for name, parameter in run.model.named_parameters()}
    rates = {names[id(p)]: group["initial_lr"] for group in made[0].param_groups for p in group["params"]}
    assert len(rates) == len(names)
    expected = {
        "classifier.weight": 1.0,
        "bert.pooler.dense.weight": 1.0,
        "bert.encoder.layer.2.output.dense.weight": 0.5,
        "bert.encoder.layer.1.output.dense.bias": 0.25,
        "bert.encoder.layer.0.output.LayerNorm.weight": 0.125,
        "bert.embeddings.word_embeddings.weight": 0.0625,
    }
    assert {name: rates[name] for name in expected} == expected
    decays = {names[id(p)]: group["weight_decay"] for group in made[0].param_groups for p in group["params"]}
    assert decays["classifier.weight"] == 0.1
    assert decays["classifier.bias"] == decays["bert.encoder.layer.0.output.LayerNorm.weight"] == 0.0


@pytest.mark.e2e
def test_depth_and_name_go_together_with_what_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    made = optimizers(monkeypatch)
    given = {
        "freeze": ["*.embeddings.*"],
        "layer_lr_decay": 0.5,
        "parameter_groups": [
            {"match": "*.layer.2.*.bias", "weight_decay": 0.2},
            {"match": "*.layer.2.*", "learning_rate_factor": 4},
        ],
    }
    with tuning(given, training={**SGD, "learning_rate": 1.0, "weight_decay": 0.1}) as run:
        run.train()
        names = {id(parameter): name for name, parameter in run.model.named_parameters()}
    found = {
        names[id(p)]: (group["initial_lr"], group["weight_decay"])
        for group in made[0].param_groups
        for p in group["params"]
    }
    assert not [name for name in found if ".embeddings." in name]
    assert found["bert.encoder.layer.2.output.dense.bias"] == (0.5, 0.2)
    assert found["bert.encoder.layer.2.output.dense.weight"] == (2.0, 0.1)
    assert found["bert.encoder.layer.1.output.dense.weight"] == (0.25, 0.1)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("groups", "says"),
    [
        pytest.param(
            [{"match": "clasifier.*", "learning_rate_factor": 2}],
            "parameter_groups[0].match: no parameter's name matches 'clasifier.*'; did you mean classifier?",
            id="nothing",
        ),
        pytest.param(
            [{"match": "*", "learning_rate_factor": 2}, {"match": "classifier.*", "learning_rate_factor": 3}],
            "parameter_groups[1]: all that 'classifier.*' matches is frozen, or belongs to a group before it",
            id="what an earlier one has",
        ),
    ],
)
def test_a_group_without_parameters_is_an_error(groups: Any, says: str) -> None:
    with tuning({"parameter_groups": groups}) as made, pytest.raises(TechniqueError) as caught:
        made.train()
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param(
            "layer_lr_decay: 0.9, training: {optim: galore_adamw, optim_target_modules: [attention]}",
            "c.layer_lr_decay: can't be combined with training.optim galore_adamw, which groups",
            id="layers of galore",
        ),
        pytest.param(
            'parameter_groups: [{match: "*", weight_decay: 0.1}], training: {optim: lomo}',
            "c.parameter_groups: can't be combined with training.optim lomo, which groups",
            id="groups of lomo",
        ),
        pytest.param("layer_lr_decay: 1.0", "c.layer_lr_decay: expected a number below 1", id="no decay"),
        pytest.param("layer_lr_decay: 0", "c.layer_lr_decay: expected a number above 0", id="nothing learns"),
        pytest.param("parameter_groups: [{match: a}]", "c.parameter_groups[0]: changes nothing", id="changes nothing"),
        pytest.param(
            "parameter_groups: [{match: a, weight_decay: -1}]",
            "c.parameter_groups[0].weight_decay: expected a number of at least 0",
            id="negative decay",
        ),
        pytest.param(
            "parameter_groups: [{match: a, weight_decay: 1, lr: 3}]",
            "c.parameter_groups[0].lr: no such key; known: learning_rate_factor, match, weight_decay",
            id="unknown key of a group",
        ),
        pytest.param("parameter_groups: [3]", "c.parameter_groups[0]: expected a mapping", id="no group"),
    ],
)
def test_what_cannot_be_is_refused_when_the_suite_is_read(fields: str, says: str) -> None:
    (mistake,) = mistakes(fields)
    assert mistake.startswith(says), mistake


@pytest.mark.parametrize("optim", ["galore_adamw", "apollo_adamw", "lomo", "adalomo"])
def test_an_optimizer_with_groups_of_its_own_is_refused_by_name(optim: str) -> None:
    options = techniques.get("layer_lr_decay").read(0.9)
    found = mistakes(f"layer_lr_decay: {options['decay']}, training: {{optim: {optim}}}")
    assert any("groups parameters in its own way" in mistake for mistake in found)


def test_each_option_is_part_of_the_train_key(tmp_path: Path) -> None:
    given: list[dict[str, Any]] = [
        {"layer_lr_decay": 0.9},
        {"layer_lr_decay": 0.8},
        {"parameter_groups": [{"match": "a", "weight_decay": 0.1}]},
        {"parameter_groups": [{"match": "a", "learning_rate_factor": 2.0}]},
        {"parameter_groups": [{"match": "a", "weight_decay": 0.1}, {"match": "b", "weight_decay": 0.1}]},
        {"parameter_groups": [{"match": "b", "weight_decay": 0.1}, {"match": "a", "weight_decay": 0.1}]},
    ]
    cases = [inputs.case(tmp_path, techniques=a_job(named, path=ENCODER).case.techniques) for named in given]
    assert len({inputs.keys(made, tmp_path / "memo")[0].digest for made in cases}) == len(given)
