"""Worlds whose truth is known: example statistics of simulated runs of five metrics.

Examples are shared by the runs and sides of a world, each run has a seed effect u ~ N(0, σ_u²). σ_u is solved so that
the metric on unlimited examples has the wanted standard deviation over seeds, in points (hundredths) or, for
perplexity, percent; the truth about the recipe is its mean over u. A worse recipe has a shifted u. Used by the unit
tests and by benchmarks/verdict_simulation.py.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from ftcheck.metrics import counts, likelihood, translation

if TYPE_CHECKING:
    from ftcheck.metrics import FloatArray, Scale

Runs = list["FloatArray"]
Tail = Literal["normal", "t3", "exponential"]

NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(81)
WEIGHTS: FloatArray = _WEIGHTS / _WEIGHTS.sum()
_DRAWS = 40_000
"""Seeds that a population's mean is taken over where a run has several effects."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison."""

    runs: int
    shift: float = 0.0
    """Added to every run's effect."""
    sd_factor: float = 1.0
    """How much more than the world's its seeds vary."""


class World(ABC):
    """One metric's way to make example statistics."""

    name: ClassVar[str]
    scale: ClassVar[Scale] = "proportion"
    greater_is_better: ClassVar[bool] = True
    binary: ClassVar[bool] = False
    difficulty: ClassVar[float] = 4.0
    """Variance of an example's difficulty on the probit scale."""
    effects: ClassVar[int] = 1
    """Independent normals of a run."""

    @abstractmethod
    def aggregate(self, totals: FloatArray) -> FloatArray:
        """Totals (..., c) -> metric (...)."""

    @abstractmethod
    def population(self, effects: FloatArray) -> FloatArray:
        """The metric on unlimited examples: effects (m, self.effects) -> (m,)."""

    @abstractmethod
    def examples(self, rng: np.random.Generator, n: int) -> dict[str, FloatArray]:
        """What the n examples of a world have beside their difficulty."""

    @abstractmethod
    def run(
        self, rng: np.random.Generator, examples: dict[str, FloatArray], b: FloatArray, effects: FloatArray
    ) -> FloatArray:
        """The statistics (n, c) of one run with `effects` on examples of difficulty `b` (n,)."""

    def draw(
        self,
        rng: np.random.Generator,
        n: int,
        sd: float,
        sides: Sequence[Side],
        *,
        interaction: float = 0.0,
        cluster: tuple[int, float] | None = None,
        tail: Tail = "normal",
    ) -> tuple[list[Runs], list[FloatArray]]:
        """One world: the runs of each side, and each side's effects (k, self.effects).

        `sd`: the seed sd in points. `interaction` ρ: of the variance of difficulty ρ is each side's own. `cluster`
        (size, share): so much of the variance of difficulty is common to each `size` examples in a row.
        """
        examples = self.examples(rng, n)
        common = math.sqrt(self.difficulty - interaction)
        b = common * rng.standard_normal(n)
        if cluster is not None:
            size, share = cluster
            groups = np.repeat(rng.standard_normal(math.ceil(n / size)), size)[:n]
            b = common * math.sqrt(share) * groups + math.sqrt(1 - share) * b
        found, all_effects = [], []
        for side in sides:
            own = b + math.sqrt(interaction) * rng.standard_normal(n) if interaction else b
            effects = effect_sd(self, sd) * side.sd_factor * standardized(rng, (side.runs, self.effects), tail)
            effects[:, 0] += side.shift
            found.append([self.run(rng, examples, own, effect) for effect in effects])
            all_effects.append(effects)
        return found, all_effects


def standardized(rng: np.random.Generator, shape: tuple[int, int], tail: Tail) -> FloatArray:
    """Draws of mean 0 and variance 1."""
    if tail == "t3":
        return rng.standard_t(3, size=shape) / math.sqrt(3)
    return rng.standard_exponential(shape) - 1 if tail == "exponential" else rng.standard_normal(shape)


@cache
def _seeds(effects: int) -> tuple[FloatArray, FloatArray]:
    """Standard effects (m, effects) and weights (m,) that population means are taken over."""
    if effects == 1:
        return NODES[:, None], WEIGHTS
    drawn = np.random.default_rng(0).standard_normal((_DRAWS // 2, effects))
    return np.concatenate([drawn, -drawn]), np.full(_DRAWS, 1 / _DRAWS)


def _moments(world: World, sigma: float, shift: float = 0.0) -> tuple[float, float]:
    """(mean, sd) of the population metric over seeds."""
    standard, weights = _seeds(world.effects)
    effects = sigma * standard
    effects[:, 0] += shift
    values = world.population(effects)
    mean = float(weights @ values)
    return mean, math.sqrt(max(0.0, float(weights @ (values - mean) ** 2)))


@cache
def effect_sd(world: World, sd: float) -> float:
    """σ_u for a seed sd in points or percent."""
    if sd == 0:
        return 0.0

    def excess(sigma: float) -> float:
        mean, spread = _moments(world, sigma)
        return spread / (mean if world.scale == "perplexity" else 1.0) - sd / 100

    return float(brentq(excess, 1e-6, 3.0, xtol=1e-9))


@cache
def truth(world: World, sd: float, shift: float = 0.0) -> float:
    """The recipe's metric: the population's mean over seeds."""
    return _moments(world, effect_sd(world, sd), shift)[0]


@cache
def worse_by(world: World, sd: float, points: float) -> float:
    """The shift that makes a recipe worse by so many points, or percent of its perplexity (negative: better)."""
    if points == 0:
        return 0.0
    size = point(world, sd) * points
    target = truth(world, sd) + (-size if world.greater_is_better else size)
    return float(brentq(lambda shift: truth(world, sd, shift) - target, -3.0, 3.0, xtol=1e-9))


def point(world: World, sd: float) -> float:
    """One point in the metric's unit, or one percent of the perplexity."""
    return 0.01 * (truth(world, sd) if world.scale == "perplexity" else 1.0)


def _probit(p: float, variance: float) -> float:
    """The mean on the probit scale that gives accuracy p over difficulties of `variance`."""
    return float(math.sqrt(1 + variance) * ndtri(p))


class Accuracy(World):
    """`correct ~ Bernoulli(Φ(√5Φ⁻¹(p) + b_i + u_s))`."""

    name = "accuracy"
    binary = True

    def __init__(self, p: float = 0.86) -> None:
        self.p = p

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.mean(totals)

    def population(self, effects: FloatArray) -> FloatArray:
        value: FloatArray = ndtr((_probit(self.p, 4) + effects[:, 0]) / math.sqrt(5))
        return value

    def examples(self, rng: np.random.Generator, n: int) -> dict[str, FloatArray]:
        return {}

    def run(
        self, rng: np.random.Generator, examples: dict[str, FloatArray], b: FloatArray, effects: FloatArray
    ) -> FloatArray:
        rows = np.ones((len(b), 2))
        rows[:, 0] = rng.random(len(b)) < ndtr(_probit(self.p, 4) + b + effects[0])
        return rows


class MacroF1(World):
    """Four classes of unequal size and difficulty, with an effect for each; what a wrong one is taken for is the
    example's."""

    name = "macro-F1"
    effects = 5
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    p = (0.92, 0.85, 0.80, 0.70)

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.averaged(totals, "f1", "macro")

    def population(self, effects: FloatArray) -> FloatArray:
        means = np.array([_probit(p, 4) for p in self.p])
        found = self.shares * ndtr((means + effects[:, :1] + 0.7 * effects[:, 1:]) / math.sqrt(5))
        missed = self.shares - found
        # A missed example of class c is taken for w ≠ c in proportion to w's share among the others.
        taken_for = self.shares[None, :] / (1 - self.shares[:, None]) * (1 - np.eye(4))
        value: FloatArray = (2 * found / (found + missed @ taken_for + self.shares)).mean(axis=1)
        return value

    def examples(self, rng: np.random.Generator, n: int) -> dict[str, FloatArray]:
        gold = rng.choice(4, size=n, p=self.shares)
        others = np.where(np.arange(4) == gold[:, None], 0, self.shares).cumsum(axis=1)
        wrong = (rng.random(n)[:, None] * others[:, -1:] >= others).sum(axis=1)
        return {"gold": gold, "wrong": wrong}

    def run(
        self, rng: np.random.Generator, examples: dict[str, FloatArray], b: FloatArray, effects: FloatArray
    ) -> FloatArray:
        gold, n = examples["gold"], len(b)
        of_class = np.array([_probit(p, 4) for p in self.p]) + effects[0] + 0.7 * effects[1:]
        hit = rng.random(n) < ndtr(of_class[gold] + b)
        rows = np.zeros((n, 13))
        rows[:, :4] = (np.arange(4) == gold[:, None]) & hit[:, None]
        rows[np.arange(n), 4 + np.where(hit, gold, examples["wrong"])] = 1
        rows[np.arange(n), 8 + gold] = 1
        rows[:, 12] = 1
        return rows


class EntityF1(World):
    """Sentences with about 1.5 entities, of which some are missed, some mistaken and some made up."""

    name = "entity F1"
    p = 0.90

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return counts.ratio(2 * totals[..., 0], totals[..., 1] + totals[..., 2], empty=0.0)

    def population(self, effects: FloatArray) -> FloatArray:
        found = 1.5 * ndtr((_probit(self.p, 4) + effects[:, 0]) / math.sqrt(5))
        value: FloatArray = 2 * found / (found + 0.6 * (1.5 - found) + 0.08 + 1.5)
        return value

    def examples(self, rng: np.random.Generator, n: int) -> dict[str, FloatArray]:
        return {"gold": rng.poisson(1.5, size=n).astype(np.float64), "made_up": 0.08 * rng.gamma(0.25, 4, size=n)}

    def run(
        self, rng: np.random.Generator, examples: dict[str, FloatArray], b: FloatArray, effects: FloatArray
    ) -> FloatArray:
        gold = examples["gold"].astype(np.int64)
        found = rng.binomial(gold, ndtr(_probit(self.p, 4) + b + effects[0]))
        predicted = found + rng.binomial(gold - found, 0.6) + rng.poisson(examples["made_up"])
        return np.column_stack([found, predicted, gold]).astype(np.float64)


class Bleu(World):
    """BLEU / 100 of sentences whose n-grams are found with falling probabilities."""

    name = "BLEU"
    difficulty = 1.0

    def aggregate(self, totals: FloatArray) -> FloatArray:
        return translation.bleu(totals) / 100

    def population(self, effects: FloatArray) -> FloatArray:
        lengths, reference = _bleu_lengths()
        # b and the run's own noise on an example are one normal of variance 1.25 here.
        q = ndtr(math.sqrt(1.5) * ndtri(0.62) + math.sqrt(1.25) * NODES + effects[:, :1])
        found = np.stack([p @ WEIGHTS for p in _n_gram_chances(q)], axis=1) * lengths
        totals = np.concatenate(
            [np.broadcast_to([lengths[0], reference], (len(q), 2)), found, np.broadcast_to(lengths, found.shape)],
            axis=1,
        )
        return self.aggregate(totals)

    def examples(self, rng: np.random.Generator, n: int) -> dict[str, FloatArray]:
        return {"reference": _references(rng, n), "longer": rng.standard_normal(n)}

    def run(
        self, rng: np.random.Generator, examples: dict[str, FloatArray], b: FloatArray, effects: FloatArray
    ) -> FloatArray:
        n = len(b)
        length = _length(examples["reference"], examples["longer"], rng.standard_normal(n))
        q = ndtr(math.sqrt(1.5) * ndtri(0.62) + b + effects[0] + 0.5 * rng.standard_normal(n))
        there = np.maximum(length[:, None] - np.arange(4), 0)
        found = rng.binomial(there.astype(np.int64), np.stack(_n_gram_chances(q), axis=1))
        return np.column_stack([length, examples["reference"], found, there])


def _n_gram_chances(q: FloatArray) -> list[FloatArray]:
    """p_1 to p_4: the chance that an n-gram is found."""
    chances = [q]
    for slope in (0.6, 0.7, 0.75):
        chances.append(chances[-1] * (0.25 + slope * q))
    return chances


def _references(rng: np.random.Generator, n: int) -> FloatArray:
    return np.maximum(3.0, rng.negative_binomial(4, 4 / 26, size=n))


def _length(reference: FloatArray, shared: FloatArray, own: FloatArray) -> FloatArray:
    length: FloatArray = np.maximum(1.0, np.round(reference * np.exp(-0.02 + 0.06 * shared + 0.0529 * own)))
    return length


@cache
def _bleu_lengths() -> tuple[FloatArray, float]:
    """(mean number of 1- to 4-grams predicted (4,), mean length of a reference), over two million sentences."""
    rng = np.random.default_rng(0)
    reference = _references(rng, 2_000_000)
    length = _length(reference, rng.standard_normal(2_000_000), rng.standard_normal(2_000_000))
    return np.array([np.maximum(length - j, 0).mean() for j in range(4)]), float(reference.mean())


class Perplexity(World):
    """Texts of very different lengths and difficulties; sd, drops and margins are percent."""

    name = "perplexity"
    scale = "perplexity"
    greater_is_better = False

    def aggregate(self, totals: FloatArray) -> FloatArray:
        # Columns [negative log likelihood, tokens]; ftcheck's has tokens right and bytes besides.
        return likelihood.perplexity(totals[..., [0, 1, 1]])

    def population(self, effects: FloatArray) -> FloatArray:
        value: FloatArray = np.exp(2.3 + effects[:, 0])
        return value

    def examples(self, rng: np.random.Generator, n: int) -> dict[str, FloatArray]:
        tokens = np.maximum(2.0, np.round(np.exp(4.5 + 0.8 * rng.standard_normal(n))))
        return {"tokens": tokens, "hard": 0.225 * (rng.gamma(4, 1, size=n) - 4)}

    def run(
        self, rng: np.random.Generator, examples: dict[str, FloatArray], b: FloatArray, effects: FloatArray
    ) -> FloatArray:
        loss = 2.3 + effects[0] + examples["hard"] + 0.05 * rng.standard_normal(len(b))
        return np.column_stack([examples["tokens"] * loss, examples["tokens"]])


ACCURACY = Accuracy()
WORLDS: tuple[World, ...] = (ACCURACY, MacroF1(), EntityF1(), Bleu(), Perplexity())
BY_NAME: dict[str, World] = {world.name: world for world in WORLDS}
