"""Plain text for a causal language model: documents in blocks to train on, in windows to judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftcheck.tasks import Rows, packing
from ftcheck.tasks.features import Array, EncodedRows, Gatherer, pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Consecutive text that is read as one: a row, or all of them."""

    ids: Array
    """(tokens,): without what begins and ends a document."""
    rows: Array
    """(tokens,): the row that each token begins in."""
    first: str
    """The text that the first token makes up."""


def training(
    rows: Rows, tokenizer: Any, *, max_length: int, join: str | None, packed: bool, apart: bool
) -> EncodedRows:
    """Every token of the rows once, each document between a token that begins and one that ends it, where the
    tokenizer has these. What begins a document or a block is not predicted: its label is -100.

    `packed`: blocks go on with the next document. `apart`: with positions that hide documents from each other.
    """
    begin, end = _token(tokenizer.bos_token_id), _token(tokenizer.eos_token_id)
    parts = [np.concatenate([begin, document.ids, end]) for document in documents(rows, tokenizer, join)]
    ids = np.concatenate(parts)
    starts, positions = packing.blocks([len(part) for part in parts], max_length, packed=packed)
    tokens = {"input_ids": ids, "labels": np.where(positions == 0, -100, ids).astype(np.int32)}
    if packed and apart:
        tokens[packing.POSITIONS] = positions
    return EncodedRows(tokens=tokens, starts=starts, notes=_training_notes(len(parts), len(starts) - 1, max_length))


def judging(rows: Rows, tokenizer: Any, *, max_length: int, stride: int, join: str | None) -> EncodedRows:
    """Windows over each document; tokens that a window doesn't score have the label -100.

    `aside`: `row`, by token, and `bytes`, by row: UTF-8 bytes of the text whose tokens are scored. A document's first
    token is where a token stands before it to predict it from (BOS).
    """
    begin = _token(tokenizer.bos_token_id)
    sizes = np.array([len(text.encode()) for text in rows["text"][:]], dtype=np.int64)
    sizes[:-1] += len((join or "").encode())
    gathered = Gatherer()
    split = 0
    for document in documents(rows, tokenizer, join):
        if not len(document.ids):
            continue
        ids = np.concatenate([begin, document.ids])
        of_row = np.concatenate([document.rows[: len(begin)], document.rows])
        if not len(begin):
            sizes[of_row[0]] -= len(document.first.encode())
        spans = list(packing.windows(len(ids), max_length, stride))
        split += len(spans) > 1
        if spans:
            gathered.add(
                {"input_ids": [ids[a:b] for a, _, b in spans]},
                ["input_ids"],
                labels=[_from(ids[a:b], scored - a) for a, scored, b in spans],
                row=[of_row[a:b] for a, _, b in spans],
            )
    tokens, starts = gathered.tokens(), gathered.starts()
    aside = {"row": tokens.pop("row", np.empty(0, dtype=np.int32)), "bytes": sizes}
    notes = []
    if split:
        notes.append(f"{split:,} documents are longer than {max_length} tokens: {len(starts) - 1:,} windows in all")
    silent = len(rows) - len(np.unique(aside["row"][tokens["labels"] != -100])) if tokens else 0
    if silent:
        notes.append(f"{silent:,} of {len(rows):,} rows have no token to judge")
    return EncodedRows(tokens=tokens, starts=starts, aside=aside, notes=notes)


def documents(rows: Rows, tokenizer: Any, join: str | None) -> Iterator[Document]:
    """A document a row, or with `join` one of all rows, that text between them."""
    if join is not None:
        texts = rows["text"][:]
        begins = np.cumsum([0, *(len(text) + len(join) for text in texts[:-1])])
        yield from _tokenized([join.join(texts)], tokenizer, lambda _, at: np.searchsorted(begins, at, "right") - 1)
        return
    for part in pieces(rows, "text"):
        base = part.start
        yield from _tokenized(
            rows[part]["text"], tokenizer, lambda index, at, base=base: np.full(len(at), base + index)
        )


def _tokenized(texts: list[str], tokenizer: Any, row_of: Any) -> Iterator[Document]:
    """`row_of`: (which text, where its tokens begin) -> their rows."""
    encoding = tokenizer(
        texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
    )
    for index, (text, ids, offsets) in enumerate(
        zip(texts, encoding["input_ids"], encoding["offset_mapping"], strict=True)
    ):
        begins = np.array([begin for begin, _ in offsets], dtype=np.int64)
        first = text[: begins[1]] if len(begins) > 1 else text
        yield Document(
            ids=np.array(ids, dtype=np.int32), rows=row_of(index, begins).astype(np.int32), first=first if ids else ""
        )


def _token(token: int | None) -> Array:
    return np.array([] if token is None else [token], dtype=np.int32)


def _from(ids: Array, first: int) -> Array:
    labels = ids.copy()
    labels[:first] = -100
    return labels


def _training_notes(documents: int, blocks: int, max_length: int) -> list[str]:
    return [] if blocks == documents else [f"{documents:,} documents in {blocks:,} blocks of up to {max_length} tokens"]
