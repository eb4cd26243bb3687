"""A paired bootstrap of 10,000 resamples of 10,000 examples: `python benchmarks/paired_bootstrap.py`.

Time is the call's alone, wall and processor, on one thread; memory is the peak of a process that does nothing else,
with and without the call. Two kinds of statistics: ten columns of which hardly two rows are alike (BLEU's), and 0/1
scores, whose equal rows are collapsed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import machine, median_and_range

KINDS = {"bleu": "10 columns, rows all different", "accuracy": "0/1 scores"}


def once(kind: str, examples: int, resamples: int) -> dict[str, Any]:
    """One call in this process."""
    import resource
    import time

    import numpy as np

    from ftcheck.metrics import counts, translation
    from ftcheck.statistics import paired_bootstrap

    rng = np.random.default_rng(0)
    if kind == "bleu":
        gold = rng.integers(8, 60, size=examples)
        sides, aggregate = [], translation.bleu
        for chance in (0.70, 0.69):
            total = np.maximum(gold[:, None] - np.arange(4), 0)
            found = rng.binomial(total, chance ** np.arange(1, 5))
            sides.append(np.column_stack([gold, gold, found, total]).astype(float))
    else:
        aggregate = counts.mean
        sides = [np.column_stack([rng.random(examples) < p, np.ones(examples)]).astype(float) for p in (0.86, 0.85)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    found_difference = paired_bootstrap(sides[:1], sides[1:], aggregate, seed=0, resamples=resamples).difference
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "before": before / 1024,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "difference": found_difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--once", choices=KINDS, help="one call in this process, printed as JSON")
    given = parser.parse_args()
    if given.once:
        print(json.dumps(once(given.once, given.examples, given.resamples)))
        return
    sizes = ["--examples", str(given.examples), "--resamples", str(given.resamples)]
    root = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    print(machine())
    for kind, title in KINDS.items():
        command = [sys.executable, __file__, "--once", kind, *sizes]
        calls = [
            json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
            for _ in range(given.runs)
        ]
        wall, cpu, before, peak = ([call[what] for call in calls] for what in ("wall", "cpu", "before", "peak"))
        print(
            f"{title}: {median_and_range(wall, 's')} wall, {median_and_range(cpu, 's')} of processor time; "
            f"peak {median_and_range(peak, 'MB', 0)} of which {median_and_range(before, 'MB', 0)} before the call"
        )


if __name__ == "__main__":
    main()
