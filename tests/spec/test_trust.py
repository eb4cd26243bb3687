"""`trust_remote_code` has one form, and whoever writes another one is shown it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftcheck import catalogue
from ftcheck.errors import SuiteErrors
from ftcheck.spec import Checkpoint, Declaration, RemoteCode, expand

COMMIT = "0123456789" * 4


def checkpoint(**fields: Any) -> Checkpoint:
    given: dict[str, Any] = {
        "checkpoint": "org/name",
        "task": "text-classification",
        "data": "org/data",
        **fields,
    }
    (case,) = expand([Declaration.of_function("test_it", Path("/suites/test_it.py"), 3, given)], catalogue.installed())
    return case.checkpoint


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param({"revision": COMMIT}, RemoteCode(revision=COMMIT), id="its-own"),
        pytest.param(
            {"revision": COMMIT, "repository": "org/code"},
            RemoteCode(revision=COMMIT, repository="org/code"),
            id="elsewhere",
        ),
        pytest.param(None, None, id="none"),
    ],
)
def test_the_code_that_is_trusted_is_part_of_the_checkpoint(code: Any, expected: RemoteCode | None) -> None:
    assert checkpoint(checkpoint={"path": "org/name", "trust_remote_code": code}).remote_code == expected


FORM = "expected {revision: COMMIT}, the 40 hexadecimal digits of the commit whose code was read"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param({"checkpoint": {"path": "a/b", "trust_remote_code": True}}, f"{FORM}, got true", id="true"),
        pytest.param({"checkpoint": {"path": "a/b", "trust_remote_code": COMMIT}}, FORM, id="commit-alone"),
        pytest.param(
            {"checkpoint": {"path": "a/b", "trust_remote_code": {"revision": "main"}}},
            "revision: expected a commit (40 hexadecimal digits), which no branch or tag stands for, got 'main'",
            id="branch",
        ),
        pytest.param(
            {"checkpoint": {"path": "a/b", "trust_remote_code": {"revision": COMMIT, "repository": "../x"}}},
            "repository: expected a Hub id (org/name)",
            id="path",
        ),
        pytest.param(
            {"checkpoint": {"path": "a/b", "trust_remote_code": {"commit": COMMIT, "revision": COMMIT}}},
            "no such key; known: repository, revision",
            id="other-key",
        ),
        pytest.param(
            {"training": {"trust_remote_code": True}},
            "training.trust_remote_code: stands with the checkpoint: {path: ..., trust_remote_code: {revision: COMMIT}",
            id="training",
        ),
        pytest.param(
            {"data": {"path": "a/b", "trust_remote_code": True}},
            "data.trust_remote_code: stands with the checkpoint: {path: ..., trust_remote_code: {revision: COMMIT}",
            id="data",
        ),
    ],
)
def test_any_other_form_is_an_error_that_shows_the_right_one(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SuiteErrors) as raised:
        checkpoint(**fields)
    assert message in str(raised.value)
