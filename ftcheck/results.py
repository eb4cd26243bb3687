"""CaseResult and its parts: plain data, to and from JSON. What crosses processes and what every report is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar

from ftcheck.breakdown import Breakdown
from ftcheck.profile import Profile

SCHEMA_VERSION = 2

Verdict = Literal["pass", "fail", "inconclusive", "new", "incomparable", "error", "skipped", "smoke"]
WORST_FIRST: tuple[Verdict, ...] = (
    *("error", "fail", "incomparable", "inconclusive", "new", "smoke", "skipped", "pass"),
)
Scale = Literal["proportion", "perplexity", "unbounded"]
"""Which interval fits a metric: within [0, 1], exp of a mean loss, or anything."""
Json = Any
"""JSON values: None, bool, int, float, str, lists and string-keyed dicts of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A two-sided interval for a metric. `about` says what it speaks of: the recipe, or this one model."""

    low: float
    high: float
    confidence: float
    method: str
    about: Literal["recipe", "model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricResult:
    """One metric of one case: the mean over runs, each run's value, and the interval where there is one."""

    name: str
    value: float
    per_seed: tuple[float, ...]
    greater_is_better: bool
    signature: str
    interval: Interval | None = None
    no_interval: str = ""
    """Why there is no interval, where there is none."""
    examples: int = 0
    scale: Scale = "unbounded"
    """A proportion's differences are shown in percentage points."""


Bound = Literal["min", "max", "max_regression", "max_gain", "max_drift", "must_pass"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonResult:
    """How one metric differs from what it was compared with, on the examples that both sides judged.

    Differences count in the metric's own unit, positive where the case is worse.
    """

    against: str
    """What it was compared with: `baseline`, `first accepted`, `case x`, `base checkpoint`, `baseline at v1.2`."""
    reference: float
    """The other side's mean over its runs, on the common examples."""
    value: float
    """The case's."""
    difference: float
    low: float
    high: float
    """One-sided bounds of the difference at `confidence` each."""
    confidence: float
    p_value: float
    """Two-sided."""
    p_worse: float
    """One-sided: how often a recipe no worse would look so much worse."""
    examples: int
    runs: int
    reference_runs: int
    discordant: int
    """Examples that count differently on the two sides."""
    seed_source: str
    """Where the noise of seeds was taken from: `runs`, `calibration`, `prior`, or `none` for fixed weights."""
    detectable: float | None = None
    """The smallest regression that this gate would fail in 80 of 100 runs; None where that can't be told."""
    provable: float | None = None
    """The smallest margin that an equal recipe would pass in 80 of 100 runs."""
    margin: float | None = None
    """The gate's margin in the metric's unit (of a relative one as measured)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What one bound of one gate said."""

    metric: str
    bound: Bound
    limit: float
    """The bound; for a margin its number (0.02 for `2%`), for `must_pass` how many examples must be right."""
    value: float
    """The metric's; for `must_pass` how many were right."""
    verdict: Verdict
    message: str
    shown_limit: str = ""
    """As a table shows it: `≥ 0.9`, `≤ 1 % worse`."""
    part: str = ""
    """The part of the judged rows that it is about (`label=loc`); empty: all of them."""
    comparison: ComparisonResult | None = None

    @property
    def demand(self) -> str:
        """`≥ 0.9`, `≤ 1 % worse`: `shown_limit`, which results of old versions don't have."""
        return self.shown_limit or f"{'≥' if self.bound == 'min' else '≤'} {self.limit:g}"


Role = Literal["gold", "predicted", "before"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A stretch of a `Marked` text, in characters: what was to be found there, what was predicted, or what the other
    side of a flip predicted."""

    start: int
    end: int
    role: Role
    label: str = ""
    """An entity's type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """Where in a text of the data's own an example's answers stand: a context's beginning and surroundings of answers,
    a sentence and its entities. Marks of one role don't overlap and come in the order of the text."""

    text: str
    marks: tuple[Mark, ...]

    @classmethod
    def from_json(cls, value: Mapping[str, Json] | None) -> Marked | None:
        """What `asdict` made; None for null."""
        if value is None:
            return None
        return cls(text=value["text"], marks=tuple(Mark(**mark) for mark in value["marks"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """An example that one side has right and the other wrong. Text is the data's own: escape it where it is shown."""

    id: str
    input: str
    gold: str
    before: str
    """What the other side predicted; empty where its predictions are no longer in the store."""
    after: str
    change: float
    """By how much the example's own score changed; negative: broken."""
    marked: Marked | None = None
    """What is expected, what is predicted now, and where it is known what was before, in the text where they stand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a case was compared with, and what is known of why they differ."""

    against: str
    described: str
    """`cpu, accepted 2026-11-02 by Ada (a1b2c3d): new annotation guide`."""
    examples: int
    common: int
    """Examples that both sides judged."""
    changes: tuple[str, ...] = ()
    """Components of the keys that differ: `transformers 5.17 → 5.23`."""
    broken: int = 0
    fixed: int = 0
    flips: tuple[Flip, ...] = ()
    """The worst of them."""
    trace: str = ""
    """Whether the trainings parted from the first step, or only the evaluation differs; empty where unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOrigin:
    """Where a stage's result came from, its key, and how long it took when it was made (seconds)."""

    source: Literal["computed", "store", "none"]
    key: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial of a search: `params` are fields of `training`."""

    number: int
    """Counted from 1, in the order in which they were made."""
    value: float | None
    """The metric on the tune rows; of a pruned trial what it had when it was given up, of a failed one None."""
    state: Literal["complete", "pruned", "failed"]
    params: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchHistory:
    """How a search came to the values that a run was trained with. All runs of a case have the same one."""

    metric: str
    direction: Literal["minimize", "maximize"]
    best: int
    """The number of the trial that was taken."""
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningRateCurve:
    """A learning-rate range test: the loss at each rate, up to where it diverged."""

    rates: tuple[float, ...]
    """Rising exponentially: a plot's axis is logarithmic. As many as there are losses."""
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float | None
    """The rate where the smoothed loss falls fastest; None where nothing can be read from the curve."""
    lowest: float | None
    """The rate where the smoothed loss is lowest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What making a stored run once more came to (--ft-verify)."""

    outcome: Literal["identical", "close", "different"]
    """`identical`: the predictions, to the last bit; `close`: the metrics, as far as can be asked here."""
    metrics: Mapping[str, float]
    """Metric -> its value of the repeated run."""
    rows: int
    """How many predictions are other than stored."""
    exact: bool
    """Whether they had to be identical: a CPU, with the environment that the run was made in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One (case, seed): where its stages came from, what it cost, what was warned of."""

    seed: int
    train: StageOrigin
    predict: StageOrigin
    costs: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    environment: Mapping[str, Json] = field(default_factory=dict)
    log_history: tuple[Mapping[str, Json], ...] = ()
    search: SearchHistory | None = None
    """Of a case with `search`; None where it has none."""
    lr_curve: LearningRateCurve | None = None
    """Of a case with `lr_finder`; of folds, the first one's. None where it has none."""
    verified: Verification | None = None
    """None where it was not made once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """How often `gold` was predicted as `predicted`, summed over runs."""

    gold: str
    predicted: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstExample:
    """One of the examples that the first run got most wrong. Text is the data's own: escape it where it is shown."""

    index: int
    input: str
    gold: str
    predicted: str
    score: float | None = None
    marked: Marked | None = None
    """What is expected and what was predicted, in the text where they stand; None where the task has no such text."""


Example = TypeVar("Example", Flip, WorstExample)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedData:
    """What a case was judged on."""

    name: str
    """A Hub id; of local data the names of its folder or files (with their folder); of a callable its dotted name."""
    hub: bool = False
    config: str = ""
    revision: str = ""
    """On the Hub: the commit."""
    split: str = ""
    """As the suite names it; empty where it doesn't."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastValue:
    """One metric at one point of a case's history."""

    value: float
    per_seed: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    """The interval; None where there was none."""
    baseline: float | None = None
    """What was accepted when the session ended."""
    anchor: float | None = None
    """What was accepted first."""
    drifted: bool = False
    """Whether it was worse than the first accepted result beyond chance (see `history.drifted`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPoint:
    """A result of a case in the past. Sessions in a row that found the same are one point."""

    time: str
    """UTC, ISO 8601: the first of these sessions."""
    until: str
    """The last one."""
    sessions: int
    verdict: Verdict
    commit: str = ""
    """Of git, at the last of these sessions; empty outside a repository."""
    branch: str = ""
    dirty: bool = False
    """Whether tracked files differed from the commit."""
    accepted: bool = False
    """Whether it became the baseline."""
    values: Mapping[str, PastValue] = field(default_factory=dict)
    """Metric -> what it was; not those that were defined otherwise than now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """All that is known of one case after it was judged, or why it could not be."""

    suite: str
    case_id: str
    nodeid: str
    task: str
    checkpoint: str
    verdict: Verdict
    device: str = ""
    precision: str = ""
    seeds: tuple[int, ...] = ()
    metrics: tuple[MetricResult, ...] = ()
    gates: tuple[GateResult, ...] = ()
    runs: tuple[RunResult, ...] = ()
    examples: int = 0
    error: str = ""
    notes: tuple[str, ...] = ()
    """Said to the reader beside the table: what was truncated, limited or left out."""
    references: tuple[Reference, ...] = ()
    """What the case was compared with."""
    update: str = ""
    """What became of the baseline under --ft-update: `written`, `unchanged`, or why it was not."""
    confusions: tuple[Confusion, ...] = ()
    worst: tuple[WorstExample, ...] = ()
    limited: int | None = None
    """`--ft-limit N`: a smoke run, never a gate."""
    data: JudgedData | None = None
    """What it was judged on; None where it was not."""
    history: tuple[HistoryPoint, ...] = ()
    """The case's latest results on this kind of device, oldest first; the last one is this. Of gated metrics, or the
    first where none is gated."""
    breakdown: Breakdown | None = None
    """By class, part, length and confidence; None where no report asked for it."""
    profile: Profile | None = None
    """Where time and memory went; None where --ft-profile didn't ask for it."""

    def to_json(self) -> dict[str, Json]:
        """This result as builtins only (what `json.dumps` and the xdist wire take)."""
        plain: dict[str, Json] = _plain(self)
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> CaseResult:
        """The inverse of `to_json`. Raises KeyError or TypeError where `value` is not one."""
        fields = dict(value)
        fields["metrics"] = tuple(
            MetricResult(
                **{
                    **m,
                    "per_seed": tuple(m["per_seed"]),
                    "interval": Interval(**m["interval"]) if m["interval"] else None,
                }
            )
            for m in fields["metrics"]
        )
        fields["gates"] = tuple(
            GateResult(**{**g, "comparison": ComparisonResult(**g["comparison"]) if g.get("comparison") else None})
            for g in fields["gates"]
        )
        fields["references"] = tuple(
            Reference(**{**r, "changes": tuple(r["changes"]), "flips": tuple(_marked(Flip, f) for f in r["flips"])})
            for r in fields.get("references", ())
        )
        fields["runs"] = tuple(map(_run, fields["runs"]))
        fields["confusions"] = tuple(Confusion(**c) for c in fields["confusions"])
        fields["worst"] = tuple(_marked(WorstExample, w) for w in fields["worst"])
        fields["data"] = JudgedData(**fields["data"]) if fields.get("data") else None
        fields["history"] = tuple(
            HistoryPoint(**{**point, "values": {name: _past(value) for name, value in point["values"].items()}})
            for point in fields.get("history", ())
        )
        if fields.get("breakdown"):
            fields["breakdown"] = Breakdown.from_json(fields["breakdown"])
        if fields.get("profile"):
            fields["profile"] = Profile.from_json(fields["profile"])
        for name in ("seeds", "notes"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


def _past(value: Mapping[str, Json]) -> PastValue:
    return PastValue(**{**value, "per_seed": tuple(value["per_seed"])})


def _marked(kind: type[Example], value: Mapping[str, Json]) -> Example:
    return kind(**{**value, "marked": Marked.from_json(value.get("marked"))})


def _run(value: Mapping[str, Json]) -> RunResult:
    return RunResult(
        **{
            **value,
            "train": StageOrigin(**value["train"]),
            "predict": StageOrigin(**value["predict"]),
            "warnings": tuple(value["warnings"]),
            "log_history": tuple(value["log_history"]),
            "search": value.get("search") and _search(value["search"]),
            "lr_curve": value.get("lr_curve") and _curve(value["lr_curve"]),
            "verified": value.get("verified") and Verification(**value["verified"]),
        }
    )


def _search(value: Mapping[str, Json]) -> SearchHistory:
    return SearchHistory(**{**value, "trials": tuple(Trial(**trial) for trial in value["trials"])})


def _curve(value: Mapping[str, Json]) -> LearningRateCurve:
    listed: dict[str, Json] = {name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}
    return LearningRateCurve(**listed)


def _plain(value: Any) -> Any:
    """`asdict` with lists for tuples, in one pass, which copies no numbers: results are made of thousands."""
    if isinstance(value, str):
        # a lone surrogate can't leave the process
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    return value
