"""A remembered hash is used only where the file can't have changed."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from blake3 import blake3

from ftcheck.errors import IdentityError
from ftcheck.keys import files
from ftcheck.keys.files import RACY_NS, FileHashes


class Clock:
    """Now, and later at will: a test doesn't sleep until a file is old enough to be remembered."""

    def __init__(self, ahead_ns: int = 2 * RACY_NS) -> None:
        self.ahead_ns = ahead_ns

    def __call__(self) -> int:
        return time.time_ns() + self.ahead_ns


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    return path


def test_the_hash_is_blake3_of_the_content(tmp_path: Path, file: Path) -> None:
    assert FileHashes(tmp_path / "memo").digest(file) == blake3(b"one").hexdigest()


def test_an_old_file_is_read_once_also_by_later_sessions(tmp_path: Path, file: Path, hashed: list[Path]) -> None:
    first = FileHashes(tmp_path / "memo", Clock())
    digests = {first.digest(file), first.digest(file), FileHashes(tmp_path / "memo", Clock()).digest(file)}
    assert len(digests) == 1
    assert hashed == [file]


def test_a_file_that_just_changed_is_never_remembered(tmp_path: Path, file: Path, hashed: list[Path]) -> None:
    hashes = FileHashes(tmp_path / "memo", Clock(ahead_ns=0))
    before, state = hashes.digest(file), file.stat()
    # Written again within the same tick of the clock: same size, and what `stat` says could be the same as well.
    file.write_bytes(b"two")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert hashes.digest(file) == blake3(b"two").hexdigest() != before
    assert not (tmp_path / "memo").exists()


def test_a_changed_file_whose_mtime_was_set_back_is_read_again(tmp_path: Path, file: Path) -> None:
    hashes = FileHashes(tmp_path / "memo", Clock())
    state = file.stat()
    hashes.digest(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert hashes.digest(file) == blake3(b"two").hexdigest()


def test_a_touched_file_keeps_its_hash(tmp_path: Path, file: Path) -> None:
    hashes = FileHashes(tmp_path / "memo", Clock())
    before = hashes.digest(file)
    os.utime(file)
    assert hashes.digest(file) == before


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda memo: memo[: len(memo) // 2], id="cut off"),
        pytest.param(lambda memo: b"", id="empty"),
        pytest.param(lambda memo: b"[" * 100_000, id="nested without end"),
        pytest.param(lambda memo: b'{"memo": 3, "check": 4}', id="wrong types"),
        pytest.param(lambda memo: memo.replace(blake3(b"one").hexdigest().encode(), b"0" * 64), id="another hash"),
        pytest.param(lambda memo: b"\xff" + memo, id="not text"),
    ],
)
def test_a_damaged_memo_is_ignored(tmp_path: Path, file: Path, damage: object) -> None:
    FileHashes(tmp_path / "memo", Clock()).digest(file)
    [memo] = (tmp_path / "memo").iterdir()
    assert callable(damage)
    memo.write_bytes(damage(memo.read_bytes()))
    assert FileHashes(tmp_path / "memo", Clock()).digest(file) == blake3(b"one").hexdigest()


def test_a_memo_of_another_file_is_ignored(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"two")
    hashes = FileHashes(tmp_path / "memo", Clock())
    hashes.digest(file)
    hashes.digest(other)
    one, two = (tmp_path / "memo").iterdir()
    one.write_bytes(two.read_bytes())
    fresh = FileHashes(tmp_path / "memo", Clock())
    assert (fresh.digest(file), fresh.digest(other)) == (blake3(b"one").hexdigest(), blake3(b"two").hexdigest())


def test_a_memo_that_cannot_be_written_is_done_without(tmp_path: Path, file: Path) -> None:
    (tmp_path / "memo").write_text("a file where the folder should be")
    assert FileHashes(tmp_path / "memo", Clock()).digest(file) == blake3(b"one").hexdigest()


def test_a_link_means_the_file_that_it_points_at_now(tmp_path: Path, file: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"two")
    link = tmp_path / "link"
    link.symlink_to(file)
    hashes = FileHashes(tmp_path / "memo", Clock())
    before = hashes.digest(link)
    link.unlink()
    link.symlink_to(other)
    assert (before, hashes.digest(link)) == (blake3(b"one").hexdigest(), blake3(b"two").hexdigest())


def test_a_file_that_changes_while_it_is_read_has_no_identity(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = files.file_digest

    def slowly(path: Path) -> str:
        digest = original(path)
        path.write_bytes(b"still being written")
        return digest

    monkeypatch.setattr(files, "file_digest", slowly)
    with pytest.raises(IdentityError, match="changed while it was read"):
        FileHashes(tmp_path / "memo", Clock()).digest(file)
    assert not (tmp_path / "memo").exists()


def test_a_large_file_is_read_by_one_of_those_who_want_it_at_once(
    tmp_path: Path, file: Path, hashed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers of pytest-xdist do, which all begin with the same checkpoint."""
    counted = files.file_digest
    monkeypatch.setattr(files, "LARGE", 1)
    found: list[str] = []
    others = [
        threading.Thread(target=lambda: found.append(FileHashes(tmp_path / "memo", Clock()).digest(file)))
        for _ in range(3)
    ]

    def while_others_come(path: Path) -> str:
        for other in others:
            other.start()
        others[0].join(timeout=0.1)  # it can't end before this does
        return counted(path)

    monkeypatch.setattr(files, "file_digest", lambda path: counted(path) if hashed else while_others_come(path))
    found.append(FileHashes(tmp_path / "memo", Clock()).digest(file))
    for other in others:
        other.join()
    assert found == [blake3(b"one").hexdigest()] * 4
    assert hashed == [file]
