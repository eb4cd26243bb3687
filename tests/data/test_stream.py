"""Streamed training rows: the rows that are read at once, in bounded memory, and one sentence for what can't be had."""

from __future__ import annotations

import bz2
import gzip
import json
import tracemalloc
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import DataError
from ftcheck.finetune.data import Stream, load
from ftcheck.finetune.data.files import CHUNK
from ftcheck.spec import Data
from tests.data.jobs import job

SIZE = 2_500
"""Rows: two chunks and a half."""
TEXTS = [f"text {n}, {'NA' if n % 7 == 0 else 'é'}" for n in range(SIZE)]
LABELS = ["NA", "007", "null", "nan"]


def csv(rows: int = SIZE, delimiter: str = ",") -> str:
    lines = [f'"{TEXTS[n % SIZE]}"{delimiter}{LABELS[n % 4]}\n' for n in range(rows)]
    return f"text{delimiter}label\n" + "".join(lines)


def jsonl(rows: int = SIZE) -> str:
    return "".join(json.dumps({"text": TEXTS[n], "label": LABELS[n % 4]}) + "\n" * (1 + n % 2) for n in range(rows))


def parquet(path: Path, **features: Any) -> None:
    import datasets

    made = datasets.Dataset.from_dict({"label": [n % 2 for n in range(SIZE)], "text": TEXTS})
    for name, feature in features.items():
        made = made.cast_column(name, feature)
    made.to_parquet(path, batch_size=700)


def streamed(data: Data, task: str = "text-classification", **fields: Any) -> Stream:
    found = load(job(data, task, **fields)).stream
    assert found is not None
    return found


def rows(stream: Stream, count: int) -> list[dict[str, Any]]:
    """The first rows that are given out."""
    return list(islice((row for chunk in stream for row in chunk.dataset), count))


def reader(folder: Path, name: str, content: str | bytes, suffix: str = "", **fields: Any) -> Data:
    """A reader's files: `content` to train on, a row or two to judge."""
    path = folder / f"train{suffix}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    fields = {"streaming": True, "shuffle_buffer": 0, **fields}
    return Data(kind="reader", path=name, files={"train": (str(path),), "test": (str(path),)}, **fields)


def parquet_data(folder: Path) -> Data:
    import datasets

    parquet(folder / "made.parquet", label=datasets.ClassLabel(names=["ant", "bee"]))
    return reader(folder, "parquet", (folder / "made.parquet").read_bytes(), ".parquet")


def saved(folder: Path) -> Data:
    import datasets

    columns = {"text": TEXTS, "label": [n % 2 for n in range(SIZE)]}
    split = datasets.Dataset.from_dict(columns).cast_column("label", datasets.ClassLabel(names=["ant", "bee"]))
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(folder / "saved")
    return Data(kind="local", path=str(folder / "saved"), streaming=True, shuffle_buffer=0)


def local_folder(folder: Path, name: str, contents: Mapping[str, str]) -> Data:
    (folder / name).mkdir()
    for file, content in contents.items():
        (folder / name / file).write_text(content)
    return Data(kind="local", path=str(folder / name), streaming=True, shuffle_buffer=0)


CARD = """---
configs:
- config_name: default
  {}
  data_files:
  - {{split: train, path: train*}}
  - {{split: test, path: test*}}
---
"""
SOURCES: Mapping[str, Callable[[Path], Data]] = {
    "csv": lambda folder: reader(folder, "csv", csv()),
    "csv-delimiter": lambda folder: reader(folder, "csv", csv(delimiter=";"), options={"delimiter": ";"}),
    "csv-gzip": lambda folder: reader(folder, "csv", gzip.compress(csv().encode()), ".csv.gz"),
    "csv-utf-16": lambda folder: reader(folder, "csv", csv().encode("utf-16"), options={"encoding": "utf-16"}),
    "csv-mark": lambda folder: reader(folder, "csv", "\ufeff" + csv()),
    "csv-line-ends": lambda folder: reader(folder, "csv", csv().replace("\n", "\r\n").replace("text 7,", "a\r\nb,")),
    "tsv": lambda folder: reader(folder, "tsv", csv(delimiter="\t")),
    "jsonl": lambda folder: reader(folder, "jsonl", jsonl()),
    "jsonl-bzip2": lambda folder: reader(folder, "jsonl", bz2.compress(jsonl().encode()), ".jsonl.bz2"),
    "json-lines": lambda folder: reader(folder, "json", jsonl()),
    "json-list": lambda folder: reader(folder, "json", json.dumps([json.loads(x) for x in jsonl().split("\n") if x])),
    "json-one": lambda folder: reader(folder, "json", '{"text": ["a", "b"], "label": ["x", "y"]}'),
    "parquet": parquet_data,
    "saved": saved,
    "folder": lambda folder: local_folder(folder, "made", {"train.csv": csv(), "test.csv": csv()}),
    "folder-with-a-card": lambda folder: local_folder(
        folder,
        "made",
        {"README.md": CARD.format("sep: ';'"), "train.csv": csv(delimiter=";"), "test.csv": csv(delimiter=";")},
    ),
    "folder-by-datasets": lambda folder: local_folder(
        folder, "made", {"README.md": CARD.format("skiprows: 1"), "train.csv": "#\n" + csv(), "test.csv": "#\n" + csv()}
    ),
}


@pytest.mark.usefixtures("left_open")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("name", SOURCES)
def test_a_stream_has_the_rows_that_are_read_at_once(name: str, tmp_path: Path) -> None:
    """Values, class names and places, whatever the form; and again from the start."""
    found = load(job(SOURCES[name](tmp_path)))
    stream = found.stream
    assert stream is not None
    whole = load(job(Data(**{**vars_of(SOURCES[name](again(tmp_path))), "streaming": False}))).roles["train"]
    size = len(whole.dataset)
    assert rows(stream, 2 * size) == [*whole.dataset, *whole.dataset]
    assert stream.head.dataset.features == whole.dataset.features
    assert found.roles["eval"].hashes == whole.hashes, "judged rows are read whole, and are the same"
    chunks = list(islice(stream, 2))
    assert [chunk.place(0).split(":")[1:] for chunk in chunks] == [
        whole.place(chunk.index[0]).split(":")[1:] for chunk in chunks
    ]
    assert chunks[0].hashes == whole.hashes[: len(chunks[0].hashes)]


def vars_of(data: Data) -> dict[str, Any]:
    return {name: getattr(data, name) for name in Data.__dataclass_fields__}


def again(folder: Path) -> Path:
    (folder / "again").mkdir()
    return folder / "again"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param("text", {}, id="lines"),
        pytest.param("text", {"sample_by": "paragraph"}, id="paragraphs"),
        pytest.param("text", {"sample_by": "document"}, id="document"),
    ],
)
def test_text_is_streamed_as_it_is_read(name: str, options: dict[str, str], tmp_path: Path) -> None:
    content = "".join(f"line {n}\f\u2028 of it\r\n" + "\n" * (n % 3 == 0) for n in range(SIZE))
    data = reader(tmp_path, name, content, options=options)
    whole = load(job(Data(**{**vars_of(data), "streaming": False}), "fill-mask")).roles["train"]
    assert rows(streamed(data, "fill-mask"), len(whole.dataset)) == list(whole.dataset)


def test_rows_are_shuffled_by_the_seed_and_anew_each_time_around(tmp_path: Path) -> None:
    data = reader(tmp_path, "csv", csv(), shuffle_buffer=1_500)
    plain = [row["text"] for row in rows(streamed(reader(tmp_path, "csv", csv())), SIZE)]
    first, second = streamed(data, seed=1), streamed(data, seed=2)
    around = [[row["text"] for row in part] for part in halves(rows(first, 2 * SIZE))]
    assert sorted(around[0]) == sorted(around[1]) == sorted(plain), "each row once each time"
    assert len({tuple(order) for order in (plain, *around, [r["text"] for r in rows(second, SIZE)])}) == 4
    assert [row["text"] for row in rows(first, SIZE)] == around[0], "iterating again is the same again"
    late = [plain.index(text) for text in around[0][:CHUNK]]
    assert max(late) < 1_500 + 2 * CHUNK, "a row is drawn from the buffer and a chunk"


def halves(found: list[Any]) -> tuple[list[Any], list[Any]]:
    return found[: len(found) // 2], found[len(found) // 2 :]


@pytest.mark.parametrize("buffer", [pytest.param(0, id="in-order"), pytest.param(5_000, id="shuffled")])
def test_no_chunk_is_smaller_than_a_thousand_rows_of_a_larger_split(buffer: int, tmp_path: Path) -> None:
    """A task packs what is in a chunk, and may find nothing to learn from in a few rows."""
    stream = streamed(reader(tmp_path, "csv", csv(3_001), shuffle_buffer=buffer))
    sizes = [len(chunk.hashes) for chunk in islice(stream, 6)]
    assert sizes == [1_000, 1_000, 1_001] * 2


def test_the_first_rows_of_the_stream_are_a_limit(tmp_path: Path) -> None:
    data = reader(tmp_path, "csv", csv(), limit={"train": 30})
    plain = rows(streamed(reader(again(tmp_path), "csv", csv())), 30)
    assert rows(streamed(data), 31) == [*plain, plain[0]]
    assert rows(streamed(data, limit=20), 21) == [*plain[:20], plain[0]]


def test_what_was_given_out_is_counted_and_hashed(tmp_path: Path) -> None:
    from ftcheck.finetune.data.rows import digest

    data = reader(tmp_path, "csv", csv(), limit={"eval": 5})
    found = load(job(data))
    assert found.stream is not None
    assert found.rows["train"]["count"] == 0
    given = list(islice(found.stream, 2))
    assert found.rows["train"] == {
        "count": len(given[0].hashes) + len(given[1].hashes),
        "hashes": digest([*given[0].hashes, *given[1].hashes]),
    }
    assert found.streamed_notes == ("5 of 5 judged rows are also trained on, word for word",)


def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    """200,000 rows of some 240 bytes: 48 MB, of which the buffer and some chunks are held."""
    path = tmp_path / "train.csv"
    with path.open("w") as file:
        file.write("text,label\n")
        file.writelines(f"{'the old cat ' * 20}{n},{n % 2}\n" for n in range(200_000))
    (tmp_path / "test.csv").write_text("text,label\na,1\n")
    files = {"train": (str(path),), "test": (str(tmp_path / "test.csv"),)}
    stream = streamed(Data(kind="reader", path="csv", files=files, streaming=True, shuffle_buffer=2_000))
    import pyarrow as pa

    before, most = pa.total_allocated_bytes(), 0
    for number, _ in enumerate(islice(stream, 199)):
        most = max(most, pa.total_allocated_bytes() - before)
        if number == 150:
            tracemalloc.start()  # late, since it is slow: 48 chunks have 11 MB of text
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert stream.count == 199_000
    assert most < 8_000_000, "Arrow"
    assert peak < 8_000_000, "Python"


def test_a_file_that_comes_in_one_piece_is_drawn_from_like_any_other(tmp_path: Path) -> None:
    """JSON that is one value: the whole file is read, but only the buffer is drawn from."""
    listed = json.dumps([json.loads(line) for line in jsonl().split("\n") if line])
    stream = streamed(reader(tmp_path, "json", listed, shuffle_buffer=1_000))
    assert max(next(iter(stream)).index) < 2 * CHUNK


def test_no_more_is_read_than_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ftcheck.finetune.data.readers import delimited

    stream = streamed(reader(tmp_path, "csv", csv(100_000), limit={"eval": 1}, shuffle_buffer=2_000))
    read: list[int] = []
    table = delimited._table

    def counted(names: Any, part: Any, *more: Any) -> Any:
        read.append(len(part))
        return table(names, part, *more)

    monkeypatch.setattr(delimited, "_table", counted)
    rows(stream, 5_000)
    assert sum(read) == 5_000 + 2_000


@pytest.mark.parametrize(
    ("name", "late", "message"),
    [
        pytest.param("jsonl", '{"text": "x"}', r"train:2001: column label is missing or null", id="null"),
        pytest.param(
            "jsonl", '{"text": "x", "label": 3}', r"train:2001: from here on the columns don't fit", id="kind"
        ),
        pytest.param(
            "jsonl",
            '{"text": "x", "label": "y", "text_pair": "z"}',
            r"train:2001: column text_pair has a value here, but none in the first 1,000 rows; leave it out with "
            r"data.columns: \{text_pair: null\}",
            id="column-that-comes-late",
        ),
        pytest.param("jsonl", "{", "train:2001: no JSON", id="broken-line"),
        pytest.param("csv", "a,b,c", "train:2002: 3 fields where there are 2 columns", id="field-too-many"),
        pytest.param("csv", b"\xff,b", "train: byte 0xff isn't utf-8; save the file as UTF-8", id="byte"),
    ],
)
def test_a_row_that_is_wrong_is_one_error_when_its_turn_comes(
    name: str, late: str | bytes, message: str, tmp_path: Path
) -> None:
    many = jsonl(2_000).replace("\n\n", "\n") if name == "jsonl" else csv(2_000)
    content = many.encode() + (late.encode() if isinstance(late, str) else late) + b"\n"
    (tmp_path / "test").write_text(jsonl(4) if name == "jsonl" else csv(4))
    data = reader(tmp_path, name, content)
    data = Data(**{**vars_of(data), "files": {**data.files, "test": (str(tmp_path / "test"),)}})
    stream = streamed(data)
    with pytest.raises(DataError, match=message):
        rows(stream, 3_000)


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        pytest.param("text,label\n", {}, "train: 'train' of data.files has no rows", id="no-rows"),
        pytest.param("", {}, "the file is empty", id="empty"),
        pytest.param("txt,label\na,b\n", {}, "has no column 'text' .*; did you mean txt", id="column"),
        pytest.param(csv(5), {"splits": {"train": "trian"}}, "has no split 'trian'", id="split"),
    ],
)
def test_what_cannot_be_streamed_is_said_before_training(
    content: str, fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    data = reader(tmp_path, "csv", content, **fields)
    (tmp_path / "test").write_text(csv(4))
    data = Data(**{**vars_of(data), "files": {**data.files, "test": (str(tmp_path / "test"),)}})
    with pytest.raises(DataError, match=message):
        load(job(data))


def test_files_with_other_class_names_are_refused(tmp_path: Path) -> None:
    import datasets

    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    for path, names in zip(paths, (["ant", "bee"], ["bee", "ant"]), strict=True):
        parquet(path, label=datasets.ClassLabel(names=names))
    files = {"train": tuple(map(str, paths)), "test": (str(paths[0]),)}
    with pytest.raises(DataError, match=r"column label has other class names in .*b.parquet than in .*a.parquet"):
        streamed(Data(kind="reader", path="parquet", files=files, streaming=True))
