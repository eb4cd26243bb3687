"""Committed baselines: read, match, propose, write.

`suites/__baselines__/<suite's stem>/<case id>.json` is what a reviewer reads: an entry per kind of device, one metric a
line. Beside it `<case id>.<device>.npz` holds what pairing needs: the judged examples' hashes and the example
statistics of every metric and run. No text of the data is in either, but the names of its classes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from blake3 import blake3

from ftcheck import plainfiles, writing
from ftcheck.accepted import Accepted, Entry, MetricRecord, Noise, Power, dumped, entries_of, rounded
from ftcheck.arrays import dump_npz, load_npz, small
from ftcheck.errors import BaselineError, StoreError, shown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.metrics import NumberArray
    from ftcheck.results import Json

    Ids = npt.NDArray[np.uint8]

__all__ = [
    "Accepted",
    "Baseline",
    "Entry",
    "Files",
    "MetricRecord",
    "Noise",
    "Power",
    "Source",
    "Statistics",
    "dumped",
    "read",
    "rounded",
    "write",
]

FOLDER = "__baselines__"
IDS = "ids"


class Source(Protocol):
    """Where baseline files are read from: the working tree, or a commit."""

    def read(self, path: Path) -> bytes | None:
        """The file's content; None where there is none."""

    def shown(self, path: Path) -> str: ...


@dataclass(frozen=True, slots=True)
class Files:
    """Baselines as they lie on the disk."""

    def read(self, path: Path) -> bytes | None:
        try:
            return plainfiles.read(path, links=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BaselineError(f"{shown(path, 300)}: can't be read: {error.strerror or error}") from None

    def shown(self, path: Path) -> str:
        return os.path.relpath(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What pairing needs of one entry."""

    ids: Ids
    """(n, 16): hashes of the judged examples, equal ones told apart by their order."""
    metrics: Mapping[str, NumberArray]
    """Metric -> (runs, n, k)."""
    rows: Ids | None = None
    """(training rows, 4): the first bytes of their hashes; None where there are none, or too many."""

    def dump(self) -> bytes:
        import numpy as np

        names = sorted(self.metrics)
        arrays: dict[str, Any] = {IDS: self.ids, "names": np.array(names, dtype=np.str_)}
        # A metric's name may hold any text (f1[a/b]), a member's may not.
        arrays |= {f"metric{index}": small(self.metrics[name]) for index, name in enumerate(names)}
        if self.rows is not None:
            arrays["rows"] = self.rows
        return dump_npz(arrays)

    @classmethod
    def load(cls, content: bytes) -> Statistics:
        """Raises StoreError for what `dump` didn't make."""
        arrays = load_npz(content)
        names = arrays.get("names")
        if names is None or names.ndim != 1 or names.dtype.kind != "U":
            raise StoreError("it doesn't name its metrics")
        ids, rows = arrays.get(IDS), arrays.get("rows")
        if not _is_hashes(ids, 16) or not (rows is None or _is_hashes(rows, 4)):
            raise StoreError("it has no examples' hashes")
        metrics = {}
        for index, name in enumerate(names):
            values = arrays.get(f"metric{index}")
            if values is None or values.dtype.kind not in "iuf" or values.ndim != 3 or values.shape[1] != len(ids):
                raise StoreError(f"the statistics of {shown(name)} are not a table of its examples")
            metrics[str(name)] = values
        return cls(ids=ids, metrics=metrics, rows=rows)


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The baseline of one case: an entry per kind of device."""

    path: Path
    entries: Mapping[str, Entry] = field(default_factory=dict)
    source: Source = field(default_factory=Files)

    @cached_property
    def folder(self) -> Path:
        return self.path.parent

    def statistics(self, entry: Entry) -> Statistics:
        """What lies beside an entry. Raises BaselineError where it isn't there, or isn't the one that was accepted."""
        place = self.folder / entry.statistics
        name = self.source.shown(place)
        content = self._accepted(place, entry.digest)
        again = "restore it from git, or accept the result anew (--ft-update)"
        if content is None:
            raise BaselineError(f"{name} is missing, which {self.path.name} compares by: {again}")
        if blake3(content).hexdigest() != entry.digest:
            raise BaselineError(f"{name} isn't the file that {self.path.name} was accepted with: {again}")
        try:
            return Statistics.load(content)
        except StoreError as error:
            raise BaselineError(f"{name} is damaged ({shown(error, 200)}): {again}") from None

    def _accepted(self, place: Path, digest: str) -> bytes | None:
        """The content of a statistics file; where a `write` was cut off behind the JSON file, what was to be there."""
        following = self.source.read(writing.following(place))
        if following is None or blake3(following).hexdigest() != digest:
            return self.source.read(place)
        if isinstance(self.source, Files):
            writing.follow(place)
        return following


def _is_hashes(array: Any, width: int) -> TypeGuard[Ids]:
    """Whether an array is what `Statistics` has of rows: (n, width) bytes."""
    return array is not None and array.dtype.kind == "u" and array.ndim == 2 and array.shape[1] == width


def place(suite: Path, case_id: str) -> Path:
    """Where a case's baseline is kept."""
    return suite.parent / FOLDER / suite.stem / f"{case_id}.json"


def read(path: Path, source: Source | None = None) -> Baseline:
    """The baseline at `path`, without entries where there is none. Raises BaselineError for a file that is none."""
    source = source or Files()
    content = source.read(path)
    if content is None:
        return Baseline(path=path, source=source)
    try:
        entries = entries_of(content)
    except BaselineError as error:
        raise BaselineError(f"{source.shown(path)} {error}") from None
    except ValueError as error:
        raise BaselineError(
            f"{source.shown(path)} is no baseline that ftcheck wrote ({shown(error, 200)}): "
            "restore it from git, or delete it and accept the result anew (--ft-update)"
        ) from None
    return Baseline(path=path, entries=entries, source=source)


def condensed(train: Mapping[str, Json], predict: Mapping[str, Json]) -> dict[str, Json]:
    """Two keys' components as a baseline keeps them: without the seed, ftcheck's own code as one hash, and of the
    prediction's only what the training's doesn't say."""
    ours = {name: _short(name, value) for name, value in train.items() if name != "seed"}
    theirs = {name: _short(name, value) for name, value in predict.items() if name != "train"}
    return {"train": ours, "predict": {name: value for name, value in theirs.items() if ours.get(name) != value}}


def _short(name: str, value: Json) -> Json:
    if name != "code" or not isinstance(value, dict):
        return value
    return str(blake3(json.dumps(value, sort_keys=True).encode()).hexdigest())


def examples_digest(ids: Ids) -> str:
    """The blake3 of examples' hashes (n, 16), whatever their order."""
    return str(blake3(b"".join(sorted(row.tobytes() for row in ids))).hexdigest())


def successor(old: Entry | None, new: Entry) -> Entry:
    """`new` as what takes the place of `old`: the anchor, history and calibration are carried on."""
    if old is None:
        return new
    past = {"accepted": asdict(old.accepted), "metrics": {name: record.value for name, record in old.metrics.items()}}
    bare = replace(old.first, anchor=None, history=(), calibration={}, power={}, weakest={}, recipe={})
    anchor = replace(bare, statistics=_anchor_name(new.statistics))
    # What is known of the seeds' noise holds while the recipe is judged on the same examples by the same definitions.
    kept = {
        name: noise
        for name, noise in old.calibration.items()
        if name in new.metrics and new.metrics[name].signature == old.metrics[name].signature
    }
    return replace(new, anchor=anchor, history=(*old.history, past), calibration={**kept, **new.calibration})


def write(path: Path, entry: Entry, statistics: bytes) -> Baseline:
    """Make `entry` the baseline for its device, with its statistics; other devices' entries stay.

    Cut off anywhere, it is the old one or the new: statistics wait until the JSON names them. Raises BaselineError.
    """
    try:
        known = read(path)
    except BaselineError:
        known = Baseline(path=path)  # accepting anew is what the error advises
    old = known.entries.get(entry.device)
    if old is not None and not _keep_anchor(known, old):
        old = None  # nothing can be compared with it any more
    entry = successor(old, entry)
    place, entries = path.parent / entry.statistics, {**known.entries, entry.device: entry}
    _replace(writing.following(place), statistics)
    save(path, entries)
    writing.follow(place)
    return Baseline(path=path, entries=entries)


def save(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write the JSON file alone. Raises BaselineError."""
    _replace(path, dumped(entries, path.stem))


def unused(folders: Iterable[Path], used: Iterable[Path]) -> list[Path]:
    """Baseline files (.json) below suites' `__baselines__` folders that no case has: renamed or deleted cases."""
    found = {path for folder in folders for path in folder.glob("*/*.json")}
    kept = {path.resolve() for path in used} if found else set()
    return sorted(path for path in found if path.resolve() not in kept)


def remove(path: Path) -> None:
    """Delete a baseline and all that lies beside it."""
    for beside in path.parent.glob(f"{path.stem}.*.npz"):
        if beside.name.removeprefix(f"{path.stem}.").removesuffix(".npz").removesuffix(".first").isalpha():
            beside.unlink()
            writing.following(beside).unlink(missing_ok=True)
    path.unlink()


def statistics_name(case_id: str, device: str) -> str:
    return f"{case_id}.{device}.npz"


def _anchor_name(name: str) -> str:
    return f"{name.removesuffix('.npz')}.first.npz"


def _keep_anchor(known: Baseline, old: Entry) -> bool:
    """Keep the first accepted result's statistics under a name of their own, before another's take their place. Whether
    they are there, whole."""
    try:
        known.statistics(old.first)
    except BaselineError:
        return False
    if old.anchor is None:
        content = known._accepted(known.folder / old.statistics, old.digest) or b""
        _replace(known.folder / _anchor_name(old.statistics), content)
    return True


def _replace(path: Path, content: bytes) -> None:
    try:
        writing.replace_whole(path, content)
    except OSError as error:
        raise BaselineError(f"{path}: can't be written: {error.strerror or error}") from None
