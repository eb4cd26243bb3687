"""What gates judge by: a case's example statistics on all judged rows and on parts of them, and comparisons with other
results on the examples that both judged."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ftcheck import statistics
from ftcheck.baselines import examples_digest
from ftcheck.metrics import WithoutInterval
from ftcheck.results import MetricResult

if TYPE_CHECKING:
    import numpy.typing as npt

    from ftcheck.baselines import Noise
    from ftcheck.metrics import FloatArray, Metric, NumberArray, Scale
    from ftcheck.spec import Slices
    from ftcheck.statistics import Comparison, SeedNoise

    Ids = npt.NDArray[np.uint8]
    Places = npt.NDArray[np.int64]

SHORT = 16
"""Characters of the shortest class of lengths."""

WORST_OVERLAP = 0.5
"""The part of the smaller side that both must have judged for a comparison to be one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One side of a comparison: runs of one recipe (or fixed weights) on the same examples."""

    ids: Ids
    """(n, 16): the examples' hashes; equal rows are told apart by their order."""
    metrics: Mapping[str, Sequence[NumberArray]]
    """Metric -> one (n, k) array a run."""
    signatures: Mapping[str, str]
    fixed: bool
    keys: tuple[str, ...]
    """The runs' predict keys: the same on both sides is the same result."""
    calibration: Mapping[str, Noise] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Why there is nothing to compare with."""

    verdict: Literal["new", "incomparable"]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some of the judged rows, by what they have in common; `rows` is None for all of them."""

    name: str = ""
    rows: Places | None = None
    """Positions, in order."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two arms, aligned by their examples' hashes."""

    against: str
    reference: Arm
    candidate: Arm

    @cached_property
    def aligned(self) -> bool:
        """Whether both sides judged the same examples in the same order."""
        return np.array_equal(self.reference.ids, self.candidate.ids)

    @cached_property
    def places(self) -> tuple[Places, Places]:
        """Positions of the common examples on either side, in the candidate's order."""
        if self.aligned:
            same = np.arange(len(self.candidate.ids))
            return same, same
        known = {key: place for place, key in enumerate(_numbered(self.reference.ids))}
        found = [(known[key], place) for place, key in enumerate(_numbered(self.candidate.ids)) if key in known]
        both = np.array(found, dtype=np.int64).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    @property
    def common(self) -> int:
        return len(self.places[0])

    @property
    def too_unlike(self) -> str:
        """Why the two can't be compared at all; empty where they can."""
        sizes = len(self.reference.ids), len(self.candidate.ids)
        if self.common >= WORST_OVERLAP * min(sizes) and self.common > 1:
            return ""
        return (
            f"only {self.common:,} of its {sizes[0]:,} judged examples are among the {sizes[1]:,} that are judged now: "
            "the evaluation data has changed"
        )

    @property
    def note(self) -> str:
        """What a reader must know of examples that only one side judged; empty where there are none."""
        only = len(self.reference.ids) - self.common, len(self.candidate.ids) - self.common
        if not any(only):
            return ""
        return (
            f"compared with {self.against} on the {self.common:,} examples that both judged "
            f"({only[0]:,} are gone, {only[1]:,} are new)"
        )

    @cached_property
    def unfit(self) -> dict[str, str]:
        """Calibrated metrics whose calibration says nothing of this comparison, and why."""
        if not self.reference.calibration:
            return {}
        judged = examples_digest(self.candidate.ids[self.places[1]])
        found = {}
        for metric, noise in self.reference.calibration.items():
            if noise.signature != self.candidate.signatures.get(metric, noise.signature):
                found[metric] = "by another definition"
            elif noise.examples != judged:
                found[metric] = "on other examples"
        return found

    def calibration(self, metric: str) -> SeedNoise | None:
        """What `ftcheck calibrate` learned of the seeds, where that was on these examples."""
        known = self.reference.calibration.get(metric)
        if known is None or metric in self.unfit:
            return None
        return statistics.SeedNoise(s2=known.s2, d=known.d, nu=known.runs - 1)

    @property
    def unfit_note(self) -> str:
        """What a reader must know of calibrations that are not used; empty where there are none."""
        told = ", ".join(f"{metric} {why}" for metric, why in self.unfit.items())
        return f"the calibration is not used: it judged {told} (`ftcheck calibrate` makes a new one)" if told else ""

    @property
    def same(self) -> bool:
        """Whether both sides are the same result."""
        return sorted(self.reference.keys) == sorted(self.candidate.keys)


def _numbered(ids: Ids) -> Iterator[tuple[bytes, int]]:
    """Each hash and how often it came before: equal rows are paired in their order."""
    seen: Counter[bytes] = Counter()
    for row in ids:
        key = row.tobytes()
        yield key, seen[key]
        seen[key] += 1


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that the gates of one case are judged by."""

    metrics: Mapping[str, Metric]
    candidate: Arm
    values: Mapping[str, MetricResult]
    """Every metric of the case on all judged rows, costs included."""
    pairs: Mapping[str, Pair | Missing]
    """`reference` (what margins compare with) and `first` (what drift is measured from)."""
    beside: Callable[[], Sequence[Mapping[str, Any]]]
    """For each judged row what slices go by: `label`, `length`, and columns of the data. Called when needed."""
    names: Callable[[], Mapping[str, int]]
    """Id or hash of a judged row -> its position."""
    prior: Callable[[Scale, float], tuple[float, str]]
    """A metric's scale and value -> the spread over seeds to assume where none was seen, and where that comes from."""
    clusters: Places | None = None
    """(n,): which judged rows vary together."""
    looks: int = 1
    """How often the gates may be looked at while seeds are added."""

    def value(self, metric: str, part: Part) -> MetricResult | None:
        """A metric on a part of the rows; None where the case has no such metric."""
        if part.rows is None:
            return self.values.get(metric)
        known = self.metrics[metric]
        found = statistics.estimate(
            [rows[part.rows] for rows in self.candidate.metrics[metric]],
            known.aggregate,
            scale=known.scale,
            binary=known.binary,
            fixed=self.candidate.fixed,
            clusters=None if self.clusters is None else self.clusters[part.rows],
        )
        return MetricResult(
            name=metric,
            value=found.value,
            per_seed=found.per_run,
            greater_is_better=known.greater_is_better,
            signature=known.signature,
            interval=found.interval,
            no_interval=found.no_interval,
            examples=found.examples,
            scale=known.scale,
        )

    def parts(self, slices: Slices) -> tuple[list[Part], list[str]]:
        """(parts to judge, by name; those that are too small to be, with their sizes)."""
        groups: dict[str, list[int]] = {}
        for place, row in enumerate(self.beside()):
            groups.setdefault(str(row[slices.by]), []).append(place)
        big = {name: rows for name, rows in groups.items() if len(rows) >= slices.min_examples}
        small = [f"{name} ({len(groups[name])})" for name in sorted(set(groups) - set(big))]
        return [
            Part(name=f"{slices.by}={name}", rows=np.array(big[name], dtype=np.int64)) for name in sorted(big)
        ], small

    def wrong(self, metric: str, ids: Sequence[str]) -> tuple[list[str], list[str]]:
        """(ids that some run doesn't get wholly right, ids that no judged row has)."""
        places = self.names()
        unknown = [name for name in ids if name not in places]
        known = [name for name in ids if name in places]
        chosen, aggregate = [places[name] for name in known], self.metrics[metric].aggregate
        scores = [statistics.of_each(rows[chosen], aggregate) for rows in self.candidate.metrics[metric]]
        return [name for place, name in enumerate(known) if any(not score[place] >= 1 for score in scores)], unknown

    def compared(
        self, metric: str, to: str, part: Part, *, confidence: float, relative: float | None
    ) -> Comparison | Missing:
        """How `metric` differs from its value on the side `to`, on the rows of `part` that both judged."""
        pair = self.pairs[to]
        if isinstance(pair, Missing):
            return pair
        if why := self._not_comparable(metric, pair):
            return Missing(verdict="incomparable", why=why)
        theirs, ours = pair.places
        if part.rows is not None:
            chosen = np.isin(ours, part.rows)
            theirs, ours = theirs[chosen], ours[chosen]
        if len(ours) < 2:
            return Missing(verdict="incomparable", why=f"{pair.against} judged none of these examples")
        known = self.metrics[metric]
        before_rows, after_rows = pair.reference.metrics[metric], pair.candidate.metrics[metric]
        if part.rows is not None or not pair.aligned:
            before_rows, after_rows = [rows[theirs] for rows in before_rows], [rows[ours] for rows in after_rows]
        if relative is not None:
            before = float(np.mean([statistics.value(rows, known.aggregate) for rows in before_rows]))
            if not before > 0:
                return Missing(
                    verdict="incomparable",
                    why=f"{pair.against} has {before:g}, of which a percentage says nothing: give an absolute margin",
                )
        value = self.values[metric].value
        return statistics.compare(
            before_rows,
            after_rows,
            known.aggregate,
            greater_is_better=known.greater_is_better,
            scale=known.scale,
            fixed_baseline=pair.reference.fixed,
            fixed_candidate=pair.candidate.fixed,
            confidence=confidence,
            relative=relative,
            calibration=pair.calibration(metric) if part.rows is None else None,
            prior_sd=self.prior(known.scale, value)[0],
            clusters=None if self.clusters is None else self.clusters[ours],
            looks=self.looks,
            same=pair.same,
            no_interval=known.no_interval(pair.candidate.metrics[metric][0])
            if isinstance(known, WithoutInterval)
            else "",
        )

    @staticmethod
    def _not_comparable(metric: str, pair: Pair) -> str:
        if pair.too_unlike:
            return pair.too_unlike
        if metric not in pair.reference.metrics:
            return f"{pair.against} doesn't have {metric}: accept a result that has (--ft-update)"
        theirs, ours = pair.reference.signatures[metric], pair.candidate.signatures[metric]
        if theirs != ours:
            return f"{metric} is defined otherwise now ({theirs} → {ours})"
        return ""

    def example_scores(self, metric: str, arm: Arm) -> FloatArray:
        """(n,): the metric of each example alone, its mean over runs; NaN where it has none."""
        with np.errstate(all="ignore"):
            scores = [statistics.of_each(rows, self.metrics[metric].aggregate) for rows in arm.metrics[metric]]
        mean: FloatArray = np.mean(scores, axis=0)
        return mean


def length_class(characters: int) -> str:
    """The name of a text's length: `65-128 characters`. Bounds double, so that they don't depend on the data."""
    if characters <= SHORT:
        return f"up to {SHORT} characters"
    upper = 2 ** math.ceil(math.log2(characters))
    return f"{upper // 2 + 1}-{upper} characters"
