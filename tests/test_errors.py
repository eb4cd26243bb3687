"""What every message is made of."""

from __future__ import annotations

import pytest

from ftcheck import errors


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        pytest.param("acuracy", ["accuracy", "f1"], "did you mean accuracy?", id="near"),
        pytest.param("zzz", ["b", "a"], "known: a, b", id="far"),
        pytest.param("zzz", [f"n{i:02}" for i in range(53)], ", n49, and 3 more", id="many"),
    ],
)
def test_an_unknown_name_always_gets_a_hint(name: str, known: list[str], hint: str) -> None:
    assert errors.one_of(name, known).endswith(hint)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("plain é 日本", "plain é 日本", id="plain"),
        pytest.param("a\x1b[31mb\x00", r"a\x1b[31mb\x00", id="control"),
        pytest.param("a\u202eb", r"a\u202eb", id="bidirectional"),
        pytest.param("a\udc80b", r"a\udc80b", id="undecodable"),
        pytest.param("::error::x", r"\x3a:error::x", id="workflow-command"),
        pytest.param("a ::set-output name=a::b", r"a \x3a:set-output name=a::b", id="workflow-command-after-a-break"),
        pytest.param("##[error]a ##vso[x] ##teamcity[y]", r"\x23#[error]a \x23#vso[x] \x23#teamcity[y]", id="others"),
        pytest.param(
            "suite.ft.yaml::case, ## [a], std::group_by", "suite.ft.yaml::case, ## [a], std::group_by", id="no"
        ),
        pytest.param("x" * 200, "x" * 119 + "…", id="long"),
    ],
)
def test_text_of_others_is_shown_so_that_it_cant_act(text: str, shown: str) -> None:
    assert errors.shown(text) == shown


def test_a_chain_of_errors_has_an_end() -> None:
    """`raise error from error` makes one that is its own cause."""
    first, second = ValueError("first"), KeyError("second")
    second.__cause__ = first
    first.__context__ = second
    assert list(errors.chain(second)) == [second, first]
