"""Prompts with completions, and conversations, for a causal language model: what is said is learned and judged, what
stands before it is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftcheck.errors import DataError, shown
from ftcheck.tasks import Rows, Where, chat
from ftcheck.tasks.features import EncodedRows, Gatherer, pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row as tokens."""

    ids: list[int]
    said: list[bool]
    """Which of `ids` are the completion, or the assistant's turns; what ends them included."""
    text: str
    """The text that is said."""


def check(rows: Rows, where: Where) -> None:
    """Refuse rows of these columns that can't be used (DataError)."""
    if "messages" in rows.column_names:
        for row, messages in enumerate(rows["messages"][:]):
            chat.check(messages, where(row))
        return
    for row, (prompt, completion) in enumerate(zip(rows["prompt"][:], rows["completion"][:], strict=True)):
        if not isinstance(prompt, str):
            raise DataError(f"{where(row)}: column prompt must be text, got {shown(repr(prompt))}")
        accepted = completion if isinstance(completion, list) else [completion]
        if not accepted or not all(isinstance(text, str) for text in accepted):
            raise DataError(
                f"{where(row)}: column completion must be text, or a list of accepted texts, "
                f"got {shown(repr(completion))}"
            )


def references(row: dict[str, Any]) -> list[str]:
    """What the model shall say: all that is accepted; of a conversation its last turn."""
    if "messages" in row:
        return [row["messages"][-1]["content"]]
    completion = row["completion"]
    return list(completion) if isinstance(completion, list) else [completion]


def before(row: dict[str, Any]) -> Any:
    """What the model is to continue: a text, or messages."""
    return row["messages"][:-1] if "messages" in row else row["prompt"]


def encode(rows: Rows, tokenizer: Any, max_length: int, where: Where) -> EncodedRows:
    """A feature a row; what isn't said has the label -100. `aside`: as in `documents.judging`; a completion that is cut
    counts as many bytes as it keeps of its tokens, in proportion."""
    gathered = Gatherer()
    sizes = np.zeros(len(rows), dtype=np.int64)
    cut = silent = 0
    for row, example in enumerate(_examples(rows, tokenizer, where)):
        ids, said = fit(example.ids, example.said, max_length)
        cut += len(ids) < len(example.ids)
        labels = np.where([False, *said[1:]], ids, -100)  # nothing precedes the first token
        silent += not (labels != -100).any()
        sizes[row] = round(len(example.text.encode()) * sum(said) / max(sum(example.said), 1))
        gathered.add({"input_ids": [ids]}, ["input_ids"], labels=[labels], row=[[row] * len(ids)])
    tokens = gathered.tokens()
    aside = {"row": tokens.pop("row"), "bytes": sizes}
    notes = []
    if cut:
        notes.append(
            f"{cut:,} of {len(rows):,} rows were cut at {max_length} tokens: at the beginning of what is before the "
            "completion, and where that isn't enough at its end"
        )
    if silent:
        notes.append(f"{silent:,} of {len(rows):,} rows have no token to learn or judge")
    return EncodedRows(tokens=tokens, starts=gathered.starts(), aside=aside, notes=notes)


def fit(ids: list[int], said: list[bool], max_length: int) -> tuple[list[int], list[bool]]:
    """At most `max_length` tokens: cut at the beginning, but one token before the first said one stays to predict it
    from; what is still too long is cut at the end."""
    first = said.index(True) if True in said else len(said)
    begin = max(0, min(len(ids) - max_length, first - 1))
    return ids[begin : begin + max_length], said[begin : begin + max_length]


def prompts(rows: Rows, tokenizer: Any, room: int, where: Where) -> EncodedRows:
    """What stands before each completion, exactly as it is trained on; the last `room` tokens of it."""
    gathered = Gatherer()
    cut = 0
    for row in range(len(rows)):
        given = before(rows[row])
        if isinstance(given, str):
            ids = _before(tokenizer, [given])[0]
        else:
            chat.require_template(tokenizer)
            ids = chat.prompt(tokenizer, given, where(row))
        if not ids:
            raise DataError(f"{where(row)}: the prompt is empty, and the tokenizer has no token that begins a text")
        if len(ids) > room:
            cut += 1
            ids = ids[-room:]
        gathered.add({"input_ids": [ids]}, ["input_ids"])
    notes = [f"{cut:,} of {len(rows):,} prompts were cut at the last {room} tokens"] if cut else []
    return EncodedRows(tokens=gathered.tokens(), starts=gathered.starts(), notes=notes)


def _examples(rows: Rows, tokenizer: Any, where: Where) -> Iterator[Example]:
    if "messages" in rows.column_names:
        chat.require_template(tokenizer)
        for row, messages in enumerate(rows["messages"][:]):
            ids, said = chat.encode(tokenizer, messages, where(row))
            turns = [message["content"] for message in messages if message["role"] == "assistant"]
            yield Example(ids=ids, said=said, text="".join(turns))
        return
    for part in pieces(rows, "prompt", "completion"):
        chunk = rows[part]
        texts = [one[0] if isinstance(one, list) else one for one in chunk["completion"]]
        for (ids, said), text in zip(continued(tokenizer, chunk["prompt"], texts), texts, strict=True):
            yield Example(ids=ids, said=said, text=text)


def continued(tokenizer: Any, prompts: list[str], texts: list[str]) -> Iterator[tuple[list[int], list[bool]]]:
    """Each prompt with its text as tokens, and which of them are the text; the token that ends it is one of them."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for before, ids in zip(_before(tokenizer, prompts), _plain(tokenizer, texts), strict=True):
        said = [*ids, *end]
        yield before + said, [False] * len(before) + [True] * len(said)


def _before(tokenizer: Any, prompts: list[str]) -> list[list[int]]:
    """Prompts as tokens, with the one that begins a text where the tokenizer has it."""
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [[*begin, *ids] for ids in _plain(tokenizer, prompts)]


def _plain(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)[
        "input_ids"
    ]
    return ids
