"""What was published comes back as it was; what isn't as it was published never comes back at all."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from ftcheck.errors import StoreError
from ftcheck.keys import Key
from ftcheck.store import Entry, Store, StoreCorruptionError, remove_model
from ftcheck.store.entry import MANIFEST, DamageError, open_manifest, write_manifest
from tests.store.entries import CONTENT, FILES, key, left_over, publish

SMALL = [name for name in FILES if not name.startswith("model/")]
LARGE = [name for name in FILES if name.startswith("model/")]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def in_quarantine(store: Store) -> list[str]:
    folder = store.root / "quarantine"
    return sorted(os.listdir(folder)) if folder.exists() else []


def test_an_entry_comes_back_as_it_was_published(store: Store) -> None:
    made = key(learning_rate=5e-5)
    entry = publish(store, made)
    assert {name: entry.read(name) for name in FILES} == FILES
    assert {name: entry.file(name).read_bytes() for name in FILES} == FILES
    assert entry.content == CONTENT
    assert entry.components == made.components
    assert entry.path == store.root / "runs" / made.digest[:2] / made.digest[2:]
    assert entry.verify("model/") == entry.path
    assert entry.size == sum(map(len, FILES.values()))
    assert entry.model_size == sum(len(FILES[name]) for name in LARGE)
    assert left_over(store.root) == []


def test_the_manifest_tells_what_a_reader_of_files_needs(store: Store) -> None:
    made = key()
    manifest = json.loads((publish(store, made).path / MANIFEST).read_text())
    assert (manifest["format"], manifest["stage"], manifest["key"]) == (1, "runs", made.digest)
    assert manifest["files"]["statistics.npz"] == {
        "size": len(FILES["statistics.npz"]),
        "blake3": blake3(FILES["statistics.npz"]).hexdigest(),
    }


def test_content_keeps_its_numbers_also_those_that_are_none(store: Store) -> None:
    with store.publish("runs", key()) as publication:
        publication.content = {"whole": 1.0, "loss": math.nan, "pairs": (1, 2)}
    entry = store.get("runs", key().digest)
    assert entry is not None
    assert isinstance(entry.content["whole"], float)
    assert math.isnan(entry.content["loss"])
    assert entry.content["pairs"] == [1, 2]


def test_content_that_is_no_json_is_refused_and_nothing_published(store: Store) -> None:
    with pytest.raises(StoreError, match="JSON"), store.publish("runs", key()) as publication:
        publication.content = {"model": object()}
    assert store.get("runs", key().digest) is None
    assert left_over(store.root) == []


def test_an_unknown_key_is_not_there_in_a_store_that_isn_t_either(store: Store) -> None:
    assert store.get("runs", key().digest) is None
    assert not store.root.exists()


@pytest.mark.parametrize("digest", ["", "abc", "../" * 21 + "x", "A" * 64, "0" * 63 + "/"])
def test_what_is_no_digest_leads_nowhere(store: Store, digest: str) -> None:
    with pytest.raises(StoreError, match="is no key"):
        store.get("runs", digest)


def test_a_file_that_was_never_there_is_an_error_that_names_those_that_are(store: Store) -> None:
    entry = publish(store, key())
    with pytest.raises(StoreError, match=r"has no examples\.parquet .*statistics\.npz"):
        entry.read("examples.parquet")


def test_nothing_is_visible_before_it_is_complete(store: Store) -> None:
    with store.publish("runs", key()) as publication:
        (publication.path / "a").write_bytes(b"x")
        assert Store(store.root).get("runs", key().digest) is None
    assert Store(store.root).get("runs", key().digest) is not None


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
def test_a_block_that_raises_leaves_nothing_behind(store: Store, error: BaseException) -> None:
    def stage() -> None:
        with store.publish("runs", key()) as publication:
            (publication.path / "a").write_bytes(b"x")
            raise error

    with pytest.raises(type(error)):
        stage()
    assert store.get("runs", key().digest) is None
    assert left_over(store.root) == []


def test_losing_the_race_is_success_and_the_first_stays(store: Store) -> None:
    with store.publish("runs", key()) as late:
        (late.path / "statistics.npz").write_bytes(b"late")
        publish(Store(store.root), key())
    entry = store.get("runs", key().digest)
    assert entry is not None
    assert entry.read("statistics.npz") == FILES["statistics.npz"]
    assert left_over(store.root) == []


def test_a_replacement_wins(store: Store) -> None:
    publish(store, key())
    entry = publish(store, key(), files={"statistics.npz": b"new"}, replace=True)
    assert list(entry.manifest["files"]) == ["statistics.npz"]
    assert left_over(store.root) == []


def test_a_damaged_entry_loses_the_race(store: Store) -> None:
    entry = publish(store, key())
    (entry.path / "statistics.npz").write_bytes(b"?")
    assert publish(store, key()).read("statistics.npz") == FILES["statistics.npz"]


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_a_flipped_bit_counts_wherever_it_is_in_a_manifest(store: Store) -> None:
    """It is refused, or (a blank between two fields) says exactly what it said."""
    entry = publish(store, key())
    original = (entry.path / MANIFEST).read_bytes()
    for at in range(0, len(original), 5):
        content = bytearray(original)
        content[at] ^= 1 << at % 8
        (entry.path / MANIFEST).write_bytes(content)
        try:
            found = open_manifest(entry.path, "runs", key().digest)
        except DamageError:
            continue
        assert found == entry.manifest


def truncated(entry: Entry, name: str) -> None:
    content = (entry.path / name).read_bytes()
    (entry.path / name).write_bytes(content[: len(content) // 2])


def flipped(entry: Entry, name: str) -> None:
    flip(entry.path / name, 1)


def emptied(entry: Entry, name: str) -> None:
    (entry.path / name).write_bytes(b"")


def missing(entry: Entry, name: str) -> None:
    (entry.path / name).unlink()


def swapped(entry: Entry, name: str) -> None:
    """Another file of the right size."""
    (entry.path / name).write_bytes(b"0" * (entry.path / name).stat().st_size)


def linked(entry: Entry, name: str) -> None:
    """The right content, but by a link: whoever owns the target can change it at any time."""
    outside = entry.path.parent / "outside"
    (entry.path / name).rename(outside)
    (entry.path / name).symlink_to(outside)


def a_folder(entry: Entry, name: str) -> None:
    (entry.path / name).unlink()
    (entry.path / name).mkdir()


DAMAGES = [truncated, flipped, emptied, missing, swapped, linked, a_folder]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [MANIFEST, *SMALL])
def test_a_damaged_small_file_makes_the_entry_not_there(
    store: Store, name: str, damage: Callable[[Entry, str], None]
) -> None:
    damage(publish(store, key()), name)
    assert store.get("runs", key().digest) is None
    assert len(in_quarantine(store)) == 1
    [warning] = store.warnings
    assert "was damaged" in warning
    assert "quarantine" in warning
    assert publish(store, key()).content == CONTENT


@pytest.mark.parametrize("damage", [truncated, emptied, missing, linked, a_folder])
@pytest.mark.parametrize("name", LARGE)
def test_a_model_file_that_is_cut_or_gone_is_seen_at_once(
    store: Store, name: str, damage: Callable[[Entry, str], None]
) -> None:
    damage(publish(store, key()), name)
    assert store.get("runs", key().digest) is None
    assert len(in_quarantine(store)) == 1


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [*LARGE, *SMALL])
@pytest.mark.parametrize("read", [Entry.read, Entry.file, Entry.verify], ids=["read", "file", "verify"])
def test_a_file_damaged_after_it_was_opened_is_never_handed_out(
    store: Store, name: str, damage: Callable[[Entry, str], None], read: Callable[[Entry, str], Any]
) -> None:
    entry = publish(store, key())
    damage(entry, name)
    with pytest.raises(StoreCorruptionError, match="is damaged"):
        read(entry, name)
    assert store.get("runs", key().digest) is None
    assert len(in_quarantine(store)) == 1
    assert len(store.warnings) == 1


def test_a_file_too_many_is_damage(store: Store) -> None:
    (publish(store, key()).path / "model" / "pytorch_model.bin").write_bytes(b"a pickle")
    assert store.get("runs", key().digest) is None


def rewritten(store: Store, **changes: Any) -> None:
    """An entry whose manifest says something else, with a checksum that fits."""
    entry = publish(store, key())
    write_manifest(entry.path, {**entry.manifest, **changes}, entry.path / "x")


RECORD = {"size": 1, "blake3": "0" * 64}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"format": 2}, id="of another format"),
        pytest.param({"key": "0" * 64}, id="of another key"),
        pytest.param({"components": {"seed": 43}}, id="with other components"),
        pytest.param({"components": {"seed": math.nan}}, id="with components that are none"),
        pytest.param({"stage": "predictions"}, id="of another stage"),
        pytest.param({"files": []}, id="with files of the wrong type"),
        pytest.param({"content": None}, id="without content"),
        pytest.param({"created": 3}, id="with a wrong time"),
        pytest.param({"pruned": ["statistics"]}, id="that says something else was pruned"),
        pytest.param({"files": {"../../../x": RECORD}}, id="naming a file outside"),
        pytest.param({"files": {"/etc/passwd": RECORD}}, id="naming an absolute file"),
        pytest.param({"files": {"a/../b": RECORD}}, id="naming a file by a detour"),
        pytest.param({"files": {"": RECORD}}, id="naming no file"),
        pytest.param({"files": {MANIFEST: RECORD}}, id="naming itself"),
        pytest.param({"files": {"a": {"size": -1, "blake3": "0" * 64}}}, id="with a negative size"),
        pytest.param({"files": {"a": {"size": True, "blake3": "0" * 64}}}, id="with a size that is none"),
        pytest.param({"files": {"a": {"size": 1, "blake3": "x"}}}, id="with a checksum that is none"),
        pytest.param({"files": {"a": None}}, id="with no record of a file"),
    ],
)
def test_a_manifest_is_refused(store: Store, changes: dict[str, Any]) -> None:
    rewritten(store, **changes)
    assert store.get("runs", key().digest) is None
    assert len(in_quarantine(store)) == 1


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}'],
    ids=["empty", "null", "list", "cut", "not text", "nested without end", "hardly anything"],
)
def test_whatever_stands_in_a_manifest_is_no_traceback(store: Store, text: bytes) -> None:
    (publish(store, key()).path / MANIFEST).write_bytes(text)
    assert store.get("runs", key().digest) is None


def test_an_entry_that_was_moved_to_another_key_is_refused(store: Store) -> None:
    entry, other = publish(store, key()), key(seed=43)
    place = store.place("runs", other.digest)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(entry.path, place)
    assert store.get("runs", other.digest) is None
    assert store.get("runs", key().digest) is not None


@pytest.mark.parametrize(
    "make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/")], ids=["file", "empty", "link"]
)
def test_what_is_no_entry_at_all_is_set_aside(store: Store, make: Callable[[Path], None]) -> None:
    place = store.place("runs", key().digest)
    place.parent.mkdir(parents=True)
    make(place)
    assert store.get("runs", key().digest) is None
    assert len(in_quarantine(store)) == 1
    assert publish(store, key()).content == CONTENT


def test_a_read_only_store_sets_nothing_aside_and_still_hands_nothing_out(store: Store) -> None:
    entry = publish(store, key())
    flip(entry.path / "statistics.npz", 0)
    reader = Store(store.root, read_only=True)
    assert reader.get("runs", key().digest) is None
    assert entry.path.exists()
    assert "stays" in reader.warnings[0]


def test_an_entry_that_another_process_is_changing_is_left_to_it(store: Store) -> None:
    entry = publish(store, key())
    (entry.path / "statistics.npz").unlink()
    other = Store(store.root)
    with other.lock("runs", key().digest):
        assert store.get("runs", key().digest) is None
    assert in_quarantine(store) == []
    assert store.warnings == []


class TestModels:
    """A model can be taken out of its entry; all else stays."""

    def test_the_rest_stays_readable(self, store: Store) -> None:
        publish(store, key())
        remove_model(store, "runs", key().digest)
        entry = store.get("runs", key().digest)
        assert entry is not None
        assert list(entry.manifest["files"]) == SMALL
        assert entry.model_size == 0
        assert entry.read("statistics.npz") == FILES["statistics.npz"]
        assert not (entry.path / "model").exists()
        assert left_over(store.root) == []

    def test_cut_off_in_the_middle_the_entry_is_whole(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(store, key())
        monkeypatch.setattr(store, "discard", lambda path: None)
        remove_model(store, "runs", key().digest)
        entry = store.get("runs", key().digest)
        assert entry is not None
        assert (entry.path / "model").exists()
        with pytest.raises(StoreError, match=r"has no model/config\.json"):
            entry.read("model/config.json")

    def test_twice_is_once(self, store: Store) -> None:
        publish(store, key())
        remove_model(store, "runs", key().digest)
        remove_model(store, "runs", key().digest)
        remove_model(store, "runs", Key.of({}).digest)
        assert store.get("runs", key().digest) is not None
