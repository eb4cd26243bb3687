"""Each input in turn: what can change a result changes its key, what can't doesn't, and evaluation never retrains."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from ftcheck import training_fields
from ftcheck.errors import FtcheckError
from ftcheck.keys import Identifier, arguments, diff, score_key, train_key
from ftcheck.spec import Case, Checkpoint, EarlyStopping, Gate, Mark, Resources
from tests.keys.inputs import case, changed, checkpoint_folder, keys

Change = Callable[[Path, Case], Case | None]
"""Changes one input: a file in the folder, or (what it returns) the case."""


def of_data(**changes: Any) -> Change:
    return lambda root, made: replace(made, data=replace(made.data, **changes))


def of_training(**changes: Any) -> Change:
    return lambda root, made: replace(made, training={**(made.training or {}), **changes})


def of_case(**changes: Any) -> Change:
    return lambda root, made: replace(made, **changes)


def of_file(name: str, old: bytes, new: bytes) -> Change:
    def change(root: Path, made: Case) -> None:
        changed(root / name, old, new)

    return change


def own_tokenizer(root: Path, made: Case) -> Case:
    folder = checkpoint_folder(root / "tokenizer")
    return replace(made, checkpoint=replace(made.checkpoint, tokenizer=str(folder)))


def more_training_files(root: Path, made: Case) -> Case:
    train = made.data.files["train"]
    return replace(made, data=replace(made.data, files={**made.data.files, "train": (*train, *train)}))


TRAINED_ANEW = [
    pytest.param(of_file("data/train.csv", b"train two", b"train 2wo"), "data.rows.train[0].blake3", id="a row"),
    pytest.param(more_training_files, "data.rows.train[1].blake3", id="a file more"),
    pytest.param(
        of_file("model/model.safetensors", b"\x07", b"\x06"), "checkpoint.files.model.safetensors", id="a weight"
    ),
    pytest.param(
        of_file("model/config.json", b"bert", b"gpt2"), "checkpoint.files.config.json", id="the model's config"
    ),
    pytest.param(of_file("model/vocab.txt", b"UNK", b"unk"), "tokenizer.files.vocab.txt", id="the tokenizer"),
    pytest.param(own_tokenizer, "tokenizer.files.config.json", id="a tokenizer of its own"),
    pytest.param(of_training(learning_rate=1e-4), "training.learning_rate", id="an argument's value"),
    pytest.param(of_training(max_grad_norm=0.5), "training.max_grad_norm", id="an argument more"),
    pytest.param(of_training(argument_of_tomorrow=1), "training.argument_of_tomorrow", id="an argument nobody knows"),
    pytest.param(of_training(eval_strategy="epoch"), "training.eval_strategy", id="evaluation during training"),
    pytest.param(of_case(early_stopping=EarlyStopping(patience=2)), "early_stopping.patience", id="early stopping"),
    pytest.param(of_case(task_options={"max_length": 64}), "task.options.max_length", id="a task option"),
    pytest.param(of_case(task="question-answering"), "task.name", id="the task"),
    pytest.param(of_data(columns={"text": "label"}), "data.columns.text", id="the column map"),
    pytest.param(of_data(columns={"text_pair": None}), "data.columns.text_pair", id="a column left out"),
    pytest.param(of_data(splits={"train": "train[:1]"}), "data.splits.train", id="the training slice"),
    pytest.param(of_data(splits={"train": "train+validation"}), "data.splits.train", id="another split to train on"),
    pytest.param(of_data(splits={"tune": "validation"}), "data.splits.tune", id="the split to tune on"),
    pytest.param(of_data(limit={"train": 1}), "data.limit.train", id="the training limit"),
    pytest.param(of_data(limit={"tune": 1}), "data.limit.tune", id="the tuning limit"),
    pytest.param(of_data(holdout={"tune": 0.5}), "data.holdout.tune", id="a holdout to tune on"),
    pytest.param(of_data(holdout={"eval": 0.5}), "data.holdout.eval", id="a holdout to judge"),
    pytest.param(of_data(options={"delimiter": ";"}), "data.options.delimiter", id="a reader's option"),
    pytest.param(of_data(path="tsv"), "data.reader", id="the reader"),
    pytest.param(of_data(streaming=True), "data.streaming", id="a stream"),
    pytest.param(of_case(on_oom="halve_batch"), "on_oom", id="batches that memory makes smaller"),
]


@pytest.mark.parametrize(("change", "component"), TRAINED_ANEW)
def test_what_can_change_the_model_changes_the_train_key_and_is_named(
    tmp_path: Path, change: Change, component: str
) -> None:
    before = case(tmp_path)
    old = keys(before, tmp_path / "memo")
    new = keys(change(tmp_path, before) or before, tmp_path / "memo")
    assert new[0].digest != old[0].digest
    assert new[1].digest != old[1].digest
    assert component in [found.path for found in diff(old[0].components, new[0].components)]


def test_the_buffer_counts_where_rows_are_streamed_and_nowhere_else(tmp_path: Path) -> None:
    """The key of a case that doesn't stream says nothing of streams: it is what it was before there were any."""
    plain = case(tmp_path)
    made = [
        replace(plain, data=replace(plain.data, streaming=streaming, shuffle_buffer=buffer))
        for streaming in (False, True)
        for buffer in (5, 6)
    ]
    train, predict = zip(*(keys(each, tmp_path / "memo") for each in made), strict=True)
    assert train[0] == train[1] == keys(plain, tmp_path / "memo")[0]
    assert [str(change) for change in diff(train[2].components, train[3].components)] == ["data.shuffle_buffer 5 → 6"]
    assert "streaming" not in train[0].components["data"]
    assert predict[2].components["data"] == predict[0].components["data"], "judged rows aren't streamed"


@pytest.mark.parametrize("training", [pytest.param({}, id="trained"), pytest.param(None, id="as-it-is")])
def test_what_happens_when_memory_runs_out_counts_where_batches_may_become_smaller(
    tmp_path: Path, training: dict[str, Any] | None
) -> None:
    """The key of a case that fails then, or trains nothing, says nothing of it: it is what it was."""
    made = replace(case(tmp_path), training=training)
    train = [keys(replace(made, on_oom=on_oom), tmp_path / "memo")[0] for on_oom in ("fail", "halve_batch")]
    assert "on_oom" not in train[0].components
    assert (train[0] == train[1]) is (training is None)


@pytest.mark.parametrize(
    ("task", "options", "changed", "path"),
    [
        pytest.param(
            "question-answering",
            {"max_length": 64, "n_best": 20, "null_threshold": 0.0},
            {"n_best": 5},
            "n_best",
            id="reading-answers",
        ),
        pytest.param(
            "translation",
            {"max_target_length": 64, "generation": {"num_beams": 1, "seed": 0}},
            {"generation": {"num_beams": 4, "seed": 0}},
            "generation.num_beams",
            id="generation",
        ),
    ],
)
@pytest.mark.parametrize("trains", [True, False])
def test_how_answers_are_made_trains_nothing_anew_unless_scores_are_looked_at(
    tmp_path: Path, trains: bool, task: str, options: dict[str, Any], changed: dict[str, Any], path: str
) -> None:
    before = case(tmp_path, task=task, task_options=options, training={} if trains else None)
    after = replace(before, task_options={**options, **changed})
    old, new = keys(before, tmp_path / "memo"), keys(after, tmp_path / "memo")
    assert old[0].digest == new[0].digest
    assert [found.path for found in diff(old[1].components, new[1].components)] == [f"decoding.{path}"]
    looked_at = [replace(made, data=replace(made.data, splits={"tune": "validation"})) for made in (before, after)]
    old, new = (keys(made, tmp_path / "memo") for made in looked_at)
    assert [found.path for found in diff(old[0].components, new[0].components)] == [f"task.options.{path}"]


@pytest.mark.parametrize(
    "circumstance",
    [
        pytest.param({"seed": 43}, id="seed"),
        pytest.param({"device_type": "cuda"}, id="device type"),
        pytest.param({"precision": "bf16"}, id="precision"),
        pytest.param({"limit": 100}, id="limit of the session"),
    ],
)
def test_circumstances_that_can_change_the_model_change_the_train_key(
    tmp_path: Path, circumstance: dict[str, Any]
) -> None:
    made = case(tmp_path)
    assert keys(made, tmp_path / "memo", **circumstance)[0].digest != keys(made, tmp_path / "memo")[0].digest


def test_the_number_of_processes_counts_from_two_on(tmp_path: Path) -> None:
    """The key of a case that one process trains says nothing of processes, whatever else it asks of the machine."""
    made = [
        replace(case(tmp_path), resources=Resources(gpus=gpus, memory=memory, cpus=cpus))
        for gpus, memory, cpus in ((None, None, None), (0.25, 10**9, 2), (1, None, 4), (2, None, None), (4, 10**9, 2))
    ]
    train, predict = zip(*(keys(each, tmp_path / "memo") for each in made), strict=True)
    assert train[0] == train[1] == train[2] == keys(case(tmp_path), tmp_path / "memo")[0]
    assert "processes" not in train[0].components
    assert [str(change) for change in diff(train[3].components, train[4].components)] == ["processes 2 → 4"]
    assert len({key.digest for key in predict}) == 3


@pytest.mark.parametrize("library", ["torch", "transformers", "tokenizers", "datasets", "accelerate"])
def test_another_version_of_a_library_changes_the_train_key(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = case(tmp_path)
    old = keys(made, tmp_path / "memo")[0]
    distribution = metadata.distribution
    upgraded = tmp_path / "upgraded"
    upgraded.mkdir()
    (upgraded / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {library}\nVersion: 99.0\n\nVersion: 1.0\n")
    monkeypatch.setattr(
        metadata,
        "distribution",
        lambda name: metadata.PathDistribution(upgraded) if name == library else distribution(name),
    )
    new = keys(made, tmp_path / "memo")[0]
    was = distribution(library).version
    assert [str(change) for change in diff(old.components, new.components)] == [f"{library} {was} → 99.0"]


def test_a_library_that_an_optimizer_brings_in_is_part_of_the_key(tmp_path: Path) -> None:
    made = of_training(optim="paged_adamw_8bit")(tmp_path, case(tmp_path))
    assert made is not None
    assert "bitsandbytes" in keys(made, tmp_path / "memo")[0].components["versions"]


def moved(root: Path, made: Case) -> Case:
    """The same content at another place, with other time stamps."""
    elsewhere = root / "elsewhere"
    for name in ("data", "model"):
        shutil.copytree(root / name, elsewhere / name)
    for path in elsewhere.rglob("*"):
        os.utime(path, (1, 1))
    return replace(
        case(elsewhere),
        id=made.id,
        suite=made.suite,
        checkpoint=replace(made.checkpoint, path=str(elsewhere / "model")),
    )


def touched(root: Path, made: Case) -> None:
    for path in root.rglob("*"):
        os.utime(path)


HITS = [
    pytest.param(of_case(id="other", name="other", parameters=("1",)), id="case id"),
    pytest.param(of_case(suite=Path("/elsewhere/suite.ft.yaml"), line=7), id="suite file"),
    pytest.param(of_case(gates=(Gate(metric="macro_f1", max=0.5),)), id="gates"),
    pytest.param(of_case(metrics=("accuracy", "macro_f1")), id="metrics"),
    pytest.param(of_case(marks=(Mark(name="slow"),), description="new"), id="marks and description"),
    pytest.param(of_case(keep_model="none"), id="keep_model"),
    pytest.param(of_case(seeds=(42, 43, 44)), id="more seeds"),
    pytest.param(of_case(precision="fp32"), id="a precision that is the resolved one anyway"),
    pytest.param(of_training(output_dir="elsewhere"), id="output folder"),
    pytest.param(of_training(logging_steps=1, logging_strategy="steps", report_to="none"), id="logging"),
    pytest.param(of_training(disable_tqdm=True, log_level="error", run_name="x"), id="noise"),
    pytest.param(of_training(push_to_hub=False, hub_model_id="o/n"), id="uploads"),
    pytest.param(of_training(save_strategy="no", save_total_limit=1), id="checkpoints on the way"),
    pytest.param(of_training(dataloader_pin_memory=False), id="pinned memory"),
    pytest.param(of_training(learning_rate=0.00005, num_train_epochs=3.0), id="numbers spelled otherwise"),
    pytest.param(
        of_case(task_options={"problem_type": "single_label_classification", "max_length": 128.0}),
        id="an option spelled otherwise",
    ),
    pytest.param(of_data(splits={"train": " train ", "eval": "test"}), id="defaults written out"),
    pytest.param(of_data(columns={}), id="a column map that maps nothing"),
    pytest.param(touched, id="files touched"),
    pytest.param(moved, id="everything at another place"),
]


@pytest.mark.parametrize("change", HITS)
def test_what_cannot_change_a_result_changes_no_key(tmp_path: Path, change: Change) -> None:
    before = case(tmp_path)
    old = keys(before, tmp_path / "memo")
    new = keys(change(tmp_path, before) or before, tmp_path / "memo")
    assert [key.digest for key in new] == [key.digest for key in old]


EVALUATED_ANEW = [
    pytest.param(of_file("data/test.csv", b"test two", b"test 2wo"), id="a judged row"),
    pytest.param(of_data(splits={"eval": "test[:1]"}), id="a slice of the same split"),
    pytest.param(of_data(splits={"eval": "validation"}), id="another split"),
    pytest.param(of_data(limit={"eval": 1}), id="the judged limit"),
    pytest.param(of_training(per_device_eval_batch_size=1), id="the evaluation batch"),
]


@pytest.mark.parametrize("change", EVALUATED_ANEW)
def test_changing_the_evaluation_never_retrains(tmp_path: Path, change: Change) -> None:
    before = case(tmp_path)
    old = keys(before, tmp_path / "memo")
    new = keys(change(tmp_path, before) or before, tmp_path / "memo")
    assert new[0].digest == old[0].digest
    assert new[1].digest != old[1].digest


@pytest.mark.parametrize("change", EVALUATED_ANEW[:3])
def test_a_smoke_run_which_learns_its_classes_from_all_rows_depends_on_all(tmp_path: Path, change: Change) -> None:
    before = case(tmp_path)
    old = keys(before, tmp_path / "memo", limit=8)
    new = keys(change(tmp_path, before) or before, tmp_path / "memo", limit=8)
    assert new[0].digest != old[0].digest


def test_the_defaults_of_the_training_room_evaluate_nothing() -> None:
    """`for_training` sees the suite's arguments and the task's: what the training room adds must not matter to it."""
    from ftcheck.finetune.arguments import DEFAULTS

    assert not arguments.evaluates(DEFAULTS)


def test_predicting_on_another_device_does_not_retrain(tmp_path: Path) -> None:
    old, new = (keys(case(tmp_path), tmp_path / "memo", predict_on=device) for device in ("cpu", "cuda"))
    assert new[0].digest == old[0].digest
    assert new[1].digest != old[1].digest


def test_a_split_that_nobody_reads_changes_no_key(tmp_path: Path) -> None:
    before = case(tmp_path)
    old = keys(before, tmp_path / "memo")
    changed(tmp_path / "data" / "validation.csv", b"two", b"2wo")
    assert keys(before, tmp_path / "memo") == old


def test_a_row_carved_out_for_judging_ties_both_keys_to_the_training_file(tmp_path: Path) -> None:
    made = case(tmp_path)
    made = replace(made, data=replace(made.data, holdout={"eval": 0.5}))
    old = keys(made, tmp_path / "memo")
    changed(tmp_path / "data" / "train.csv", b"two", b"2wo")
    new = keys(made, tmp_path / "memo")
    assert (new[0].digest, new[1].digest) != (old[0].digest, old[1].digest)
    assert "data.rows.train[0].blake3" in [change.path for change in diff(old[1].components, new[1].components)]


@pytest.mark.parametrize("argument", sorted(arguments.BY_EVALUATION))
@pytest.mark.parametrize("how", [{"eval_strategy": "steps"}, {"eval_on_start": True}], ids=["by steps", "on start"])
def test_what_acts_through_evaluation_during_training_counts_when_there_is_any(
    tmp_path: Path, argument: str, how: dict[str, Any]
) -> None:
    made = case(tmp_path, training=how)
    with_it = case(tmp_path, training={**how, argument: 7})
    assert keys(with_it, tmp_path / "memo")[0].digest != keys(made, tmp_path / "memo")[0].digest


@pytest.mark.parametrize("argument", sorted(arguments.NEVER | arguments.BY_EVALUATION | arguments.PREDICTION))
def test_every_argument_that_is_left_out_exists(argument: str) -> None:
    """A name that transformers dropped or renamed would be left out in vain, and its successor not."""
    assert argument in training_fields.installed().fields


class TestWithoutTraining:
    """`training: false`: the weights are somebody else's."""

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(of_file("data/train.csv", b"two", b"2wo"), id="training rows"),
            pytest.param(of_data(limit={"train": 1}), id="training limit"),
            pytest.param(of_data(splits={"train": "train[:1]"}), id="training slice"),
            pytest.param(of_case(seeds=(7,)), id="seeds"),
        ],
    )
    def test_what_only_training_reads_changes_no_key(self, tmp_path: Path, change: Change) -> None:
        before = case(tmp_path, training=None)
        old = keys(before, tmp_path / "memo", seed=1)
        new = keys(change(tmp_path, before) or before, tmp_path / "memo", seed=2)
        assert [key.digest for key in new] == [key.digest for key in old]

    @pytest.mark.parametrize(
        "change",
        [
            pytest.param(of_file("model/model.safetensors", b"\x07", b"\x06"), id="a weight"),
            pytest.param(of_file("model/tokenizer.json", b"{}", b"[]"), id="the tokenizer"),
            pytest.param(of_case(task_options={"max_length": 64}), id="a task option"),
            pytest.param(of_file("data/test.csv", b"two", b"2wo"), id="a judged row"),
            pytest.param(of_data(splits={"tune": "validation"}), id="a split to tune on"),
        ],
    )
    def test_what_predictions_depend_on_changes_the_predict_key(self, tmp_path: Path, change: Change) -> None:
        before = case(tmp_path, training=None)
        old = keys(before, tmp_path / "memo")
        new = keys(change(tmp_path, before) or before, tmp_path / "memo")
        assert new[1].digest != old[1].digest

    @pytest.mark.parametrize("circumstance", [{"device_type": "cuda"}, {"precision": "bf16"}], ids=str)
    def test_where_it_is_predicted_changes_the_predict_key_alone(
        self, tmp_path: Path, circumstance: dict[str, str]
    ) -> None:
        made = case(tmp_path, training=None)
        old, new = keys(made, tmp_path / "memo"), keys(made, tmp_path / "memo", **circumstance)  # type: ignore[arg-type]
        assert new[0].digest == old[0].digest
        assert new[1].digest != old[1].digest

    def test_it_is_never_taken_for_a_trained_model(self, tmp_path: Path) -> None:
        untrained = keys(case(tmp_path, training=None), tmp_path / "memo")[0]
        trained = keys(case(tmp_path, training={}), tmp_path / "memo")[0]
        assert untrained.digest != trained.digest


def test_the_score_key_depends_on_predictions_and_on_each_metrics_definition(tmp_path: Path) -> None:
    predict = keys(case(tmp_path), tmp_path / "memo")[1]
    other = keys(case(tmp_path), tmp_path / "memo", seed=1)[1]
    scores = {
        score_key(predict, {"accuracy": "v1"}).digest,
        score_key(predict, {"accuracy": "v2"}).digest,
        score_key(predict, {"accuracy": "v1", "macro_f1": "v1"}).digest,
        score_key(other, {"accuracy": "v1"}).digest,
    }
    assert len(scores) == 4


def test_an_input_edited_while_it_was_trained_on_is_seen_by_making_the_key_again(tmp_path: Path) -> None:
    made, identifier = case(tmp_path), Identifier(tmp_path / "memo")

    def key() -> str:
        return train_key(made, 1, device_type="cpu", precision="fp32", identifier=identifier).digest

    before = key()
    assert key() == before
    changed(tmp_path / "data" / "train.csv", b"two", b"2wo")
    assert key() != before


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(of_data(files={"train": ("/nowhere/train.csv",)}), id="a file that isn't there"),
        pytest.param(of_data(splits={"train": "train[1"}), id="no split expression"),
        pytest.param(of_case(checkpoint=Checkpoint(path="/nowhere", local=True)), id="no checkpoint"),
        pytest.param(of_training(learning_rate=float("nan")), id="a number that is none"),
        pytest.param(of_training(something=object()), id="an object"),
    ],
)
def test_an_input_without_an_identity_is_one_clear_error(tmp_path: Path, broken: Change) -> None:
    made = broken(tmp_path, case(tmp_path))
    assert made is not None
    with pytest.raises(FtcheckError) as raised:
        keys(made, tmp_path / "memo")
    assert "\n" not in str(raised.value)
