"""Tiny checkpoints, made once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT's body, without any head."""
    return tiny.bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def still_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without dropout, so that what a step does depends on nothing but its batch."""
    path = tmp_path_factory.mktemp("still")
    return tiny.bert(path, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder whose tokenizer has no padding token."""
    return tiny.gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="session")
def seq2seq(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Kind -> an encoder-decoder without dropout."""
    return {
        "t5": tiny.t5(tmp_path_factory.mktemp("t5"), dropout_rate=0.0),
        "bart": tiny.bart(tmp_path_factory.mktemp("bart"), dropout=0.0),
        "marian": tiny.marian(tmp_path_factory.mktemp("marian"), dropout=0.0),
    }
