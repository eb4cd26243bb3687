"""Pruning takes out what it was told to, least recently used first; nothing in use, nothing that verdicts need."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from ftcheck.errors import StoreError
from ftcheck.keys.files import FileHashes
from ftcheck.store import STAGES, Pruned, Store, cases, listed, prune
from ftcheck.store.entry import MANIFEST
from tests.store.entries import FILES, key, left_over, publish

SIZE = sum(map(len, FILES.values()))
MODEL = sum(len(content) for name, content in FILES.items() if name.startswith("model/"))
DAYS = (40, 20, 0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three runs, last used 40, 20 and 0 days ago."""
    made = Store(tmp_path / "store")
    for seed, days in enumerate(DAYS):
        entry = publish(made, key(seed=seed))
        used = time.time() - days * 86_400
        os.utime(entry.path / MANIFEST, (used, used))
    return made


def seeds(store: Store) -> list[int]:
    return sorted(item.entry.components["seed"] for item in listed(Store(store.root, read_only=True)))


@pytest.mark.parametrize(
    ("older_than", "max_size", "kept"),
    [
        pytest.param(timedelta(days=30), None, [1, 2], id="by age"),
        pytest.param(timedelta(days=50), None, [0, 1, 2], id="nothing is so old"),
        pytest.param(None, 2 * SIZE, [1, 2], id="by size"),
        pytest.param(None, 2 * SIZE - 1, [2], id="by size, one byte less"),
        pytest.param(None, 0, [], id="everything"),
        pytest.param(timedelta(days=10), 2 * SIZE, [2], id="by both"),
    ],
)
def test_whole_entries_go_by_last_use(
    store: Store, older_than: timedelta | None, max_size: int | None, kept: list[int]
) -> None:
    gone = len(DAYS) - len(kept)
    assert prune(store, older_than=older_than, max_size=max_size) == Pruned(entries=gone, freed=gone * SIZE)
    assert seeds(store) == kept
    assert left_over(store.root) == []


@pytest.mark.parametrize(
    ("older_than", "with_model"),
    [pytest.param(None, [], id="all"), pytest.param(timedelta(days=30), [1, 2], id="by age")],
)
def test_models_go_and_the_rest_stays(store: Store, older_than: timedelta | None, with_model: list[int]) -> None:
    gone = len(DAYS) - len(with_model)
    assert prune(store, models=True, older_than=older_than) == Pruned(models=gone, freed=gone * MODEL)
    found = {item.entry.components["seed"]: item.entry for item in listed(store)}
    assert sorted(found) == [0, 1, 2]
    assert sorted(seed for seed, entry in found.items() if entry.model_size) == with_model
    assert all(entry.read("statistics.npz") == FILES["statistics.npz"] for entry in found.values())
    assert prune(store, models=True, older_than=older_than) == Pruned()


def test_using_an_entry_keeps_it(store: Store) -> None:
    assert store.get("runs", key(seed=0).digest) is not None
    prune(store, older_than=timedelta(days=10))
    assert seeds(store) == [0, 2]


def test_listing_is_not_using(store: Store) -> None:
    days = [round(item.idle.total_seconds() / 86_400) for item in listed(store)]
    again = [round(item.idle.total_seconds() / 86_400) for item in listed(store)]
    assert sorted(days) == sorted(again) == sorted(DAYS)


@pytest.mark.parametrize("models", [False, True], ids=["entries", "models"])
def test_what_a_process_works_on_is_left(store: Store, models: bool) -> None:
    with Store(store.root).lock("runs", key(seed=1).digest):
        done = prune(store, models=models, older_than=timedelta(days=10))
    assert (done.entries + done.models, done.busy) == (1, 1)
    entry = store.get("runs", key(seed=1).digest)
    assert entry is not None
    assert entry.model_size


def test_quarantine_is_emptied(store: Store) -> None:
    (publish(store, key(seed=0)).path / "statistics.npz").write_bytes(b"?")
    assert store.get("runs", key(seed=0).digest) is None
    assert prune(store, older_than=timedelta(days=99)).freed > MODEL
    assert not (store.root / "quarantine").exists()


def test_what_nobody_goes_on_with_is_deleted(store: Store) -> None:
    held, left, fresh = (store.unfinished("searches", key(seed=seed).digest) for seed in (10, 11, 12))
    for folder in (held, left):
        (folder / "trials.log").write_text("{}")
        for path in (folder / "trials.log", folder):
            os.utime(path, (0, 0))
    with Store(store.root).lock("searches", key(seed=10).digest):
        done = prune(store, older_than=timedelta(days=1000))
    assert done.freed == 2
    assert [folder.exists() for folder in (held, left, fresh)] == [True, False, True]


def test_a_store_that_can_not_be_written_is_not_pruned(store: Store) -> None:
    with pytest.raises(StoreError, match="read-only"):
        prune(Store(store.root, read_only=True), max_size=0)
    assert seeds(store) == [0, 1, 2]


def test_an_empty_store_is_pruned_without_ado(tmp_path: Path) -> None:
    assert prune(Store(tmp_path), models=True) == Pruned()
    assert [list(Store(tmp_path).keys(stage)) for stage in STAGES] == [[]] * len(STAGES)


def test_what_is_remembered_of_files_that_are_gone_is_forgotten(tmp_path: Path) -> None:
    """And what is no memo; a file that is there keeps its own."""
    store, memo = Store(tmp_path / "store"), tmp_path / "store" / "memo"
    hashes = FileHashes(memo, clock=lambda: 2 * time.time_ns())
    for name in ("stays", "goes"):
        (tmp_path / name).write_text(name)
        hashes.digest(tmp_path / name)
    (tmp_path / "goes").unlink()
    (memo / "odd.json").write_text("[")
    assert prune(store, max_size=0, dry_run=True).freed > 0
    assert len(list(memo.iterdir())) == 3
    prune(store, max_size=0)
    (kept,) = memo.iterdir()
    assert str(tmp_path / "stays") in kept.read_text()


def test_a_case_of_which_nothing_is_left_is_forgotten(store: Store) -> None:
    """Not one that was run just now: it may be training."""
    for name, seed, days in (("gone", 0, 40), ("stays", 2, 40), ("runs", 9, 0)):
        store.record_case("suites/a.ft.yaml", name, {"train": key(seed=seed)})
        place = store.root / "cases" / cases.file_name("suites/a.ft.yaml", name)
        used = time.time() - days * 86_400
        os.utime(place, (used, used))
    odd = store.root / "cases" / "odd.json"
    odd.write_text("[")
    os.utime(odd, (0, 0))
    would = prune(store, older_than=timedelta(days=30), dry_run=True)
    assert len(list(store.cases())) == 3
    assert prune(store, older_than=timedelta(days=30)) == would
    assert would.freed > SIZE
    assert [case.case_id for case in store.cases()] == ["runs", "stays"]
    assert not odd.exists()


def test_no_more_cases_are_remembered_than_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "MOST", 3)
    store = Store(tmp_path)
    for number in range(5):
        store.record_case("a.ft.yaml", f"c{number}", {"train": key(seed=number)})
        os.utime(tmp_path / "cases" / cases.file_name("a.ft.yaml", f"c{number}"), (1000 + number, 1000 + number))
    assert len(list(store.cases())) == 5
    publish(Store(tmp_path), key(seed=0))
    assert [case.case_id for case in store.cases()] == ["c2", "c3", "c4"]
