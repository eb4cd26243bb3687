"""Encoded rows are made once in a process for runs that would encode the same, and no run can tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ftcheck import tasks
from ftcheck.finetune import encoded
from ftcheck.finetune.session import FineTuning
from ftcheck.tasks.features import EncodedRows
from tests.finetune.jobs import ROWS, TEXTS, job, loaded

TEXT = "text-classification"


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    encoded.KEPT.clear()
    yield
    encoded.KEPT.clear()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were encoded, each time that some were."""
    made: list[int] = []

    def counted(kind: Any, name: str) -> None:
        really = getattr(kind, name)

        def call(self: Any, rows: Any, *arguments: Any, **named: Any) -> Any:
            made.append(len(rows))
            return really(self, rows, *arguments, **named)

        monkeypatch.setattr(kind, name, call)

    for task in ROWS:
        counted(type(tasks.get(task)), "encode")
    return made


def run(made: Any, folder: Path, rows: Any = TEXTS) -> tuple[Any, dict[str, bytes]]:
    """(judged rows, what was saved)."""
    with FineTuning(made, loaded=loaded(train=rows, eval=rows[:10])) as tuning:
        tuning.train()
        tuning.save(folder)
        return tuning.predict(), {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("task", ROWS)
def test_another_seed_encodes_nothing_anew_and_is_what_it_would_have_been(
    task: str, bert: Path, calls: list[int], tmp_path: Path
) -> None:
    first, second = (job(task, bert, training={"max_steps": 2}, seed=seed) for seed in (1, 2))
    alone = run(second, tmp_path / "alone", ROWS[task])
    encoded.KEPT.clear()
    run(first, tmp_path / "first", ROWS[task])
    del calls[:]
    after = run(second, tmp_path / "after", ROWS[task])
    assert calls == []
    assert after[0].records == alone[0].records
    assert after[0].notes == alone[0].notes
    assert after[1] == alone[1]


@pytest.mark.parametrize(
    ("changed", "rows", "made"),
    [
        pytest.param({"options": {"max_length": 4}}, TEXTS, [24, 10], id="cut elsewhere, which is noted"),
        pytest.param({"options": {"max_length": 30}}, TEXTS, [24], id="cut elsewhere"),
        pytest.param({}, [{**row, "text": f"red {row['text']}"} for row in TEXTS], [24], id="other texts"),
        pytest.param({}, [*TEXTS[:4], {"text": "a red fish", "label": "moves"}, *TEXTS[4:]], [1], id="one more"),
        pytest.param({}, [{**row, "label": f"{row['label']}!"} for row in TEXTS], [24], id="other classes"),
    ],
)
def test_what_would_be_encoded_otherwise_is(
    changed: Any, rows: Any, made: list[int], bert: Path, calls: list[int], tmp_path: Path
) -> None:
    run(job(TEXT, bert, training={"max_steps": 1}), tmp_path / "one")
    del calls[:]
    run(job(TEXT, bert, training={"max_steps": 1}, **changed), tmp_path / "two", rows)
    assert calls == made


def fold(task: str, path: Path, folder: Path, number: int, **options: Any) -> tuple[Any, ...]:
    """What one of three folds comes to: what it judged, what it says of rows, what it saved."""
    rows = ROWS[task]
    parts = [[row for place, row in enumerate(rows) if (place % 3 == number) is judged] for judged in (False, True)]
    made = job(task, path, training={"max_steps": 2}, options=options)
    with FineTuning(made, loaded=loaded(train=parts[0], eval=parts[1])) as tuning:
        trained = tuning.train()
        tuning.save(folder)
        predicted = tuning.predict()
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    return predicted.records, trained.notes, predicted.notes, files


@pytest.mark.parametrize(
    ("task", "options", "made"),
    [
        pytest.param("text-classification", {}, [16, 8], id="text-classification"),
        pytest.param("text-classification", {"max_length": 5}, [16, 8] * 3, id="some are cut"),
        pytest.param("token-classification", {}, [16, 8], id="token-classification"),
        pytest.param("token-classification", {"label_subwords": "all"}, [16, 8] * 3, id="trained on otherwise"),
        pytest.param("multiple-choice", {}, [8, 4], id="multiple-choice"),
        pytest.param("question-answering", {}, [8, 4] * 3, id="several features a row"),
    ],
)
def test_a_fold_encodes_what_no_other_has_and_cannot_tell(
    task: str, options: dict[str, Any], made: list[int], bert: Path, calls: list[int], tmp_path: Path
) -> None:
    alone = []
    for number in range(3):
        encoded.KEPT.clear()
        alone.append(fold(task, bert, tmp_path / f"alone-{number}", number, **options))
    encoded.KEPT.clear()
    del calls[:]
    together = [fold(task, bert, tmp_path / f"together-{number}", number, **options) for number in range(3)]
    assert together == alone
    assert calls == made


PAIRS = [
    {"text": f"the {row['text']}", "text_pair": row["text"], "label": place / 24} for place, row in enumerate(TEXTS)
]
SETS = [{"text": row["text"], "label": [row["label"], "old"][: 1 + place % 2]} for place, row in enumerate(TEXTS)]


@pytest.mark.parametrize(
    ("task", "rows", "options"),
    [
        *(pytest.param(task, rows, {}, id=task) for task, rows in ROWS.items() if task != "question-answering"),
        pytest.param("sentence-similarity", PAIRS, {"scale": 1}, id="sentence-similarity"),
        pytest.param(TEXT, TEXTS, {"max_length": 5}, id="all but the first are cut"),
        pytest.param(TEXT, PAIRS, {"problem_type": "regression"}, id="numbers of pairs"),
        pytest.param(TEXT, SETS, {"problem_type": "multi_label_classification"}, id="sets of classes"),
    ],
)
def test_rows_taken_out_of_others_are_encoded_to_the_last_byte_as_by_themselves(
    task: str, rows: Any, options: dict[str, Any], bert: Path
) -> None:
    """In any order, some twice, some not met before."""
    from transformers import AutoTokenizer

    made, found = job(task, bert, options=options), loaded(train=rows).roles["train"]
    tokenizer = AutoTokenizer.from_pretrained(bert, **tasks.get(task).tokenizer_kwargs)
    config = SimpleNamespace(label2id={}, id2label={}, num_labels=2)
    meta = tasks.get(task).learn(found.dataset, config, made.case.task_options, found.place)
    kept = encoded.Kept()

    def of(asked: Any) -> EncodedRows:
        def make(index: Any) -> EncodedRows:
            some = asked if index is None else asked.take(index)
            return tasks.get(task).encode(some.dataset, tokenizer, meta, made.case.task_options, training=True)

        key = encoded.key(made.case, "training", asked, tokenizer, meta)
        assert key is not None
        assert key.each is not None
        shared, alone = kept.by_row(key, asked.hashes, tokenizer, make), make(None)
        assert shared is not None
        assert fingerprint(shared) == fingerprint(alone)
        return shared

    last = len(rows) - 1
    for index in ([1, 0], [5, 3, 8, 1], [8, 5, 5], [0, 3, last, 3, 9], [*range(last + 1)], [2]):
        of(found.take(index)).tokens["input_ids"][:] = 7


def fingerprint(rows: EncodedRows) -> Any:
    """Each array to the last byte."""

    def of(array: Any) -> Any:
        return array.dtype.str, array.shape, array.tobytes()

    named = [{name: of(values) for name, values in found.items()} for found in (rows.tokens, rows.targets, rows.aside)]
    return named, of(rows.starts), dict(rows.ragged), rows.notes


def test_a_tokenizer_that_was_changed_encodes_anew(bert: Path) -> None:
    def key(change: Any) -> encoded.Key | None:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(bert)
        change(tokenizer)
        return encoded.key(job(TEXT, bert).case, "judged", loaded(eval=TEXTS).roles["eval"], tokenizer, {})

    changes = [
        lambda tokenizer: None,
        lambda tokenizer: tokenizer.add_tokens(["sleeps soundly"]),
        lambda tokenizer: setattr(tokenizer, "model_max_length", 9),
        lambda tokenizer: setattr(tokenizer, "chat_template", "{{ messages }}"),
    ]
    assert key(changes[0]) == key(changes[0]) is not None
    found = [key(change) for change in changes]
    assert len({one.whole for one in found if one}) == len({one.each for one in found if one}) == len(changes)


def test_rows_whose_classes_are_numbered_otherwise_are_encoded_anew(bert: Path) -> None:
    import datasets
    from transformers import AutoTokenizer

    def key(names: list[str]) -> Any:
        label = datasets.ClassLabel(names=names)
        table = datasets.Dataset.from_dict(
            {"text": ["a", "b"], "label": [names.index("x"), names.index("y")]},
            features=datasets.Features({"text": datasets.Value("string"), "label": label}),
        )
        rows = replace(loaded(eval=table).roles["eval"], digest="the same, since it is of names")
        return encoded.key(job(TEXT, bert).case, "judged", rows, AutoTokenizer.from_pretrained(bert), {})

    one, other = key(["x", "y"]), key(["y", "x"])
    assert one.whole != other.whole
    assert one.each != other.each


def test_a_task_of_the_users_is_asked_each_time(bert: Path) -> None:
    from transformers import AutoTokenizer

    own = replace(job(TEXT, bert).case, task="my_package.tasks:Drawn")
    rows = loaded(eval=TEXTS).roles["eval"]
    assert encoded.key(own, "judged", rows, AutoTokenizer.from_pretrained(bert), {}) is None


def features(tokens: int) -> EncodedRows:
    return EncodedRows(
        tokens={"input_ids": np.arange(tokens, dtype=np.int32)}, starts=np.array([0, tokens], dtype=np.int64)
    )


@pytest.fixture(scope="module")
def tokenizer(bert: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(bert)


def test_what_was_asked_for_last_is_kept_and_never_more_than_the_limit(tokenizer: Any) -> None:
    made: list[int] = []

    def make(tokens: int) -> Any:
        made.append(tokens)
        return features(tokens)

    kept = encoded.Kept(limit=1000)
    for tokens in (100, 110, 100, 120, 100, 110, 900):  # 416, 456, 496 bytes: two fit; the last never does
        kept.encoded(str(tokens), tokenizer, partial(make, tokens))
    assert made == [100, 110, 120, 110, 900]


def test_a_run_may_change_what_it_got(tokenizer: Any) -> None:
    kept = encoded.Kept()
    for _ in range(3):
        found = kept.encoded("key", tokenizer, lambda: features(3))
        assert found is not None
        assert (found.tokens["input_ids"].tolist(), found.starts.tolist(), found.notes) == ([0, 1, 2], [0, 3], [])
        found.tokens["input_ids"][:] = 7
        found.notes.append("changed")
