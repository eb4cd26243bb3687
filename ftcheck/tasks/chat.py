"""Conversations as tokens, by the tokenizer's own chat template, and which of them are the assistant's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftcheck.errors import CheckpointError, DataError, shown

Messages = Sequence[Mapping[str, Any]]

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def check(messages: Any, where: str) -> None:
    """Refuse what is no conversation that ends with the assistant's turn (DataError)."""
    well_formed = isinstance(messages, Sequence) and all(
        isinstance(message, Mapping) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        for message in messages
    )
    if not well_formed:
        raise DataError(
            f"{where}: messages must be a list of {{role, content}}, both text; got {shown(repr(messages))}"
        )
    if not messages or messages[-1]["role"] != "assistant":
        last = f"the last is {shown(messages[-1]['role'])}'s" if messages else "there are none"
        raise DataError(f"{where}: messages must end with the assistant's, which is learned and judged; {last}")


def require_template(tokenizer: Any) -> None:
    """Raises CheckpointError for a tokenizer that has no chat template."""
    if not tokenizer.chat_template:
        raise CheckpointError(
            "the tokenizer has no chat template, so messages can't be made a text: name a checkpoint (or "
            "checkpoint.tokenizer) that was made for chat, or use the columns prompt and completion"
        )


def prompt(tokenizer: Any, messages: Messages, where: str) -> list[int]:
    """Tokens of the messages, and of what begins the assistant's next turn."""
    ids: list[int] = _render(tokenizer, messages, where, add_generation_prompt=True)["input_ids"]
    return ids


def encode(tokenizer: Any, messages: Messages, where: str) -> tuple[list[int], list[bool]]:
    """Tokens of the whole conversation, and which of them the assistant says, its end of turn included.

    A template that marks them with `{% generation %}` says so. Of another one, an assistant's turn is what the
    conversation through it has beyond the one before it with its beginning. Raises DataError where one isn't the
    other's beginning: the template then shows earlier turns otherwise once more has been said.
    """
    if _GENERATION.search(tokenizer.get_chat_template()):
        found = _render(tokenizer, messages, where, return_assistant_tokens_mask=True)
        return found["input_ids"], [bool(flag) for flag in found["assistant_masks"]]
    whole = _render(tokenizer, messages, where)["input_ids"]
    said = [False] * len(whole)
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = prompt(tokenizer, messages[:turn], where)
        through = _render(tokenizer, messages[: turn + 1], where)["input_ids"]
        if through[: len(before)] != before or whole[: len(through)] != through:
            raise DataError(
                f"{where}: which tokens the assistant's message {turn + 1} makes can't be told: the chat template "
                "renders the conversation before it otherwise once it is there; mark them in the template with "
                "{% generation %} ... {% endgeneration %}, or use the columns prompt and completion"
            )
        said[len(before) : len(through)] = [True] * (len(through) - len(before))
    return whole, said


def text(messages: Messages) -> str:
    """A conversation for the reader."""
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def _render(tokenizer: Any, messages: Messages, where: str, **how: Any) -> dict[str, Any]:
    from jinja2.exceptions import TemplateError

    given = [{key: value for key, value in message.items() if value is not None} for message in messages]
    try:
        rendered: dict[str, Any] = tokenizer.apply_chat_template(given, tokenize=True, return_dict=True, **how)
    except TemplateError as error:
        raise DataError(f"{where}: the chat template refuses these messages: {shown(error, 200)}") from error
    return rendered
