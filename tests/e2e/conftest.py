"""Real checkpoints, made once, and projects around them. Everything here runs pytest in a process and trains."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import tiny
from tests.e2e.project import Project

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT's body of 64 positions, without any head."""
    return tiny.bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that tells three classes apart."""
    path = tmp_path_factory.mktemp("classifier")
    return tiny.bert(path, head="BertForSequenceClassification", labels=("eats", "runs", "sleeps"))


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose tokenizer has no padding token."""
    return tiny.gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def pickled(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose weights are a pickle."""
    import torch
    from safetensors.torch import load_file

    path = tmp_path_factory.mktemp("pickled")
    shutil.copytree(bert, path, dirs_exist_ok=True)
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    return path


@pytest.fixture
def project(tmp_path: Path, bert: Path) -> Project:
    """A project of its own for one test."""
    return Project(tmp_path / "project", bert)
