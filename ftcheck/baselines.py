"""Committed baselines: read, match, propose, write.

`suites/__baselines__/<suite's stem>/<case id>.json` is what a reviewer reads: an entry per kind of device, one metric a
line. Beside it `<case id>.<device>.npz` holds what pairing needs: the judged examples' hashes and the example
statistics of every metric and run. No text of the data is in either, but the names of its classes.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from blake3 import blake3

from ftcheck.arrays import dump_npz, load_npz, small
from ftcheck.errors import BaselineError, StoreError, shown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.results import Json

    Ids = npt.NDArray[np.uint8]
    Rows = npt.NDArray[np.float64]

FORMAT = 1
FOLDER = "__baselines__"
IDS = "ids"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """When, by whom and why a result became the baseline."""

    date: str
    author: str = ""
    commit: str = ""
    reason: str = ""

    def __str__(self) -> str:
        told = f"accepted {self.date[:10]}"
        told += f" by {shown(self.author, 60)}" if self.author else ""
        told += f" ({shown(self.commit[:10])})" if self.commit else ""
        return f"{told}: {shown(self.reason, 200)}" if self.reason else told


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRecord:
    """A metric's accepted value. `value` is what a reader sees; comparisons use the statistics beside it."""

    value: float
    per_seed: tuple[float, ...]
    signature: str
    greater_is_better: bool
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What `ftcheck calibrate` learned of a metric's seed noise: its variance over runs, and the examples' part."""

    runs: int
    s2: float
    d: float
    examples: str
    """The digest of the judged examples (see `examples_digest`): on others the figures are others."""
    signature: str
    """The metric's definition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """What a later result of one metric can be told by, as planned when the baseline was written."""

    runs: int
    """The later result's seeds."""
    provable: float
    """The smallest margin that an equal recipe passes in 80 of 100 runs: at least that."""
    detectable: float | None = None
    """The smallest regression that fails at the case's margin in 80 of 100 runs; None without a margin."""
    value: float | None = None
    """What it was planned for: the metric's, or that of the weakest part."""
    s2: float | None = None
    d: float | None = None
    """The seeds' noise as the runs of this result tell it, to plan for another number of them; None of a single run."""
    prior_sd: float | None = None
    """What is assumed of it where no run tells."""
    by: str | None = None
    """What the rows are divided by, where this is the part that is hardest to judge. Not which one: its name may be
    text of the data."""
    parts: int | None = None
    """How many parts there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One accepted result, of one case on one kind of device."""

    device: str
    accepted: Accepted
    metrics: Mapping[str, MetricRecord]
    seeds: tuple[int, ...]
    examples: int
    fixed: bool
    """Whether the weights were judged as they are: no seed noise."""
    components: Mapping[str, Json]
    """The keys' named components: {"train": {...}, "predict": {...}}."""
    keys: Mapping[str, tuple[str, ...]]
    """Digests of the runs' keys, seed by seed: {"train": ..., "predict": ...}."""
    statistics: str
    """The name of the file beside."""
    digest: str
    """Its blake3."""
    labels: tuple[str, ...] = ()
    """The classes that metrics count by, in order: what the statistics' columns mean."""
    environment: Mapping[str, Json] = field(default_factory=dict)
    trace: tuple[tuple[float, ...], ...] = ()
    """The first losses of each run's training."""
    calibration: Mapping[str, Noise] = field(default_factory=dict)
    power: Mapping[str, Power] = field(default_factory=dict)
    weakest: Mapping[str, Power] = field(default_factory=dict)
    """The same of the parts of the rows (`slices`): metric -> the part whose margin is hardest to prove."""
    recipe: Mapping[str, Json] = field(default_factory=dict)
    """What of the case `ftcheck bisect` can put back (see `recipes`)."""
    anchor: Entry | None = None
    """The first accepted result, once another has taken its place."""
    history: tuple[Mapping[str, Json], ...] = ()
    """Earlier values: {"accepted": ..., "metrics": {name: value}}, oldest first."""

    @property
    def first(self) -> Entry:
        """The first accepted result: what `max_drift` is measured from."""
        return self.anchor or self


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
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BaselineError(f"{path}: can't be read: {error.strerror or error}") from None

    def shown(self, path: Path) -> str:
        return os.path.relpath(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What pairing needs of one entry."""

    ids: Ids
    """(n, 16): hashes of the judged examples, equal ones told apart by their order."""
    metrics: Mapping[str, Rows]
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
        """Raises StoreError or KeyError for what `dump` didn't make."""
        arrays = load_npz(content)
        names = [str(name) for name in arrays["names"]]
        return cls(
            ids=arrays[IDS],
            metrics={name: arrays[f"metric{index}"] for index, name in enumerate(names)},
            rows=arrays.get("rows"),
        )


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
        content = self.source.read(place)
        again = "restore it from git, or accept the result anew (--ft-update)"
        if content is None:
            raise BaselineError(f"{name} is missing, which {self.path.name} compares by: {again}")
        if blake3(content).hexdigest() != entry.digest:
            raise BaselineError(f"{name} isn't the file that {self.path.name} was accepted with: {again}")
        try:
            return Statistics.load(content)
        except (StoreError, KeyError) as error:
            raise BaselineError(f"{name} is damaged ({shown(error, 200)}): {again}") from None


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
        found = json.loads(content)
        if found["format"] != FORMAT:
            raise BaselineError(
                f"{source.shown(path)} has format {shown(found['format'])}, this version of ftcheck reads {FORMAT}: "
                "update ftcheck, or accept the result anew (--ft-update)"
            )
        entries = {str(device): _entry(str(device), value) for device, value in found["entries"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BaselineError(
            f"{source.shown(path)} is no baseline that ftcheck wrote ({type(error).__name__}: {shown(error, 200)}): "
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

    The statistics file is replaced before the JSON file that names its digest, each whole or not at all. Raises
    BaselineError where they can't be written.
    """
    try:
        known = read(path)
    except BaselineError:
        known = Baseline(path=path)  # accepting anew is what the error advises
    old = known.entries.get(entry.device)
    if old is not None and not _keep_anchor(known, old):
        old = None  # nothing can be compared with it any more
    entry = successor(old, entry)
    _replace(path.parent / entry.statistics, statistics)
    entries = {**known.entries, entry.device: entry}
    save(path, entries)
    return Baseline(path=path, entries=entries)


def save(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write the JSON file alone. Raises BaselineError."""
    document = {
        "case": path.stem,
        "format": FORMAT,
        "entries": {device: _to_json(entry) for device, entry in sorted(entries.items())},
    }
    _replace(path, (_dumped(document) + "\n").encode())


def unused(folders: Iterable[Path], used: Iterable[Path]) -> list[Path]:
    """Baseline files (.json) below suites' `__baselines__` folders that no case has: renamed or deleted cases."""
    kept = {path.resolve() for path in used}
    found = {path for folder in folders for path in folder.glob("*/*.json")}
    return sorted(path for path in found if path.resolve() not in kept)


def remove(path: Path) -> None:
    """Delete a baseline and all that lies beside it."""
    for beside in path.parent.glob(f"{path.stem}.*.npz"):
        if beside.name.removeprefix(f"{path.stem}.").removesuffix(".npz").removesuffix(".first").isalpha():
            beside.unlink()
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
        content = known.source.read(known.folder / old.statistics)
        assert content is not None  # it was read just now
        _replace(known.folder / _anchor_name(old.statistics), content)
    return True


def _replace(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise BaselineError(f"{path}: can't be written: {error.strerror or error}") from None


def _entry(device: str, value: Mapping[str, Any]) -> Entry:
    """Raises KeyError, TypeError or ValueError where `value` is none."""
    return Entry(
        device=device,
        accepted=Accepted(**value["accepted"]),
        metrics={
            str(name): MetricRecord(
                value=float(record["value"]),
                per_seed=tuple(float(v) for v in record["per_seed"]),
                signature=str(record["signature"]),
                greater_is_better=bool(record["greater_is_better"]),
                interval=(float(record["interval"][0]), float(record["interval"][1])) if record["interval"] else None,
            )
            for name, record in value["metrics"].items()
        },
        seeds=tuple(int(seed) for seed in value["seeds"]),
        examples=int(value["examples"]),
        fixed=bool(value["fixed"]),
        components=value["components"],
        keys={str(stage): tuple(map(str, digests)) for stage, digests in value["keys"].items()},
        statistics=_file_name(value["statistics"]["file"]),
        digest=str(value["statistics"]["blake3"]),
        labels=tuple(map(str, value.get("labels", ()))),
        environment=value["environment"],
        trace=tuple(tuple(float(v) for v in losses) for losses in value["trace"]),
        calibration={str(name): Noise(**noise) for name, noise in value.get("calibration", {}).items()},
        power={str(name): Power(**power) for name, power in value.get("power", {}).items()},
        weakest={str(name): Power(**power) for name, power in value.get("weakest", {}).items()},
        recipe=value.get("recipe", {}),
        anchor=_entry(device, value["anchor"]) if value.get("anchor") else None,
        history=tuple(value.get("history", ())),
    )


def _file_name(name: Any) -> str:
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{shown(repr(name))} is no file beside it")
    return name


def _to_json(entry: Entry) -> dict[str, Json]:
    value: dict[str, Json] = {
        "accepted": asdict(entry.accepted),
        "components": entry.components,
        "environment": entry.environment,
        "examples": entry.examples,
        "fixed": entry.fixed,
        "keys": {stage: list(digests) for stage, digests in entry.keys.items()},
        "metrics": {
            name: {
                "greater_is_better": record.greater_is_better,
                "interval": [rounded(v) for v in record.interval] if record.interval else None,
                "per_seed": [rounded(v) for v in record.per_seed],
                "signature": record.signature,
                "value": rounded(record.value),
            }
            for name, record in entry.metrics.items()
        },
        "seeds": list(entry.seeds),
        "statistics": {"blake3": entry.digest, "file": entry.statistics},
        "trace": [[rounded(v) for v in losses] for losses in entry.trace],
    }
    if entry.labels:
        value["labels"] = list(entry.labels)
    if entry.calibration:
        value["calibration"] = {
            name: {**asdict(noise), "s2": rounded(noise.s2), "d": rounded(noise.d)}
            for name, noise in entry.calibration.items()
        }
    for key, planned in (("power", entry.power), ("weakest", entry.weakest)):
        if planned:
            value[key] = {name: _known(asdict(power)) for name, power in planned.items()}
    if entry.recipe:
        value["recipe"] = entry.recipe
    if entry.anchor is not None:
        value["anchor"] = _to_json(entry.anchor)
    if entry.history:
        value["history"] = [dict(past) for past in entry.history]
    return value


def _known(values: Mapping[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in values.items() if value is not None}


def rounded(number: float) -> float:
    """Six significant digits: what a reader compares. The statistics beside have them all."""
    return float(f"{number:.6g}")


_ONE_LINE = ("metrics", "history", "calibration", "power", "weakest", "recipe")
"""What stands below these is written a line each."""


def _dumped(value: Json, depth: int = 0, compact: bool = False) -> str:
    """JSON with sorted keys that diffs well: a line per leaf, per metric, and per list of plain values."""
    inner, outer = "  " * (depth + 1), "  " * depth
    flat = not isinstance(value, dict | list) or (isinstance(value, list) and not _nested(value))
    if compact or flat or not value:
        return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    if isinstance(value, list):
        items: Sequence[str] = [_dumped(item, depth + 1, compact=True) for item in value]
        opened, closed = "[", "]"
    else:
        below = {name: isinstance(item, dict | list) and name in _ONE_LINE for name, item in value.items()}
        items = [
            f"{json.dumps(name)}: {_lines(item, depth + 1) if below[name] else _dumped(item, depth + 1)}"
            for name, item in sorted(value.items())
        ]
        opened, closed = "{", "}"
    return f"{opened}\n" + ",\n".join(f"{inner}{item}" for item in items) + f"\n{outer}{closed}"


def _lines(value: Any, depth: int) -> str:
    """A mapping or list, each of its items on one line."""
    if not value:
        return json.dumps(value)
    inner, outer = "  " * (depth + 1), "  " * depth
    if isinstance(value, list):
        return "[\n" + ",\n".join(f"{inner}{_dumped(item, compact=True)}" for item in value) + f"\n{outer}]"
    items = [f"{inner}{json.dumps(name)}: {_dumped(item, compact=True)}" for name, item in sorted(value.items())]
    return "{\n" + ",\n".join(items) + f"\n{outer}}}"


def _nested(value: Sequence[Any]) -> bool:
    return any(isinstance(item, dict | list) for item in value)
