"""Which margins of a session's cases can't be proven, as far as what they will be compared with knows it already."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck import baselines, power
from ftcheck.errors import FtcheckError

if TYPE_CHECKING:
    from ftcheck.evidence import Missing
    from ftcheck.references import Other
    from ftcheck.settings import Settings
    from ftcheck.spec import Case
    from ftcheck.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What is needed to look ahead. Device and store are asked for when a case has something to be compared with: the
    first may take long."""

    settings: Settings
    device: Callable[[], str]
    """The kind of device."""
    store: Callable[[], Store]

    def told(self, cases: Iterable[Case]) -> Iterator[str]:
        """A sentence per case with such a margin. Only told, so what can't be read isn't: the case itself will say it.
        A smoke run judges nothing, so there is nothing to tell."""
        if self.settings.limit is not None:
            return
        for case in cases:
            bounds = [bounds for gate in case.gates for bounds in (gate, gate.slices) if bounds is not None]
            if case.training is None or all(bound.max_regression is None for bound in bounds):
                continue
            try:
                known = self._known(case)
            except FtcheckError:
                continue
            if known is not None and (told := power.unprovable(case, known, seeds=self.settings.seeds)):
                yield told

    def _known(self, case: Case) -> power.Known | None:
        """What is known of the case's reference; None of what has yet to be measured itself. Raises FtcheckError."""
        if self.settings.compare is not None:
            from ftcheck import operands

            return _of(case, operands.other(self.settings.compare, case, self.device(), self.store(), Path.cwd()))
        kind, _, ref = case.vs.partition(":")
        if kind == "git":
            from ftcheck import references

            return _of(case, references.at_commit(case, self.device(), ref))
        if kind != "baseline":
            return None
        entries = baselines.read(baselines.place(case.suite, case.id)).entries
        entry = entries.get(self.device()) if entries else None
        return None if entry is None else power.Known.of_entry(entry)


def _of(case: Case, other: Other | Missing) -> power.Known | None:
    from ftcheck.references import Other

    if not isinstance(other, Other):
        return None
    return power.Known.of_entry(other.entry) if other.entry is not None else _planned(case, other)


def _planned(case: Case, other: Other) -> power.Known | None:
    """For runs that no baseline was written of: planned now, on all rows. Which rows make a part isn't known."""
    from ftcheck import restoring, statistics

    if other.arm.fixed:
        return None
    found = {}
    for name, metric in restoring.definitions(other, case.suite.parent).items():
        known = statistics.estimate(
            other.arm.metrics[name], metric.aggregate, scale=metric.scale, binary=metric.binary, fixed=False
        )
        if not math.isfinite(known.value):
            continue
        data = " ".join(filter(None, (case.data.path, case.data.name)))
        planned = power.of_metric(
            case,
            name,
            known.value,
            own=None if known.spread is None else statistics.noise_of(known.spread, known.per_run),
            calibration=None,
            runs_baseline=len(known.per_run),
            prior_sd=statistics.prior_sd(case.task, data, None, scale=metric.scale, value=known.value)[0],
        )
        if planned is not None:
            found[name] = planned
    return power.Known(runs=len(other.arm.keys), examples=len(other.arm.ids), power=found, weakest={}, calibration={})
