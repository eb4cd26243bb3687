"""What comes through Ray's object store is what was sent, or refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftcheck.errors import DataError, StoreError
from ftcheck.executors import parcels
from ftcheck.executors.parcels import EntryParcel, Parcel
from ftcheck.keys import Key
from ftcheck.store import Store
from ftcheck.store.entry import DamageError

KEY = Key.of({"stage": "train", "seed": 42})


@pytest.fixture(autouse=True)
def objects(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Ray's object store, in this process: a reference is a place in it."""
    kept: list[Any] = []

    def put(value: Any) -> int:
        kept.append(value)
        return len(kept) - 1

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(put=put, get=kept.__getitem__))
    monkeypatch.setattr(parcels, "PIECE", 4)
    return kept


def sent(folder: Path, files: Mapping[str, bytes]) -> EntryParcel:
    """An entry with these files, packed."""
    store = Store(folder)
    with store.publish("runs", KEY) as publication:
        for name, content in files.items():
            (publication.path / name).parent.mkdir(exist_ok=True)
            (publication.path / name).write_bytes(content)
        publication.content = {"costs": {}}
    entry = store.get("runs", KEY.digest)
    assert entry is not None
    return parcels.packed_entry(entry)


FILES = {"model/model.safetensors": b"weights of a model", "rows.txt": b"", "notes.txt": b"a few"}


def test_an_entry_arrives_as_it_was_sent(tmp_path: Path) -> None:
    there = Store(tmp_path / "there")
    parcels.take(sent(tmp_path / "here", FILES), there)
    entry = there.get("runs", KEY.digest)
    assert entry is not None
    assert {name: entry.read(name) for name in FILES} == FILES


def _other_piece(parcel: EntryParcel, objects: list[Any]) -> EntryParcel:
    objects[parcel.files["model/model.safetensors"].pieces[1]] = b"gift"
    return parcel


def _more(parcel: EntryParcel, objects: list[Any]) -> EntryParcel:
    objects[parcel.files["model/model.safetensors"].pieces[-1]] = b"much more"
    return parcel


def _less(parcel: EntryParcel, objects: list[Any]) -> EntryParcel:
    file = parcel.files["model/model.safetensors"]
    return replace(parcel, files={**parcel.files, "model/model.safetensors": replace(file, pieces=file.pieces[:-1])})


def _no_bytes(parcel: EntryParcel, objects: list[Any]) -> EntryParcel:
    objects[parcel.files["notes.txt"].pieces[0]] = ["a", "few"]
    return parcel


def _missing(parcel: EntryParcel, objects: list[Any]) -> EntryParcel:
    return replace(parcel, files={})


def _other_key(parcel: EntryParcel, objects: list[Any]) -> EntryParcel:
    return replace(parcel, digest=Key.of({"seed": 43}).digest)


def _cut_manifest(parcel: EntryParcel, objects: list[Any]) -> EntryParcel:
    return replace(parcel, manifest=parcel.manifest[:-10])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(_other_piece, "model.safetensors fails its checksum", id="changed"),
        pytest.param(_more, "model.safetensors is larger than was said", id="longer"),
        pytest.param(_less, "model.safetensors fails its checksum", id="shorter"),
        pytest.param(_no_bytes, "notes.txt is larger than was said", id="an-object"),
        pytest.param(_missing, "isn't what the manifest says", id="missing"),
        pytest.param(_other_key, "belongs to another key", id="another-key"),
        pytest.param(_cut_manifest, "manifest.json is no JSON", id="manifest-cut"),
    ],
)
def test_what_is_not_what_was_published_is_refused(tmp_path: Path, objects: list[Any], change: Any, said: str) -> None:
    there = Store(tmp_path / "there")
    parcel = change(sent(tmp_path / "here", FILES), objects)
    with pytest.raises(DamageError, match=said):
        parcels.take(parcel, there)
    assert list(there.keys("runs")) == []
    assert list((tmp_path / "there" / "tmp").iterdir()) == []


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    there = Store(tmp_path / "there")
    with pytest.raises(DamageError, match=r"head\.pkl is a pickle or code"):
        parcels.take(sent(tmp_path / "here", {"head.pkl": b"cos\nsystem\n"}), there)
    assert list(there.keys("runs")) == []


def test_what_does_not_fit_on_the_disk_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="bytes don't fit on the disk"):
        parcels.unpack(Parcel(size=2**60, blake3="", pieces=()), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_files_lie_below_a_folder_as_they_lay_and_are_brought_once(tmp_path: Path, objects: list[Any]) -> None:
    places = [tmp_path / "suites" / name for name in ("train.csv", "checkpoint/config.json", "checkpoint/empty")]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("" if place.name == "empty" else f"this is {place.name}")
    files = {str(place): parcels.packed(place) for place in places}
    tree = parcels.laid_out(files, tmp_path / "cache")
    assert [(tree / str(place).lstrip("/")).read_bytes() for place in places] == [p.read_bytes() for p in places]
    objects[:] = []  # a piece that is asked for again is an error
    assert parcels.laid_out(files, tmp_path / "cache") == tree
    damaged = tmp_path / "cache" / "files" / files[str(places[0])].blake3
    damaged.write_text("other words")
    with pytest.raises(IndexError):
        parcels.laid_out(files, tmp_path / "cache")


def test_files_that_are_not_what_was_packed_are_an_error(tmp_path: Path, objects: list[Any]) -> None:
    place = tmp_path / "train.csv"
    place.write_text("text,label\n")
    files = {str(place): parcels.packed(place)}
    objects[0] = b"evil"
    with pytest.raises(DataError, match=r"could not be laid out in .*fails its checksum"):
        parcels.laid_out(files, tmp_path / "cache")
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))
