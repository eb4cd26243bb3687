"""What seeds do to a metric: measured on runs that differ only in their seed, or a guess where nothing was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ftcheck.statistics import blocks
from ftcheck.statistics.blocks import Aggregate
from ftcheck.statistics.intervals import Spread, spread
from ftcheck.statistics.jackknife import influence, too_few, units

if TYPE_CHECKING:
    from ftcheck.metrics import NumberArray, Scale
    from ftcheck.statistics.jackknife import IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedNoise:
    """The spread of runs that differ in their seed alone, judged on the same examples."""

    s2: float
    """S²: variance of the runs' values."""
    d: float
    """D: what of S² the choice of examples explains."""
    nu: int
    """Degrees of freedom of both."""
    values: tuple[float, ...] = ()
    """The metric of each run; empty where several sources are pooled."""

    @property
    def sd(self) -> float:
        """Standard deviation over seeds on unlimited examples, σ̂ = √max(0, S² - D); for display and planning."""
        return math.sqrt(max(0.0, self.s2 - self.d))


def noise_of(known: Spread, values: Sequence[float]) -> SeedNoise | None:
    """The seed noise in an `Estimate`'s `spread`, with its runs' values. None: one run, or fixed weights."""
    if not known.seeded:
        return None
    return SeedNoise(s2=known.s2, d=known.d, nu=known.nu, values=tuple(values))


@np.errstate(divide="ignore", over="ignore", invalid="ignore")
def seed_noise(
    statistics: Sequence[NumberArray], aggregate: Aggregate, *, clusters: IntArray | None = None
) -> SeedNoise:
    """The seed noise of two or more runs: one (n, c) array of statistics each, of the same examples in the same order.

    Raises ValueError for fewer than two runs or (with `clusters`, ids (n,)) independent examples, and where a run's
    value is not finite with and without each example: drop collapsed runs first.
    """
    if len(statistics) < 2:
        raise ValueError("seed noise needs two runs or more")
    runs, examples, groups = units(statistics, clusters)
    few = too_few(examples, groups)
    if few:
        raise ValueError(f"seed noise needs two examples or more, got {few}")
    values = np.array([blocks.value(rows, aggregate) for rows in runs])
    influences = np.stack([influence(rows, aggregate) for rows in runs])
    if not (np.isfinite(values).all() and np.isfinite(influences).all()):
        raise ValueError("seed noise needs runs whose value is finite, with and without each example")
    known = spread(influences, values, binary=False, fixed=False)
    return SeedNoise(s2=known.s2, d=known.d, nu=known.nu, values=tuple(values.tolist()))


def pooled(sources: Iterable[SeedNoise]) -> SeedNoise | None:
    """Several estimates of one seed noise as one, weighted by their degrees of freedom; None of none."""
    known = [source for source in sources if source.nu > 0]
    nu = sum(source.nu for source in known)
    if nu == 0:
        return None
    s2, d = (
        sum(source.nu * part for source, part in zip(known, parts, strict=True)) / nu
        for parts in ([source.s2 for source in known], [source.d for source in known])
    )
    return SeedNoise(s2=s2, d=d, nu=nu, values=known[0].values if len(known) == 1 else ())


@dataclass(frozen=True, slots=True)
class _Published:
    """A seed standard deviation in points (hundredths) and where it comes from."""

    names: tuple[str, ...]
    """Parts of a data set's name, any of which means it."""
    points: float
    source: str


_RECYCLING = "IBM/model-recycling's tables (20 seeds, base models)"
_CLASSIFICATION = "text-classification"

PUBLISHED: dict[str, tuple[_Published, ...]] = {
    _CLASSIFICATION: (
        _Published(("mrpc",), 1.2, f"{_RECYCLING}: 0.98 RoBERTa, 1.61 and 2.32 BERT"),
        _Published(("rte",), 2.4, f"{_RECYCLING}: 2.04 to 2.17"),
        _Published(("sst2", "sst-2"), 0.45, f"{_RECYCLING}: 0.38 to 0.42"),
        _Published(("mnli",), 0.25, _RECYCLING),
        _Published(("qnli",), 0.75, _RECYCLING),
        _Published(("qqp",), 0.55, _RECYCLING),
        _Published(("boolq",), 1.4, _RECYCLING),
        _Published(("ag_news", "ag-news"), 0.33, _RECYCLING),
        _Published(("imdb",), 0.18, _RECYCLING),
        _Published(("cb",), 10.0, _RECYCLING),
        _Published(("copa",), 6.0, _RECYCLING),
    ),
    "token-classification": (_Published(("conll",), 0.18, "Flair ± 0.12, NCRF++ ± 0.1 to 0.2"),),
    "question-answering": (_Published(("squad",), 0.16, "a guess: no published figure was found"),),
}
"""Published spreads are S, not σ: they hold the noise of examples too, so they err to the wide side."""

_GUESSES = ((5_000, 2.4), (50_000, 1.2), (math.inf, 0.5))
"""(training rows below which it holds, points)."""


def prior_sd(
    task: str, dataset: str | None, train_rows: int | None, *, scale: Scale, value: float
) -> tuple[float, str]:
    """(σ₀, its source): the seed sd to assume, in the metric's unit, where there is a single run a side.

    `dataset` is any text that names the data ("nyu-mll/glue mrpc"); `value` the baseline's. For scores in [0, 1] a
    published spread of that data set in the same task, else a house guess by the number of training rows (unknown: as
    for few). Metrics of another scale have no points: there the guess is that many percent of `value`. `compare`
    doubles it to σ_max.
    """
    if scale == "proportion" and dataset is not None and (known := _published(task, dataset)) is not None:
        return known.points / 100, known.source
    points = next(guess for below, guess in _GUESSES if (train_rows or 0) < below)
    rows = "an unknown number of" if train_rows is None else f"{train_rows:,}"
    if scale == "proportion":
        return points / 100, f"a guess of {points} points for {rows} training rows"
    return points / 100 * abs(value), f"a guess of {points} % of the value for {rows} training rows"


@lru_cache(maxsize=64)
def _published(task: str, dataset: str) -> _Published | None:
    """What is known of a data set; None where nothing is."""
    return next((known for known in PUBLISHED.get(task, ()) if _names(known, dataset)), None)


def _names(known: _Published, dataset: str) -> bool:
    """Whether one of the names is a word of `dataset` (of short ones, a part would be found anywhere), perhaps with
    digits or a year behind it."""
    import re

    return any(re.search(rf"(?<![a-z0-9]){name}(?![a-z])", dataset.lower()) for name in known.names)
