"""What a case is compared with, and what is known of why the two differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ftcheck import baselines, keys, statistics, tasks
from ftcheck.errors import BaselineError, FtcheckError, shown
from ftcheck.evidence import Arm, Evidence, Missing, Pair
from ftcheck.git import Commit
from ftcheck.results import Flip, Marked, Reference, WorstExample

if TYPE_CHECKING:
    from pathlib import Path

    from ftcheck.baselines import Baseline, Entry
    from ftcheck.metrics import FloatArray
    from ftcheck.runs import Finished, Scored
    from ftcheck.spec import Case
    from ftcheck.store import Store

MOST_FLIPS = 10
SAME_LOSS = 1e-4
"""Losses that differ by a smaller part are those of one training, whatever the order of additions."""
FLIPPED = 0.5
"""By how much an example's own score (mean over runs) must change to count as broken or fixed."""


@dataclass(frozen=True, kw_only=True)
class Other:
    """The other side of a comparison."""

    against: str
    described: str
    arm: Arm
    components: Mapping[str, Any]
    """The keys' named components, `train` and `predict`."""
    train_keys: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    trace: tuple[tuple[float, ...], ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    """What the baseline's file says of each metric."""
    rows: Any = None
    """(training rows, 4): the first bytes of their hashes; None where unknown."""
    labels: tuple[str, ...] = ()
    """The classes that metrics count by, in order."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """What the first run was trained with: recorded, not compared."""
    entry: Entry | None = None
    """The baseline's entry, where it is one."""


def arm(scored: Scored, *, fixed: bool) -> Arm:
    """A scored case as one side of a comparison."""
    return Arm(
        ids=scored.ids,
        metrics=scored.statistics,
        signatures={name: metric.signature for name, metric in scored.metrics.items()},
        fixed=fixed,
        keys=tuple(run.run.predict.digest for run in scored.runs),
    )


def of_scored(scored: Scored, against: str, *, fixed: bool) -> Other:
    """Another case's runs as the other side."""
    run, case = scored.runs[0], scored.runs[0].run.job.case
    first, context = run.run, tasks.get(case.task).context(dict(run.meta), case.task_options)
    return Other(
        against=against,
        described=f"{len(scored.runs)} runs" if len(scored.runs) > 1 else "1 run",
        arm=arm(scored, fixed=fixed),
        components=baselines.condensed(first.train.components, first.predict.components),
        train_keys=tuple(run.run.train.digest for run in scored.runs),
        seeds=tuple(run.run.job.seed for run in scored.runs),
        trace=tuple(run.first_losses for run in scored.runs),
        rows=scored.train_rows(),
        labels=context.labels,
        environment=run.trained.content.get("environment", {}) if run.trained else {},
    )


def of_entry(baseline: Baseline, entry: Entry, against: str) -> Other:
    """An accepted result as the other side. Raises BaselineError for a file that was edited by hand or is damaged."""
    found = baseline.statistics(entry)
    return Other(
        against=against,
        described=f"{entry.device}, {entry.accepted}",
        arm=Arm(
            ids=found.ids,
            metrics={name: list(found.metrics[name]) for name in entry.metrics if name in found.metrics},
            signatures={name: record.signature for name, record in entry.metrics.items()},
            fixed=entry.fixed,
            keys=entry.keys["predict"],
            calibration=entry.calibration,
        ),
        components=entry.components,
        train_keys=entry.keys["train"],
        seeds=entry.seeds,
        trace=entry.trace,
        values={name: record.value for name, record in entry.metrics.items() if name in found.metrics},
        rows=found.rows,
        labels=entry.labels,
        environment=entry.environment,
        entry=entry,
    )


def committed(case: Case, device: str, *, first: bool = False) -> Other | Missing:
    """The committed baseline of `case` on this kind of device; or (`first`) the first result that was accepted."""
    return _of_baseline(baselines.read(baselines.place(case.suite, case.id)), device, "the baseline", first=first)


def at_commit(case: Case, device: str, ref: str) -> Other | Missing:
    """The baseline as it was committed at `ref`. Raises BaselineError for no such commit."""
    source = Commit(ref=ref, folder=case.suite.parent)
    source.check()
    found = baselines.read(baselines.place(case.suite, case.id), source)
    return _of_baseline(found, device, f"the baseline at {shown(ref, 60)}")


def at_path(path: Path, device: str, against: str) -> Other | Missing:
    """The baseline in the file at `path`, whatever case it is of."""
    return _of_baseline(baselines.read(path), device, against)


def _of_baseline(baseline: Baseline, device: str, against: str, *, first: bool = False) -> Other | Missing:
    entry = baseline.entries.get(device)
    if entry is None:
        others = ", ".join(sorted(baseline.entries))
        known = f" (it has {others})" if others else ""
        return Missing(
            verdict="new", why=f"{against} has no entry for {device} yet{known}: accept one with --ft-update"
        )
    if first:
        # What is known of the seeds' noise holds for both.
        return of_entry(baseline, replace(entry.first, calibration=entry.calibration), "the first accepted")
    return of_entry(baseline, entry, against)


def check(other: Other, evidence: Evidence) -> None:
    """Raise BaselineError where a baseline's JSON doesn't say what its statistics do: it was edited by hand."""
    for name, value in other.values.items():
        if name not in evidence.metrics or other.arm.signatures[name] != evidence.candidate.signatures[name]:
            continue
        metric = evidence.metrics[name]
        real = float(np.mean([statistics.value(rows, metric.aggregate) for rows in other.arm.metrics[name]]))
        if abs(baselines.rounded(real) - value) > 1e-5 * max(abs(real), 1e-9):
            raise BaselineError(
                f"{other.against} says {name} {value:g}, but its statistics say {real:g}: it was edited by hand; "
                "restore it from git, or accept a result with --ft-update"
            )


def flipped(evidence: Evidence, pair: Pair, metric: str) -> FloatArray:
    """(common examples,): by how much the metric of each example alone changed; FLIPPED or more is a flip."""
    theirs, ours = pair.places
    before = evidence.example_scores(metric, pair.reference)[theirs]
    after = evidence.example_scores(metric, pair.candidate)[ours]
    change: FloatArray = np.nan_to_num(after - before)
    return change


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What is known of why two sides differ."""

    other: Other
    pair: Pair
    scored: Scored
    evidence: Evidence
    store: Store

    def reference(self, gated: Sequence[str]) -> Reference:
        """Components, training rows and first losses that differ, and examples that flipped, by the first of the
        `gated` metrics that single examples can be right by."""
        found = Reference(
            against=self.other.against,
            described=self.other.described,
            examples=len(self.other.arm.ids),
            common=self.pair.common,
            changes=tuple(self._changes()),
            trace=self._trace(),
        )
        metrics = self.evidence.metrics
        usable = [name for name in gated if name in self.other.arm.metrics and metrics[name].scale == "proportion"]
        if self.pair.same or self.pair.too_unlike or not usable:
            return found
        return self._with_flips(found, usable[0])

    def _changes(self) -> list[str]:
        """The named components that differ, each once, and how many training rows do."""
        first = self.scored.runs[0].run
        ours = baselines.condensed(first.train.components, first.predict.components)
        found: dict[str, None] = {}
        for stage, components in ours.items():
            found |= dict.fromkeys(map(str, keys.diff(self.other.components.get(stage, {}), components)))
        rows = _changed_rows(self.other.rows, self.scored.train_rows())
        return [*([rows] if rows else []), *found]

    def _trace(self) -> str:
        ours = {run.run.job.seed: run for run in self.scored.runs}
        if set(self.other.train_keys) & {run.run.train.digest for run in self.scored.runs}:
            return "the same training: only the evaluation differs"
        for seed, theirs in zip(self.other.seeds, self.other.trace, strict=False):
            if seed not in ours or not theirs or not ours[seed].first_losses:
                continue
            pairs = list(zip(theirs, ours[seed].first_losses, strict=False))
            unlike = (step for step, (a, b) in enumerate(pairs, 1) if abs(a - b) > SAME_LOSS * max(abs(a), abs(b)))
            parted = next(unlike, None)
            if parted is not None:
                return f"the training differs from step {parted} on (seed {seed})"
            return f"the first {len(pairs)} steps of the training are the same (seed {seed})"
        return ""

    def _with_flips(self, found: Reference, metric: str) -> Reference:
        ours = self.pair.places[1]
        change = flipped(self.evidence, self.pair, metric)
        broken, fixed = np.flatnonzero(change <= -FLIPPED), np.flatnonzero(change >= FLIPPED)
        worst = broken[np.argsort(change[broken], kind="stable")][:MOST_FLIPS]
        found = replace(found, broken=len(broken), fixed=len(fixed))
        if not len(worst):
            return found
        past, flips = self._past_records(), dict[int, Flip]()
        for run in self.scored.runs:  # an example may have broken in some of them only
            left = [place for place in worst.tolist() if place not in flips]
            if not left:
                break
            records = run.records()
            for place in left:
                record = records[int(ours[place])]
                if flip := _flip(record, past.get(record["hash"]), run, float(change[place])):
                    flips[place] = flip
        return replace(found, flips=tuple(flips[place] for place in worst.tolist() if place in flips))

    def _past_records(self) -> dict[str, Mapping[str, Any]]:
        """Hash -> record of the other side's first run, where the store still has it. It only illustrates: what can't
        be read isn't shown."""
        from ftcheck import examples

        try:
            entry = self.store.get("predictions", self.other.arm.keys[0])
            return {record["hash"]: record for record in examples.read(entry.read(examples.FILE))} if entry else {}
        except FtcheckError:
            return {}


def _changed_rows(theirs: Any, ours: Any) -> str:
    """How many rows two trainings don't share, given 4 bytes of each row's hash."""
    if theirs is None or ours is None:
        return ""
    before, after = (np.ascontiguousarray(side).view(np.uint32).reshape(-1) for side in (theirs, ours))
    values, place = np.unique(np.concatenate([before, after]), return_inverse=True)
    counts = [np.bincount(part, minlength=len(values)) for part in np.split(place.reshape(-1), [len(before)])]
    gone = int(np.maximum(counts[0] - counts[1], 0).sum())
    new = int(np.maximum(counts[1] - counts[0], 0).sum())
    if not gone and not new:
        return ""
    return f"{max(gone, new):,} of {max(len(before), len(after)):,} training rows ({gone:,} gone, {new:,} new)"


def _flip(record: Mapping[str, Any], earlier: Mapping[str, Any] | None, run: Finished, change: float) -> Flip | None:
    """What a run has wrong now; None where it has it right."""
    now, then = _example(record, run), _example(earlier, run)
    if now is None:
        return None
    return Flip(
        id=str(record.get("id", record["hash"][:12])),
        input=now.input,
        gold=now.gold,
        before=then.predicted if then else "right" if earlier else "",
        after=now.predicted,
        change=change,
        marked=_marked(now, then),
    )


def _marked(now: WorstExample, then: WorstExample | None) -> Marked | None:
    """The text of `now`, with what was predicted before too where that is known of the same text."""
    if now.marked is None or then is None or then.marked is None or then.marked.text != now.marked.text:
        return now.marked
    before = [replace(mark, role="before") for mark in then.marked.marks if mark.role == "predicted"]
    return replace(now.marked, marks=(*now.marked.marks, *before))


def _example(record: Mapping[str, Any] | None, run: Finished) -> WorstExample | None:
    """A record as reports show a wrong example; None for one that is right."""
    if record is None:
        return None
    case = run.run.job.case
    found = tasks.get(case.task).worst([dict(record)], dict(run.meta), case.task_options)
    return found[0] if found else None


Peers = Callable[[str], "Case | None"]
"""Id -> another case of the same suite file."""
