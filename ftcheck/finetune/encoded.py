"""Encoded rows that are kept for the next run of this process: other seeds, cases and folds over the same rows.

What is kept is found by all that encoding depends on, the rows by their content and the tokenizer by what it is made
of, so that a run gets what it would have encoded itself. Where a task encodes each row alone, it is found row by row:
folds share what they have in common. Tasks of the user's are not trusted to depend on nothing else.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ftcheck import tasks
from ftcheck.keys.canonical import canonical

if TYPE_CHECKING:
    from ftcheck.finetune.data import RoleRows
    from ftcheck.spec import Case
    from ftcheck.tasks import Meta
    from ftcheck.tasks.features import EncodedRows

LIMIT = 256 * 2**20
"""Bytes that are kept at most; what was used last stays."""


Cutting = tuple[Any, Any]
"""How a fast tokenizer cuts and pads, as it was told last."""


PLACE_BYTES = 200
"""What it takes to find a row: its hash, and its place among others."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entry:
    rows: EncodedRows
    cutting: Cutting
    places: Mapping[str, int] = field(default_factory=dict)
    """Hash of a row -> its feature, where each was encoded alone."""

    @property
    def size(self) -> int:
        return sum(int(array.nbytes) for array in _arrays(self.rows)) + PLACE_BYTES * len(self.places)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What an encoding of rows depends on."""

    whole: str
    """Of just these rows, together."""
    each: str | None
    """Of any row that is encoded like these; None where it isn't known that each is encoded alone."""


@dataclass(eq=False, slots=True)
class Kept:
    """Encoded rows by what they depend on. Whoever asks gets arrays of their own, to be changed at will."""

    limit: int = LIMIT
    _entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    _noted: set[str] = field(default_factory=set)
    """Keys of rows of which some were noted."""
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def encoded(self, key: str, tokenizer: Any, make: Callable[[], EncodedRows | None]) -> EncodedRows | None:
        """What `key` was kept for, else what `make` makes. Leaves `tokenizer` as making it does: how it cut last is
        saved with it."""
        found = self._found(key)
        if found is not None:
            _set(tokenizer.backend_tokenizer, found.cutting)
            return _copy(found.rows)
        made = make()
        if made is not None:
            self._keep(key, _Entry(_copy(made), _cutting(tokenizer.backend_tokenizer)))
        return made

    def by_row(
        self,
        key: Key,
        hashes: Sequence[str],
        tokenizer: Any,
        make: Callable[[Sequence[int] | None], EncodedRows | None],
    ) -> EncodedRows | None:
        """The same of rows that are encoded each alone, known by `hashes`: only those that were not met before are
        made. `make` encodes the rows at some positions; None: all. Where rows are noted, which is told of all that are
        asked for together, only these are found again."""
        if key.each is None or key.each in self._noted:
            return self.encoded(key.whole, tokenizer, partial(make, None))
        found = self._found(key.each)
        known: Mapping[str, int] = {} if found is None else found.places
        new = [row for row, one in enumerate(hashes) if one not in known]
        made = None
        if found is None or new:
            made = make(None if len(new) == len(hashes) else new)
            if made is None:
                return None
            cutting = _cutting(tokenizer.backend_tokenizer)
            if made.notes:
                self._note(key.each)
                if len(new) < len(hashes):
                    return self.encoded(key.whole, tokenizer, partial(make, None))
                self._keep(key.whole, _Entry(_copy(made), cutting))
                return made
            places = dict(known)
            for feature, row in enumerate(new, 0 if found is None else len(found.rows)):
                places.setdefault(hashes[row], feature)
            found = _Entry(_copy(made) if found is None else found.rows.followed_by(made), cutting, places)
            self._keep(key.each, found)
        else:
            _set(tokenizer.backend_tokenizer, found.cutting)
        if len(new) == len(hashes):
            return made
        return found.rows.take([found.places[one] for one in hashes])

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._noted.clear()
            self._bytes = 0

    def _found(self, key: str) -> _Entry | None:
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def _keep(self, key: str, entry: _Entry) -> None:
        """Instead of what is kept for `key`, unless it is too large by itself."""
        with self._lock:
            self._drop(key)
            if entry.size <= self.limit:
                self._entries[key] = entry
                self._bytes += entry.size
            while self._bytes > self.limit:
                self._drop(next(iter(self._entries)))

    def _note(self, key: str) -> None:
        with self._lock:
            self._noted.add(key)
            self._drop(key)

    def _drop(self, key: str) -> None:
        gone = self._entries.pop(key, None)
        if gone is not None:
            self._bytes -= gone.size


KEPT = Kept()
"""Of this process."""

PROMPTS = "prompts"
"""The kind of rows that a text is to be generated from."""


def key(case: Case, kind: str, rows: RoleRows, tokenizer: Any, meta: Meta) -> Key | None:
    """What the encoding of `rows` depends on: `kind` says as what (to train on, to be judged, as prompts). None where
    that isn't known."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if case.task not in tasks.BUILT_IN or backend is None:
        return None
    from blake3 import blake3

    settings = {
        "class": f"{type(tokenizer).__module__}.{type(tokenizer).__qualname__}",
        "backend": blake3(_uncut(backend).encode()).hexdigest(),
        "longest": tokenizer.model_max_length,
        "sides": [tokenizer.padding_side, tokenizer.truncation_side],
        "special": repr(sorted(tokenizer.special_tokens_map.items())),
        "names": list(tokenizer.model_input_names),
        "template": repr(tokenizer.chat_template),
    }
    # The digest knows classes by their names, features say which number each has.
    common = [case.task, case.task_options, meta, repr(rows.dataset.features), settings]

    def digest(*more: str) -> str:
        return str(blake3(canonical([*common, *more])).hexdigest())

    alone = kind != PROMPTS and tasks.get(case.task).encodes_each_alone(case.task_options)
    return Key(whole=digest(kind, rows.digest), each=digest() if alone else None)


def _uncut(backend: Any) -> str:
    """A fast tokenizer as text, but for how it cut last."""
    cutting = _cutting(backend)
    _set(backend, (None, None))
    try:
        text: str = backend.to_str()
    finally:
        _set(backend, cutting)
    return text


def _cutting(backend: Any) -> Cutting:
    return backend.truncation, backend.padding


def _set(backend: Any, cutting: Cutting) -> None:
    truncation, padding = cutting
    if truncation is None:
        backend.no_truncation()
    else:
        backend.enable_truncation(**truncation)
    if padding is None:
        backend.no_padding()
    else:
        backend.enable_padding(**padding)


def _arrays(rows: EncodedRows) -> Iterator[Any]:
    yield rows.starts
    for named in (rows.tokens, rows.targets, rows.aside):
        yield from named.values()
    for ragged in rows.ragged.values():
        yield from (ragged.values, ragged.starts)


def _copy(rows: EncodedRows) -> EncodedRows:
    def copied(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: copied(one) for name, one in value.items()}
        if hasattr(value, "starts"):
            return type(value)(value.values.copy(), value.starts.copy())
        return value.copy()

    return replace(rows, **{one.name: copied(getattr(rows, one.name)) for one in fields(rows)})
