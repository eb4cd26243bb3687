"""A tokenizer, made once."""

from __future__ import annotations

from typing import Any

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.bert_tokenizer(tmp_path_factory.mktemp("tokenizer"))
