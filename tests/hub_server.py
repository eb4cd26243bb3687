"""A Hugging Face Hub on localhost: enough of its routes for huggingface_hub, transformers and datasets to load from it.

`with serve() as hub: hub.put("datasets", "org/name", {"train.csv": b"..."})`, or any folder as a model with
`hub.put("models", "org/name", path)`. `hub.environment(cache)` is what a subprocess needs;
`attach(hub, cache, monkeypatch)` points this process at it.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

Kind = Literal["models", "datasets"]


@dataclass
class Repository:
    """All commits of a repository; `main` is the newest."""

    kind: Kind
    id: str
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    gated: bool = False


@dataclass
class Hub:
    """What is published, and which requests came."""

    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    endpoint: str = ""
    failing: bool = False
    """Whether every request is answered by status 500."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    cut: set[str] = field(default_factory=set)
    """Ends of addresses whose files never come further than half."""

    def put(
        self,
        kind: Kind,
        repo_id: str,
        files: Mapping[str, bytes] | Path,
        *,
        gated: bool = False,
        revision: str = "main",
    ) -> str:
        """Publish a new commit on a branch and return its hash."""
        if isinstance(files, Path):
            files = {p.relative_to(files).as_posix(): p.read_bytes() for p in files.rglob("*") if p.is_file()}
        repository = self.repositories.setdefault((kind, repo_id), Repository(kind, repo_id))
        digest = sha1(repr((len(repository.commits), sorted(files.items()))).encode()).hexdigest()
        repository.commits[digest] = dict(files)
        repository.refs[revision] = digest
        repository.gated = gated
        return digest

    def environment(self, cache: Path) -> dict[str, str]:
        """Variables that make the Hugging Face libraries of a new process use this Hub and an empty cache."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(cache),
            "HF_HUB_CACHE": str(cache / "hub"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",  # also where all else is to do without a network
        }

    def take(self, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """The same for a POST: what is asked before an upload, a commit, and what is known of some paths."""
        found = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/(preupload|commit|paths-info)/([^/]+)", path)
        repository = self.repositories.get((found[1], found[2])) if found else None
        if found is None or repository is None:
            return _failure(401, "RepoNotFound")
        commit = repository.refs.get(found[4], found[4])
        if found[3] == "preupload":
            asked = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in asked]
            return 200, {}, json.dumps({"files": modes}).encode()
        if found[3] == "paths-info":
            names = parse_qs(body.decode()).get("paths", [])
            entries = json.loads(_tree(repository.commits[commit], "", recursive=True)[2])
            return 200, {}, json.dumps([entry for entry in entries if entry["path"] in names]).encode()
        with self.lock:  # one commit after the other, each on top of the last
            files = dict(repository.commits[repository.refs[found[4]]])
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = b64decode(line["value"]["content"])
            made = self.put(repository.kind, repository.id, files, revision=found[4])
        url = f"{self.endpoint}/{repository.kind}/{repository.id}/commit/{made}"
        return 200, {}, json.dumps({"success": True, "commitOid": made, "commitUrl": url}).encode()

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a GET of `path`."""
        if self.failing:
            return _failure(500, "InternalError")
        address = urlsplit(path)
        # Taken apart before it is unquoted: a revision may hold slashes (refs/convert/parquet).
        where = address.path
        if api := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?", where):
            kind, repo_id, route, revision, folder = (unquote(part) if part else part for part in api.groups())
        elif file := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", where):
            kind = "datasets" if file[1] else "models"
            repo_id, revision, folder = (unquote(part) for part in file.groups()[1:])
            route = "resolve"
        else:
            return _failure(404, "RepoNotFound")
        repository = self.repositories.get((kind, repo_id))
        if repository is None:
            return _failure(401, "RepoNotFound")
        commit = repository.refs.get(revision or "main", revision or "")
        if commit not in repository.commits:
            return _failure(404, "RevisionNotFound")
        if repository.gated and route == "resolve":
            return _failure(401, "GatedRepo")
        files = repository.commits[commit]
        if route == "resolve":
            return _file(files, folder, commit)
        if route == "tree":
            return _tree(files, folder or "", recursive="true" in parse_qs(address.query.lower()).get("recursive", []))
        info = {
            "id": repo_id,
            "sha": commit,
            "siblings": [{"rfilename": name} for name in files],
            "private": False,
            "gated": "auto" if repository.gated else False,
            "tags": [],
        }
        return 200, {}, json.dumps(info).encode()


def _failure(status: int, code: str) -> tuple[int, dict[str, str], bytes]:
    return status, {"X-Error-Code": code, "X-Error-Message": code}, json.dumps({"error": code}).encode()


def _file(files: Mapping[str, bytes], name: str, commit: str) -> tuple[int, dict[str, str], bytes]:
    if name not in files:
        status, headers, body = _failure(404, "EntryNotFound")
        return status, {**headers, "X-Repo-Commit": commit}, body
    return 200, {"X-Repo-Commit": commit, "ETag": f'"{sha1(files[name]).hexdigest()}"'}, files[name]


def _tree(files: Mapping[str, bytes], folder: str, *, recursive: bool) -> tuple[int, dict[str, str], bytes]:
    prefix = f"{folder}/" if folder else ""
    inside = {name: content for name, content in files.items() if name.startswith(prefix)}
    if folder and not inside:
        return _failure(404, "EntryNotFound")
    entries = []
    for name, content in inside.items():
        if recursive or "/" not in name.removeprefix(prefix):
            entries.append({"type": "file", "oid": sha1(content).hexdigest(), "size": len(content), "path": name})
    folders = {prefix + n.removeprefix(prefix).split("/")[0] for n in inside if "/" in n.removeprefix(prefix)}
    entries += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": name} for name in sorted(folders)]
    return 200, {}, json.dumps(entries).encode()


@contextmanager
def serve() -> Iterator[Hub]:
    """A running Hub, empty at first."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            status, headers, body = hub.answer(self.path)
            start = 0
            if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
                start, status = int(part[1]), 206
                end = min(int(part[2] or len(body)), len(body) - 1)
                headers |= {"Content-Range": f"bytes {start}-{end}/{len(body)}"}
                body = body[: end + 1]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body) - start), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if self.path.endswith(tuple(hub.cut)):
                self.wfile.write(body[start : len(body) // 2])
                self.close_connection = True
            else:
                self.wfile.write(body[start:])

        do_HEAD = do_GET

        def do_POST(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, headers, answer = hub.take(urlsplit(self.path).path, body)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def attach(hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the Hugging Face libraries of this process at `hub`, with an empty cache."""
    from huggingface_hub import constants

    environment = hub.environment(cache)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for name in ("TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # huggingface_hub reads its environment once, when it is imported
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    if "transformers.utils.hub" in sys.modules:  # its client is made once, for the Hub of that time
        monkeypatch.setattr(sys.modules["transformers.utils.hub"], "_hf_api", None)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", environment["HF_HUB_CACHE"])
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
