"""Files become rows without a value changed, and what is wrong with one is said with its file and line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftcheck.errors import DataError
from ftcheck.finetune.data import readers
from ftcheck.finetune.data.files import File, ReadFile


def parse(reader: str, content: str | bytes, folder: Path, **options: Any) -> ReadFile:
    path = folder / "file.data"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return readers.read(reader, File(path=str(path), shown="file"), options, None)


def rows(reader: str, content: str | bytes, folder: Path, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parse(reader, content, folder, **options).table.to_pylist()
    return found


@pytest.mark.parametrize(
    ("reader", "content", "options", "expected"),
    [
        pytest.param(
            "csv",
            "text,label\nNA,007\nnull,1.0\n,x\n",
            {},
            [["NA", "007"], ["null", "1.0"], ["", "x"]],
            id="csv-no-value-is-guessed",
        ),
        pytest.param("csv", 'text,label\r\n"a ""b"",\nc",x\r\n', {}, [['a "b",\nc', "x"]], id="csv-rfc-4180"),
        pytest.param(
            "csv", "text,label\na,x\n\n\nb,y", {}, [["a", "x"], ["b", "y"]], id="csv-blank-lines-no-last-newline"
        ),
        pytest.param("csv", b"\xef\xbb\xbftext,label\na,x\n", {}, [["a", "x"]], id="csv-byte-order-mark"),
        pytest.param("csv", "text;label\na,b;x\n", {"delimiter": ";"}, [["a,b", "x"]], id="csv-delimiter"),
        pytest.param("csv", "a,x\n", {"column_names": ["text", "label"]}, [["a", "x"]], id="csv-without-header"),
        pytest.param(
            "csv", "text,label\na,7\nb,-1\n", {"types": {"label": "int"}}, [["a", 7], ["b", -1]], id="csv-typed"
        ),
        pytest.param("csv", "text,label\na,7\n", {"types": {"label": "float"}}, [["a", 7.0]], id="csv-float"),
        pytest.param("csv", "text,label\na\0b\x07,x\n", {}, [["a\0b\x07", "x"]], id="csv-nul-and-control-characters"),
        pytest.param(
            "csv",
            "text,label\ncaf\xe9,x\n".encode("latin-1"),
            {"encoding": "latin-1"},
            [["café", "x"]],
            id="csv-encoding",
        ),
        pytest.param("csv", f"text,label\n{'a' * 200_000},x\n", {}, [["a" * 200_000, "x"]], id="csv-long-field"),
        pytest.param("tsv", 'text\tlabel\na "b" c\tx\n', {}, [['a "b" c', "x"]], id="tsv"),
        pytest.param(
            "tsv",
            'text\tlabel\n"a\tx\n"b\ty\n',
            {"quotechar": None},
            [['"a', "x"], ['"b', "y"]],
            id="tsv-without-quoting",
        ),
        pytest.param(
            "json", '[{"text": "a", "label": 1}, {"text": "b", "label": 2}]', {}, [["a", 1], ["b", 2]], id="json-list"
        ),
        pytest.param("json", '{"text": ["a", "b"], "label": [1, 2]}', {}, [["a", 1], ["b", 2]], id="json-columns"),
        pytest.param(
            "json", '{"text": "a", "label": 1}\n{"text": "b", "label": 2}\n', {}, [["a", 1], ["b", 2]], id="json-lines"
        ),
        pytest.param("json", '{"rows": [{"text": "a", "label": 1}]}', {"field": "rows"}, [["a", 1]], id="json-field"),
        pytest.param(
            "jsonl", '{"text": "a", "label": 1}\n\n{"label": 2, "text": "b"}', {}, [["a", 1], ["b", 2]], id="jsonl"
        ),
        pytest.param(
            "jsonl", '{"text": "a"}\n{"text": "b", "label": 2}', {}, [["a", None], ["b", 2]], id="jsonl-missing-key"
        ),
        pytest.param("jsonl", '{"text": "a\\u0000", "label": "x"}', {}, [["a\0", "x"]], id="jsonl-nul"),
        pytest.param("json", '{"text": "a", "label": 1}', {}, [["a", 1]], id="json-one-object"),
    ],
)
def test_rows_hold_what_the_file_says(
    reader: str, content: str | bytes, options: dict[str, Any], expected: list[list[Any]], tmp_path: Path
) -> None:
    assert rows(reader, content, tmp_path, **options) == [{"text": t, "label": x} for t, x in expected]


@pytest.mark.parametrize(
    ("reader", "content", "options", "message"),
    [
        pytest.param(
            "csv",
            "text,label\na,x\nb\n",
            {},
            r"file:3: 1 fields where there are 2 columns \(text, label\)",
            id="csv-short-row",
        ),
        pytest.param(
            "csv", 'text,label\n"a\nb",x\nc,d,e\n', {}, "file:4: 3 fields", id="csv-line-after-an-embedded-newline"
        ),
        pytest.param(
            "csv",
            'text,label\na,x\n"b,y\n',
            {},
            "file:3: unexpected end of data; if quotes are ordinary",
            id="csv-open-quote",
        ),
        pytest.param("csv", "text,text\na,x\n", {}, "file:1: two columns are called 'text'", id="csv-same-name-twice"),
        pytest.param("csv", "", {}, "file: the file is empty; its first line must name the columns", id="csv-empty"),
        pytest.param(
            "csv",
            "text,label\na,x1\n",
            {"types": {"label": "int"}},
            "file:2: column label: 'x1' is no int",
            id="csv-not-an-int",
        ),
        pytest.param(
            "csv",
            b"text,label\na,x\nb\xff,y\n",
            {},
            "file:3: byte 0xff at offset 16 isn't utf-8",
            id="csv-invalid-utf-8",
        ),
        pytest.param(
            "csv",
            "text,label\n",
            {"encoding": "utf8000"},
            "data.options.encoding: Python knows no encoding 'utf8000'",
            id="encoding",
        ),
        pytest.param(
            "csv",
            "text\n",
            {"delimitr": ";"},
            r"data.options.delimitr: .*no such option; did you mean delimiter\?",
            id="option",
        ),
        pytest.param("csv", "text\n", {"delimiter": ";;"}, "data.options.delimiter: .* not ';;'", id="option-value"),
        pytest.param(
            "parquet",
            b"PAR1",
            {"columns": 1},
            "data.options.columns: the parquet reader has no such option; it has none",
            id="no-options",
        ),
        pytest.param("parquet", b"PAR1 no parquet", {}, "file: no readable Parquet file", id="parquet-damaged"),
        pytest.param(
            "jsonl", '{"a": 1}\n{"a": \n', {}, "file:2: no JSON: .*every line must be one object", id="jsonl-broken"
        ),
        pytest.param("jsonl", '{"a": 1}\n[1]\n', {}, r"file:2: \[1\] is no JSON object", id="jsonl-list"),
        pytest.param(
            "jsonl",
            '{"a": 1}\n\n{"a": "x"}\n',
            {},
            "file:3: column a holds text here, a number at file:1",
            id="jsonl-mixed",
        ),
        pytest.param(
            "jsonl",
            '{"a": null}\n{"a": [1]}\n{"a": {}}',
            {},
            "file:3: column a holds an object here, a list at file:2",
            id="jsonl-mixed-after-a-null",
        ),
        pytest.param(
            "jsonl",
            '{"a": {"b": 1}}\n{"a": {"b": "x"}}',
            {},
            "file:1: column a isn't of one kind",
            id="jsonl-mixed-within",
        ),
        pytest.param(
            "jsonl", '{"a": "\\ud800"}\n', {}, r"file:1: column a: '\\ud800' can't be held", id="jsonl-lone-surrogate"
        ),
        pytest.param(
            "jsonl",
            '{"a": 1}\n{"a": 99999999999999999999999}\n',
            {},
            "file:2: column a: 9999.* can't be held",
            id="jsonl-too-big",
        ),
        pytest.param("jsonl", "[" * 100_000, {}, "file:1: no JSON", id="jsonl-too-deep"),
        pytest.param("json", '[{"a": 1}, 2]', {}, "file row 2: 2 is no object", id="json-not-objects"),
        pytest.param("json", '{"a": [1], "b": [1, 2]}', {}, "columns of different lengths: a 1, b 2", id="json-uneven"),
        pytest.param(
            "json",
            '{"version": 1, "data": [{"a": 1}]}',
            {},
            "under the key 'data': set data.options.field",
            id="json-nested",
        ),
        pytest.param(
            "json", '{"data": [{"paragraphs": []}]}', {}, "structure of SQuAD: use data.path: squad", id="json-squad"
        ),
        pytest.param(
            "json", '{"version": "2", "data": [{"paragraphs": []}]}', {}, "structure of SQuAD", id="json-squad-2"
        ),
        pytest.param("json", '{"a": 1}', {"field": "rows"}, "no key 'rows'", id="json-no-such-field"),
        pytest.param("json", "7", {}, "file: neither a list of objects nor one object a line", id="json-number"),
        pytest.param("json", "[" * 100_000, {}, "file: nested too deeply to be rows", id="json-too-deep"),
        pytest.param("squad", "[" * 100_000, {}, "file: nested too deeply to be SQuAD", id="squad-too-deep"),
        pytest.param("squad", "{", {}, "file:1: no JSON", id="squad-no-json"),
        pytest.param("json", '{"data": [{"paragraphs": []}], "version": "2"}', {}, "SQuAD: use", id="json-squad-3"),
        pytest.param("json", "nonsense", {}, "file:1: no JSON", id="json-nonsense"),
        pytest.param(
            "conll", "EU B-ORG\nrejects\n", {}, "file:2: 1 column in 'rejects', at least 2 needed", id="conll-short"
        ),
        pytest.param("conll", "EU\t\n", {}, r"file:1: an empty tag in 'EU\\t'", id="conll-empty-tag"),
        pytest.param(
            "conll",
            "EU X O\n",
            {"tag_column": 3},
            "file:1: 3 columns in .*at least 4 needed",
            id="conll-no-such-column",
        ),
        pytest.param(
            "squad",
            '{"version": "1.1"}',
            {},
            "file the file: SQuAD has a list under 'data' here, not None",
            id="squad-no-data",
        ),
        pytest.param("squad", "[]", {}, "file the file: SQuAD has a list under 'data'", id="squad-list"),
    ],
)
def test_a_broken_file_is_said_with_its_place(
    reader: str, content: str | bytes, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        parse(reader, content, tmp_path, **options)


def test_control_characters_of_data_are_escaped_in_messages(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        parse("conll", "a\x1b[31m\n", tmp_path)
    assert "\x1b" not in str(caught.value)
    assert r"\x1b" in str(caught.value)


def test_a_mixed_column_that_is_not_wanted_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a", "meta": 1}\n{"text": "b", "meta": "x"}\n')
    found = readers.read("jsonl", File.local(str(path)), {}, {"text"})
    assert found.table.column_names == ["text"]
    assert found.names == ("text", "meta")


@pytest.mark.parametrize("name", ["one.jsonl", "one.ndjson", "one.JSONL.gz"])
def test_one_row_of_lists_in_a_file_of_lines_is_no_table_by_columns(name: str, tmp_path: Path) -> None:
    row = b'{"tokens": ["a", "b"], "tags": ["O", "O"]}\n'
    (tmp_path / name).write_bytes(gzip.compress(row) if name.endswith(".gz") else row)
    found = readers.read("json", File.local(str(tmp_path / name)), {}, None)
    assert found.table.to_pylist() == [{"tokens": ["a", "b"], "tags": ["O", "O"]}]


def test_rows_know_their_lines(tmp_path: Path) -> None:
    found = parse("csv", 'text,label\n"a\n\nb",x\n\nc,y\n', tmp_path)
    assert [found.place(0), found.place(1)] == ["file:2", "file:6"]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [
        pytest.param(".gz", gzip.compress, id="gzip"),
        pytest.param(".bz2", bz2.compress, id="bzip2"),
        pytest.param(".xz", lzma.compress, id="xz"),
    ],
)
def test_compressed_files_are_read_and_damaged_ones_refused(suffix: str, compress: Any, tmp_path: Path) -> None:
    path = tmp_path / f"train.csv{suffix}"
    whole = compress(b"text,label\na,x\n" * 100)
    path.write_bytes(whole)
    assert readers.for_suffix(str(path)) == "csv"
    assert readers.read("csv", File.local(str(path)), {}, None).table.num_rows == 199
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="the compressed file is damaged"):
        readers.read("csv", File.local(str(path)), {}, None)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "absent.csv", "no such file"), (tmp_path, "can't be read: Is a directory")):
        with pytest.raises(DataError, match=message):
            readers.read("csv", File.local(str(path)), {}, None)


@pytest.mark.parametrize(
    ("sample_by", "expected"),
    [
        pytest.param("line", [("a", 1), ("b\u2028\x0cc", 2), ("", 3), ("", 4), ("d", 5)], id="line"),
        pytest.param("paragraph", [("a\r\nb\u2028\x0cc", 1), ("d", 5)], id="paragraph"),
        pytest.param("document", [("a\r\nb\u2028\x0cc\n\n\nd\n", 1)], id="document"),
    ],
)
def test_text_is_split_at_line_ends_only(sample_by: str, expected: list[tuple[str, int]], tmp_path: Path) -> None:
    found = parse("text", "a\r\nb\u2028\x0cc\n\n\nd\n", tmp_path, sample_by=sample_by)
    assert list(zip(found.table["text"].to_pylist(), found.lines, strict=True)) == expected


def test_conll_as_it_comes(tmp_path: Path) -> None:
    """Document marks, comments, runs of spaces, several columns, Windows line ends, no blank line at the end."""
    content = "-DOCSTART- -X- O\r\n\r\n# a comment\r\nEU  NNP B-ORG\r\nrejects VBZ O\r\n\r\n \t \r\n\r\nPeter NNP B-PER"
    assert rows("conll", content, tmp_path, comment="#") == [
        {"id": "0", "tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
        {"id": "1", "tokens": ["Peter"], "tags": ["B-PER"]},
    ]
    assert rows("conll", content, tmp_path, comment="#", tag_column=1)[0]["tags"] == ["NNP", "VBZ"]


def test_conll_tokens_may_hold_spaces_where_tabs_separate(tmp_path: Path) -> None:
    assert rows("conll", "New York\tB-LOC\n\xa0\tO\n\t\n", tmp_path)[0]["tokens"] == ["New York", "\xa0"]


token = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), min_size=1).filter(
    lambda t: not t.startswith("-DOCSTART-")
)
sentence = st.lists(st.tuples(token, st.sampled_from(["O", "B-PER", "I-PER"])), min_size=1)


@given(sentences=st.lists(sentence, max_size=5), separators=st.sampled_from(["\n", "\t\n", "\n\n"]))
def test_conll_round_trip(
    sentences: list[list[tuple[str, str]]], separators: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("conll")
    content = separators.join("".join(f"{token}\t{tag}\n" for token, tag in words) for words in sentences)
    found = rows("conll", content, folder)
    assert [list(zip(row["tokens"], row["tags"], strict=True)) for row in found] == sentences


def question(identity: str, answers: list[tuple[str, int]], **more: Any) -> dict[str, Any]:
    return {
        "id": identity,
        "question": "who?",
        "answers": [{"text": text, "answer_start": start} for text, start in answers],
        **more,
    }


def squad(context: str, *questions: dict[str, Any]) -> str:
    return json.dumps(
        {"version": "x", "data": [{"title": "T", "paragraphs": [{"context": context, "qas": questions}]}]}
    )


def test_squad_of_both_versions(tmp_path: Path) -> None:
    one = question("1", [("Zoë", 0), ("Zoë 🦊", 0)])
    two = question("2", [], is_impossible=True, plausible_answers=[{"text": "no", "answer_start": 0}])
    found = rows("squad", squad("Zoë 🦊 ran", one, two), tmp_path)
    assert found == [
        {
            "id": "1",
            "title": "T",
            "context": "Zoë 🦊 ran",
            "question": "who?",
            "answers": {"text": ["Zoë", "Zoë 🦊"], "answer_start": [0, 0]},
            "is_impossible": False,
        },
        {
            "id": "2",
            "title": "T",
            "context": "Zoë 🦊 ran",
            "question": "who?",
            "answers": {"text": [], "answer_start": []},
            "is_impossible": True,
        },
    ]


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        pytest.param(
            [question("q1", [("cat", 1)])],
            "file question q1: the answer 'cat' isn't in its context at 1; there stands 'at '",
            id="elsewhere",
        ),
        pytest.param([question("q1", [("cat", -7)])], "isn't in its context at -7", id="before-the-start"),
        pytest.param([question("q1", [("", 0)])], "the answer '' isn't in its context", id="empty"),
        pytest.param(
            [question("q1", [("cat", 0)], is_impossible=True)],
            "marked is_impossible but has answers",
            id="impossible-with-answers",
        ),
        pytest.param(
            [question("q1", [], is_impossible=False)], "has no answers but isn't marked", id="possible-without"
        ),
        pytest.param([question("q1", [("cat", 0)])] * 2, "question q1: the id occurs twice", id="id-twice"),
        pytest.param(
            [{"id": "q1"}], r"data\[0\].paragraphs\[0\].qas\[0\]: SQuAD has a list under 'answers'", id="no-answers"
        ),
        pytest.param([question(7, [])], "SQuAD has text under 'id' here, not 7", id="id-is-a-number"),  # type: ignore[arg-type]
        pytest.param(
            [question("q", [("cat", True)])],
            "SQuAD has a number under 'answer_start' here, not True",
            id="start-is-a-bool",
        ),
    ],
)
def test_squad_that_contradicts_itself(questions: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        parse("squad", squad("cat sat", *questions), tmp_path)


@given(context=st.text(min_size=1), data=st.data())
def test_squad_round_trip(context: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Starts count characters, whatever they are made of."""
    start = data.draw(st.integers(0, len(context) - 1))
    stop = data.draw(st.integers(start + 1, len(context)))
    content = squad(context, question("q", [(context[start:stop], start)]))
    row = rows("squad", content, tmp_path_factory.mktemp("squad"))[0]
    assert row["context"] == context
    assert row["answers"] == {"text": [context[start:stop]], "answer_start": [start]}


def test_parquet_of_pandas_categories(tmp_path: Path) -> None:
    """A dictionary-encoded column, which `datasets` doesn't know, is its values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ftcheck.finetune.data.source import join

    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"label": pa.array(["x", "y", "x"]).dictionary_encode()}), path)
    found = join([readers.read("parquet", File.local(str(path)), {}, None)])
    assert found.table["label"].to_pylist() == ["x", "y", "x"]
    assert not pa.types.is_dictionary(found.table["label"].type)
