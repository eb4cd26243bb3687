"""Encoded rows in flat arrays, and the collator that pads them batch by batch.

One array holds all tokens of all features, one after the other: a few bytes a token, nothing to unpack, and a batch is
filled by slices. A hand-written collator costs more in `tokenizer.pad`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Example = dict[str, Array]

CHUNK = 500
"""Rows tokenized at a time: what a tokenizer returns is a hundred times larger than the tokens, and not all of its
memory goes back to the system (2,000 rows at a time leave 12 MB more behind)."""

CHARACTERS = 1 << 18
"""Of the texts tokenized at a time, unless one has more: a tokenizer with offsets returns 250 bytes for each character
where each is a token, and takes longer for as many the more there are at a time."""

NO_LIMIT = 1_000_000
"""A tokenizer without a limit says 1e30."""


@dataclass(frozen=True, slots=True)
class Ragged:
    """A token array of each feature, all in one: their lengths are their own."""

    values: Array
    """(all tokens,)."""
    starts: npt.NDArray[np.int64]
    """(features + 1,): where each feature's begin."""

    @classmethod
    def of(cls, lists: Sequence[Sequence[int] | Array]) -> Ragged:
        """From one list or array a feature."""
        return cls(_flat(lists), _starts([len(line) for line in lists]))

    def __getitem__(self, index: int) -> Array:
        return self.values[self.starts[index] : self.starts[index + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(features,)."""
        return np.diff(self.starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRows:
    """Features in the order in which they were made: a sequence of dicts of token arrays for the collator."""

    tokens: Mapping[str, Array]
    """Name of a model input or target -> (all tokens,)."""
    starts: npt.NDArray[np.int64]
    """(features + 1,): where each feature begins in arrays that hold all tokens, one feature after the other."""
    targets: Mapping[str, Array] = field(default_factory=dict)
    """Name of a target that is one number a feature, or a row of them -> (features, ...)."""
    ragged: Mapping[str, Ragged] = field(default_factory=dict)
    """Name of a target that is as long as it likes, whatever the input's length."""
    notes: list[str] = field(default_factory=list)
    """Said to the reader: "12 of 1,287 rows were cut at 128 tokens"."""
    aside: Mapping[str, Array] = field(default_factory=dict)
    """What decoding needs besides the outputs: arrays by feature or by token, as the task likes."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(features,): their tokens."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = slice(self.starts[index], self.starts[index + 1])
        example = {name: values[part] for name, values in self.tokens.items()}
        for more in (self.targets, self.ragged):
            example.update({name: values[index] for name, values in more.items()})
        return example

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    def take(self, index: Sequence[int] | npt.NDArray[np.int64]) -> EncodedRows:
        """The features at these positions, in this order, in arrays of their own; one may be there more than once.
        Without `ragged`. Notes, which speak of all features, stay behind."""
        index = np.asarray(index, dtype=np.int64)
        lengths = self.lengths[index]
        starts = _starts(lengths)
        places = np.repeat(self.starts[index] - starts[:-1], lengths) + np.arange(starts[-1])
        return EncodedRows(
            tokens={name: values[places] for name, values in self.tokens.items()},
            starts=starts,
            targets={name: values[index] for name, values in self.targets.items()},
            aside={name: values[places] for name, values in self.aside.items()},
        )

    def followed_by(self, others: EncodedRows) -> EncodedRows:
        """These features, then others of the same kind. Without `ragged` and notes."""

        def joined(one: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, Array]:
            return {name: np.concatenate([values, other[name]]) for name, values in one.items()}

        return EncodedRows(
            tokens=joined(self.tokens, others.tokens),
            starts=np.concatenate([self.starts, self.starts[-1] + others.starts[1:]]),
            targets=joined(self.targets, others.targets),
            aside=joined(self.aside, others.aside),
        )


class Gatherer:
    """Collects the arrays of features chunk by chunk, then joins them once."""

    def __init__(self) -> None:
        self._tokens: dict[str, list[Array]] = {}
        self._lengths: list[int] = []

    def add(self, encoding: Any, names: Sequence[str], **more: Sequence[Any]) -> None:
        """Lists of lists, one list a feature: those of `encoding` called `names`, and `more`."""
        self._lengths.extend(map(len, encoding["input_ids"]))
        for name, lists in (*((name, encoding[name]) for name in names), *more.items()):
            self._tokens.setdefault(name, []).append(_flat(lists))

    def starts(self) -> npt.NDArray[np.int64]:
        """(features + 1,)."""
        return _starts(self._lengths)

    def tokens(self) -> dict[str, Array]:
        """Everything gathered, by name."""
        return {name: np.concatenate(parts) for name, parts in self._tokens.items()}


def _starts(lengths: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _flat(lists: Sequence[Any]) -> Array:
    if len(lists) and isinstance(lists[0], np.ndarray):
        return np.concatenate(lists)
    from itertools import chain

    return np.fromiter(chain.from_iterable(lists), dtype=np.int32)


def input_names(encoding: Any) -> list[str]:
    """What an encoding holds for the model besides the mask, which follows from the lengths."""
    return [name for name in ("input_ids", "token_type_ids") if name in encoding]


def room(tokenizer: Any, max_length: int | None) -> dict[str, Any]:
    """The tokenizer's arguments for cutting at `max_length` tokens, or (None) at as many as the model takes."""
    limit = max_length or tokenizer.model_max_length
    if limit > NO_LIMIT:
        return {"truncation": False}
    return {"truncation": True, "max_length": int(limit)}


def cut(encoding: Any, limit: int | None) -> int:
    """How many rows of an encoding lost tokens to truncation at `limit`."""
    if limit is None:
        return 0
    full = [index for index, tokens in enumerate(encoding["input_ids"]) if len(tokens) >= limit]
    if encoding.encodings is None:  # a tokenizer in Python doesn't say; a row that just fits is counted too
        return len(full)
    return sum(bool(encoding.encodings[index].overflowing) for index in full)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collator:
    """Pads a batch's features to its longest (or the next multiple) and stacks them into torch tensors."""

    padding: Mapping[str, int]
    """Name of a token array -> what it is padded with. What isn't named has one shape in all features: it is
    stacked."""
    mask: bool
    """Whether the model takes an attention mask."""
    left: bool = False
    multiple: int = 1

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Each name is padded to its own longest: labels may be longer or shorter than the input."""

        batch = {}
        for name in examples[0]:
            if name not in self.padding or np.ndim(examples[0][name]) == 0:
                batch[name] = stacked([example[name] for example in examples])
            else:
                batch[name] = self._padded([example[name] for example in examples], self.padding[name])
        if self.mask:
            ones = [np.ones(len(example["input_ids"]), dtype=np.int64) for example in examples]
            batch["attention_mask"] = self._padded(ones, 0)
        return batch

    def _padded(self, arrays: Sequence[Array], value: int) -> Any:
        """(arrays, longest of them), int64."""
        import torch

        width = -(-max(map(len, arrays)) // self.multiple) * self.multiple
        padded = np.full((len(arrays), width), value, dtype=np.int64)
        for line, array in zip(padded, arrays, strict=True):
            line[width - len(array) if self.left else 0 :][: len(array)] = array
        return torch.from_numpy(padded)


def stacked(values: Sequence[Array]) -> Any:
    """Arrays of one shape as a tensor, in the types that models and losses take: 64-bit integers, 32-bit floats (no
    others exist on every device)."""
    import torch

    array = np.stack(values)
    return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))


def collator(tokenizer: Any, pad_to_multiple_of: int | None, *, token_targets: Sequence[str] = ("labels",)) -> Collator:
    """The collator that suits a tokenizer; targets by token are padded with -100, which no loss counts."""
    return Collator(
        padding={
            "input_ids": tokenizer.pad_token_id,
            "token_type_ids": tokenizer.pad_token_type_id,
            **dict.fromkeys(token_targets, -100),
        },
        mask="attention_mask" in tokenizer.model_input_names,
        left=tokenizer.padding_side == "left",
        multiple=pad_to_multiple_of or 1,
    )


def chunks(count: int) -> Iterator[slice]:
    """Slices of CHUNK rows that cover `count` of them."""
    return (slice(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK))


def pieces(rows: Any, *columns: str) -> Iterator[slice]:
    """Slices that cover the rows, to be tokenized at a time: of CHUNK of them, or as many as have CHARACTERS in those
    of the columns that are there."""
    names = [name for name in columns if name in rows.column_names]
    for part in chunks(len(rows)):
        chunk, start, total = rows[part], part.start, 0
        for row, values in enumerate(zip(*(chunk[name] for name in names), strict=True), part.start):
            size = sum(map(_characters, values))
            if row > start and total + size > CHARACTERS:
                yield slice(start, row)
                start, total = row, 0
            total += size
        yield slice(start, part.stop)


def _characters(value: Any) -> int:
    """Of a text, or of all texts in a list."""
    if isinstance(value, list):
        return sum(map(_characters, value))
    return len(value) if isinstance(value, str) else 0


def texts(rows: Any, column: str, where: Callable[[int], str]) -> None:
    """Refuse a column that doesn't hold text in every row (DataError names the first that doesn't)."""
    from ftcheck.errors import DataError, shown

    for part in chunks(len(rows)):
        for row, value in enumerate(rows[part][column], part.start):
            if not isinstance(value, str):
                raise DataError(f"{where(row)}: column {column} must be text, got {shown(repr(value))}")


def softmax(logits: Array) -> npt.NDArray[np.float64]:
    """Probabilities along the last axis, in double precision."""
    shifted = np.asarray(logits, dtype=np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def sigmoid(logits: Array) -> npt.NDArray[np.float64]:
    """Probabilities, in double precision, without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -np.asarray(logits, dtype=np.float64))))
