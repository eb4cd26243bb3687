"""What a baseline's JSON file says of accepted results: entries by kind of device, to and from JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from ftcheck.errors import BaselineError, shown
from ftcheck.plainfiles import json_of
from ftcheck.results import Json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 1


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


def entries_of(content: bytes) -> dict[str, Entry]:
    """The entries in a baseline's file. Raises BaselineError for another format, ValueError for a file that is none."""
    return dict(_entries_of(content))


@lru_cache(maxsize=256)  # a session looks at each before, while and after it measures
def _entries_of(content: bytes) -> Mapping[str, Entry]:
    found = json_of(content, finite=True)
    if not isinstance(found, dict):
        raise ValueError("expected an object")
    if found.get("format") != FORMAT:
        raise BaselineError(
            f"has format {shown(found.get('format'))}, this version of ftcheck reads {FORMAT}: "
            "update ftcheck, or accept the result anew (--ft-update)"
        )
    if not isinstance(found.get("entries"), dict):
        raise ValueError("entries is missing")
    return {device: _entry(device, value) for device, value in found["entries"].items()}


def _entry(device: str, value: Any) -> Entry:
    """Raises ValueError where `value` is none."""
    if isinstance(value, dict) and "checksum" in value and value["checksum"] != _checksum(value):
        raise ValueError(f"the entry of {shown(device, 20)} fails its checksum: it was edited by hand or damaged")
    from pydantic import ValidationError

    try:
        # As JSON, where strict means that no text becomes a number, and lists may be tuples.
        return _adapter().validate_json(json.dumps(_flat(device, value)), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{shown('.'.join(map(str, first['loc'])))}: {shown(first['msg'])}") from None


@cache
def _adapter() -> TypeAdapter[Entry]:
    from pydantic import TypeAdapter

    return TypeAdapter(Entry)


def _flat(device: str, value: Any) -> dict[str, Any]:
    """An entry's JSON with what stands in `statistics` beside the rest; of its anchor too."""
    if not isinstance(value, dict) or not isinstance(value.get("statistics"), dict):
        raise ValueError(f"{shown(device, 20)} is no entry")
    for name, kind in (("components", dict), ("keys", list)):
        for below in ("train", "predict"):
            if not isinstance(value.get(name), dict) or not isinstance(value[name].get(below), kind):
                raise ValueError(f"{name}.{below} is missing")
    statistics, anchor = value["statistics"], value.get("anchor")
    return {
        **{name: found for name, found in value.items() if name != "checksum"},
        "device": device,
        "statistics": _file_name(statistics.get("file")),
        "digest": statistics.get("blake3"),
        "anchor": None if anchor is None else _flat(device, anchor),
    }


def dumped(entries: Mapping[str, Entry], case: str) -> bytes:
    """The JSON file of a case."""
    document = {
        "case": case,
        "format": FORMAT,
        "entries": {device: _sealed(_to_json(entry)) for device, entry in sorted(entries.items())},
    }
    return (_dumped(document) + "\n").encode()


def _sealed(value: dict[str, Json]) -> dict[str, Json]:
    return {**value, "checksum": _checksum(value)}


def _checksum(value: Mapping[str, Json]) -> str:
    """Of an entry's JSON without it: what the statistics don't vouch for (seeds, noise, labels) is whole, too."""
    body = {name: found for name, found in value.items() if name != "checksum"}
    return str(blake3(json.dumps(body, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest())


def _file_name(name: Any) -> str:
    if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:
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
