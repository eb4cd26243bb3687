"""Encoded rows are made once in a process for runs that would encode the same, and no run can tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
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
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Task by task, how often rows were encoded."""
    made: list[str] = []

    def counted(kind: Any, name: str) -> None:
        really = getattr(kind, name)

        def call(self: Any, *arguments: Any, **named: Any) -> Any:
            made.append(self.name)
            return really(self, *arguments, **named)

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
    task: str, bert: Path, calls: list[str], tmp_path: Path
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
    ("changed", "rows"),
    [
        pytest.param({"options": {"max_length": 4}}, TEXTS, id="cut elsewhere"),
        pytest.param({}, [{**row, "text": f"the {row['text']}"} for row in TEXTS], id="other texts"),
        pytest.param({}, [{**row, "label": f"{row['label']}!"} for row in TEXTS], id="other classes"),
    ],
)
def test_what_would_be_encoded_otherwise_is(
    changed: Any, rows: Any, bert: Path, calls: list[str], tmp_path: Path
) -> None:
    run(job(TEXT, bert, training={"max_steps": 1}), tmp_path / "one")
    del calls[:]
    run(job(TEXT, bert, training={"max_steps": 1}, **changed), tmp_path / "two", rows)
    assert calls == [TEXT, TEXT]


def test_a_tokenizer_that_was_changed_encodes_anew(bert: Path) -> None:
    def key(change: Any) -> str | None:
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
    assert len({key(change) for change in changes}) == len(changes)


def test_rows_whose_classes_are_numbered_otherwise_are_encoded_anew(bert: Path) -> None:
    import datasets
    from transformers import AutoTokenizer

    def key(names: list[str]) -> str | None:
        label = datasets.ClassLabel(names=names)
        table = datasets.Dataset.from_dict(
            {"text": ["a", "b"], "label": [names.index("x"), names.index("y")]},
            features=datasets.Features({"text": datasets.Value("string"), "label": label}),
        )
        rows = replace(loaded(eval=table).roles["eval"], digest="the same, since it is of names")
        return encoded.key(job(TEXT, bert).case, "judged", rows, AutoTokenizer.from_pretrained(bert), {})

    assert key(["x", "y"]) != key(["y", "x"])


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
