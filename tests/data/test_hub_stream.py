"""Data sets of the Hub that are streamed: one commit, nothing kept, and one sentence for what can't be had."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import DataError
from ftcheck.finetune.data import Stream, load
from ftcheck.spec import Data
from tests.data.jobs import job
from tests.hub_server import Hub, attach, serve

SIZE = 1_500


def csv(rows: int = SIZE, prefix: str = "text") -> bytes:
    return b"text,label\n" + "".join(f"{prefix} {n},{('NA', '007')[n % 2]}\n" for n in range(rows)).encode()


def parquet(rows: int = SIZE) -> bytes:
    import datasets

    made = datasets.Dataset.from_dict(
        {"text": [f"text {n}" for n in range(rows)], "label": [n % 2 for n in range(rows)]}
    )
    buffer = io.BytesIO()
    made.cast_column("label", datasets.ClassLabel(names=["NA", "007"])).to_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as running:
        attach(running, tmp_path / "cache", monkeypatch)
        yield running


def stream(commit: str, *, offline: bool = False, **fields: Any) -> Stream:
    fields = {"streaming": True, "shuffle_buffer": 0, **fields}
    data = Data(kind="hub", path="org/data", **fields)
    found = load(job(data, data_revision=commit, offline=offline)).stream
    assert found is not None
    return found


def texts(found: Stream, count: int) -> list[str]:
    return list(islice((text for chunk in found for text in chunk.dataset["text"]), count))


FILES = {
    "csv": {"train.csv": csv(), "test.csv": csv(4)},
    "csv-gzip": {"train.csv.gz": gzip.compress(csv()), "test.csv": csv(4)},
    "parquet": {"train-00000-of-00001.parquet": parquet(), "test-00000-of-00001.parquet": parquet(4)},
    "odd-name": {"train 1#?%20@x.csv": csv(), "test.csv": csv(4)},
}


@pytest.mark.parametrize("files", [pytest.param(files, id=name) for name, files in FILES.items()])
def test_rows_come_from_the_hub_and_nothing_is_kept_of_them(files: dict[str, bytes], hub: Hub, tmp_path: Path) -> None:
    commit = hub.put("datasets", "org/data", files)
    hub.put("datasets", "org/data", {name: csv(3, "newer") for name in files})
    found = stream(commit)
    assert texts(found, SIZE) == [f"text {n}" for n in range(SIZE)]
    chunk = next(iter(found)).dataset
    assert chunk[0]["label"] in ("NA", 0), "as it is in the file: pandas would say None"
    kept = [path.name for path in (tmp_path / "cache" / "hub").rglob("snapshots/*/*")]
    assert not [name for name in kept if name.startswith("train")]
    assert [name for name in kept if name.startswith("test")]


def test_a_large_file_is_fetched_as_far_as_it_is_read(hub: Hub) -> None:
    """In blocks of the client's size (5 MB)."""
    rows = 300_000
    commit = hub.put("datasets", "org/data", {"train.csv": csv(rows, "text " * 20), "test.csv": csv(4)})
    assert len(texts(stream(commit), 2_000)) == 2_000
    ranges = [request for request in hub.requests if "GET" in request and "resolve" in request and "train" in request]
    assert len(ranges) <= 4, "the head and the stream, of 31 MB"


def test_what_is_in_the_local_cache_is_read_there_and_offline(hub: Hub) -> None:
    commit = hub.put("datasets", "org/data", {"train.csv": csv(), "test.csv": csv(4)})
    load(job(Data(kind="hub", path="org/data"), data_revision=commit))
    asked = len(hub.requests)
    assert texts(stream(commit, offline=True), 2) == ["text 0", "text 1"]
    assert len(hub.requests) == asked


def test_offline_what_is_not_in_the_cache_is_one_sentence(hub: Hub) -> None:
    commit = hub.put("datasets", "org/data", {"train.csv": csv(), "test.csv": csv(4)})
    stream(commit)
    with pytest.raises(DataError) as raised:
        stream(commit, offline=True)
    assert str(raised.value) == (
        f"org/data@{commit[:8]}: train.csv isn't in the local cache; run online, or once without data.streaming"
    )


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param({"cut": {"train.csv"}}, id="cut-off"),
        pytest.param({"failing": True}, id="server-error"),
    ],
)
def test_a_download_that_breaks_off_is_one_sentence(
    failure: dict[str, Any], hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's retries
    rows = 150_000
    commit = hub.put("datasets", "org/data", {"train.csv": csv(rows, "text " * 20), "test.csv": csv(4)})
    found = stream(commit)
    given = iter(found)
    next(given)
    for name, value in failure.items():
        setattr(hub, name, value)
    with pytest.raises(DataError) as raised:
        list(islice(given, 150))
    assert str(raised.value).startswith(f"data.path: org/data at {commit} can't be fetched")
    assert "\n" not in str(raised.value)


def test_the_rows_that_the_card_declares_must_all_come(hub: Hub) -> None:
    card = b"""---
dataset_info:
  features:
  - {name: text, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': 'NA', '1': '007'}}}
  splits:
  - {name: train, num_examples: 1600, num_bytes: 1}
  - {name: test, num_examples: 4, num_bytes: 1}
---
"""
    commit = hub.put("datasets", "org/data", {"README.md": card, "train.csv": csv(), "test.csv": csv(4)})
    found = stream(commit)
    with pytest.raises(DataError, match="split train has 1,500 rows, but the data set's card declares 1,600"):
        texts(found, SIZE + 1)
    assert found.head.dataset.features["label"].names == ["NA", "007"]


@pytest.mark.usefixtures("left_open")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_what_only_datasets_reads_is_streamed_once_it_is_here(hub: Hub) -> None:
    card = b"""---
configs:
- config_name: default
  skiprows: 1
  data_files:
  - {split: train, path: train.csv}
  - {split: test, path: test.csv}
---
"""
    files = {"README.md": card, "train.csv": b"# ours\n" + csv(), "test.csv": b"# ours\n" + csv(4)}
    commit = hub.put("datasets", "org/data", files)
    with pytest.raises(DataError) as raised:
        stream(commit)
    assert str(raised.value) == (
        f"org/data@{commit[:8]} is read by `datasets` (csv), which streams only what is on this machine: fetch it "
        "first (hf download --repo-type dataset org/data)"
    )
    load(job(Data(kind="hub", path="org/data"), data_revision=commit))
    assert texts(stream(commit), 2) == ["text 0", "text 1"]
