"""`--ft-plan`: what a run would train, evaluate and find, without importing torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ftcheck.report import numbers

if TYPE_CHECKING:
    from ftcheck.runs import PlannedRun


def line(case_id: str, runs: Sequence[PlannedRun]) -> str:
    """`intents: train 2 seeds, evaluate 2, 1 found in the store`."""
    train, predict = Counter(run.train for run in runs), Counter(run.predict for run in runs)
    parts = []
    if train["train"]:
        first = dict.fromkeys(id_ for run in runs for id_ in run.after)
        after = f" after {', '.join(first)}" if first else ""
        parts.append(f"train {numbers.count(train['train'], 'seed')}{after}")
    if train["none"]:
        parts.append("no training")
    if predict["evaluate"]:
        parts.append(f"evaluate {predict['evaluate']}")
    found = sum(run.predict == "found" and run.train != "train" for run in runs)
    if found:
        parts.append(f"{found} found in the store")
    return f"{case_id}: {', '.join(parts)}"


def total(planned: Sequence[Sequence[PlannedRun]]) -> str:
    """The last line: how much there is to do."""
    runs = [run for case in planned for run in case]
    return (
        f"{numbers.count(len(planned), 'case')}, {numbers.count(len(runs), 'run')}: "
        f"{sum(run.train == 'train' for run in runs)} to train, "
        f"{sum(run.predict == 'evaluate' for run in runs)} to evaluate, "
        f"{sum(run.predict == 'found' and run.train != 'train' for run in runs)} found in the store"
    )
