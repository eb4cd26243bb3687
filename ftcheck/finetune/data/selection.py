"""From splits to roles: which rows each role of a case uses, as Datasets in the task's columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ftcheck.errors import DataError, shown
from ftcheck.finetune.data import rows, splits
from ftcheck.finetune.data.files import ReadFile
from ftcheck.finetune.data.source import Source, Split, join
from ftcheck.spec import Data

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

    from ftcheck.finetune.data.splits import Positions

PURPOSES: Mapping[str, str] = {"train": "train on", "tune": "tune on", "eval": "judge"}
"""What each role's rows are for."""

_KINDS: Mapping[str, str] = {"train": "training", "tune": "tuning", "eval": "judged"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRows:
    """The rows that one role uses."""

    dataset: datasets.Dataset
    """Columns under the task's names, and `id` where the data has one. ClassLabel features are kept."""
    index: Sequence[int]
    """Each row's position in the split that it came from (0-based)."""
    place: Callable[[int], str]
    """Where row i came from, for a message: `train.csv:17`."""
    hashes: Sequence[str]
    """The BLAKE3 of each row's canonical JSON, in the task's columns, classes by name."""
    digest: str
    """One hash over `hashes`, in order."""
    beside: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Columns of the data that judging or a technique needs besides the task's, under the data's names."""

    def take(self, index: Sequence[int]) -> RoleRows:
        """The rows at these positions, in this order; one may be there more than once."""
        hashes = [self.hashes[row] for row in index]
        digest = rows.digest(hashes)
        return RoleRows(
            dataset=dataset_of(self.dataset.data.table.take(index), digest[:16]),
            index=[self.index[row] for row in index],
            place=lambda row: self.place(index[row]),
            hashes=hashes,
            digest=digest,
            beside={name: [values[row] for row in index] for name, values in self.beside.items()},
        )

    def with_texts(self, columns: Mapping[str, Sequence[str]]) -> RoleRows:
        """The rows with other texts in some of their columns."""
        import pyarrow as pa

        table = self.dataset.data.table
        for name, texts in columns.items():
            place = table.column_names.index(name)
            table = table.set_column(place, table.field(name), pa.array(texts, table.field(name).type))
        changed = dataset_of(table, "unhashed")
        hashes = rows.hashes(changed, [name for name in changed.column_names if name != rows.ID])
        digest = rows.digest(hashes)
        return replace(self, dataset=dataset_of(table, digest[:16]), hashes=hashes, digest=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Rows out of one split or, for `a+b`, several: `rows[i]` is a position in `splits[which[i]]`."""

    splits: tuple[Split, ...]
    which: Positions
    rows: Positions

    def take(self, index: Positions) -> Selection:
        return Selection(splits=self.splits, which=self.which[index], rows=self.rows[index])

    def place(self, index: int) -> str:
        return self.splits[int(self.which[index])].place(int(self.rows[index]))

    def table(self) -> pa.Table:
        """The selected rows, in order. Raises DataError where the splits' columns differ in kind."""
        import numpy as np

        whole = self.splits[0].table
        if len(self.splits) > 1:
            whole = join(
                [ReadFile(table=split.table, names=split.names, shown=split.parts[0].shown) for split in self.splits]
            ).table
        ends = np.cumsum([0, *(split.table.num_rows for split in self.splits)])
        return whole.take(ends[self.which] + self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Which of the training rows are judged instead."""

    split: Callable[[Positions | None, Sequence[Any] | None, int], tuple[Positions, Positions]]
    """(classes, groups, rows) -> (positions to train on, positions to judge)."""
    group: str | None
    """The column of the data that tells the groups."""
    shown: str


class Selector:
    """Picks the rows of each role, reading a split once. `notes` collects what the reader should know: (role, text).

    `beside`: role -> columns of the data that it needs besides the task's, each with what names it.
    """

    def __init__(
        self,
        data: Data,
        source: Source,
        columns: Mapping[str, bool],
        *,
        limit: int | None,
        stratify_by: str | None = None,
        beside: Mapping[str, Mapping[str, str]] | None = None,
        fold: Fold | None = None,
    ) -> None:
        self.data = data
        self.source = source
        self.columns = {name: needed for name, needed in columns.items() if data.columns.get(name, name) is not None}
        self.mapping = {name: column for name, column in data.columns.items() if column is not None}
        self.limit = limit
        self.stratify_by = stratify_by
        self.beside = beside or {}
        self.fold = fold
        self.judged_at: Sequence[int] = ()
        """Where the judged rows of a fold stand among the training rows."""
        self.notes: list[tuple[str, str]] = []
        self._read: dict[str, Split] = {}

    def role(self, role: str) -> RoleRows | None:
        """The rows of `role`; None for a `tune` that the case doesn't have. Raises DataError."""
        if self.fold is not None and role == "eval":
            whole, (_, judged) = self._folded
            selection = whole.take(judged)
        elif role == "train" or role in self.data.holdout:
            selection = self._carved[role]
        elif (expression := self._expression(role)) is not None:
            selection = self._select(expression, f"data.splits.{role}")
        else:
            return None
        judged_role = "eval" if self.fold is None else "train"
        if role == "tune" and self.data.splits.get("tune") == self._expression(judged_role) is not None:
            told = "tuned on the split that is judged, as the suite says: the result is too good by as much"
            self.notes.append(("eval", told))
        if not len(selection.rows):
            raise DataError(
                f"{role}: {self._origin(role)} has no rows, so there is nothing to {PURPOSES[role]}; give it some, or "
                "choose others with data.splits or data.holdout"
            )
        limited = self._limited(role, selection)
        if self.fold is not None and role == "eval":
            _, (_, judged) = self._folded
            kept = set(zip(limited.which.tolist(), limited.rows.tolist(), strict=True))
            places = zip(judged.tolist(), selection.which.tolist(), selection.rows.tolist(), strict=True)
            self.judged_at = [at for at, which, row in places if (which, row) in kept]
        return self._rows(role, limited)

    def _expression(self, role: str) -> str | None:
        """What a role reads, as the suite says or by default; None where it is carved out, and for no `tune`."""
        if role in self.data.splits:
            return self.data.splits[role]
        if role == "train":
            return "train"
        if role == "tune" or role in self.data.holdout:
            return None
        found = splits.default_eval(list(self.source.splits))
        if found is None:
            raise DataError(
                f"{self.source.shown} has no test or validation split to judge (splits: "
                f"{shown(', '.join(self.source.splits))}); name one in data.splits.eval, or carve one out of train: "
                "data.holdout: 0.2"
            )
        return found

    def _origin(self, role: str) -> str:
        if role in self.data.holdout:
            return f"data.holdout.{role}: {self.data.holdout[role]}"
        return f"{shown(repr(self._expression(role)))} of {self.source.shown}"

    @property
    def wanted(self) -> set[str]:
        """The columns to read."""
        sources = {part for column in self.mapping.values() for part in (column, *rows.parents(column))}
        beside = {name for names in self.beside.values() for name in names}
        group = {self.fold.group} if self.fold is not None and self.fold.group is not None else set()
        return {*self.columns, *sources, *beside, *group, rows.ID}

    def require_split(self, name: str, key: str) -> None:
        """Raise DataError where the data has no split `name`, which `key` asks for."""
        if name not in self.source.splits:
            there = rows.among("splits", name, list(self.source.splits))
            raise DataError(f"{key}: {self.source.shown} has no split {shown(repr(name))} {there}")

    def _split(self, name: str, key: str) -> Split:
        self.require_split(name, key)
        if name not in self._read:
            read, where = self.source.splits[name](self.wanted), f"{shown(repr(name))} of {self.source.shown}"
            table = rows.unfold(read.table, self.mapping, where)
            # At once: a table that has none of the columns has no rows either, which would be said instead.
            rows.require(list(dict.fromkeys([*read.names, *table.column_names])), self.columns, self.mapping, where)
            self._read[name] = replace(read, table=table)
        return self._read[name]

    def _select(self, expression: str, key: str) -> Selection:
        """The rows that a split expression names."""
        import numpy as np

        pieces = splits.parse(expression)
        read = [self._split(piece.split, key) for piece in pieces]
        positions = [splits.positions(p, s.table.num_rows) for p, s in zip(pieces, read, strict=True)]
        which = [np.full(len(p), i, dtype=np.int64) for i, p in enumerate(positions)]
        return Selection(splits=tuple(read), which=np.concatenate(which), rows=np.concatenate(positions))

    @cached_property
    def _carved(self) -> dict[str, Selection]:
        """`train`, and what the holdout carves out of it."""
        if self.fold is None:
            whole = self._select(self.data.splits.get("train", "train"), "data.splits.train")
        else:
            every, (trained_on, _) = self._folded
            whole = every.take(trained_on)
        if not self.data.holdout:
            return {"train": whole}
        labels = self._labels(whole)
        parts = {role: self.data.holdout[role] for role in ("eval", "tune") if role in self.data.holdout}
        carved, lone = splits.carve(len(whole.rows), parts, labels)
        how = "" if labels is None else ", stratified by class"
        for role in parts:
            told = f"{role}: {len(carved[role]):,} of {len(whole.rows):,} rows carved out of train{how}"
            self.notes.append((role, told))
        if lone:
            which = "1 class has" if lone == 1 else f"{lone:,} classes have"
            self.notes.append(("train", f"{which} one row only, which stays in train"))
        return {role: whole.take(index) for role, index in carved.items()}

    @cached_property
    def _folded(self) -> tuple[Selection, tuple[Positions, Positions]]:
        """All training rows, and which of them a fold trains on and judges."""
        assert self.fold is not None
        whole = self._select(self.data.splits.get("train", "train"), "data.splits.train")
        groups = None
        if self.fold.group is not None:
            table = whole.table()
            if self.fold.group not in table.column_names:
                names = list(dict.fromkeys(name for split in whole.splits for name in split.names))
                listed = rows.among("columns", self.fold.group, names)
                raise DataError(f"folds: the training rows have no column {shown(repr(self.fold.group))} {listed}")
            groups = rows.named_values(table, self.fold.group)
        return whole, self.fold.split(self._labels(whole), groups, len(whole.rows))

    def _labels(self, selection: Selection) -> Positions | None:
        """A code per row for the class in the column to stratify by; None for no such column, or one without classes.

        Values that mostly occur once are no classes but texts or measurements.
        """
        import numpy as np

        if self.stratify_by not in self.columns:
            return None
        column = self.mapping.get(self.stratify_by, self.stratify_by)
        table = selection.table()
        if column not in table.column_names:
            return None
        values = table.column(column)
        if not rows.nameable(values.type):
            return None
        coded = values.combine_chunks().dictionary_encode(null_encoding="encode")
        codes: Positions = coded.indices.to_numpy(zero_copy_only=False).astype("int64")
        return codes if int((np.bincount(codes) == 1).sum()) * 2 < len(codes) else None

    def _limited(self, role: str, selection: Selection) -> Selection:
        size = len(selection.rows)
        bounds = {"data.limit": self.data.limit.get(role), "--ft-limit": self.limit}
        name, bound = min(((n, b) for n, b in bounds.items() if b is not None), key=lambda x: x[1], default=("", size))
        if bound >= size:
            return selection
        self.notes.append((role, f"{role}: {bound:,} of {size:,} rows ({name})"))
        return selection.take(splits.sample(size, bound, role))

    def _rows(self, role: str, selection: Selection) -> RoleRows:
        """The selection in the task's columns, with nothing missing, and its hashes."""
        whole = selection.table()
        names = list(dict.fromkeys(name for split in selection.splits for name in split.names))
        beside = self._beside(role, whole, names)
        table = rows.rename(whole, self.columns, self.mapping)
        table = rows.refuse_nulls(table, self.columns, selection.place)
        found = role_rows(table, tuple(self.columns), selection.rows.tolist(), selection.place)
        return replace(found, beside=beside)

    def _beside(self, role: str, table: pa.Table, names: Sequence[str]) -> dict[str, list[Any]]:
        """The columns that a role needs besides, of all `names` that the data has. Raises DataError for one that isn't
        there."""
        wanted = self.beside.get(role, {})
        for name, why in wanted.items():
            if name not in table.column_names:
                raise DataError(
                    f"the {_KINDS[role]} rows of {self.source.shown} have no column {shown(repr(name))}, which {why} "
                    f"names {rows.among('columns', name, names)}"
                )
        return {name: rows.named_values(table, name) for name in wanted}


def role_rows(table: pa.Table, columns: Sequence[str], index: Sequence[int], place: Callable[[int], str]) -> RoleRows:
    """A table without nulls, under the task's names, as the rows of a role; hashed over `columns`."""
    dataset = dataset_of(table, "unhashed")
    rows.refuse_unlabelled(dataset, place)
    row_hashes = rows.hashes(dataset, columns)
    digest = rows.digest(row_hashes)
    return RoleRows(
        # the fingerprint is the content's, so that nothing computed from other rows can be found under it
        dataset=dataset_of(table, digest[:16]),
        index=index,
        place=place,
        hashes=row_hashes,
        digest=digest,
    )


def dataset_of(table: pa.Table, fingerprint: str) -> datasets.Dataset:
    """A table in memory as a Dataset, with the features that its schema names."""
    from datasets import Dataset
    from datasets.table import InMemoryTable

    return Dataset(InMemoryTable(table), fingerprint=fingerprint)
