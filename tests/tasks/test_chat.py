"""Which tokens of a conversation are the assistant's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftcheck.errors import CheckpointError, DataError
from ftcheck.tasks import chat
from tests import tiny

TURN = "<{{ m.role }}>{{ m.content }};"
BEGIN = "{% if add_generation_prompt %}<assistant>{% endif %}"
PLAIN = "{% for m in messages %}" + TURN + "{% endfor %}" + BEGIN
MARKED = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }};"
    "{% endgeneration %}{% else %}{{ m.content }};{% endif %}{% endfor %}" + BEGIN
)
FORGETFUL = "{% for m in messages %}{% if loop.last or m.role == 'user' %}" + TURN + "{% endif %}{% endfor %}"
STRICT = "{% if messages[0].role != 'user' %}{{ raise_exception('begin with the user') }}{% endif %}" + PLAIN

TURNS = [
    {"role": "user", "content": "who runs?"},
    {"role": "assistant", "content": "the cat"},
    {"role": "user", "content": "and?"},
    {"role": "assistant", "content": "a dog"},
]


@pytest.fixture(scope="module")
def bytes_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny.byte_tokenizer(tmp_path_factory.mktemp("bytes"))


@pytest.mark.parametrize("template", [PLAIN, MARKED], ids=["by-prefix", "by-generation-tags"])
def test_the_assistants_turns_are_found_with_their_ends(bytes_tokenizer: Any, template: str) -> None:
    bytes_tokenizer.chat_template = template
    ids, said = chat.encode(bytes_tokenizer, TURNS, "row 0")
    assert bytes_tokenizer.decode(ids) == "<user>who runs?;<assistant>the cat;<user>and?;<assistant>a dog;"
    kept = [token for token, flag in zip(ids, said, strict=True) if flag]
    assert bytes_tokenizer.decode(kept) == "the cat;a dog;"


@pytest.mark.parametrize("template", [PLAIN, MARKED], ids=["by-prefix", "by-generation-tags"])
def test_a_prompt_is_what_stands_before_the_last_turn(bytes_tokenizer: Any, template: str) -> None:
    bytes_tokenizer.chat_template = template
    ids, said = chat.encode(bytes_tokenizer, TURNS, "row 0")
    before = chat.prompt(bytes_tokenizer, TURNS[:-1], "row 0")
    assert ids[: len(before)] == before
    assert all(said[len(before) :])


def test_a_template_that_renders_earlier_turns_otherwise_is_refused(bytes_tokenizer: Any) -> None:
    bytes_tokenizer.chat_template = FORGETFUL
    with pytest.raises(DataError, match=r"^train.csv:3: .*message 2 .*% generation %"):
        chat.encode(bytes_tokenizer, TURNS, "train.csv:3")


def test_what_a_template_refuses_names_the_row(bytes_tokenizer: Any) -> None:
    bytes_tokenizer.chat_template = STRICT
    with pytest.raises(DataError, match=r"^row 7: the chat template refuses these messages: begin with the user"):
        chat.encode(bytes_tokenizer, [{"role": "system", "content": "be"}, *TURNS], "row 7")


def test_a_tokenizer_without_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no chat template"):
        chat.require_template(tiny.byte_tokenizer(tmp_path))


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        pytest.param("hello", "must be a list of", id="text"),
        pytest.param([{"role": "user"}], "must be a list of", id="no-content"),
        pytest.param([{"role": "user", "content": ["a"]}], "must be a list of", id="parts"),
        pytest.param([], "must end with the assistant's.*there are none", id="empty"),
        pytest.param(TURNS[:3], "must end with the assistant's.*the last is user's", id="unanswered"),
    ],
)
def test_what_is_no_answered_conversation_is_refused(messages: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^row 1: messages {message}"):
        chat.check(messages, "row 1")
