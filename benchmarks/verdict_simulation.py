"""How often verdicts are right, in worlds whose truth is known: `python benchmarks/verdict_simulation.py`.

Writes Markdown tables to standard output (docs/verdicts.md holds them) and progress to standard error. Every cell has a
random seed of its own, made of its name, so that `--only` gives the same figures as the whole. A percentage of 2,000
worlds has a standard error of 0.5 near 5 %, 1.1 near 50 %. The experiments are those of tests/statistics.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from measure import machine

from tests.statistics.experiments import (
    HARD,
    Shares,
    clustered,
    collapse,
    few_differ,
    gain,
    grid,
    hard,
    mrpc,
    planned,
    prior,
    rare,
    relative,
    sequential,
    several,
    verdicts,
    would_decide,
)
from tests.statistics.worlds import BY_NAME


@dataclass(frozen=True)
class Experiment:
    name: str
    labels: Sequence[str]
    cells: Sequence[tuple[Any, ...]]
    run: Callable[..., Shares]


METRICS = tuple(BY_NAME)
SDS = (0.3, 1.0, 2.0)
EXPERIMENTS = (
    Experiment(
        "Intervals and false fails",
        ("metric", "n", "seed sd"),
        list(itertools.product(METRICS, (100, 400, 3000), SDS)),
        grid,
    ),
    Experiment("Few errors", ("accuracy", "n", "runs"), [(0.99, 100, 1), (0.98, 100, 5), (0.99, 1000, 1)], rare),
    Experiment(
        "Power",
        ("metric", "n", "seed sd", "drop", "margin", "ρ"),
        [*((metric, 3000, 0.5, 3.0, 1.0, 0.0) for metric in METRICS), ("accuracy", 3000, 0.5, 3.0, 1.0, 1.0)],
        verdicts,
    ),
    Experiment(
        "Equal recipes",
        ("metric", "n", "seed sd", "drop", "margin"),
        [("accuracy", n, 0.5, 0.0, margin) for n in (400, 3000) for margin in (1.0, 2.0)],
        verdicts,
    ),
    Experiment(
        "A drop of exactly the margin",
        ("metric", "n", "seed sd", "drop", "margin"),
        [(metric, 3000, 0.5, 1.0, 1.0) for metric in METRICS] + [("accuracy", 400, 0.5, 1.0, 1.0)],
        verdicts,
    ),
    Experiment(
        "Relative margins",
        ("metric", "n", "seed sd", "drop %", "margin %"),
        [(metric, 3000, 0.5, drop, 2.0) for metric in METRICS for drop in (0.0, 2.0, 5.0)],
        relative,
    ),
    Experiment("Harder worlds", ("world", "n", "seed sd"), list(itertools.product(HARD, (3000,), (0.5, 1.0))), hard),
    Experiment("Assumed seed noise", ("seed sd", "drop"), [(1.0, 0.0), (2.0, 0.0), (3.0, 0.0), (1.0, 10.0)], prior),
    Experiment(
        "Seeds added until decided",
        ("seed sd", "drop", "margin"),
        [(0.3, 0.0, 0.0), (1.0, 0.0, 0.0), (3.0, 0.0, 0.0), (0.5, 0.0, 1.0), (0.5, 3.0, 1.0)],
        sequential,
    ),
    Experiment("Clusters", ("common share", "runs"), [(0.5, 1), (0.9, 1), (0.5, 3), (0.9, 3)], clustered),
    Experiment(
        "Collapsed seeds",
        ("metric", "n"),
        [("accuracy", 400), ("accuracy", 3000), ("entity F1", 3000), ("perplexity", 3000)],
        collapse,
    ),
    Experiment("Slices and several gates", ("slices", "seed sd"), [(5, 0.3), (5, 1.0), (10, 0.3), (10, 1.0)], several),
    Experiment(
        "Gains",
        ("seed sd", "gain", "margin"),
        [(0.5, 0.0, 0.0), (0.5, 0.0, 1.0), (0.5, 1.0, 1.0), (0.5, 3.0, 1.0)],
        gain,
    ),
    Experiment(
        "Few examples differ",
        ("n", "drop and margin"),
        list(itertools.product((50, 100, 400), (2.0, 5.0, 8.0))),
        few_differ,
    ),
    Experiment(
        "Planning",
        ("n", "runs a side", "runs known"),
        [(400, 3, 3), (400, 3, 20), (3000, 3, 3), (3000, 3, 20), (3000, 5, 20)],
        planned,
    ),
    Experiment("What would decide", ("n", "seed sd"), [(400, 0.5), (1000, 0.5), (1000, 1.0)], would_decide),
    Experiment("MRPC's size", ("runs a side",), [(3,), (10,), (22,)], mrpc),
)


def cell(task: tuple[int, tuple[Any, ...], int]) -> Shares:
    index, given, worlds = task
    experiment = EXPERIMENTS[index]
    rng = np.random.default_rng(zlib.crc32(f"{experiment.name} {given}".encode()))
    started = time.perf_counter()
    shares = experiment.run(rng, worlds, *given)
    print(f"{experiment.name} {given}: {time.perf_counter() - started:.1f} s", file=sys.stderr, flush=True)
    return shares


def table(labels: Sequence[str], rows: Sequence[tuple[tuple[Any, ...], Shares]]) -> str:
    """Percentages, and other figures under heads that say so."""
    heads = list(dict.fromkeys(name for _, shares in rows for name in shares))
    lines = [[*labels, *heads], ["---"] * (len(labels) + len(heads))]
    for given, shares in rows:
        padded = [*given, *[0.0] * (len(labels) - len(given))]
        lines.append(
            [
                *(f"{part:g}" if isinstance(part, float) else str(part) for part in padded),
                *(f"{shares[head]:.1f}" if head in shares else "" for head in heads),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=2000, help="worlds in a cell")
    parser.add_argument("--costly", type=int, help="worlds in a cell of macro-F1 or BLEU (default: as --worlds)")
    parser.add_argument("--only", default="", help="experiments with this in their name")
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    chosen = [index for index, known in enumerate(EXPERIMENTS) if given.only.lower() in known.name.lower()]

    def worlds(parts: tuple[Any, ...]) -> int:
        costly = {"macro-F1", "BLEU"} & set(parts)
        return int(given.costly if costly and given.costly else given.worlds)

    tasks = [(index, parts, worlds(parts)) for index in chosen for parts in EXPERIMENTS[index].cells]
    started = time.perf_counter()
    with multiprocessing.Pool(given.processes) as pool:
        results = dict(zip([task[:2] for task in tasks], pool.imap(cell, tasks), strict=True))
    minutes, costly = (time.perf_counter() - started) / 60, given.costly or given.worlds
    print(
        f"{machine()}, {given.processes} process(es), {minutes:.0f} min; "
        f"{given.worlds:,} worlds a cell, {costly:,} where the metric is macro-F1 or BLEU."
    )
    for index in chosen:
        experiment = EXPERIMENTS[index]
        assert experiment.run.__doc__ is not None
        rows = [(parts, results[index, parts]) for parts in experiment.cells]
        print(f"\n### {experiment.name}\n\n{experiment.run.__doc__}\n\n{table(experiment.labels, rows)}")


if __name__ == "__main__":
    main()
