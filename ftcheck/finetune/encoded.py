"""Encoded rows that are kept for the next run of this process: other seeds and cases over the same rows.

What is kept is found by all that encoding depends on, the rows by their content and the tokenizer by what it is made
of, so that a run gets what it would have encoded itself. Tasks of the user's are not trusted to depend on nothing else.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
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


@dataclass(eq=False, slots=True)
class Kept:
    """Encoded rows by what they depend on. Whoever asks gets arrays of their own, to be changed at will."""

    limit: int = LIMIT
    _rows: OrderedDict[str, tuple[EncodedRows, Cutting]] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def encoded(self, key: str, tokenizer: Any, make: Callable[[], EncodedRows | None]) -> EncodedRows | None:
        """What `key` was kept for, else what `make` makes. Leaves `tokenizer` as making it does: how it cut last is
        saved with it."""
        with self._lock:
            found = self._rows.get(key)
            if found is not None:
                self._rows.move_to_end(key)
                rows, cutting = found
                _set(tokenizer.backend_tokenizer, cutting)
                return _copy(rows)
        made = make()
        if made is not None and (size := _bytes_of(made)) <= self.limit:
            with self._lock:
                if key not in self._rows:
                    self._rows[key] = _copy(made), _cutting(tokenizer.backend_tokenizer)
                    self._bytes += size
                while self._bytes > self.limit:
                    self._bytes -= _bytes_of(self._rows.popitem(last=False)[1][0])
        return made

    def clear(self) -> None:
        with self._lock:
            self._rows.clear()
            self._bytes = 0


KEPT = Kept()
"""Of this process."""


def key(case: Case, kind: str, rows: RoleRows, tokenizer: Any, meta: Meta) -> str | None:
    """What the encoding of `rows` depends on: `kind` says as what (to train on, to be judged, as prompts). None where
    that isn't known."""
    from blake3 import blake3

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if case.task not in tasks.BUILT_IN or backend is None:
        return None
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
    content = [rows.digest, repr(rows.dataset.features)]
    return str(blake3(canonical([case.task, kind, case.task_options, meta, content, settings])).hexdigest())


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


def _bytes_of(rows: EncodedRows) -> int:
    return sum(int(array.nbytes) for array in _arrays(rows))


def _copy(rows: EncodedRows) -> EncodedRows:
    def copied(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: copied(one) for name, one in value.items()}
        if hasattr(value, "starts"):
            return type(value)(value.values.copy(), value.starts.copy())
        return value.copy()

    return replace(rows, **{one.name: copied(getattr(rows, one.name)) for one in fields(rows)})
