"""What a remote gives is what was published, whole and verified, over every protocol; and nothing else is taken."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftcheck.store import Entry, MirroredStore, Remote, RemoteError, Store, remote
from ftcheck.store.entry import MANIFEST, write_manifest
from tests.remote import servers
from tests.store.entries import CONTENT, FILES, key, left_over, publish

DIGEST = key().digest
PLACE = f"runs/{DIGEST[:2]}/{DIGEST[2:]}"
SMALL = {name: content for name, content in FILES.items() if not name.startswith("model/")}


def published(tmp_path: Path, url: str, **how: Any) -> Entry:
    """An entry of one machine's store, pushed."""
    entry = publish(Store(tmp_path / "one"), key(), **how)
    assert Remote(url).push(entry)
    return entry


def other(tmp_path: Path, url: str, name: str = "two") -> MirroredStore:
    """Another machine's store."""
    return MirroredStore(tmp_path / name, Remote(url))


def files(entry: Entry) -> dict[str, bytes]:
    return {name: entry.read(name) for name in entry.manifest["files"]}


def names(url: str) -> list[str]:
    """What lies in the remote, by name."""
    filesystem, root = Remote(url)._filesystem()
    filesystem.invalidate_cache()
    return sorted(str(path).rpartition("/")[2] for path in filesystem.find(f"{root}/{PLACE}"))


def test_an_entry_comes_over_without_its_model_and_then_with_it(tmp_path: Path, any_url: str) -> None:
    files_ = {**FILES, "model/empty.txt": b"", "model/large.safetensors": os.urandom(100_000)}
    first = published(tmp_path, any_url, files=files_)
    store = other(tmp_path, any_url)
    found = store.get("runs", DIGEST)
    assert found is not None
    assert (files(found), found.content, found.model_size) == (SMALL, CONTENT, 0)
    assert store.offers_model(found)
    whole = store.get("runs", DIGEST, model=True)
    assert whole is not None
    assert (files(whole), whole.manifest) == (files_, first.manifest)
    assert (store.warnings, left_over(store.root)) == ([], [])
    assert list(Remote(any_url).keys("runs")) == [DIGEST]


def test_what_is_nowhere_is_asked_for_once(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = other(tmp_path, url)
    assert store.get("runs", DIGEST) is None
    monkeypatch.setattr(Remote, "_ask", lambda *_: pytest.fail("asked again"))
    assert store.get("runs", DIGEST) is None
    assert store.warnings == []


def test_the_first_of_two_machines_stays(tmp_path: Path, any_url: str) -> None:
    published(tmp_path, any_url)
    late = publish(Store(tmp_path / "late"), key(), files={**FILES, "statistics.npz": b"other numbers"})
    assert not Remote(any_url).push(late)
    found = other(tmp_path, any_url).get("runs", DIGEST, model=True)
    assert found is not None
    assert files(found) == FILES
    assert Remote(any_url).push(late, replace=True)
    found = other(tmp_path, any_url, "three").get("runs", DIGEST)
    assert found is not None
    assert found.read("statistics.npz") == b"other numbers"


def test_one_with_a_model_takes_the_place_of_one_without(tmp_path: Path, url: str) -> None:
    published(tmp_path, url, files=SMALL)
    store = other(tmp_path, url)
    bare = store.get("runs", DIGEST, model=True)
    assert bare is not None
    assert not store.offers_model(bare)
    assert Remote(url).push(publish(Store(tmp_path / "late"), key()))
    found = other(tmp_path, url, "three").get("runs", DIGEST, model=True)
    assert found is not None
    assert found.model_size > 0


def test_publishing_is_told_to_the_remote_once_the_case_is_over(tmp_path: Path, url: str) -> None:
    store = other(tmp_path, url)
    publish(store, key())
    assert list(Remote(url).keys("runs")) == []
    store.write_back()
    store.close()
    assert list(Remote(url).keys("runs")) == [DIGEST]
    assert store.warnings == []


def test_a_readonly_remote_is_read_and_never_written(tmp_path: Path, url: str) -> None:
    published(tmp_path, url)
    store = MirroredStore(tmp_path / "two", Remote(url), readonly=True)
    assert store.get("runs", DIGEST) is not None
    publish(store, key(seed=7))
    store.write_back()
    store.close()
    assert list(Remote(url).keys("runs")) == [DIGEST]


def test_half_an_upload_is_invisible_and_made_whole_by_the_next(
    tmp_path: Path, any_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = publish(Store(tmp_path / "one"), key())
    with monkeypatch.context() as patch:
        patch.setattr(Remote, "_write_whole", lambda *_: (_ for _ in ()).throw(ConnectionResetError("cut")))
        with pytest.raises(RemoteError, match="ConnectionResetError: cut"):
            Remote(any_url).push(entry)
    assert MANIFEST not in names(any_url)
    assert other(tmp_path, any_url).get("runs", DIGEST) is None
    assert Remote(any_url).push(entry)
    assert not [name for name in names(any_url) if name.endswith(".part")]
    assert other(tmp_path, any_url, "three").get("runs", DIGEST) is not None


def damaged(change: Callable[[bytes], bytes], which: str) -> Callable[[Path, Entry], None]:
    def spoil(folder: Path, entry: Entry) -> None:
        name = MANIFEST if which == MANIFEST else entry.manifest["files"][which]["blake3"]
        path = folder / PLACE / name
        path.write_bytes(change(path.read_bytes()))

    return spoil


def forged(**changes: Any) -> Callable[[Path, Entry], None]:
    """A manifest with a right checksum that says something else."""

    def spoil(folder: Path, entry: Entry) -> None:
        place = folder / PLACE
        said = {**entry.manifest, **changes}
        if "files" in changes:
            said["files"] = {**entry.manifest["files"], **changes["files"]}
        write_manifest(place, said, place / "new")

    return spoil


def gone(folder: Path, entry: Entry) -> None:
    (folder / PLACE / entry.manifest["files"]["statistics.npz"]["blake3"]).unlink()


RECORD = {"size": 3, "blake3": "0" * 64}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(damaged(lambda c: c[:-1], "statistics.npz"), "a file has", id="cut off"),
        pytest.param(damaged(lambda c: b"X" + c[1:], "statistics.npz"), "fails its checksum", id="a byte changed"),
        pytest.param(gone, "a file is missing", id="a file missing"),
        pytest.param(damaged(lambda c: c[:-9], MANIFEST), "no JSON", id="half a manifest"),
        pytest.param(damaged(lambda c: b"", MANIFEST), "no JSON", id="an empty manifest"),
        pytest.param(damaged(lambda c: c.replace(b"41.0", b"14.0"), MANIFEST), "checksum", id="a number changed"),
        pytest.param(damaged(lambda c: c + b" " * 4096, MANIFEST), "too large", id="a manifest without end"),
        pytest.param(forged(files={"../../../out": RECORD}), "can't be in it", id="a path out of the folder"),
        pytest.param(forged(files={"/tmp/out": RECORD}), "can't be in it", id="an absolute path"),
        pytest.param(forged(files={"a\0b": RECORD}), "can't be in it", id="a name that no file has"),
        pytest.param(forged(files={"weights.pt": RECORD}), "pickle or code", id="a pickle"),
        pytest.param(forged(files={"run.py": RECORD}), "pickle or code", id="code"),
        pytest.param(forged(files={"x": {"size": 10**18, "blake3": "0" * 64}}), "don't fit", id="larger than the disk"),
        pytest.param(forged(files={"x": {"size": -1, "blake3": "0" * 64}}), "no size", id="less than nothing"),
        pytest.param(forged(files={"statistics.npz/x": RECORD}), "can't be read or written", id="a file as a folder"),
        pytest.param(forged(key="0" * 64), "another key", id="another key's entry"),
    ],
)
def test_what_is_not_what_was_published_is_not_taken(
    tmp_path: Path, spoil: Callable[[Path, Entry], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MANIFEST_LIMIT", 4096)
    url = f"file://{tmp_path}/remote"
    spoil(tmp_path / "remote", published(tmp_path, url))
    store = other(tmp_path, url)
    assert store.get("runs", DIGEST) is None
    [warning] = store.warnings
    assert said in warning
    assert (left_over(store.root), list(store.keys("runs"))) == ([], [])
    publish(store, key())
    store.close()
    if "don't fit" not in said and "read or written" not in said:
        assert other(tmp_path, url, "three").get("runs", DIGEST, model=True) is not None  # replaced by what was made


def test_a_url_with_a_library_that_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Exception, match=r"pip install 'ftcheck\[gs\]'"):
        remote.check("gs://bucket/folder")


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        pytest.param("s3://bucket/a/b", "s3://bucket/a/b", id="nothing secret"),
        pytest.param("sftp://ada:hunter2@host:22/a", "sftp://host:22/a", id="user and password"),
        pytest.param("sftp://ada:hun@ter2@host/a", "sftp://…", id="an @ in the password"),
        pytest.param("sftp://ada:hunt/er2@host/a", "sftp://…", id="a slash in the password"),
        pytest.param("s3://bucket/a?key=hunter2", "s3://bucket/a", id="query"),
        pytest.param("https://host?sig=hunter2", "https://host", id="query behind the host"),
        pytest.param("memory://a#hunter2", "memory://a", id="fragment"),
        pytest.param("ada:hunter2@host", "…", id="no URL"),
    ],
)
def test_no_secret_of_a_url_is_printed(given: str, printed: str) -> None:
    assert remote.redacted(given) == printed


def test_no_secret_is_in_what_a_library_says() -> None:
    url = "s3://ada:p%40ss@bucket/a?sig=abc"
    text = Remote(url.replace("s3", "memory"))._scrubbed("can't reach s3://ada:p%40ss@bucket/a?sig=abc as ada:p@ss")
    assert not {"p%40ss", "p@ss", "abc"} & set(text.replace("?", " ").replace(":", " ").replace("@", " ").split())
    assert "p%40ss" not in text


def test_a_host_that_ssh_does_not_know_is_not_believed(
    tmp_path: Path, sftp: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = tmp_path / "home"
    (stranger / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(stranger))
    with pytest.raises(RemoteError, match="HostKeyNotVerifiable"):
        list(Remote(f"sftp://{servers.user()}@127.0.0.1:{sftp}{tmp_path}/remote").keys("runs"))
