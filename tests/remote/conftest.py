"""Remotes of all kinds: folders, memory, and real servers where they are installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import pytest

from tests import hub_server
from tests.remote import servers


@pytest.fixture(scope="session")
def sftp_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """(port, the home whose keys it knows) of a running OpenSSH."""
    if find_spec("sshfs") is None or not (servers.SSHD and servers.SFTP_SERVER):
        pytest.skip("needs sshfs, and OpenSSH's sshd and sftp-server (Debian: openssh-server)")
    home = tmp_path_factory.mktemp("home")
    with servers.sftp(tmp_path_factory.mktemp("sshd"), home) as port:
        yield port, home


@pytest.fixture
def sftp(sftp_server: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> int:
    """The server's port; this process has its user's home."""
    monkeypatch.setenv("HOME", str(sftp_server[1]))
    return sftp_server[0]


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[int, str]]:
    """(port, bucket) of a running S3."""
    if find_spec("s3fs") is None or find_spec("moto") is None:
        pytest.skip("needs s3fs and moto[server]")
    port = servers.free_port()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {**servers.S3_CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
            environment.setenv(name, value)
        with servers.s3(port) as bucket:
            yield port, bucket


@pytest.fixture
def s3(s3_server: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Its port and bucket; this process knows them."""
    for name, value in {**servers.S3_CREDENTIALS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3_server[0]}"}.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(scope="session")
def gs_server() -> Iterator[tuple[int, str]]:
    """(port, bucket) of a running emulator of Google's storage."""
    if find_spec("gcsfs") is None or find_spec("gcp_storage_emulator") is None:
        pytest.skip("needs gcsfs and gcp-storage-emulator")
    port = servers.free_port()
    with pytest.MonkeyPatch.context() as environment, servers.gs(port) as bucket:
        # Else gcsfs asks by gRPC of which kind a bucket is, which the emulator doesn't speak.
        environment.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        yield port, bucket


@pytest.fixture
def gs(gs_server: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Its port and bucket; this process knows them, and no credentials."""
    from fsspec.config import conf

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{gs_server[0]}")
    monkeypatch.setitem(conf, "gs", {"token": "anon", "project": "test"})
    return gs_server


@pytest.fixture
def hf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A data set's repository of a Hub on localhost."""
    with hub_server.serve() as hub:
        hub_server.attach(hub, tmp_path / "hf", monkeypatch)
        hub.put("datasets", "org/results", {"README.md": b"Results."})
        yield "datasets/org/results"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """An empty remote."""
    return f"file://{tmp_path}/remote"


@pytest.fixture(params=["file", "memory", "sftp", "s3", "gs", "hf"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> str:
    """An empty remote of each kind."""
    if request.param == "file":
        return url
    if request.param == "memory":
        return f"memory://{uuid4().hex}"
    if request.param == "sftp":
        return f"sftp://{servers.user()}@127.0.0.1:{request.getfixturevalue('sftp')}{tmp_path}/remote"
    if request.param == "hf":
        return f"hf://{request.getfixturevalue('hf')}/{uuid4().hex}"
    return f"{request.param}://{request.getfixturevalue(request.param)[1]}/{uuid4().hex}"


@pytest.fixture(scope="session", autouse=True)
def ssh_is_loaded_once() -> None:
    """pytester forgets what is first imported while its pytest runs, and cryptography can't be loaded twice."""
    if find_spec("sshfs") is not None:
        import_module("sshfs")
