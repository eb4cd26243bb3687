"""An adapter is all that is trained and kept, and what it answers is the same after it was loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import MissingExtraError, TechniqueError
from ftcheck.finetune.predict import Predictor
from ftcheck.finetune.session import FineTuning
from tests import tiny
from tests.e2e.project import Project
from tests.finetune.jobs import DOCUMENTS, NOUNS, QUESTIONS, SENTENCES, TEXTS, Row, loaded
from tests.keys import inputs
from tests.techniques.trainings import (
    ENCODER,
    a_job,
    case_of,
    changed,
    mistakes,
    tuning,
    untrained,
    weights,
)

LORA = {"method": "lora", "r": 4}
PREFIX = {"method": "prefix_tuning", "num_virtual_tokens": 4}
PROMPT = {"method": "prompt_tuning", "num_virtual_tokens": 4}
WRITTEN: list[Row] = [{"text": f"{'the old ' * (place % 3)}{noun} runs"} for place, noun in enumerate(NOUNS)]

TINY = {"t5": tiny.t5, "gpt2": tiny.gpt2, "llama": tiny.llama, "masked": tiny.bert}
HEADS = {"masked": {"head": "BertForMaskedLM"}}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """By name, a small model of each kind; `masked` lacks the pooler that a classifier has."""
    made = {name: make(tmp_path_factory.mktemp(name), **HEADS.get(name, {})) for name, make in TINY.items()}
    return {"encoder": ENCODER, **made}


def kept(run: FineTuning, rows: Sequence[Row], folder: Path) -> FineTuning:
    """What a later session makes of what `run` saves."""
    run.save(folder)
    later = FineTuning(run.job, loaded=loaded(train=rows, eval=rows))
    later.load(folder)
    return later


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("task", "checkpoint", "rows", "peft"),
    [
        pytest.param("text-classification", "encoder", TEXTS, {**LORA, "use_dora": True}, id="dora"),
        pytest.param("text-classification", "encoder", TEXTS, {"method": "ia3"}, id="ia3"),
        pytest.param("text-classification", "gpt2", TEXTS, PREFIX, id="a decoder's head"),
        pytest.param("text-classification", "masked", TEXTS, LORA, id="a new pooler that is not trained"),
        pytest.param("text-classification", "t5", TEXTS, {**LORA, "use_rslora": True}, id="rslora, classifying T5"),
        pytest.param("token-classification", "encoder", SENTENCES, LORA, id="tags"),
        pytest.param("token-classification", "encoder", SENTENCES, PROMPT, id="tags behind a prompt"),
        pytest.param("question-answering", "encoder", QUESTIONS, PREFIX, id="answers"),
        pytest.param("question-answering", "encoder", QUESTIONS, PROMPT, id="answers behind a prompt"),
        pytest.param("summarization", "t5", DOCUMENTS, LORA, id="summaries"),
        pytest.param("translation", "t5", DOCUMENTS, PROMPT, id="translations of a prompted text"),
        pytest.param("text-generation", "llama", WRITTEN, LORA, id="text"),
        pytest.param("text-generation", "gpt2", WRITTEN, PROMPT, id="text behind a prompt"),
    ],
)
def test_what_is_kept_is_the_adapter_alone_and_answers_as_before(
    task: str,
    checkpoint: str,
    rows: list[Row],
    peft: Mapping[str, Any],
    checkpoints: Mapping[str, Path],
    tmp_path: Path,
) -> None:
    if task == "translation":
        rows = [{"source": row["document"], "target": row["summary"]} for row in rows]
    with tuning({"peft": peft}, rows, task=task, path=checkpoints[checkpoint], training={"learning_rate": 0.01}) as run:
        trained, answered = run.train(), run.predict()
        with kept(run, rows, tmp_path / "model") as later:
            assert later.predict().records == answered.records
    assert 0 < trained.costs["trainable_parameters"] < 0.25 * trained.costs["parameters"]
    assert not list(tmp_path.rglob("*.bin"))
    assert not (tmp_path / "model" / "model.safetensors").exists()
    assert str(checkpoints[checkpoint]) not in (tmp_path / "model" / "adapter_config.json").read_text()


@pytest.mark.e2e
def test_the_checkpoints_weights_stay_and_the_adapters_change() -> None:
    before = untrained()
    with tuning({"peft": LORA}, training={"weight_decay": 0.5}) as run:
        run.train()
        base = weights(run.model.unload())
        adapter = run.applied.techniques[0]
    assert adapter.name == "peft"
    moved = changed(before, {name.replace(".original_module", ""): weight for name, weight in base.items()})
    assert moved <= {"classifier.weight", "classifier.bias"}
    assert moved


@pytest.mark.e2e
def test_all_of_a_new_head_is_trained_and_kept_whatever_it_is_called(checkpoints: Mapping[str, Path]) -> None:
    """peft knows `classifier` and `score`; T5's is another, and would stay as it was drawn."""
    with tuning({"peft": LORA}, path=checkpoints["t5"]) as run:
        run.train()
        trained = {name for name, parameter in run.model.named_parameters() if parameter.requires_grad}
    assert any("classification_head" in name for name in trained)


@pytest.mark.e2e
@pytest.mark.parametrize("peft", [PREFIX, PROMPT], ids=lambda peft: peft["method"])
def test_what_stands_before_a_text_makes_it_depend_on_no_other_text(
    peft: Mapping[str, Any], checkpoints: Mapping[str, Path]
) -> None:
    """Batches are padded to their longest text: positions and masks must know of the tokens before it."""
    found = []
    for size in (1, 8):
        training = {"per_device_eval_batch_size": size, "per_device_train_batch_size": 4, "learning_rate": 0.01}
        path = checkpoints["gpt2"]
        with tuning({"peft": peft}, WRITTEN, task="text-generation", path=path, training=training) as run:
            run.train()
            found.append([record["nll"] for record in run.predict().records])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.e2e
@pytest.mark.parametrize("peft", [LORA, {**LORA, "use_dora": True}, {"method": "ia3"}], ids=["lora", "dora", "ia3"])
def test_the_merged_model_answers_instead_and_is_as_near_as_rounding(peft: Mapping[str, Any], tmp_path: Path) -> None:
    given = {"peft": {**peft, "parity": "merged"}}
    with tuning(given, training={"learning_rate": 0.01}) as run:
        run.train()
        answered = run.predict()
        merged = run.answering()
        assert not hasattr(merged, "peft_config")
        assert hasattr(run.model, "peft_config")
        with kept(run, TEXTS, tmp_path / "model") as later:
            assert later.predict().records == answered.records
        predictor = Predictor(run.job, tmp_path / "model", meta=answered.meta, tuned=answered.tuned)
        assert type(predictor.model) is type(merged)
    assert 0 < answered.costs["parity_difference"] < 1e-4
    assert answered.costs["adapter_bytes"] > 0


@pytest.mark.e2e
def test_the_best_adapter_is_put_back_and_a_loaded_one_answers_single_texts(tmp_path: Path) -> None:
    training = {
        "num_train_epochs": 3,
        "learning_rate": 0.01,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
    }
    job = a_job({"peft": LORA}, training=training)
    job = replace(job, case=replace(job.case, data=replace(job.case.data, splits={"tune": "tune"})))
    with FineTuning(job, loaded=loaded(train=TEXTS, tune=TEXTS[:8], eval=TEXTS)) as run:
        run.train()
        answered = run.predict()
        run.save(tmp_path / "model")
    predictor = Predictor(job, tmp_path / "model", meta=answered.meta, tuned=answered.tuned)
    assert predictor.predict("the cat runs").label in {"moves", "rests"}


@pytest.mark.e2e
def test_checkpointed_activations_give_the_same_adapter() -> None:
    """Where nothing of a checkpoint trains, recomputing must not lose the adapter's gradient."""
    found = []
    for checkpointing in (False, True):
        with tuning({"peft": LORA}, training={"gradient_checkpointing": checkpointing}) as run:
            run.train()
            found.append(weights(run.model))
    assert changed(*found) == set()


@pytest.mark.e2e
def test_an_adapters_matrices_can_have_learning_rates_of_their_own() -> None:
    """LoRA+ (Hayou et al. 2024)."""
    groups = [{"match": "*lora_B*", "learning_rate_factor": 16}]
    found = []
    for more in ({}, {"parameter_groups": groups}):
        with tuning({"peft": LORA, **more}, training={"max_steps": 1, "optim": "sgd"}) as run:
            run.train()
            found.append(weights(run.model))
    assert {name.rpartition(".lora_")[2][0] for name in changed(*found)} == {"B"}


@pytest.mark.e2e
def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with tuning({"peft": LORA}) as run, pytest.raises(MissingExtraError, match=r"pip install 'ftcheck\[peft\]'"):
        run.train()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("peft", "checkpoint", "says"),
    [
        pytest.param(
            {**LORA, "target_modules": ["querry", "value"]},
            "encoder",
            "peft.target_modules: BertForSequenceClassification has no module 'querry'; did you mean query?",
            id="one of two modules isn't there",
        ),
        pytest.param(
            {**LORA, "target_modules": "query"},
            "encoder",
            "peft.target_modules: no module's whole name matches the regular expression 'query'; write a list",
            id="an expression that matches nothing",
        ),
        pytest.param(
            {**LORA, "modules_to_save": ["poler"]},
            "encoder",
            "peft.modules_to_save: BertForSequenceClassification has no module 'poler'; did you mean pooler?",
            id="a module to save that isn't there",
        ),
        pytest.param(
            PROMPT, "t5", "peft: T5ForSequenceClassification can't be told by prompt_tuning", id="T5 prompted"
        ),
    ],
)
def test_what_a_model_has_not_is_said(
    peft: Mapping[str, Any], checkpoint: str, says: str, checkpoints: Mapping[str, Path]
) -> None:
    with tuning({"peft": peft}, path=checkpoints[checkpoint]) as run, pytest.raises(TechniqueError) as caught:
        run.train()
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        pytest.param("peft: lroa", "c.peft: expected one of lora, ia3, prefix_tuning, prompt_tuning", id="method"),
        pytest.param(
            "peft: {method: ia3, r: 8}", "c.peft.r: is an option of lora, not of ia3", id="another method's option"
        ),
        pytest.param(
            "peft: {method: lora, num_virtual_tokens: 8}",
            "c.peft.num_virtual_tokens: is an option of prefix_tuning, prompt_tuning, not of lora",
            id="an option of prompts",
        ),
        pytest.param(
            "peft: {method: prompt_tuning, parity: merged}",
            "c.peft.parity: prompt_tuning changes no weights that it could be merged into",
            id="merging a prompt",
        ),
        pytest.param(
            "peft: {method: lora, max_difference: 0.1}",
            "c.peft.max_difference: is between the merged model and the adapter",
            id="a difference of one model",
        ),
        pytest.param("peft: lora, freeze: base", "c.freeze: can't be combined with peft", id="freeze"),
        pytest.param("peft: lora, layer_lr_decay: 0.9", "c.layer_lr_decay: can't be combined with peft", id="layers"),
        pytest.param(
            "peft: lora, task: fill-mask", "c.peft: goes with text-classification, token-classification", id="task"
        ),
        pytest.param(
            "peft: prefix_tuning, task: {name: text-generation, packing: true}",
            "c.peft: prefix_tuning stands before a text",
            id="packing",
        ),
        pytest.param(
            "peft: lora, init_from: 'case:c'", "c.peft: can't be combined with init_from", id="another case's model"
        ),
        pytest.param("peft: lora, training: false", "c.peft: with `training: false` nothing", id="no training"),
    ],
)
def test_what_cannot_be_is_refused_when_the_suite_is_read(fields: str, says: str) -> None:
    (mistake,) = mistakes(fields)
    assert mistake.startswith(says), mistake


@pytest.mark.parametrize(
    ("gates", "most"),
    [
        pytest.param("{}", 0.1, id="alone"),
        pytest.param("{parity_difference: {max: 0.2}}", 0.1, id="below the case's own"),
        pytest.param("{parity_difference: {max: 0.05}}", 0.05, id="above the case's own"),
    ],
)
def test_the_greatest_difference_is_a_gate_and_the_strictest_holds(gates: str, most: float) -> None:
    case = case_of(f"peft: {{method: lora, parity: merged, max_difference: 0.1}}, gates: {gates}")
    assert [(gate.metric, gate.max) for gate in case.gates] == [("parity_difference", most)]
    assert "parity_difference" in case.metrics


def test_what_is_trained_is_part_of_the_train_key_and_what_is_judged_of_the_predict_key(tmp_path: Path) -> None:
    def keys(peft: Mapping[str, Any]) -> tuple[str, str]:
        made = inputs.case(tmp_path, techniques=a_job({"peft": peft}).case.techniques)
        train, predict = inputs.keys(made, tmp_path / "memo")
        return train.digest, predict.digest

    trained: list[Mapping[str, Any]] = [
        {"method": "lora"},
        {"method": "lora", "r": 4},
        {"method": "lora", "use_dora": True},
        {"method": "lora", "target_modules": ["query"]},
        {"method": "ia3"},
    ]
    assert len({keys(peft)[0] for peft in trained}) == len(trained)
    plain, merged = keys(LORA), keys({**LORA, "parity": "merged"})
    assert plain[0] == merged[0]
    assert plain[1] != merged[1]
    assert keys({**LORA, "parity": "merged", "max_difference": 0.1}) == merged


@pytest.mark.e2e
def test_a_merged_model_that_lies_too_far_from_its_adapter_fails_and_its_session_loads_the_adapter(
    tmp_path: Path, checkpoints: Mapping[str, Path]
) -> None:
    project = Project(tmp_path / "project", checkpoints["masked"])
    case = "  merged:\n    peft: {{method: lora, parity: merged, max_difference: {most}}}\n"
    project.suite(case.format(most="1e-12"))
    failed = project.run()
    assert failed.code == 1
    assert "parity_difference" in failed.section("merged")
    project.suite(case.format(most="1e-3"))
    found = project.run("--ft-cache=only")
    assert found.code == 0, found.text
