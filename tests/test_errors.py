"""What every message is made of."""

from __future__ import annotations

import pytest

from ftcheck import errors


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        pytest.param("acuracy", ["accuracy", "f1"], "did you mean accuracy?", id="near"),
        pytest.param("zzz", ["b", "a"], "known: a, b", id="far"),
        pytest.param("zzz", [f"n{i:02}" for i in range(43)], ", n39, and 3 more", id="many"),
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
        pytest.param("x" * 200, "x" * 119 + "…", id="long"),
    ],
)
def test_text_of_others_is_shown_so_that_it_cant_act(text: str, shown: str) -> None:
    assert errors.shown(text) == shown
