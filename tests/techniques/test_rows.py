"""`sampling` and `few_shot`: which training rows a run uses, drawn by its seed, and that nothing else changes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import DataError, TechniqueError
from ftcheck.finetune import data
from ftcheck.finetune.data import Loaded, RoleRows
from ftcheck.finetune.session import FineTuning
from ftcheck.spec import Data
from tests.finetune.jobs import SENTENCES, TEXTS, Row, loaded
from tests.keys import inputs
from tests.techniques.trainings import a_job, case_of, mistakes, tuning

UNEVEN: list[Row] = [{"text": f"the cat {number}", "label": "a" if number < 90 else "b"} for number in range(100)]
LABELS = ("a", "b")


def drawn(named: dict[str, Any], rows: Loaded | None = None, *, technique: int = 0, **fields: Any) -> RoleRows:
    """The rows that a case trains on."""
    rows = rows or loaded(train=UNEVEN, eval=UNEVEN)
    with FineTuning(a_job(named, **fields), loaded=rows) as made:
        made.meta = {"labels": list(LABELS)}
        context = made._context(rows)
        found = rows.roles["train"]
        for one in made.applied.techniques:
            found = one.rows(found, context)
        return found


def classes(rows: RoleRows) -> dict[str, int]:
    return dict(Counter(rows.dataset["label"][:]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param("oversample", {"a": 90, "b": 90}, id="oversample"),
        pytest.param("undersample", {"a": 10, "b": 10}, id="undersample"),
        pytest.param({"temperature": 1.0}, {"a": 90, "b": 10}, id="temperature-1-as-it-is"),
        pytest.param({"temperature": 0.5}, {"a": 75, "b": 25}, id="temperature-by-the-square-root"),
        pytest.param({"temperature": 0.0}, {"a": 50, "b": 50}, id="temperature-0-even"),
    ],
)
def test_classes_have_the_wanted_shares(options: Any, expected: dict[str, int]) -> None:
    found = drawn({"sampling": options})
    assert classes(found) == expected
    times = Counter(found.index)
    for label, size in (("a", 90), ("b", 10)):
        of_class = [times[row] for row, given in enumerate(UNEVEN) if given["label"] == label]
        assert len(of_class) == size
        assert max(of_class) - min(of_class) <= 1


@pytest.mark.parametrize(
    "named", [{"sampling": "undersample"}, {"few_shot": {"per_class": 5}}, {"few_shot": {"rows": 20}}]
)
def test_a_seed_draws_its_own_rows_every_time(named: dict[str, Any]) -> None:
    one, again, other = (drawn(named, seed=seed).hashes for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_rows_keep_their_places() -> None:
    found = drawn({"few_shot": 3})
    assert [found.place(row) for row in range(6)] == [f"train.csv:{row}" for row in found.index]
    assert [UNEVEN[row]["text"] for row in found.index] == found.dataset["text"][:]
    assert len(found.hashes) == len(found.dataset) == 6


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param(10, {"a": 10, "b": 10}, id="per-class"),
        pytest.param({"rows": 100}, {"a": 90, "b": 10}, id="rows"),
    ],
)
def test_few_shots_have_the_wanted_size(options: Any, expected: dict[str, int]) -> None:
    assert classes(drawn({"few_shot": options})) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(11, "few_shot wants 11 training rows of each class, and 'b' has 10", id="class"),
        pytest.param({"rows": 101}, "few_shot wants 101 training rows, and there are 100", id="rows"),
    ],
)
def test_too_few_rows_are_an_error_that_names_the_class(options: Any, message: str) -> None:
    with pytest.raises(TechniqueError, match=message):
        drawn({"few_shot": options})


def test_a_class_without_rows_is_an_error() -> None:
    with pytest.raises(TechniqueError, match="and 'b' has 0"):
        drawn({"few_shot": 2}, loaded(train=UNEVEN[:50], eval=UNEVEN))


def test_a_smoke_run_takes_what_there_is() -> None:
    assert classes(drawn({"few_shot": 11}, limit=100)) == {"a": 11, "b": 10}


def test_few_shots_are_balanced_after_they_are_drawn() -> None:
    assert (
        classes(drawn({"few_shot": {"rows": 50}, "sampling": "oversample"}))["a"]
        == classes(drawn({"few_shot": {"rows": 50}, "sampling": "oversample"}))["b"]
    )


@pytest.fixture
def domains(tmp_path: Path) -> Data:
    """Rows of two data sets, named in a column that the task doesn't have."""
    (tmp_path / "train.csv").write_text(
        "text,label,domain\n" + "".join(f"text {n},{LABELS[n % 2]},{'news' if n < 30 else 'mail'}\n" for n in range(40))
    )
    (tmp_path / "test.csv").write_text("text,label\none,a\ntwo,b\n")
    files = {split: (str(tmp_path / f"{split}.csv"),) for split in ("train", "test")}
    return Data(kind="reader", path="csv", files=files)


def test_rows_are_balanced_by_a_column_of_the_data(domains: Data) -> None:
    """Which the judged rows needn't have."""
    job = a_job({"sampling": {"method": "oversample", "by": "domain"}}, data=domains)
    found = drawn({"sampling": {"method": "oversample", "by": "domain"}}, data.load(job))
    assert dict(Counter(found.beside["domain"])) == {"news": 30, "mail": 30}
    assert found.dataset.column_names == ["text", "label"]


def test_a_column_that_the_data_lacks_is_an_error(domains: Data) -> None:
    job = a_job({"sampling": {"method": "oversample", "by": "domian"}}, data=domains)
    with pytest.raises(DataError, match=r"no column 'domian', which sampling\.by names .*did you mean domain\?"):
        data.load(job)


@pytest.mark.e2e
@pytest.mark.parametrize(
    "named", [{"sampling": "oversample"}, {"few_shot": {"per_class": 4}}], ids=["sampling", "few_shot"]
)
def test_judged_rows_are_untouched_and_what_is_judged_was_kept(named: dict[str, Any], tmp_path: Path) -> None:
    with tuning(named) as made:
        trained = made.train()
        made.save(tmp_path)
        predicted = made.predict()
    assert trained.rows["train"]["count"] == len(TEXTS)
    assert [record["hash"] for record in predicted.records] == loaded(eval=TEXTS).roles["eval"].hashes
    with tuning(named) as again:
        again.load(tmp_path)
        assert again.predict().records == predicted.records


@pytest.mark.e2e
def test_sequences_may_be_drawn_too() -> None:
    with tuning({"few_shot": {"rows": 5}}, SENTENCES, task="token-classification") as made:
        trained = made.train()
    assert "train: 5 of 24 rows, each run its own sample" in trained.notes


STREAMED = "data: {path: org/data, streaming: true, splits: {eval: test}}, training: {max_steps: 3}"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            "sampling: {by: domain}",
            "sampling: expected either a method (oversample, undersample) or a temperature",
            id="nothing",
        ),
        pytest.param(
            "sampling: {method: oversample, temperature: 0.5}",
            "sampling: expected either a method (oversample, undersample) or a temperature",
            id="both",
        ),
        pytest.param(
            "sampling: more",
            "sampling: expected one of oversample, undersample, got 'more' (text)",
            id="unknown-method",
        ),
        pytest.param(
            "sampling: oversample, task: token-classification",
            "sampling: rows of token-classification have no one class each; name a column of the data: by",
            id="no-classes",
        ),
        pytest.param(
            f"sampling: oversample, {STREAMED}",
            "sampling: needs all training rows at once; leave out data.streaming",
            id="sampled-stream",
        ),
        pytest.param(
            "sampling: oversample, class_weights: balanced",
            "class_weights: balanced can't be combined with sampling: both make up for the same imbalance",
            id="twice-balanced",
        ),
        pytest.param("few_shot: {sets: 3}", "few_shot: expected either per_class or rows", id="no-size"),
        pytest.param(
            "few_shot: 4, task: {name: text-classification, problem_type: regression}",
            "few_shot.per_class: rows of text-classification have no one class each; say rows: how many in all",
            id="numbers",
        ),
        pytest.param(
            "few_shot: 4, seeds: 3",
            "seeds: few_shot.sets says how many runs are made; leave one of the two out",
            id="sets-and-seeds",
        ),
        pytest.param(
            f"few_shot: 4, {STREAMED}",
            "few_shot: needs all training rows at once; leave out data.streaming",
            id="drawn-from-a-stream",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(fields: str, expected: str) -> None:
    assert mistakes(fields) == [f"c.{expected}"]


def test_sets_take_the_place_of_seeds() -> None:
    assert case_of("few_shot: {per_class: 4, sets: 3}").seeds == (42, 43, 44)
    assert len(case_of("few_shot: 4").seeds) == 5
    assert case_of("seeds: 2").seeds == (42, 43)


def test_the_key_has_what_draws_the_rows_and_not_how_many_sets(tmp_path: Path) -> None:
    made = inputs.case(tmp_path)

    def train(**techniques: Any) -> str:
        found, _ = inputs.keys(replace(made, techniques=techniques), tmp_path / "memo")
        return found.digest

    few = {"per_class": 4, "rows": None, "sets": 5}
    assert train(few_shot=few) == train(few_shot={**few, "sets": 9})
    sampled = {"method": "oversample", "temperature": None, "by": None}
    found = [
        train(),
        train(few_shot=few),
        train(few_shot={**few, "per_class": 5}),
        train(sampling=sampled),
        train(sampling={**sampled, "by": "domain"}),
        train(sampling={**sampled, "method": None, "temperature": 0.5}),
    ]
    assert len(set(found)) == len(found)
