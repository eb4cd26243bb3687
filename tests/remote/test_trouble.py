"""A server that is dead, slow, or killed in the middle costs one warning and a bounded time, never a half entry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftcheck.store import MirroredStore, Remote, RemoteError, Store, remote
from tests.remote import servers
from tests.remote.servers import Network
from tests.store.entries import CONTENT, key, left_over, publish

DIGEST = key().digest
FILES = {"model/model.safetensors": os.urandom(400_000), "statistics.npz": os.urandom(200_000)}


@pytest.fixture(params=["sftp", "s3"])
def between(request: pytest.FixtureRequest) -> Iterator[Network]:
    """What lies between this machine and a server."""
    port = request.getfixturevalue("sftp") if request.param == "sftp" else request.getfixturevalue("s3")[0]
    with servers.network(port) as network:
        yield network


@pytest.fixture
def url(between: Network, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.node.callspec.params["between"] == "sftp":
        return f"sftp://{servers.user()}@127.0.0.1:{between.port}{tmp_path}/remote"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{between.port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return f"s3://results/{tmp_path.name}"


def test_a_server_that_dies_in_the_middle_of_an_upload_leaves_nothing_to_be_seen(
    tmp_path: Path, between: Network, url: str
) -> None:
    entry = publish(Store(tmp_path / "one"), key(), files=FILES)
    between.left = 200_000
    with pytest.raises(RemoteError):
        Remote(url, patience=1).push(entry)
    between.left = None
    store = MirroredStore(tmp_path / "two", Remote(url))
    assert store.get("runs", DIGEST) is None
    assert store.warnings == []
    assert Remote(url).push(entry)


def test_a_server_that_dies_in_the_middle_of_a_download_leaves_nothing_here(
    tmp_path: Path, between: Network, url: str
) -> None:
    assert Remote(url).push(publish(Store(tmp_path / "one"), key(), files=FILES))
    store = MirroredStore(tmp_path / "two", Remote(url, patience=1))
    between.left = 200_000
    assert store.get("runs", DIGEST) is None
    [warning] = store.warnings
    assert "can't be used" in warning
    assert "the session goes on without it" in warning
    assert (left_over(store.root), list(store.keys("runs"))) == ([], [])
    publish(store, key(), files=FILES)
    store.close()
    assert len(store.warnings) == 2
    assert "1 results were not uploaded" in store.warnings[1]


def test_a_connection_that_was_ended_while_nobody_used_it_is_made_again(
    tmp_path: Path, between: Network, url: str
) -> None:
    there = Remote(url)
    assert list(there.keys("runs")) == []
    between.cut()
    assert there.push(publish(Store(tmp_path / "one"), key(), files={"x": b"1"}))
    assert not there.broken


@pytest.mark.parametrize("how", ["dead", "slow"])
def test_a_server_that_does_not_answer_in_time_is_not_waited_for(
    tmp_path: Path, between: Network, url: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Remote(url).push(publish(Store(tmp_path / "one"), key(), files={"x": b"1"}))
    monkeypatch.setattr(remote, "_GRACE_SECONDS", 0.1)
    between.dead, between.seconds = how == "dead", 0.0 if how == "dead" else 1.0
    store = MirroredStore(tmp_path / "two", Remote(url, patience=0.1))
    assert store.get("runs", key(seed=42).digest) is None
    made = len(between.connections)
    assert [store.get("runs", key(seed=seed).digest) for seed in (43, 44)] == [None, None]
    assert len(between.connections) == made  # it isn't asked again
    assert [warning for warning in store.warnings if "too slow" in warning] == store.warnings
    assert len(store.warnings) == 1


def test_an_upload_that_takes_too_long_is_left_to_another_time(tmp_path: Path, between: Network, url: str) -> None:
    store = MirroredStore(tmp_path / "one", Remote(url, patience=0.3))
    between.dead = True
    entry = publish(store, key(), files={"x": b"1"})
    store.write_back()
    store.close()
    assert any("1 results were not uploaded" in warning for warning in store.warnings)
    assert entry.content == CONTENT
