"""A Hub name means one commit a session; offline, the one in the local cache; and never a guess."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from ftcheck.errors import CheckpointError, DataError, FtcheckError
from ftcheck.keys import Identifier, hub
from ftcheck.spec import Case, Checkpoint, Data
from tests.hub_server import Hub, attach, serve

PINNED = "0123456789abcdef0123456789abcdef01234567"
MODEL = "org/model"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as running:
        attach(running, tmp_path / "hf", monkeypatch)
        yield running


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Hub cache that has one model and one data set on `main`, and a pull request's revision of the model."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for folder, refs in (("models--org--model", ("main", "refs/pr/1")), ("datasets--org--data", ("main",))):
        for ref in refs:
            path = tmp_path / "hub" / folder / "refs" / ref
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(PINNED)
        (tmp_path / "hub" / folder / "snapshots" / PINNED).mkdir(parents=True)
    return tmp_path / "hub"


def model(revision: str | None = None, path: str = MODEL) -> Checkpoint:
    return Checkpoint(path=path, local=False, revision=revision)


def test_a_name_is_resolved_to_its_newest_commit(server: Hub, tmp_path: Path) -> None:
    commit = server.put("models", MODEL, {"config.json": b"{}"})
    assert Identifier(tmp_path).checkpoint(model()) == {"hub": MODEL, "commit": commit}


def test_a_name_means_one_commit_for_the_whole_session(server: Hub, tmp_path: Path) -> None:
    server.put("models", MODEL, {"config.json": b"{}"})
    identifier = Identifier(tmp_path)
    before = [identifier.checkpoint(model()), identifier.tokenizer(model())]
    server.put("models", MODEL, {"config.json": b"[]"})
    assert [identifier.checkpoint(model()), identifier.tokenizer(model())] == before
    assert len([request for request in server.requests if "/api/" in request]) == 1
    assert Identifier(tmp_path).checkpoint(model()) != before[0]


def test_processes_that_share_a_folder_mean_the_same_commits(server: Hub, tmp_path: Path) -> None:
    """Another one may be pushed while the first of them resolves the name; a failure is no answer that is kept."""
    server.failing = True
    with pytest.raises(CheckpointError):
        Identifier(tmp_path, share=tmp_path / "share").checkpoint(model())
    server.failing = False
    server.put("models", MODEL, {"config.json": b"{}"})
    identity = Identifier(tmp_path, share=tmp_path / "share").checkpoint(model())
    server.put("models", MODEL, {"config.json": b"[]"})
    again = Identifier(tmp_path, share=tmp_path / "share")
    assert [again.checkpoint(model()), again.tokenizer(model())] == [identity, identity]
    assert Identifier(tmp_path).checkpoint(model()) != identity


def test_a_new_commit_changes_the_data_for_every_role(server: Hub, tmp_path: Path) -> None:
    data = Data(kind="hub", path="org/data")
    server.put("datasets", "org/data", {"train.csv": b"a"})
    before = [Identifier(tmp_path).data(data, roles) for roles in (("train",), ("eval",))]
    server.put("datasets", "org/data", {"train.csv": b"b"})
    after = [Identifier(tmp_path).data(data, roles) for roles in (("train",), ("eval",))]
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("offline", [False, True])
def test_a_commit_is_taken_at_its_word(tmp_path: Path, offline: bool) -> None:
    identity = Identifier(tmp_path, offline=offline).checkpoint(model(PINNED, "nowhere/at-all"))
    assert identity["commit"] == PINNED


@pytest.mark.parametrize("revision", [None, "main", "refs/pr/1"])
def test_offline_the_cache_tells(cached: Path, tmp_path: Path, revision: str | None) -> None:
    assert Identifier(tmp_path, offline=True).checkpoint(model(revision))["commit"] == PINNED


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_hubs_own_variables_mean_offline_too(
    cached: Path, tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    assert Identifier(tmp_path).data(Data(kind="hub", path="org/data"), ("train",))["commit"] == PINNED


def test_offline_identity_loads_no_library_of_the_hub(cached: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from ftcheck.keys import Identifier; from ftcheck.spec import Checkpoint;"
        f"print(Identifier(Path({str(tmp_path)!r}), offline=True).checkpoint(Checkpoint(path={MODEL!r}, local=False)));"
        "print([m for m in ('torch', 'transformers', 'datasets', 'huggingface_hub', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str({"hub": MODEL, "commit": PINNED}), "[]"]


@pytest.mark.parametrize("kind", ["model", "dataset"])
@pytest.mark.parametrize(
    ("repo_id", "revision"),
    [
        pytest.param("org/unknown", None, id="never fetched"),
        pytest.param(MODEL, "v2", id="a revision never fetched"),
        pytest.param(MODEL, "../snapshots", id="a revision that leaves its folder"),
    ],
)
def test_offline_what_is_not_in_the_cache_is_one_clear_error(
    cached: Path, kind: Literal["model", "dataset"], repo_id: str, revision: str | None
) -> None:
    expected = CheckpointError if kind == "model" else DataError
    with pytest.raises(expected) as raised:
        hub.resolve(repo_id, kind, revision, offline=True)
    message = str(raised.value)
    assert message.startswith(f"the {'checkpoint' if kind == 'model' else 'data set'} {repo_id}")
    assert "is not in the local Hub cache" in message
    assert "--ft-offline" in message
    assert "\n" not in message


def test_offline_a_reference_without_its_files_is_not_enough(cached: Path) -> None:
    (cached / "models--org--model" / "snapshots" / PINNED).rmdir()
    with pytest.raises(CheckpointError, match="not in the local Hub cache"):
        hub.resolve(MODEL, "model", None, offline=True)


@pytest.mark.parametrize(
    ("repo_id", "revision", "message"),
    [
        pytest.param("org/unknown", None, "is not on the Hub", id="unknown"),
        pytest.param(MODEL, "v2", "has no revision v2", id="unknown revision"),
        pytest.param("a/b/c", None, "is not on the Hub", id="no Hub id"),
    ],
)
def test_what_the_hub_lacks_is_one_clear_error(
    server: Hub, tmp_path: Path, repo_id: str, revision: str | None, message: str
) -> None:
    server.put("models", MODEL, {"config.json": b"{}"})
    with pytest.raises(CheckpointError) as raised:
        Identifier(tmp_path).checkpoint(model(revision, repo_id))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_gated_repository_says_how_to_log_in(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.put("models", MODEL, {"config.json": b"{}"})
    gated = (403, {"X-Error-Code": "GatedRepo"}, b"{}")
    monkeypatch.setattr(server, "answer", lambda path: gated)
    with pytest.raises(CheckpointError, match="hf auth login"):
        hub.resolve(MODEL, "model", None, offline=False)


def test_a_hub_that_does_not_answer_is_no_reason_to_guess(
    server: Hub, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(FtcheckError) as raised:
        hub.resolve(MODEL, "model", None, offline=False)
    assert "could not be asked" in str(raised.value)
    assert "--ft-offline" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_resolved_commits_are_those_to_load(cached: Path, tmp_path: Path) -> None:
    case = Case(
        id="x",
        suite=tmp_path / "x.ft.yaml",
        line=1,
        checkpoint=Checkpoint(path=MODEL, local=False, tokenizer=str(tmp_path)),
        task="text-classification",
        data=Data(kind="hub", path="org/data"),
    )
    assert Identifier(tmp_path, offline=True).revisions(case) == {
        "checkpoint_revision": PINNED,
        "tokenizer_revision": None,
        "data_revision": PINNED,
        "revisions": {},
    }
