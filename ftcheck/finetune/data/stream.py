"""Training rows that are read while training: some at a time, shuffled within a buffer, again and again.

What is in memory is the buffer and some chunks, whatever the size of the data.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from ftcheck.errors import DataError, shown
from ftcheck.finetune.data import rows, splits
from ftcheck.finetune.data.files import CHUNK, ReadFile
from ftcheck.finetune.data.selection import RoleRows, Selector, role_rows
from ftcheck.finetune.data.source import refuse_unlike_classes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from ftcheck.finetune.data.splits import Positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Rows that were read, in the data's columns."""

    table: pa.Table
    index: Positions
    """Each row's position in the stream."""
    places: npt.NDArray[np.object_]
    """Where each row came from."""

    def __len__(self) -> int:
        return len(self.index)

    def take(self, which: Positions) -> Pool:
        return Pool(table=self.table.take(which), index=self.index[which], places=self.places[which])

    def joined(self, more: Pool) -> Pool:
        """These rows and `more`. A column that either lacks is null there. Raises DataError for unlike ones."""
        import numpy as np
        import pyarrow as pa

        try:
            # A kind of value stays known where no row is left of those that had it.
            table = pa.concat_tables([self.table, more.table], promote_options="permissive")
        except pa.ArrowException as error:
            raise DataError(
                f"{more.places[0]}: from here on the columns don't fit those of the rows before: {shown(error)}"
            ) from None
        return Pool(
            table=table,
            index=np.concatenate([self.index, more.index]),
            places=np.concatenate([self.places, more.places]),
        )


class Stream:
    """The training rows of a case that streams them. Iterating never ends; each iteration starts anew.

    Raises DataError, when it is made or read: what can't be read, a column that isn't there, a null, rows that don't
    fit those before them, no rows at all.
    """

    def __init__(self, selector: Selector, *, seed: int, judged: Collection[str] = ()) -> None:
        """`judged`: hashes of the rows that are judged, to find out which of them are also trained on."""
        from blake3 import blake3

        data = selector.data
        split = data.splits.get("train", "train").strip()
        selector.require_split(split, "data.splits.train")
        bounds = [bound for bound in (data.limit.get("train"), selector.limit) if bound is not None]
        self.count = 0
        """Rows given out since iterating began."""
        self.met: set[str] = set()
        """Those of `judged` among them."""
        self._digest = blake3()
        self._read = selector.source.streams[split]
        self._selector = selector
        self._where = f"{shown(repr(split))} of {selector.source.shown}"
        self._limit = min(bounds, default=None)
        self._shuffles = data.shuffle_buffer > 0
        self._buffer = max(data.shuffle_buffer, CHUNK)
        self._seed = seed
        self._judged = frozenset(judged)
        self.head = self._head()
        """The first rows as they come, as many as are shuffled among each other, at least a chunk: what a task learns
        its classes from."""

    @property
    def rows(self) -> dict[str, Any]:
        """What was given out, as `Trained.rows` records it."""
        return {"count": self.count, "hashes": str(self._digest.hexdigest())}

    @property
    def note(self) -> str:
        """Said to the reader."""
        how = f"shuffled within {self._buffer:,} rows" if self._shuffles else "in the order it has"
        return f"train: streamed, {how}; what a task learns from rows before training is of the first {self._size:,}"

    def __iter__(self) -> Iterator[RoleRows]:
        """Chunks of a thousand rows and more; smaller ones only where the split has no more."""
        from blake3 import blake3

        self.count, self.met, self._digest = 0, set(), blake3()
        for epoch in count():
            for chunk in self._pass(epoch):
                given = self._given(chunk)
                for row_hash in given.hashes:
                    self._digest.update(("\n" * (self.count > 0) + row_hash).encode())
                    self.count += 1
                self.met.update(self._judged.intersection(given.hashes))
                yield given

    def _pass(self, epoch: int) -> Iterator[Pool]:
        """All rows once. What stays in the pool after a draw is at least a chunk, so that the last isn't smaller."""
        pool, draws = None, count()
        for part in self._parts():
            pool = part if pool is None else pool.joined(part)
            while len(pool) >= self._buffer + CHUNK:
                order = self._order(pool, epoch, next(draws))
                yield pool.take(order[:CHUNK])
                pool = pool.take(order[CHUNK:])
        if pool is None:
            raise DataError(f"train: {self._where} has no rows any more: did it change?")
        order = self._order(pool, epoch, next(draws))
        while len(order) >= 2 * CHUNK:
            yield pool.take(order[:CHUNK])
            order = order[CHUNK:]
        yield pool.take(order)

    def _order(self, pool: Pool, epoch: int, draw: int) -> Positions:
        import numpy as np

        if not self._shuffles:
            return np.arange(len(pool), dtype=np.int64)
        return splits.shuffled(len(pool), self._seed, epoch, draw)

    def _head(self) -> RoleRows:
        import numpy as np

        pool = None
        for part in self._parts():
            pool = part if pool is None else pool.joined(part)
            if len(pool) >= self._buffer:
                break
        if pool is None:
            raise DataError(
                f"train: {self._where} has no rows, so there is nothing to train on; give it some, or choose another "
                "split with data.splits"
            )
        self._size = min(len(pool), self._buffer)
        table = self._renamed(pool.take(np.arange(self._size)))
        place = pool.places.__getitem__
        complete = rows.refuse_nulls(table, self._selector.columns, place)
        self._present = {name: True for name in self._selector.columns if name in complete.column_names}
        return role_rows(complete, tuple(self._selector.columns), pool.index[: self._size].tolist(), place)

    def _parts(self) -> Iterator[Pool]:
        """What is read, in order, cut at the limit, at most a chunk at a time: a file may come in one piece."""
        import numpy as np

        read, first = 0, None
        for part in self._read(self._selector.wanted):
            if first is None:
                first = part
                self._require(part)
            elif part.shown != first.shown:
                refuse_unlike_classes(first, part)
            table = part.table if self._limit is None else part.table.slice(0, self._limit - read)
            for start in range(0, table.num_rows, CHUNK):
                piece = table.slice(start, CHUNK)
                size = piece.num_rows
                places = np.array([part.place(start + row) for row in range(size)], dtype=object)
                yield Pool(table=piece, index=np.arange(read, read + size, dtype=np.int64), places=places)
                read += size
            if read == self._limit:
                return

    def _require(self, part: ReadFile) -> None:
        """Raise DataError for columns that aren't there."""
        chosen = self._selector
        table = rows.unfold(part.table, chosen.mapping, self._where)
        names = list(dict.fromkeys([*part.names, *table.column_names]))
        rows.require(names, chosen.columns, chosen.mapping, self._where)

    def _renamed(self, chunk: Pool) -> pa.Table:
        """In the task's columns."""
        chosen = self._selector
        return rows.rename(rows.unfold(chunk.table, chosen.mapping, self._where), chosen.columns, chosen.mapping)

    def _given(self, chunk: Pool) -> RoleRows:
        """A chunk in the task's columns, with nothing missing, and its hashes."""
        import pyarrow.compute as pc

        table, place = self._renamed(chunk), chunk.places.__getitem__
        for name in [name for name in self._selector.columns if name in table.column_names]:
            if name in self._present:
                continue
            row = pc.index(pc.is_valid(table.column(name)), True).as_py()
            if row >= 0:
                raise DataError(
                    f"{place(row)}: column {shown(name)} has a value here, but none in the first {self._size:,} rows; "
                    f"leave it out with data.columns: {{{name}: null}}"
                )
            table = table.drop_columns([name])
        table = rows.refuse_nulls(table, self._present, place)
        return role_rows(table, tuple(self._selector.columns), chunk.index.tolist(), place)
