"""`ftcheck advise`: what is there is counted rightly, what follows from it is said with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcheck import advising, surveying
from ftcheck.advising import Advice, advise, memory, padding, report, worth
from ftcheck.errors import DataError
from ftcheck.surveying import Reference, Size
from tests import tiny
from tests.cli.faked import Command
from tests.finetune import jobs
from tests.finetune.jobs import TEXTS

SUITE = Path(__file__).parents[2] / "suites" / "techniques" / "search.ft.yaml"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has a head for the classes of TEXTS."""
    path = tmp_path_factory.mktemp("classifier")
    return tiny.bert(path, head="BertForSequenceClassification", labels=("moves", "rests"))


def advised(path: Path, train: list[Any], task: str = "text-classification", **fields: Any) -> Advice:
    """What is said of a case with these training rows, judged on the same."""
    import datasets

    from ftcheck.spec import Data

    def rows() -> Any:
        whole = datasets.Dataset.from_list([dict(row) for row in train])
        return datasets.DatasetDict(train=whole, test=whole)

    job = jobs.job(task, path, data=Data(kind="callable", path="rows", factory=rows), **fields)
    return advise(job.case, job, on_progress=lambda progress: None)


def test_rows_classes_and_lengths_are_counted(bert: Path) -> None:
    found = advised(bert, TEXTS[:18])
    labels = Counter(str(row["label"]) for row in TEXTS[:18])
    words = [len(str(row["text"]).split()) + 2 for row in TEXTS[:18]]  # each word is a token, [CLS] and [SEP] around
    assert found.rows == {"train": 18, "eval": 18}
    assert found.classes == dict(labels)
    assert found.lengths == tuple(sorted(words))
    assert found.size.longest == 64
    import transformers

    model = transformers.AutoModelForSequenceClassification.from_pretrained(bert)
    assert found.size.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_cheap_references_are_those_of_scikit_learn(bert: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    scores = {reference.name: reference.scores for reference in advised(bert, TEXTS).references}
    texts, labels = [str(row["text"]) for row in TEXTS], [str(row["label"]) for row in TEXTS]
    assert scores["majority"]["accuracy"] == max(Counter(labels).values()) / len(labels)
    features = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit_transform(texts)
    assert scores["TF-IDF"]["accuracy"] == LogisticRegression(max_iter=1000).fit(features, labels).score(
        features, labels
    )


def test_a_checkpoint_with_a_head_is_tried_as_it_is(bert: Path, classifier: Path) -> None:
    without, has = (advised(path, TEXTS).references[-1] for path in (bert, classifier))
    assert without.name == has.name == "as it is"
    assert without.scores == {}
    assert "no trained head for this task" in without.why_not
    assert 0 <= has.scores["accuracy"] <= 1


def test_a_large_checkpoint_is_not_tried(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveying, "SMALL", 1000)
    assert [reference.name for reference in advised(classifier, TEXTS).references] == ["majority", "TF-IDF"]


@pytest.mark.parametrize(
    ("task", "rows"), [("token-classification", jobs.SENTENCES), ("question-answering", jobs.QUESTIONS)]
)
def test_other_tasks_are_told_what_is_known(bert: Path, task: str, rows: list[Any]) -> None:
    found = advised(bert, rows, task)
    assert found.classes == {}
    assert bool(found.lengths) is (task == "token-classification")
    assert found.worth.startswith("It must be tried")
    assert {"training.per_device_train_batch_size", "training.num_train_epochs"} <= {s.key for s in found.settings}


def test_texts_without_a_word_are_no_error(bert: Path) -> None:
    found = advised(bert, [{"text": ".", "label": label} for label in "ab" * 8])
    words = next(reference for reference in found.references if reference.name == "TF-IDF")
    assert words.scores == {}
    assert "vocabulary" in words.why_not
    assert list(report(found, "suite.ft.yaml::case"))


def test_rows_that_nothing_can_be_learned_from_are_refused(bert: Path) -> None:
    with pytest.raises(DataError, match="there is nothing to learn"):
        advised(bert, [{"text": "cat runs", "label": "a"}] * 8)


# What follows

BALANCED = {"a": 50, "b": 50}


def references(**accuracy: float) -> list[Reference]:
    names = {"majority": "majority", "words": "TF-IDF", "own": "as it is"}
    return [Reference(name=names[name], scores={"accuracy": value}) for name, value in accuracy.items()]


@pytest.mark.parametrize(
    ("found", "classes", "said"),
    [
        pytest.param(references(majority=0.5, words=0.8), BALANCED, "Yes: words alone reach accuracy 0.800", id="yes"),
        pytest.param(references(majority=0.5, words=0.98), BALANCED, "Hardly: words alone", id="easy"),
        pytest.param(references(majority=0.5, words=0.51), BALANCED, "Perhaps: words alone do no better", id="chance"),
        pytest.param(
            references(majority=0.5, words=0.8, own=0.95), BALANCED, "Hardly: the checkpoint as it is", id="trained"
        ),
        pytest.param(references(majority=0.5, words=0.8, own=0.6), BALANCED, "Yes: words alone", id="untrained"),
        pytest.param([], {}, "It must be tried", id="nothing-known"),
        pytest.param(
            references(majority=0.5, words=0.8), {"a": 50, "b": 7}, "1 of 2 classes have fewer than 8", id="few"
        ),
    ],
)
def test_whether_it_is_worth_it(found: list[Reference], classes: Mapping[str, int], said: str) -> None:
    assert said in worth(found, classes)


BASE = Size(parameters=110_000_000, layers=12, hidden=768, heads=12, longest=512)


def test_memory_is_weights_and_activations() -> None:
    """BERT base, batch 32, 128 tokens in 16 bits: 1.76 GB of states; 12 layers of 32 x 128 x 768 x (34 + 10) bytes."""
    assert memory(BASE, batch=0, length=128, bytes_per_value=2) == 16 * 110e6
    activations = memory(BASE, batch=32, length=128, bytes_per_value=2) - 16 * 110e6
    assert activations == 12 * 32 * 128 * 768 * (34 + 5 * 12 * 128 / 768)
    assert memory(BASE, batch=32, length=128, bytes_per_value=4) == 16 * 110e6 + 2 * activations


def settings(
    monkeypatch: pytest.MonkeyPatch, *, train: int = 10_000, free: float = 16e9, length: int = 100, **fields: Any
) -> dict[str, Any]:
    """Setting -> what is proposed for so many rows with so much memory."""
    monkeypatch.setattr(advising, "_free_memory", lambda device: free)
    job = jobs.job("text-classification", Path("/model"), **fields)
    found = advising._settings(
        job, rows={"train": train}, classes=fields.get("classes", {}), lengths=[length] * 100, size=BASE
    )
    return {setting.key: setting.value for setting in found}


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        pytest.param({"length": 100}, "task.max_length", 104, id="multiple-of-8"),
        pytest.param({"length": 512}, "task.max_length", 512, id="all-that-it-takes"),
        pytest.param({"free": 80e9}, "training.per_device_train_batch_size", 64, id="much-memory"),
        pytest.param({"free": 4e9}, "training.per_device_train_batch_size", 16, id="little-memory"),
        pytest.param({"free": 1e9}, "training.per_device_train_batch_size", 1, id="too-little-memory"),
        pytest.param({"train": 200, "free": 80e9}, "training.per_device_train_batch_size", 8, id="few-rows"),
        pytest.param({"train": 200, "free": 80e9}, "training.num_train_epochs", 12, id="few-steps"),
        pytest.param({"train": 20, "free": 80e9}, "training.num_train_epochs", 20, id="fewest-rows"),
        pytest.param({"train": 100_000, "free": 80e9}, "training.num_train_epochs", 2, id="many-steps"),
    ],
)
def test_what_is_proposed(given: Mapping[str, Any], key: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(monkeypatch, **given)[key] == value


def test_how_much_of_a_batch_is_padding_is_what_drawing_shows() -> None:
    lengths = sorted(np.random.default_rng(0).integers(3, 60, size=300).tolist())
    batches = np.random.default_rng(1).choice(lengths, size=(20_000, 8))
    assert padding(lengths, 8) == pytest.approx(1 - batches.mean() / batches.max(axis=1).mean(), abs=0.003)
    assert padding([7] * 5, 8) == padding(lengths, 1) == pytest.approx(0)


@pytest.mark.parametrize(
    ("lengths", "fields", "value"),
    [
        pytest.param([8, 80], {}, "groups", id="of-many-lengths"),
        pytest.param([70, 80], {}, None, id="of-like-lengths"),
        pytest.param([8, 80], {"options": {"max_length": 8}}, None, id="cut-to-like-lengths"),
        pytest.param([8, 80], {"techniques": {"loop": {}}}, None, id="beside-a-loop"),
    ],
)
def test_rows_of_like_length_are_proposed_where_much_is_padding(
    lengths: list[int], fields: dict[str, Any], value: str | None
) -> None:
    found = advising._settings(
        jobs.job("text-classification", Path("/model"), **fields),
        rows={"train": 1_000},
        classes={},
        lengths=sorted(lengths * 50),
        size=BASE,
    )
    assert {setting.key: setting.value for setting in found}.get("padding") == value


def test_a_technique_that_is_set_already_is_told(bert: Path) -> None:
    rows = [{"text": "up " * (1 + 30 * (row % 2)), "label": ("moves", "rests")[row // 12]} for row in range(24)]
    found = advised(bert, rows, techniques={"padding": {"within": "parts"}})
    assert "  padding: groups  (now parts)" in list(report(found, "x"))


def test_a_length_that_is_set_is_compared(bert: Path) -> None:
    found = advised(bert, TEXTS, options={"max_length": 4})
    (length,) = (setting for setting in found.settings if setting.key == "task.max_length")
    cut = sum(length > 4 for length in found.lengths) / len(found.lengths)
    assert f"4 cuts {100 * cut:.1f} % of the rows" in length.why
    assert f"  task.max_length: {length.value}  (now 4)" in list(report(found, "x"))


def test_a_case_that_trains_nothing_is_advised_all_the_same(bert: Path) -> None:
    assert advised(bert, TEXTS, trains=False).rows["train"] == len(TEXTS)


def test_of_a_case_with_folds_the_first_is_looked_at(bert: Path) -> None:
    found = advised(bert, TEXTS, techniques={"folds": {"n": 4, "by": None, "group": None}})
    assert found.rows == {"train": 18, "eval": 6}


# The command


def test_the_command_reads_a_suite_and_leaves_the_store_alone(ftcheck: Command, tmp_path: Path) -> None:
    done = ftcheck("advise", f"{SUITE}::unsearched", "--device=cpu", f"--cache-dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    for part in ("without fine-tuning:", "  TF-IDF: accuracy", "worth it? ", "what to set:", "  task.max_length: "):
        assert part in done.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        pytest.param("suite.ft.yaml", "suite.ft.yaml is 2 cases: name one of", id="several"),
        pytest.param("suite.ft.yaml::none", "", id="none"),
    ],
)
def test_a_case_must_be_named(ftcheck: Command, case: str, message: str) -> None:
    ftcheck.project.suite("  a: {}\n  b: {}\n")
    done = ftcheck("advise", case)
    assert done.returncode == 4
    assert message in done.stderr


def test_settings_that_stand_already_are_told(bert: Path) -> None:
    found = advised(bert, TEXTS, training={"warmup_steps": 0.1})
    assert any(line == "  training.warmup_steps: 0.1  (as it is)" for line in report(found, "x"))
    other = replace(found, settings=tuple(s for s in found.settings if s.key == "task.max_length"))
    assert sum(line.startswith("  training.") for line in report(other, "x")) == 0
