"""Experiments in worlds whose truth is known: each returns percentages of its worlds.

The unit tests run a cell or two of each, benchmarks/verdict_simulation.py all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ftcheck.statistics import (
    Comparison,
    collapsed,
    compare,
    decide,
    decide_gain,
    decided_by,
    detectable,
    estimate,
    holm,
    noise_of,
    plan,
    plan_again,
    provable,
)
from tests.statistics.worlds import ACCURACY, BY_NAME, Accuracy, Side, World, point, truth, worse_by

Rng = np.random.Generator
Shares = dict[str, float]
RUNS = (2, 3, 5)


def judged(world: World, before: Any, after: Any, **given: Any) -> Comparison:
    """`after` against `before`, both trained unless `given` says otherwise."""
    return compare(
        before,
        after,
        world.aggregate,
        greater_is_better=world.greater_is_better,
        scale=world.scale,
        **{"fixed_baseline": False, "fixed_candidate": False, **given},
    )


def percent(counts: Counter[str], of: int, names: Iterable[str]) -> Shares:
    return {name: 100 * counts[name] / of for name in names}


def grid(rng: Rng, worlds: int, metric: str, n: int, sd: float) -> Shares:
    """Coverage of 95 % intervals; false fails at margin 0 and passes at margin 1, of recipes that are equal."""
    world, found = BY_NAME[metric], Counter[str]()
    recipe, one = truth(world, sd), point(world, sd)
    covers = {1: "covers, 1 fixed", **{k: f"covers, {k}" for k in RUNS}}
    for _ in range(worlds):
        (before, after), effects = world.draw(rng, n, sd, [Side(runs=5), Side(runs=5)])
        for k, name in covers.items():
            interval = estimate(
                before[:k], world.aggregate, scale=world.scale, binary=world.binary, fixed=k == 1
            ).interval
            about = recipe if k > 1 else float(world.population(effects[0][:1])[0])
            found[name] += interval is not None and interval.low <= about <= interval.high
        for k in RUNS:
            comparison = judged(world, before[:k], after[:k])
            found[f"false fails, {k}+{k}"] += decide(comparison, 0.0) == "fail"
            found[f"passes at 1, {k}+{k}"] += decide(comparison, one) == "pass"
    names = [*covers.values(), *(f"{what}, {k}+{k}" for what in ("false fails", "passes at 1") for k in RUNS)]
    return percent(found, worlds, names)


def rare(rng: Rng, worlds: int, accuracy: float, n: int, k: int) -> Shares:
    """Coverage of 95 % intervals where errors are few; one fixed run, or five trained ones at a seed sd of 0.3."""
    world, found, sd = Accuracy(accuracy), 0, 0.0 if k == 1 else 0.3
    for _ in range(worlds):
        (runs,), effects = world.draw(rng, n, sd, [Side(runs=k)])
        about = truth(world, sd) if k > 1 else float(world.population(effects[0])[0])
        interval = estimate(runs, world.aggregate, scale="proportion", binary=True, fixed=k == 1).interval
        found += interval is not None and interval.low <= about <= interval.high
    return {"covers": 100 * found / worlds}


def verdicts(
    rng: Rng, worlds: int, metric: str, n: int, sd: float, drop: float, margin: float, interaction: float = 0.0
) -> Shares:
    """Verdicts of k+k runs on a candidate that is truly worse by the drop, in points (perplexity: percent)."""
    world, found = BY_NAME[metric], Counter[str]()
    shift, delta = worse_by(world, sd, drop), margin * point(world, sd)
    for _ in range(worlds):
        (before, after), _ = world.draw(rng, n, sd, [Side(runs=5), Side(runs=5, shift=shift)], interaction=interaction)
        for k in RUNS:
            comparison = judged(world, before[:k], after[:k])
            found[f"{decide(comparison, delta)}, {k}+{k}"] += 1
            found[f"proven fail, {k}+{k}"] += decide(comparison, delta, proven=True) == "fail"
    return percent(found, worlds, [f"{what}, {k}+{k}" for what in ("fail", "proven fail", "pass") for k in RUNS])


def relative(rng: Rng, worlds: int, metric: str, n: int, sd: float, drop: float, share: float) -> Shares:
    """Margins and drops as a share of the baseline."""
    world, found = BY_NAME[metric], Counter[str]()
    points = drop if world.scale == "perplexity" else drop * truth(world, sd)
    shift = worse_by(world, sd, points)
    for _ in range(worlds):
        (before, after), _ = world.draw(rng, n, sd, [Side(runs=5), Side(runs=5, shift=shift)])
        for k in RUNS:
            comparison = judged(world, before[:k], after[:k], relative=share / 100)
            found[f"{decide(comparison, None)}, {k}+{k}"] += 1
            found[f"proven fail, {k}+{k}"] += decide(comparison, None, proven=True) == "fail"
    return percent(found, worlds, [f"{what}, {k}+{k}" for what in ("fail", "proven fail", "pass") for k in RUNS])


@dataclass(frozen=True)
class Hard:
    """Equal means, but not the equal and normal seeds that the method supposes."""

    before: int
    after: int
    factor: float = 1.0
    interaction: float = 0.0
    tail: Any = "normal"
    fixed: bool = False


HARD = {
    "one candidate run against 3": Hard(3, 1),
    "one candidate run against 5": Hard(5, 1),
    "different recipes (ρ = 1), 2+2": Hard(2, 2, interaction=1),
    "different recipes (ρ = 1), 3+3": Hard(3, 3, interaction=1),
    "different recipes (ρ = 1), 5+5": Hard(5, 5, interaction=1),
    "different fixed weights (ρ = 1)": Hard(1, 1, interaction=1, fixed=True),
    "seeds of Student's t₃, 3+3": Hard(3, 3, tail="t3"),
    "exponential seeds, 3+3": Hard(3, 3, tail="exponential"),
    "candidate's seeds vary 3 times as much, 3+3": Hard(3, 3, factor=3),
    "candidate's seeds vary 3 times as much, 5+3": Hard(5, 3, factor=3),
    "candidate's seeds vary 3 times as much, 3+1": Hard(3, 1, factor=3),
    "candidate's seeds vary 3 times as much, 5+1": Hard(5, 1, factor=3),
}


def hard(rng: Rng, worlds: int, what: str, n: int, sd: float) -> Shares:
    """False fails at margin 0."""
    case, fails = HARD[what], 0
    if case.fixed:
        sd = 0.0
    sides = [Side(runs=case.before), Side(runs=case.after, sd_factor=case.factor)]
    for _ in range(worlds):
        (before, after), _ = ACCURACY.draw(rng, n, sd, sides, interaction=case.interaction, tail=case.tail)
        comparison = judged(ACCURACY, before, after, fixed_baseline=case.fixed, fixed_candidate=case.fixed)
        fails += decide(comparison, 0.0) == "fail"
    return {"false fails": 100 * fails / worlds}


def prior(rng: Rng, worlds: int, sd: float, drop: float) -> Shares:
    """One run a side, σ₀ = 1 point assumed."""
    found = Counter[str]()
    sides = [Side(runs=1), Side(runs=1, shift=worse_by(ACCURACY, sd, drop))]
    for _ in range(worlds):
        (before, after), _ = ACCURACY.draw(rng, 3000, sd, sides)
        found[decide(judged(ACCURACY, before, after, prior_sd=0.01), 0.0)] += 1
    return percent(found, worlds, ("fail", "pass", "inconclusive"))


def sequential(rng: Rng, worlds: int, sd: float, drop: float, margin: float) -> Shares:
    """From 2 to 8 candidate seeds against 3, until it is decided."""
    found, seeds = Counter[str](), 0
    sides = [Side(runs=3), Side(runs=8, shift=worse_by(ACCURACY, sd, drop))]
    for _ in range(worlds):
        (before, after), _ = ACCURACY.draw(rng, 3000, sd, sides)
        for corrected, looks in (("", 7), (", uncorrected", 1)):
            for k in range(2, 9):
                verdict = decide(judged(ACCURACY, before, after[:k], looks=looks), margin / 100)
                if verdict != "inconclusive":
                    break
            found[verdict + corrected] += 1
            seeds += k if looks == 7 else 0
    shares = percent(found, worlds, ("fail", "pass", "inconclusive", "fail, uncorrected"))
    return {**shares, "seeds used": seeds / worlds}


def clustered(rng: Rng, worlds: int, share: float, k: int) -> Shares:
    """80 clusters of 5 examples, `share` of the variance of difficulty common to a cluster."""
    found, sd = Counter[str](), 1.0
    ids = np.repeat(np.arange(80), 5)
    for _ in range(worlds):
        (runs, other), effects = ACCURACY.draw(
            rng, 400, sd, [Side(runs=k), Side(runs=k)], cluster=(5, share), interaction=0.0
        )
        about = truth(ACCURACY, sd) if k > 1 else float(ACCURACY.population(effects[0])[0])
        for name, given in (("rows", None), ("clusters", ids)):
            interval = estimate(
                runs, ACCURACY.aggregate, scale="proportion", binary=True, fixed=k == 1, clusters=given
            ).interval
            found[f"covers by {name}"] += interval is not None and interval.low <= about <= interval.high
            if k > 1:
                comparison = judged(ACCURACY, runs, other, clusters=given)
                found[f"false fails by {name}"] += decide(comparison, 0.0) == "fail"
    names = [f"{what} by {by}" for what in ("covers", "false fails") for by in ("rows", "clusters")]
    return percent(found, worlds, names if k > 1 else names[:2])


def collapse(rng: Rng, worlds: int, metric: str, n: int) -> Shares:
    """One of five candidate seeds learned nothing, otherwise both sides are equal. Of accuracy it always says the class
    that 68 % have, so that it scores what that class makes up in the judged rows. "lucky": it is another model that is
    right in 68 %, and so a little above or below that share."""
    world, found, sd = BY_NAME[metric], Counter[str](), 1.0
    delta, majority, lucky = point(world, sd), 0.0, "named rightly where it is lucky"
    for _ in range(worlds):
        (before, after), _ = world.draw(rng, n, sd, [Side(runs=5), Side(runs=5)])
        lost = after[2].copy()
        if metric == "accuracy":
            lost[:, 0] = rng.random(n) < 0.68
            majority = float(lost[:, 0].mean())
        elif metric == "entity F1":
            lost[:, :2] = 0
        else:
            lost[:, 0] *= 2
        after[2] = lost
        values = [float(world.aggregate(rows.sum(axis=0))) for rows in after]
        given: dict[str, Any] = {"examples": n, "scale": world.scale, "greater_is_better": world.greater_is_better}
        which = collapsed(values, majority, **given).runs
        found["named rightly"] += which == (False, False, True, False, False)
        if metric == "accuracy":
            found[lucky] += collapsed(values, 0.68, **given).runs == (False, False, True, False, False)
        found[f"{decide(judged(world, before, after), delta)}, count"] += 1
        left = [rows for rows, gone in zip(after, which, strict=True) if not gone]
        found[f"{decide(judged(world, before, left), delta)}, drop"] += 1
    outcomes = ("fail", "pass", "inconclusive")
    names = ["named rightly", *([lucky] if metric == "accuracy" else [])]
    return percent(found, worlds, [*names, *(f"{o}, {p}" for p in ("count", "drop") for o in outcomes)])


def several(rng: Rng, worlds: int, slices: int, sd: float) -> Shares:
    """Gates on equal slices of 3,000 examples, 3+3 runs, margin 0: one slice's coverage, and any gate's false fail."""
    found = Counter[str]()
    size = 3000 // slices
    for _ in range(worlds):
        (before, after), _ = ACCURACY.draw(rng, 3000, sd, [Side(runs=3), Side(runs=3)])
        parts = [slice(start, start + size) for start in range(0, size * slices, size)]
        pairs = [([run[part] for run in before], [run[part] for run in after]) for part in parts]
        compared = [judged(ACCURACY, *pair) for pair in pairs]
        interval = estimate(pairs[0][0], ACCURACY.aggregate, scale="proportion", binary=True, fixed=False).interval
        found["a slice's interval covers"] += interval is not None and (
            interval.low <= truth(ACCURACY, sd) <= interval.high
        )
        found["its gate fails"] += decide(compared[0], 0.0) == "fail"
        found["any gate fails"] += any(decide(comparison, 0.0) == "fail" for comparison in compared)
        found["any gate fails, Holm"] += min(holm([comparison.p_worse for comparison in compared])) <= 0.05
    return percent(
        found, worlds, ("a slice's interval covers", "its gate fails", "any gate fails", "any gate fails, Holm")
    )


def gain(rng: Rng, worlds: int, sd: float, better: float, margin: float) -> Shares:
    """Alarms of `max_gain`, absolute and of the same share of the baseline."""
    found = Counter[str]()
    sides = [Side(runs=5), Side(runs=5, shift=worse_by(ACCURACY, sd, -better))]
    share = margin / 100 / truth(ACCURACY, sd)
    for _ in range(worlds):
        (before, after), _ = ACCURACY.draw(rng, 3000, sd, sides)
        for k in RUNS:
            comparison = judged(ACCURACY, before[:k], after[:k], relative=-share)
            found[f"alarm, {k}+{k}"] += decide_gain(comparison, margin / 100) == "fail"
            found[f"proven alarm, {k}+{k}"] += decide_gain(comparison, margin / 100, proven=True) == "fail"
            found[f"relative alarm, {k}+{k}"] += decide_gain(comparison, None) == "fail"
    return percent(
        found, worlds, [f"{what}, {k}+{k}" for what in ("alarm", "proven alarm", "relative alarm") for k in RUNS]
    )


def few_differ(rng: Rng, worlds: int, n: int, drop: float) -> Shares:
    """Fixed weights of which the candidate breaks few examples; its drop is exactly the margin, so it should not
    pass. "other m": the factor 1 + 2/m with the m examples on which the sides differ, not all whose influence is not
    0."""
    found, pairs, other = Counter[str](), 0, "pass, other m"
    for _ in range(worlds):
        right = rng.random(n) < 0.9
        broken = right & (rng.random(n) < drop / 100 / 0.9)
        before, after = (np.column_stack([kept, np.ones(n)]).astype(float) for kept in (right, right & ~broken))
        comparison = judged(ACCURACY, [before], [after], fixed_baseline=True, fixed_candidate=True)
        found[decide(comparison, drop / 100)] += 1
        noise, m = comparison.noise, comparison.discordant
        assert noise is not None
        if m:  # of centred influences none is 0 then
            noise = replace(noise, v_e=noise.v_e * (1 + 2 / m) / (1 + 2 / n))
        found[other] += comparison.difference + noise.half_width(comparison.confidence) <= drop / 100
        pairs += m
    return {**percent(found, worlds, ("pass", "fail", "inconclusive", other)), "examples that differ": pairs / worlds}


def planned(rng: Rng, worlds: int, n: int, k: int, known_from: int) -> Shares:
    """Planned for 80 %, from a baseline of some runs whose first k were compared once: how often it happens."""
    found, sd = Counter[str](), 0.5
    for _ in range(worlds):
        (before, earlier), _ = ACCURACY.draw(rng, n, sd, [Side(runs=known_from), Side(runs=k)])
        baseline = estimate(before, ACCURACY.aggregate, scale="proportion", binary=True, fixed=False)
        assert baseline.spread is not None
        ahead = plan(
            noise_of(baseline.spread, baseline.per_run),
            runs_baseline=k,
            runs_candidate=k,
            last=judged(ACCURACY, before[:k], earlier),
        )
        margin, drop = provable(ahead), detectable(ahead, 0.01)
        # A fresh world: planning is for comparisons to come.
        (fresh, equal, worse), _ = ACCURACY.draw(
            rng, n, sd, [Side(runs=k), Side(runs=k), Side(runs=k, shift=worse_by.__wrapped__(ACCURACY, sd, 100 * drop))]
        )
        found["passes at the provable margin"] += decide(judged(ACCURACY, fresh, equal), margin) == "pass"
        found["the detectable drop fails at 1"] += decide(judged(ACCURACY, fresh, worse), 0.01) == "fail"
        found["provable"] += round(1e6 * margin)
        found["detectable"] += round(1e6 * drop)
    shares = percent(found, worlds, ("passes at the provable margin", "the detectable drop fails at 1"))
    return {
        **shares,
        "mean provable margin (points)": found["provable"] / worlds / 1e4,
        "mean detectable drop (points)": found["detectable"] / worlds / 1e4,
    }


def would_decide(rng: Rng, worlds: int, n: int, sd: float) -> Shares:
    """Inconclusive comparisons at margin 1 (half of the worlds equal, half with a drop of 3): what is advised, and how
    often it decides where the truth is as it was measured (n' up to 20 times n is tried). 3+3 runs, at a seed sd of 0
    different fixed weights."""
    found, fixed = Counter[str](), sd == 0
    flags, rho = {"fixed_baseline": fixed, "fixed_candidate": fixed}, 1.0 if fixed else 0.0
    start = 1 if fixed else 3

    def once(examples: int, runs: int, points: float) -> Comparison:
        sides = [Side(runs=runs), Side(runs=runs, shift=worse_by.__wrapped__(ACCURACY, sd, points))]
        return judged(ACCURACY, *ACCURACY.draw(rng, examples, sd, sides, interaction=rho)[0], **flags)

    for _ in range(worlds):
        comparison = once(n, start, float(rng.choice([0.0, 3.0])))
        if decide(comparison, 0.01) != "inconclusive":
            continue
        found["inconclusive"] += 1
        needed = decided_by(comparison, 0.01)
        found["examples cannot"] += needed.examples_why == "cannot"
        found["seeds cannot"] += needed.seeds_why == "cannot"
        found["on the margin"] += "margin" in (needed.examples_why, needed.seeds_why)
        for what, more, runs in (("n'", needed.examples, start), ("k'", n, needed.seeds)):
            if more is None or runs is None or more > 20 * n:
                continue
            found[f"tried {what}"] += 1
            found[f"decided by {what}"] += decide(once(more, runs, 100 * comparison.difference), 0.01) != "inconclusive"
    of = max(1, found["inconclusive"])
    shares = percent(found, of, ("examples cannot", "seeds cannot", "on the margin"))
    tried = {
        f"decided by {what}": 100 * found[f"decided by {what}"] / found[f"tried {what}"]
        for what in ("n'", "k'")
        if found[f"tried {what}"]
    }
    return {"inconclusive": 100 * found["inconclusive"] / worlds, **shares, **tried}


def mrpc(rng: Rng, worlds: int, k: int) -> Shares:
    """The smallest provable margin on 408 examples at a seed sd of 0.5 (planned from 30+30 runs): how often it
    passes."""
    (before, after), _ = ACCURACY.draw(rng, 408, 0.5, [Side(runs=30), Side(runs=30)])
    again = plan_again(judged(ACCURACY, before, after))
    margin = provable(replace(again, c=2 / k, nu=2 * (k - 1)))
    passes = 0
    for _ in range(worlds):
        (first, second), _ = ACCURACY.draw(rng, 408, 0.5, [Side(runs=k), Side(runs=k)])
        passes += decide(judged(ACCURACY, first, second), margin) == "pass"
    return {"provable margin (points)": 100 * margin, "passes": 100 * passes / worlds}
