"""A store on a full or read-only disk: one sentence with the place and what to do, before anything is trained."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ftcheck.errors import StoreError
from ftcheck.store import Store
from tests.store.entries import CONTENT, key, left_over, publish

ROOT = Path(__file__).resolve().parents[2]

HEAD = """
import os, subprocess, sys
from pathlib import Path
from ftcheck.errors import StoreError
from ftcheck.store import Store
from tests.store.entries import key, publish

root = Path(sys.argv[1]) / "store"

def fails(call):
    try:
        call()
    except StoreError as error:
        return str(error)
    return "nothing was raised"
"""


def said(script: str, *command: str) -> list[str]:
    """The lines that a script prints."""
    done = subprocess.run(
        [*command, sys.executable, "-c", HEAD + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """A command that runs what follows with a disk of 512 kB of its own, which is its last argument's place."""
    mount = f'mount -t tmpfs -o size=512k none {tmp_path} && exec "$@" {tmp_path}'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    try:
        probe = subprocess.run([*command, "true"], capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("needs `unshare` (util-linux)")
    if probe.returncode:
        pytest.skip(f"needs a mount namespace of its own: {probe.stderr.strip()}")
    return command


def test_a_full_disk_is_one_sentence_and_leaves_nothing(small_disk: list[str]) -> None:
    refused, found, left, after = said(
        """
        store = Store(root)
        print(fails(lambda: publish(store, key(), files={"weights": bytes(10**6)})))
        print(store.get("runs", key().digest))
        print(os.listdir(root / "tmp"))
        print(publish(store, key(), files={"weights": bytes(10)}).read("weights") == bytes(10))
        """,
        *small_disk,
    )
    assert "No space left on device" in refused
    assert "ftcheck cache prune" in refused
    assert "--ft-cache-dir" in refused
    assert (found, left, after) == ("None", "[]", "True")


def test_a_disk_that_is_full_already_is_noticed_before_training(small_disk: list[str]) -> None:
    before, full, usable, recorded = said(
        """
        store = Store(root)
        publish(store, key())
        print(store.writable)
        try:
            (root / "filler").write_bytes(bytes(10**6))
        except OSError:
            pass
        print(fails(store.check_writable))
        print(store.get("runs", key().digest).content["notes"])
        store.record_case("suite", "case", {"train": key(notes="x" * 10**4)})
        print(store.warnings)
        """,
        *small_disk,
    )
    assert before == "True"
    assert "No space left on device" in full
    assert usable == str(CONTENT["notes"])
    assert "No space left on device" in recorded


def test_a_read_only_disk_answers_but_refuses_before_training(small_disk: list[str]) -> None:
    check, publishing, locking, found, damaged, warning = said(
        """
        store = Store(root)
        publish(store, key())
        (publish(store, key(seed=1)).path / "statistics.npz").write_bytes(b"?")
        subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
        store = Store(root)
        print(fails(store.check_writable))
        print(fails(lambda: publish(store, key(seed=2))))
        print(fails(lambda: store.lock("runs", key(seed=2).digest).__enter__()))
        print(store.get("runs", key().digest).content["notes"])
        print(store.get("runs", key(seed=1).digest))
        print(store.warnings)
        """,
        *small_disk,
    )
    for message in (check, publishing, locking):
        assert "can't be written: Read-only file system" in message
        assert "--ft-cache-dir" in message
    assert found == str(CONTENT["notes"])
    assert damaged == "None"
    assert "is not used" in warning


@pytest.mark.skipif(os.name == "nt", reason="POSIX resource limits")
def test_a_file_too_large_for_its_disk_is_one_sentence(tmp_path: Path) -> None:
    [refused] = said(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        print(fails(lambda: publish(Store(root), key(), files={"weights": bytes(10**6)})))
        """,
        *("sh", "-c", f'exec "$@" {tmp_path}', "sh"),
    )
    assert "File too large" in refused
    assert left_over(tmp_path / "store") == []


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(OSError(errno.ENOSPC, "No space left on device"), id="Python's"),
        pytest.param(OSError(errno.EDQUOT, "Disk quota exceeded"), id="quota"),
        pytest.param(
            RuntimeError("Error while serializing: I/O error: No space left (os error 28)"), id="safetensors'"
        ),
    ],
)
def test_running_out_of_space_in_a_stage_is_the_stores_error(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(StoreError, match="free some space"), Store(tmp_path).publish("runs", key()):
        raise error


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "x", "/model"), PermissionError(13, "x", "/model"), ValueError("x")]
)
def test_other_errors_of_a_stage_pass_as_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, Store(tmp_path).publish("runs", key()):
        raise error
    assert raised.value is error


@pytest.mark.parametrize("folder", ["", "tmp", "locks"], ids=["the store", "its scratch folder", "its locks"])
def test_a_file_where_a_folder_should_be_is_one_sentence(tmp_path: Path, folder: str) -> None:
    path = tmp_path / "store" / folder
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("in the way")
    store = Store(tmp_path / "store")
    with (
        pytest.raises(StoreError, match="can't be written"),
        store.lock("runs", key().digest),
        store.publish("runs", key()),
    ):
        pytest.fail("there is no room for it")
    assert store.get("runs", key().digest) is None


def test_a_store_opened_read_only_locks_nothing_and_publishes_nothing(tmp_path: Path) -> None:
    publish(Store(tmp_path), key())
    before = sorted(tmp_path.rglob("*"))
    store = Store(tmp_path, read_only=True)
    with store.lock("runs", key(seed=1).digest):
        assert store.get("runs", key().digest) is not None
    store.record_case("suite", "case", {"train": key()})
    assert not store.writable
    with pytest.raises(StoreError, match="read-only"), store.publish("runs", key(seed=1)):
        pytest.fail("it can't be kept")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unreadable_store_is_an_error_not_a_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking "can't look" for "isn't there" would train everything again."""
    store = Store(tmp_path)
    entry = publish(store, key())

    def refuse(path: object) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(StoreError, match=r"can't be read: .*Permission denied"):
        store.get("runs", key().digest)
    monkeypatch.undo()
    assert entry.path.exists()
