"""A file that runs code when it is unpickled, in the place of each file that is read: nothing runs.

The error that is raised instead is ftcheck's own, and every kind of reader has its walk here (see `test_readers`).
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from blake3 import blake3

from ftcheck import baselines, examples, suitefile, vendoring
from ftcheck.arrays import dump_npz, load_npz
from ftcheck.certificate import checking
from ftcheck.errors import FtcheckError
from ftcheck.executors.sharing import FILE, sharing
from ftcheck.finetune.data import readers
from ftcheck.finetune.data.files import File
from ftcheck.finetune.model import Source
from ftcheck.finetune.session import BESIDE
from ftcheck.history import History
from ftcheck.keys import Key
from ftcheck.keys.checkpoints import checkpoint_files
from ftcheck.keys.files import FileHashes
from ftcheck.report import card, jsonfile
from ftcheck.results import JudgedData
from ftcheck.scoring import STATISTICS
from ftcheck.store import Remote, Store, cases
from ftcheck.store.entry import MANIFEST, DamageError
from tests.fuzzing.targets import SEPARATOR, committed
from tests.report import results
from tests.store.entries import publish

MARKER = "it-ran"


class Payload:
    """Unpickled, it makes a file where the process is."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARKER,)


def of_torch() -> bytes:
    """As torch.save packs it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Payload()))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def of_joblib() -> bytes:
    file = io.BytesIO()
    joblib.dump(Payload(), file, compress=3)
    return file.getvalue()


def of_numpy(save: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    objects = np.array([Payload()], dtype=object)
    save(file, ids=objects, rows=objects, names=objects, metric0=objects) if save is np.savez else save(file, objects)
    return file.getvalue()


def of_parquet() -> bytes:
    """A Parquet file whose column is of an extension type that is described by a pickle."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Payload()),
    }
    schema = pa.schema([pa.field("text", pa.int64(), metadata=extension), pa.field("label", pa.string())])
    file = io.BytesIO()
    pq.write_table(pa.table({"text": [1], "label": ["a"]}, schema=schema), file)
    return file.getvalue()


PAYLOADS = {
    "pickle": pickle.dumps(Payload()),
    "torch": of_torch(),
    "joblib": of_joblib(),
    "npy": of_numpy(np.save),
    "npz": of_numpy(np.savez),
    "parquet": of_parquet(),
    "yaml": f'cases: !!python/object/apply:os.mkdir ["{MARKER}"]\n'.encode(),
}


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / MARKER).exists()


def refuses(*kinds: type[Exception]) -> Any:
    return pytest.raises(kinds or FtcheckError)


def baseline(content: bytes, folder: Path) -> None:
    path = folder / "a.json"
    path.write_bytes(content)
    with refuses():
        baselines.read(path)
    document, _, statistics = committed()[0].partition(SEPARATOR)
    path.write_bytes(document.replace(blake3(statistics).hexdigest().encode(), blake3(content).hexdigest().encode()))
    whole = json.loads(path.read_bytes())
    del whole["entries"]["cpu"]["checksum"]
    path.write_text(json.dumps(whole))
    (folder / "a.cpu.npz").write_bytes(content)
    found = baselines.read(path)
    with refuses():
        found.statistics(found.entries["cpu"])


def npz(content: bytes, folder: Path) -> None:
    with refuses():
        load_npz(content)
    with refuses():
        load_npz(as_member(content))


def as_member(content: bytes) -> bytes:
    """An .npz with `content` under the name of an array, without what tells arrays."""
    file = io.BytesIO(dump_npz({"x": np.zeros(2)}))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("ids", content)
    return file.getvalue()


def result(content: bytes, folder: Path) -> None:
    (folder / "results.json").write_bytes(content)
    with refuses():
        jsonfile.load(folder / "results.json")


def suite(content: bytes, folder: Path) -> None:
    (folder / "a.ft.yaml").write_bytes(content)
    with refuses():
        suitefile.read(folder / "a.ft.yaml")


def model_card(content: bytes, folder: Path) -> None:
    judged = results.case(data=JudgedData(name="banking77"))
    with refuses():
        card.update(f"---\n{content.decode('latin-1')}\n---\n", "m", [judged], version="1", measured="2026-11-02")


def certificate(content: bytes, folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "certificate").write_bytes(content)
    with refuses():
        checking.check(folder / "model", folder / "certificate", key=folder / "certificate")


def store(content: bytes, folder: Path) -> None:
    """Also where whoever wrote it made checksums that are right."""
    made = Store(folder / "store")
    key = Key.of({"stage": "predictions"})
    files = {examples.FILE: content, examples.TRAIN_ROWS: content, STATISTICS: content}
    entry = publish(made, key, stage="predictions", files=files)
    with suppress(FtcheckError):  # of Parquet files, that one's storage is a plain one
        examples.read(entry.read(examples.FILE))
    for name in (examples.TRAIN_ROWS, STATISTICS):
        with refuses():
            examples.read_hashes(entry.read(name))
    components = {"of": "a teacher"}
    answers = Key.of({**components, "stage": "answers", "format": 1})
    publish(made, answers, stage="answers", files={FILE: content})
    with refuses():
        sharing(made, lambda text: None)(components, dict)
    (entry.path / MANIFEST).write_bytes(content)
    assert made.get("predictions", key.digest) is None


def remote(content: bytes, folder: Path) -> None:
    made = Store(folder / "store")
    key = Key.of({"stage": "train"})
    entry = publish(made, key, files={"model/pytorch_model.bin": content})
    there = Remote(f"file://{folder}/remote")
    there.push(entry)
    (folder / "fetched").mkdir()
    with refuses(DamageError):
        there.fetch("runs", key.digest, folder / "fetched", model=True)
    (folder / "remote" / entry.path.relative_to(made.root) / MANIFEST).write_bytes(content)
    with refuses(DamageError):
        there.manifest("runs", key.digest)


def memo(content: bytes, folder: Path) -> None:
    """What only saves time, or explains, is done without."""
    (folder / "data.csv").write_bytes(b"text\n")
    os.utime(folder / "data.csv", (1, 1))
    hashes = FileHashes(folder / "memo", clock=lambda: 10**20)
    right = hashes.digest(folder / "data.csv")
    (remembered,) = (folder / "memo").iterdir()
    remembered.write_bytes(content)
    assert FileHashes(folder / "memo").digest(folder / "data.csv") == right
    assert cases.read(remembered) is None


def history(content: bytes, folder: Path) -> None:
    (folder / "history.sqlite").write_bytes(content)
    with refuses():
        History(folder / "history.sqlite").known()


def vendored(content: bytes, folder: Path) -> None:
    (folder / vendoring.LOCK).write_bytes(content)
    with refuses():
        vendoring.use(folder, folder / "memo")


def data(content: bytes, folder: Path) -> None:
    (folder / "train.data").write_bytes(content)
    for reader in ("csv", "json", "jsonl", "parquet", "text", "conll", "squad"):
        with suppress(FtcheckError):
            readers.read(reader, File(path=str(folder / "train.data"), shown="train.data"), {}, None)


def checkpoint(content: bytes, folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "pytorch_model.bin").write_bytes(content)
    for read in (lambda: checkpoint_files(folder), lambda: Source.folder(str(folder))):
        with pytest.raises(FtcheckError, match=r"pickle.* convert it once.*save_pretrained"):
            read()
    (folder / BESIDE).write_bytes(content)
    (folder / "model.safetensors.index.json").write_bytes(content)
    with refuses():
        checkpoint_files(folder)


WALK: dict[str, Callable[[bytes, Path], None]] = {
    "baseline": baseline,
    "card": model_card,
    "certificate": certificate,
    "checkpoint": checkpoint,
    "data": data,
    "history": history,
    "memo": memo,
    "npz": npz,
    "remote": remote,
    "results": result,
    "store": store,
    "suite": suite,
    "vendored": vendored,
}
WALKS = set(WALK)


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("walk", WALK)
def test_nothing_that_is_read_runs(walk: str, payload: str, tmp_path: Path) -> None:
    WALK[walk](PAYLOADS[payload], tmp_path)


def test_the_payloads_would_run_if_they_were_unpickled(tmp_path: Path) -> None:
    pickle.loads(PAYLOADS["pickle"])
    (tmp_path / MARKER).rmdir()
    np.load(io.BytesIO(PAYLOADS["npy"]), allow_pickle=True)
    (tmp_path / MARKER).rmdir()
    joblib.load(io.BytesIO(PAYLOADS["joblib"]))
    (tmp_path / MARKER).rmdir()
