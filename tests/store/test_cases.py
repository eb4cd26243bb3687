"""What a case's keys were is remembered, so that a changed key can be explained; where it can't be, nothing breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcheck.keys import Key
from ftcheck.store import CaseHistory, Store
from ftcheck.store.cases import KEPT


def train(**components: object) -> Key:
    return Key.of({"stage": "train", "versions": {"torch": "2.13"}, **components})


def predict(made: Key, **components: object) -> Key:
    return Key.of({"stage": "predict", "train": made.digest, "versions": {"torch": "2.13"}, **components})


def history(store: Store) -> CaseHistory:
    [found] = store.cases()
    return found


def record(store: Store, made: Key, **components: object) -> None:
    store.record_case("suites/a.ft.yaml", "case", {"train": made, "predict": predict(made, **components)})


def test_the_last_two_distinct_runs_tell_what_changed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record(store, train(lr=5e-5))
    record(store, train(lr=5e-5))
    record(store, train(lr=1e-4))
    record(store, train(lr=1e-4))
    before, now = history(store).runs
    assert [str(change) for change in before.changes_to(now)] == ["lr 5e-05 → 0.0001"]


def test_a_change_that_both_keys_have_is_told_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record(store, train(versions={"torch": "2.12"}), versions={"torch": "2.12"})
    record(store, train())
    before, now = history(store).runs
    assert [str(change) for change in before.changes_to(now)] == ["torch 2.12 → 2.13"]


def test_going_back_is_a_change_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for lr in (1, 2, 1):
        record(store, train(lr=lr))
    before, now = history(store).runs
    assert [str(change) for change in before.changes_to(now)] == ["lr 2 → 1"]


def test_only_the_last_few_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for lr in range(KEPT + 5):
        record(store, train(lr=lr))
    assert [run.keys["train"].components["lr"] for run in history(store).runs] == list(range(5, KEPT + 5))


def test_cases_of_one_name_in_two_suites_are_two(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for suite in ("b.ft.yaml", "a.ft.yaml", "../odd \n name"):
        store.record_case(suite, "case", {"train": train()})
    assert [case.suite for case in store.cases()] == ["../odd \n name", "a.ft.yaml", "b.ft.yaml"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"runs": 3}', b'{"runs": [{"created": "x", "keys": {"train": {"a": NaN}}}]}', b"\xff"],
)
def test_a_damaged_history_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    record(store, train(lr=1))
    [file] = (tmp_path / "cases").iterdir()
    file.write_bytes(content)
    assert list(store.cases()) == []
    record(store, train(lr=2))
    assert len(history(store).runs) == 1
