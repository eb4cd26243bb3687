"""What is read takes bounded time and memory, waits for nothing, and stays in its folder; else it is one of ftcheck's
errors."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from pydantic import TypeAdapter

from ftcheck import baselines, plainfiles, putback, suitefile, vendoring
from ftcheck.arrays import dump_npz, load_npz
from ftcheck.certificate import checking, statement
from ftcheck.errors import BaselineError, DataError, FtcheckError, IdentityError, StoreError, SuiteErrors
from ftcheck.executors.sharing import FILE, sharing
from ftcheck.keys import Key
from ftcheck.keys.files import FileHashes, file_digest
from ftcheck.report import jsonfile
from ftcheck.spec import places
from ftcheck.store import Remote, Store, cases
from ftcheck.store.entry import MANIFEST, DamageError
from tests.fuzzing.targets import SEPARATOR, Memory, accepted_case, committed, results_files
from tests.store.entries import publish

MOST_SECONDS = 60
MOST_BYTES = 2 * 1024**3


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """No test takes more than a minute, or more than 2 GB besides what the process has."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, hard))
    try:
        with alarm():
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"it takes more than {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def laughs(levels: int = 9) -> str:
    """Billion laughs: each list holds ten of the one before."""
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(laughs(), "aliases stand for more than 100,000 values", id="billion-laughs"),
        pytest.param("cases: " + "[" * 200_000, "nested deeper than 32 levels", id="deep-flow"),
        pytest.param("\n".join(" " * n + "a:" for n in range(2000)), "nested deeper than 32 levels", id="deep-block"),
        pytest.param("a: &a [*a]", "contains itself", id="cycle"),
        pytest.param("a: 1\na: 2", ":2 a: duplicate key; it is already on line 1", id="duplicate-key"),
        pytest.param("a: &a {b: 1}\nc: {<<: *a}", ":2 c.<<: merge keys are not part", id="merge-key"),
        pytest.param("a: !!python/name:os.system", ":1 a: the tag tag:yaml.org,2002:python/name:os", id="tag"),
        pytest.param("a: " + "9" * 400, ":1 a: an integer of 400 digits", id="huge-integer"),
        pytest.param("a: 0x" + "f" * 2_000_000, "an integer of 2000002 digits", id="huge-hexadecimal"),
        pytest.param("a: \0", ":1: the character \\x00 is not allowed", id="nul"),
        pytest.param(b"a: 1\nb: \xff", ":2: not UTF-8: byte 0xff", id="no-utf-8"),
        pytest.param("a: 1".encode("utf-16"), "not UTF-8", id="utf-16"),
        pytest.param(b"a: 1\n" * 2_000_000, "it has more than 4,194,304 bytes", id="ten-megabytes"),
        pytest.param("a: b\n---\nc: d", ":2: a second document", id="two-documents"),
        pytest.param("? [a, b]\n: c", ":1: a key is a plain or quoted word", id="key-is-a-list"),
        pytest.param("a: *b", ":1 a: *b has no anchor", id="no-anchor"),
        pytest.param("&a " * 3 + "b: c", "not YAML", id="many-anchors"),
        pytest.param("%YAML 9.9\n---\na: 1", "not YAML", id="another-yaml"),
    ],
)
def test_suite_files_are_refused_with_their_line(content: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ft.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SuiteErrors) as raised:
        suitefile.read(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\ufeffcases: {a: {}}", id="byte-order-mark"),
        pytest.param("cases: {a: {x: 1e999}}", id="infinite"),
        pytest.param("cases: {a: {x: " + "9" * 100_000 + ".0}}", id="a-long-number"),
        pytest.param("cases: {a: {x: " + "y" * 1_000_000 + "}}", id="a-long-text"),
        pytest.param("cases:\n" + "".join(f"  c{n}: {{}}\n" for n in range(20_000)), id="20000-cases"),
    ],
)
def test_what_is_only_large_is_read(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.ft.yaml").write_text(text)
    assert suitefile.read(tmp_path / "a.ft.yaml")


@pytest.mark.parametrize("text", ["./" + "x" * 5000, "~nobody-of-this-name/x", "./a\0b", "/" + "y/" * 3000])
def test_a_path_that_no_system_has_is_an_error(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        places.place(text, tmp_path, "a model")
    with pytest.raises(ValueError, match=r"does not exist|no file matches"):
        places.files(text, tmp_path)


def npz(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def npy(shape: str, dtype: str = "<f8", content: bytes = bytes(8)) -> bytes:
    """A .npy file whose header says so."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(npz(**{"x.npy": npy("(1152921504606846976,)")}), id="2^60-elements"),
        pytest.param(npz(**{"x": npy("(1152921504606846976,)")}), id="2^60-elements-under-another-name"),
        pytest.param(npz(**{"x.npy": npy("(4294967296, 4294967296, 16)")}), id="elements-that-overflow"),
        pytest.param(npz(**{"x.npy": npy("(-1,)")}), id="less-than-none"),
        pytest.param(npz(**{"x.npy": npy("(1000000000000,)", "<U0", b"")}), id="elements-of-no-bytes"),
        pytest.param(npz(**{"x.npy": npy("(1000000000000,)", "|V0", b"")}), id="nothings"),
        pytest.param(npz(**{"x.npy": npy("(1,)", "|O")}), id="objects"),
        pytest.param(npz(**{"x.npy": npy("(1,)"), "bomb": bytes(10**8)}), id="a-member-that-is-no-array"),
        pytest.param(npz(**{"x.npy": npy("(1" + "," * 30_000 + ")")}), id="a-header-that-is-no-shape"),
        pytest.param(npz(**{"x.npy": npy("(" * 300 + ")" * 300)}), id="a-nested-header"),
        pytest.param(npz(**{"../x.npy": npy("(9,)")}), id="too-few-elements"),
    ],
)
def test_arrays_that_claim_what_they_don_t_hold_are_refused(content: bytes) -> None:
    with pytest.raises(StoreError):
        load_npz(content)


def test_an_archive_that_unfolds_beyond_its_limit_is_refused() -> None:
    bomb = dump_npz({"x": np.zeros(10**7)})
    assert len(bomb) < 100_000
    with pytest.raises(StoreError, match="more than 1,000,000 bytes"):
        load_npz(bomb, max_bytes=10**6)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(struct.pack("<Q", 2**60) + b"{}", id="header-of-2^60-bytes"),
        pytest.param(
            struct.pack("<Q", 69) + b'{"x": {"dtype": "F32", "shape": [%d], "data_offsets": [0, 2]}}' % 2**60,
            id="2^60-elements",
        ),
        pytest.param(struct.pack("<Q", 400_000) + b"[" * 400_000, id="nested-header"),
        pytest.param(b"", id="empty"),
    ],
)
def test_safetensors_that_claim_what_they_don_t_hold_are_refused(content: bytes, tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, Key.of({"of": "x", "stage": "answers", "format": 1}), stage="answers", files={FILE: content})
    with pytest.raises(StoreError, match="holds no arrays"):
        sharing(store, lambda text: None)({"of": "x"}, dict)


DEEP = b'{"a":' * 200_000
NESTED = b'{"format": 1, "schema": 2, "entries": ' + b"[" * 500 + b"]" * 500 + b"}"
JSON = [
    pytest.param(DEEP, id="deeper-than-python-goes"),
    pytest.param(NESTED, id="deeper-than-is-sensible"),
    pytest.param(b'{"format": ' + b"9" * 5000 + b"}", id="5000-digits"),
    pytest.param(b'{"schema": 1e999, "format": 1e999}', id="infinite"),
    pytest.param(b'"\\ud800"', id="half-a-character"),
    pytest.param(b"\xff\xfe{\x00}\x00", id="utf-16"),
    pytest.param(b"[]", id="a-list"),
    pytest.param(b"null", id="nothing"),
]


def read_manifest(path: Path) -> None:
    store = Store(path.parent / "store")
    entry = publish(store, Key.of({"a": 1}))
    (entry.path / MANIFEST).write_bytes(path.read_bytes())
    assert store.get("runs", Key.of({"a": 1}).digest) is None
    raise DamageError("; ".join(store.warnings))


def read_vendored(path: Path) -> None:
    path.rename(path.parent / vendoring.LOCK)
    vendoring.use(path.parent, path.parent / "memo")


def read_certificate(path: Path) -> None:
    statement.parse(statement.read(path), "a.json")


@pytest.mark.parametrize("content", JSON)
@pytest.mark.parametrize("read", [baselines.read, jsonfile.load, read_manifest, read_vendored, read_certificate])
def test_json_that_is_none_of_ours_is_refused(read: Callable[[Path], object], content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(FtcheckError):
        read(tmp_path / "a.json")


@pytest.mark.parametrize("content", JSON)
def test_what_only_explains_is_begun_anew(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert cases.read(tmp_path / "a.json") is None


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_link(path: Path) -> None:
    path.with_name("elsewhere").write_bytes(b"{}")
    path.symlink_to(path.with_name("elsewhere"))


def a_folder(path: Path) -> None:
    path.mkdir()


SPECIAL = (a_pipe, a_device, a_folder)


@pytest.mark.parametrize("make", [*SPECIAL, a_link])
def test_a_baseline_is_a_plain_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "a.json")
    with pytest.raises(BaselineError, match="can't be read"):
        baselines.read(tmp_path / "a.json")
    document, _, _ = committed()[0].partition(SEPARATOR)
    found = baselines.read(tmp_path / "b.json", Memory(document, b""))
    make(tmp_path / "a.cpu.npz")
    with pytest.raises(BaselineError, match="can't be read"):
        baselines.Baseline(path=tmp_path / "b.json").statistics(found.entries["cpu"])


@pytest.mark.parametrize("make", SPECIAL)
def test_a_suite_file_is_a_plain_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "a.ft.yaml")
    with pytest.raises(SuiteErrors, match="can't be read"):
        suitefile.read(tmp_path / "a.ft.yaml")


@pytest.mark.parametrize("make", [*SPECIAL, a_link])
def test_what_is_remembered_is_a_plain_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "a.json")
    assert cases.read(tmp_path / "a.json") is None


@pytest.mark.parametrize("make", SPECIAL)
def test_what_is_hashed_is_a_plain_file(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "model.safetensors")
    with pytest.raises((OSError, IdentityError)):
        FileHashes(tmp_path / "memo").digest(tmp_path / "model.safetensors")


@pytest.mark.parametrize("make", [*SPECIAL, a_link])
def test_a_certificate_s_folder_has_plain_files(make: Callable[[Path], None], tmp_path: Path) -> None:
    from ftcheck.certificate import folder
    from tests.certificate.conftest import stated

    (tmp_path / "model").mkdir()
    (tmp_path / "certificate.json").write_bytes(stated({"config.json": "a" * 64}).to_bytes())
    make(tmp_path / "model" / "config.json")
    assert list(folder.differences(tmp_path / "model", {"config.json": "a" * 64}))
    if make is not a_link:
        make(tmp_path / "other.json")
        with pytest.raises(FtcheckError):
            checking.check(tmp_path / "model", tmp_path / "other.json")


@pytest.mark.parametrize("make", [*SPECIAL, a_link])
def test_a_vendored_folder_has_plain_files(make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    make(tmp_path / "hub" / "config.json")
    lock = {"format": vendoring.FORMAT, "files": {"hub/config.json": {"size": 2, "blake3": "a" * 64}}}
    (tmp_path / vendoring.LOCK).write_text(json.dumps(lock))
    with pytest.raises(DataError, match="missing or isn't what was vendored"):
        vendoring.use(tmp_path, tmp_path / "memo")


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "a/../../b", "a\\b", "C:x", "a\0b", "", ".", "a//b"])
def test_no_name_leads_out_of_its_folder(name: str, tmp_path: Path) -> None:
    """In manifests (of a store or a remote), certificates, baselines, and the trees that `ftcheck bisect` puts back."""
    with pytest.raises(ValueError, match="no path within a folder"):
        TypeAdapter(statement.FileName).validate_python(name)
    past = putback.Past(commit="", suite=tmp_path / "a.ft.yaml", folder=tmp_path / "scratch")
    with pytest.raises(BaselineError, match="in no folder"):
        past.tree("data", {name: "a" * 64})
    document, _, statistics = committed()[0].partition(SEPARATOR)
    whole = json.loads(document)
    del whole["entries"]["cpu"]["checksum"]
    whole["entries"]["cpu"]["statistics"]["file"] = name
    if name not in ("a\\b", "C:x", "a\0b"):  # names of files on this system, and none of another
        with pytest.raises(BaselineError, match="is no file beside it"):
            baselines.read(tmp_path / "a.json", Memory(json.dumps(whole).encode(), statistics))
    from tests.fuzzing.targets import forged, manifests

    manifest = json.loads(manifests()[0])
    manifest["files"][name] = {"size": 1, "blake3": "a" * 64}
    content, _, digest = forged(json.dumps(manifest).encode())
    place = tmp_path / "remote" / "runs" / digest[:2] / digest[2:]
    place.mkdir(parents=True)
    (place / MANIFEST).write_bytes(content)
    with pytest.raises(DamageError, match="which can't be in it"):
        Remote(f"file://{tmp_path}/remote").manifest("runs", digest)


def test_a_remote_s_manifest_is_read_no_further_than_one_can_be(tmp_path: Path) -> None:
    """Behind a link may be a device, whose size is none."""
    digest = Key.of({"a": 1}).digest
    place = tmp_path / "runs" / digest[:2] / digest[2:]
    place.mkdir(parents=True)
    (place / MANIFEST).symlink_to("/dev/zero")
    with pytest.raises(DamageError, match="too large"):
        Remote(f"file://{tmp_path}").manifest("runs", digest)


def test_a_baseline_s_recipe_sets_nothing_that_a_suite_can_t(tmp_path: Path) -> None:
    """`ftcheck bisect` puts values of it back into the case."""
    document, _, _ = committed()[0].partition(SEPARATOR)
    entry = baselines.read(tmp_path / "a.json", Memory(document, b"")).entries["cpu"]
    past = putback.Past(commit="", suite=tmp_path / "a.ft.yaml", folder=tmp_path / "scratch")
    assert callable(putback.put_back("training.learning_rate", entry, past))
    hostile = replace(entry, recipe={**entry.recipe, "training": {"output_dir": "/tmp/x"}})
    with pytest.raises(BaselineError, match=r"training\.output_dir, which no suite can"):
        putback.put_back("training.output_dir", hostile, past)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        pytest.param(
            "training.learning_rate", {"training": {"learning_rate": "fast"}}, "to what no suite can", id="lr"
        ),
        pytest.param("techniques.freeze", {"techniques": {"freeze": {"patterns": 3}}}, "did not write", id="options"),
        pytest.param("techniques.freeze", {"techniques": {"freeze": None}}, "none that ftcheck wrote", id="no-options"),
        pytest.param("techniques.os", {"techniques": {"os": {}}}, "no technique is called", id="no-technique"),
        pytest.param(
            "task.max_length", {"task_options": {"max_length": "a"}}, "to what no suite can", id="task-option"
        ),
        pytest.param("data.limit", {"data": 3}, r"none that ftcheck wrote \(data: ", id="data"),
        pytest.param("precision", {"precision": "fp64"}, r"none that ftcheck wrote \(precision: ", id="precision"),
        pytest.param("checkpoint", {"checkpoint": {"path": "a"}}, r"wrote \(checkpoint\.local: ", id="checkpoint"),
    ],
)
def test_a_baseline_s_recipe_is_put_back_as_suites_say_it_or_not_at_all(
    tmp_path: Path, name: str, change: dict[str, object], said: str
) -> None:
    document, _, _ = committed()[0].partition(SEPARATOR)
    entry = baselines.read(tmp_path / "a.json", Memory(document, b"")).entries["cpu"]
    hostile = replace(entry, recipe={**entry.recipe, **change})
    past = putback.Past(commit="", suite=tmp_path / "a.ft.yaml", folder=tmp_path / "scratch")
    with pytest.raises(FtcheckError, match=said):
        putback.put_back(name, hostile, past)(accepted_case())


@pytest.mark.parametrize(
    ("name", "components"),
    [
        pytest.param("checkpoint", {"checkpoint": None}, id="checkpoint"),
        pytest.param("checkpoint", {"checkpoint": {"files": {"a": 3}}, "tokenizer": {}}, id="a-hash-that-is-a-number"),
        pytest.param("data.rows.train", {"data": {"rows": {"train": {"a": 1}}}}, id="rows"),
        pytest.param("data.rows.train", {"data": []}, id="data"),
    ],
)
def test_components_that_ftcheck_did_not_write_put_nothing_back(
    tmp_path: Path, name: str, components: dict[str, object]
) -> None:
    document, _, _ = committed()[0].partition(SEPARATOR)
    entry = baselines.read(tmp_path / "a.json", Memory(document, b"")).entries["cpu"]
    past = putback.Past(commit="", suite=tmp_path / "a.ft.yaml", folder=tmp_path / "scratch")
    with pytest.raises(BaselineError):
        putback.put_back(name, replace(entry, components={"train": components, "predict": {}}), past)


def test_a_plain_file_comes_as_it_is_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert plainfiles.read(tmp_path / "b") == b"abc"
    assert file_digest(tmp_path / "b") == file_digest(tmp_path / "a")
    with pytest.raises(OSError, match="more than 2 bytes"):
        plainfiles.read(tmp_path / "a", limit=2)


def test_a_results_file_has_its_numbers_and_null_where_there_was_none(tmp_path: Path) -> None:
    """Typed reading must not refuse what --ft-json writes."""
    for content in results_files():
        assert jsonfile.parse(content, tmp_path).results
    found = json.loads(results_files()[0])
    found["results"][0]["metrics"][0]["value"] = None
    (result,) = jsonfile.parse(json.dumps(found).encode(), tmp_path).results
    assert np.isnan(result.metrics[0].value)
