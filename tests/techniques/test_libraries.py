"""Trainers of TRL and sentence-transformers train the task's own model, on what is judged, and what they say is so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import MissingExtraError, TechniqueError
from ftcheck.finetune import techniques
from ftcheck.finetune.session import FineTuning
from ftcheck.finetune.techniques.libraries import HALVES_NOTHING
from tests import tiny
from tests.finetune.jobs import Row, job, loaded
from tests.keys.inputs import case, keys
from tests.techniques.trainings import mistakes

PAIRS: list[Row] = [
    {"prompt": "the cat", "completion": [" runs .", "what"]},
    {"prompt": "the old dog sleeps", "completion": [" in the big green house ."]},
    {"prompt": "who eats the fish ?", "completion": [" ann ."]},
]
PREFERENCES: list[Row] = [
    {"prompt": "the cat", "chosen": " runs .", "rejected": " ann ."},
    {"prompt": "the old dog sleeps", "chosen": " in the big green house .", "rejected": " runs ."},
    {"prompt": "who eats the fish ?", "chosen": " ann .", "rejected": " in the big green house ."},
]
ALIKE: list[Row] = [
    {"text": "the cat runs", "text_pair": "the cat eats", "label": 4.0},
    {"text": "the cat runs", "text_pair": "a big house", "label": 0.5},
    {"text": "the red sun", "text_pair": "the sun", "label": 5.0},
    {"text": "bob sleeps", "text_pair": "green fish", "label": 1.0},
]
STEPS: Mapping[str, Any] = {
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "save_strategy": "no",
}


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without dropout."""
    path = tmp_path_factory.mktemp("decoder")
    return tiny.gpt2(path, head="GPT2LMHeadModel", resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without dropout."""
    path = tmp_path_factory.mktemp("encoder")
    return tiny.bert(path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def made(task: str, path: Path, named: Mapping[str, Any], *, options: Mapping[str, Any], **training: Any) -> Any:
    read = {name: techniques.get(name).read(value) for name, value in named.items()}
    return job(task, path, techniques=read, training={**STEPS, **training}, options=options)


def trained(given: Any, rows: list[Row], **roles: list[Row]) -> tuple[Any, Any]:
    """(what training left, predictions on its rows)."""
    with FineTuning(given, loaded=loaded(train=rows, eval=rows, **roles)) as tuning:
        return tuning.train(), tuning.predict()


@pytest.mark.e2e
def test_completions_are_trained_as_the_task_trains_them(decoder: Path) -> None:
    """The same tokens, what begins a text among them, and the same loss."""
    pytest.importorskip("trl")
    options = {"max_length": 64}
    plain, _ = trained(made("text-generation", decoder, {}, options=options), PAIRS)
    theirs, _ = trained(made("text-generation", decoder, {"trainer": "trl:SFTTrainer"}, options=options), PAIRS)
    assert theirs.first_losses == pytest.approx(plain.first_losses, rel=1e-4)
    assert "mean_token_accuracy" in theirs.log_history[0]  # it was TRL's


@pytest.mark.e2e
def test_likelihoods_and_rewards_are_those_of_the_dpo_trainer(decoder: Path) -> None:
    """What it logs at a step is of the weights that the steps before left."""
    pytest.importorskip("trl")
    named = {"trainer": {"path": "trl:DPOTrainer", "options": {"beta": 0.5}}}
    options = {"max_length": 64, "reference": True}
    left, judged = trained(made("preference", decoder, named, options=options, max_steps=2), PREFERENCES)
    told = trained(made("preference", decoder, named, options=options, max_steps=3), PREFERENCES)[0].log_history[2]
    for side, name in enumerate(("chosen", "rejected")):
        found = [record["logps"][side] for record in judged.records]
        before = [record["reference_logps"][side] for record in judged.records]
        assert sum(found) / 3 == pytest.approx(told[f"logps/{name}"], rel=1e-4)
        rewards = [0.5 * (now - then) for now, then in zip(found, before, strict=True)]
        assert sum(rewards) / 3 == pytest.approx(told[f"rewards/{name}"], abs=1e-3)
    assert left.first_losses[0] == pytest.approx(0.6931472, rel=1e-5)  # log 2: nothing is preferred yet


@pytest.mark.e2e
@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="whole"),
        pytest.param({"peft": {"method": "lora", "target_modules": ["c_attn"], "r": 8}}, id="adapter"),
    ],
)
def test_preferences_are_learned_and_kept(decoder: Path, tmp_path: Path, more: Mapping[str, Any]) -> None:
    """Looks at tune rows, as ftcheck does; an adapter of the reference isn't kept."""
    pytest.importorskip("trl")
    named = {**more, "trainer": {"path": "trl:DPOTrainer", "options": {"beta": 0.5}}}
    given = made(
        "preference",
        decoder,
        named,
        options={"reference": True},
        max_steps=8,
        learning_rate=1e-2,
        eval_strategy="epoch",
    )
    with FineTuning(given, loaded=loaded(train=PREFERENCES, eval=PREFERENCES, tune=PREFERENCES)) as tuning:
        result, before = tuning.train(), tuning.predict()
        assert "forward" not in vars(tuning.model)
        tuning.save(tmp_path / "kept")
    scores = [entry["eval_reward_accuracy"] for entry in result.log_history if "eval_reward_accuracy" in entry]
    assert scores[-1] == 1.0
    with FineTuning(given, loaded=loaded(train=PREFERENCES, eval=PREFERENCES)) as tuning:
        tuning.load(tmp_path / "kept")
        after = tuning.predict()
    assert after.records == before.records
    assert all(record["logps"] != record["reference_logps"] for record in after.records)
    assert not list((tmp_path / "kept").glob("ref/*"))


@pytest.mark.e2e
def test_embeddings_are_trained_as_the_task_trains_them(encoder: Path, tmp_path: Path) -> None:
    """The same mean pooling, cosine and squared error; what is kept is the task's model."""
    pytest.importorskip("sentence_transformers")
    options = {"scale": 5}
    own = {
        "trainer": {
            "path": "sentence_transformers:SentenceTransformerTrainer",
            "options": {"loss": "CosineSimilarityLoss"},
        }
    }
    plain, _ = trained(made("sentence-similarity", encoder, {}, options=options), ALIKE)
    given = made("sentence-similarity", encoder, own, options=options, eval_strategy="epoch")
    with FineTuning(given, loaded=loaded(train=ALIKE, eval=ALIKE, tune=ALIKE)) as tuning:
        theirs, before = tuning.train(), tuning.predict()
        tuning.save(tmp_path / "kept")
    assert theirs.first_losses == pytest.approx(plain.first_losses, rel=1e-4)
    assert [entry["eval_pearson"] for entry in theirs.log_history if "eval_pearson" in entry][-1] > 0
    with FineTuning(given, loaded=loaded(train=ALIKE, eval=ALIKE)) as tuning:
        tuning.load(tmp_path / "kept")
        assert tuning.predict().records == before.records


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("named", "message"),
    [
        pytest.param(
            {"path": "trl:DPOTrainer", "options": {"bta": 1}},
            "DPOConfig has no field 'bta'; did you mean beta",
            id="no-field",
        ),
        pytest.param("trl.trainer.reward_trainer:RewardTrainer", "takes rows that no task has", id="another"),
    ],
)
def test_what_a_trainer_does_not_take_is_one_sentence(decoder: Path, named: Any, message: str) -> None:
    pytest.importorskip("trl")
    with pytest.raises(TechniqueError, match=message):
        trained(made("preference", decoder, {"trainer": named}, options={}), PREFERENCES)


def test_without_the_library_the_error_names_the_extra(decoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcheck.finetune.techniques import trainer as technique

    def missing(library: str, name: str, extra: str | None = None) -> Any:
        raise MissingExtraError(name, library, extra or library)

    monkeypatch.setattr(technique, "need", missing)
    given = made("preference", decoder, {"trainer": "trl:DPOTrainer"}, options={})
    with pytest.raises(MissingExtraError, match=r"ftcheck\[trl\]"):
        trained(given, PREFERENCES)


# The key


def key(root: Path, path: str, **options: Any) -> Any:
    return keys(case(root, techniques={"trainer": {"path": path, "options": options}}), root / "memo")[0]


def test_the_key_has_the_library_and_the_options(tmp_path: Path) -> None:
    first = key(tmp_path, "trl:DPOTrainer", beta=0.1)
    assert first == key(tmp_path, "trl.trainer.dpo_trainer:DPOTrainer", beta=0.1)
    assert first != key(tmp_path, "trl:DPOTrainer", beta=0.2)
    assert first != key(tmp_path, "trl:SFTTrainer", beta=0.1)


# What can't be


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param(
            "trainer: 'trl:SFTTrainer'",
            "c.trainer: SFTTrainer goes with the task text-generation, not with text-classification",
            id="task",
        ),
        pytest.param(
            "trainer: 'trl:KTOTrainer'",
            "c.trainer: trl:KTOTrainer takes rows that no task has; known: trl:SFTTrainer, trl:DPOTrainer, "
            "sentence_transformers:SentenceTransformerTrainer",
            id="another",
        ),
        pytest.param(
            "task: preference, trainer: 'trl:DPOTrainer', lr_finder: {}",
            "c.trainer: can't be combined with lr_finder, which tests ftcheck's own Trainer",
            id="lr_finder",
        ),
        pytest.param(
            "task: preference, trainer: {path: 'trl:DPOTrainer', options: {learning_rate: 1e-3}}",
            "c.trainer.options.learning_rate: is a field of TrainingArguments: write it under training",
            id="field",
        ),
        pytest.param(
            "task: sentence-similarity, trainer: 'sentence_transformers:SentenceTransformerTrainer', "
            "layer_lr_decay: 0.9",
            "c.trainer: can't be combined with layer_lr_decay: SentenceTransformerTrainer trains the model within one "
            "of its own",
            id="rates",
        ),
        pytest.param(
            "task: sentence-similarity, trainer: 'sentence_transformers:SentenceTransformerTrainer', "
            f"checkpoint: {{path: org/own, trust_remote_code: {{revision: {'a' * 40}}}}}",
            "c.trainer: SentenceTransformerTrainer loads no checkpoint's own code; leave out "
            "checkpoint.trust_remote_code",
            id="own-code",
        ),
        pytest.param(
            "task: preference, trainer: 'trl:DPOTrainer', on_oom: halve_batch",
            f"c.trainer: DPOTrainer {HALVES_NOTHING}",
            id="halving",
        ),
        pytest.param(
            "task: preference, trainer: 'trl:DPOTrainer', data: {path: org/data, streaming: true}, "
            "training: {max_steps: 5}",
            "c.trainer: DPOTrainer reads all training rows by itself; leave out data.streaming",
            id="streaming",
        ),
    ],
)
def test_what_cannot_be_combined_is_refused(fields: str, message: str) -> None:
    assert message in mistakes(fields)
