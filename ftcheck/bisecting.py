"""`ftcheck bisect`: which changes since the baseline moved a metric, found by putting them back one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ftcheck import baselines, judging, keys, references
from ftcheck.errors import BaselineError, FtcheckError, UsageError, one_of, shown
from ftcheck.evidence import Missing, Part
from ftcheck.putback import Past, Variant, cause_of, put_back
from ftcheck.report import numbers

if TYPE_CHECKING:
    from ftcheck.baselines import Entry
    from ftcheck.finetune import Progress
    from ftcheck.keys import Change
    from ftcheck.pipeline import Pipeline
    from ftcheck.references import Other
    from ftcheck.results import Scale
    from ftcheck.runs import Scored
    from ftcheck.spec import Case
    from ftcheck.statistics import Comparison

ALL = "all of these"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much worse one side is than another, in the metric's unit, with one-sided bounds."""

    worse: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Something that changed since the baseline."""

    name: str
    changes: tuple[str, ...]
    """What the keys say of it: `training.learning_rate 0.9 → 0.6`."""
    explains: Difference | None = None
    """How much worse the case is now than with this put back; None where it wasn't."""
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """What explains the difference of one metric between a baseline and now."""

    case: Case
    metric: str
    scale: Scale
    described: str
    """The baseline: `cpu, accepted 2026-11-02 by Ada (a1b2c3d)`."""
    before: float
    after: float
    total: Difference
    confidence: float
    causes: tuple[Cause, ...]
    """Those that could be put back, what explains most first; then the others."""
    together: Difference | None
    """How much worse the case is now than with all of them put back; None where there is none."""
    remaining: Difference | None
    """How much worse the case stays than the baseline with all of them put back: what they don't explain."""


@dataclass(frozen=True, kw_only=True)
class _Measuring:
    """Variants of one case, measured and compared by one metric."""

    pipeline: Pipeline
    case: Case
    metric: str
    before: Other
    """The baseline, whose calibration tells of all variants' seeds."""
    on_progress: Callable[[int, Progress], None]
    on_wait: Callable[[str], None]

    def scored(self, case: Case) -> Scored:
        """All runs of a variant, by the seeds of the case."""
        finished = self.pipeline.finish(case, on_progress=self.on_progress, on_wait=self.on_wait)
        return self.pipeline.scored(case, finished, named=self.case)

    def other(self, case: Case) -> Other:
        """A variant as what the case is compared with."""
        found = references.of_scored(self.scored(case), "the variant", fixed=case.training is None)
        return replace(found, arm=replace(found.arm, calibration=self.before.arm.calibration))

    def compared(self, reference: Other, case: Case, scored: Scored) -> Comparison:
        """How much worse `scored` is than `reference`. Raises BaselineError where they can't be compared."""
        evidence = judging.evidence(case, scored, {"reference": reference})
        references.check(reference, evidence)
        gate = next((gate for gate in case.gates if gate.metric == self.metric), None)
        found = evidence.compared(
            self.metric,
            "reference",
            Part(),
            confidence=gate.confidence if gate is not None else 0.95,
            relative=None,
        )
        if isinstance(found, Missing):
            raise BaselineError(f"{self.metric}: {found.why}")
        return found


def bisect(
    pipeline: Pipeline,
    case: Case,
    *,
    metric: str | None,
    on_variant: Callable[[str], None],
    on_progress: Callable[[int, Progress], None],
    on_wait: Callable[[str], None],
) -> Bisection:
    """Measure `case` as it is and with each change since its baseline put back, by the same seeds; rank the changes.

    `on_variant` is told what is measured next. Raises BaselineError without a baseline for this device, or one that
    can't be compared with; UsageError for an unknown metric; and whatever keeps the case itself from being measured. A
    variant that can't be measured is a cause that can't be put back.
    """
    if pipeline.settings.limit is not None:
        raise UsageError("--ft-limit is a smoke run, which explains nothing: unset it")
    device = pipeline.device.kind
    baseline = baselines.read(baselines.place(case.suite, case.id))
    entry = baseline.entries.get(device)
    if entry is None:
        raise BaselineError(f"{case.id} has no baseline for {device}: accept one with pytest --ft-update")
    measuring = _Measuring(
        pipeline=pipeline,
        case=case,
        metric=_metric(case, metric),
        before=(before := references.of_entry(baseline, entry, "the baseline")),
        on_progress=on_progress,
        on_wait=on_wait,
    )
    now = measuring.scored(case)
    total = measuring.compared(before, case, now)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="ftcheck-bisect-")))
        causes, variants = _put_back(pipeline, case, entry, folder)
        measured = [
            _measured(measuring, cause, variants[cause.name], now, on_variant) if cause.name in variants else cause
            for cause in causes
        ]
        usable = [variants[cause.name] for cause in measured if cause.explains is not None]
        together, remaining = _all_back(measuring, usable, now, on_variant)
    sign = -1 if total.difference < 0 else 1
    ranked = sorted(measured, key=lambda cause: -sign * cause.explains.worse if cause.explains else math.inf)
    return Bisection(
        case=case,
        metric=measuring.metric,
        scale=now.metrics[measuring.metric].scale,
        described=before.described,
        before=total.value_baseline,
        after=total.value_candidate,
        total=_difference(total),
        confidence=total.confidence,
        causes=tuple(ranked),
        together=together,
        remaining=remaining,
    )


def _metric(case: Case, name: str | None) -> str:
    """The metric that is asked for; else the first with a margin, or the first of all. Raises UsageError."""
    if name is None:
        return next((gate.metric for gate in case.gates if gate.compares), case.metrics[0])
    if name not in case.metrics:
        raise UsageError(f"{case.id} has no metric {shown(name)}; {one_of(name, case.metrics)}")
    return name


def _put_back(pipeline: Pipeline, case: Case, entry: Entry, folder: Path) -> tuple[list[Cause], dict[str, Variant]]:
    """(what changed since `entry`, what puts it back where that can be done here)."""
    changed: dict[str, list[str]] = {}
    for change in _changes(pipeline, case, entry):
        changed.setdefault(_cause(change, case, entry), []).append(str(change))
    causes, variants = [], {}
    for number, (name, told) in enumerate(changed.items()):
        place = folder / str(number)
        place.mkdir()
        cause = Cause(name=name, changes=tuple(told))
        try:
            variant = put_back(name, entry, Past(commit=entry.accepted.commit, suite=case.suite, folder=place))
            _check(pipeline, variant(case), name, entry)
            variants[name] = variant
        except FtcheckError as error:
            cause = replace(cause, why_not=str(error))
        causes.append(cause)
    return causes, variants


def _changes(pipeline: Pipeline, case: Case, entry: Entry) -> list[Change]:
    """The components of the keys that differ between `entry` and `case`, each once."""
    first = pipeline.runs(case, pipeline.seeds(case)[:1])[0]
    now = baselines.condensed(first.train.components, first.predict.components)
    found: dict[Change, None] = {}
    for old, new in zip(_whole(entry.components), _whole(now), strict=True):
        found |= dict.fromkeys(keys.diff(old, new))
    return list(found)


def _cause(change: Change, case: Case, entry: Entry) -> str:
    """What puts a change back: an argument of the training by itself, unless only one side trains."""
    name = cause_of(change.path)
    one_sided = (case.training is None) != entry.fixed
    return "training" if one_sided and name.startswith("training.") else name


def _whole(components: Mapping[str, Mapping[str, object]]) -> Sequence[dict[str, object]]:
    """The components of training and prediction; of the latter a baseline keeps what the former doesn't say."""
    train, predict = dict(components.get("train", {})), dict(components.get("predict", {}))
    return [{**train, "stage": None}, {**train, **predict, "stage": None}]


def _check(pipeline: Pipeline, variant: Case, name: str, entry: Entry) -> None:
    """Raise BaselineError where `variant` still differs from `entry` by what was to be put back."""
    left = [str(change) for change in _changes(pipeline, variant, entry) if _cause(change, variant, entry) == name]
    if left:
        raise BaselineError(f"what the baseline was made with is no longer here ({'; '.join(left[:2])})")


def _measured(
    measuring: _Measuring, cause: Cause, variant: Variant, now: Scored, on_variant: Callable[[str], None]
) -> Cause:
    """`cause` with how much it explains."""
    on_variant(f"{cause.name} put back")
    try:
        other = measuring.other(variant(measuring.case))
        return replace(cause, explains=_difference(measuring.compared(other, measuring.case, now)))
    except FtcheckError as error:
        return replace(cause, why_not=str(error))


def _all_back(
    measuring: _Measuring,
    variants: Sequence[Variant],
    now: Scored,
    on_variant: Callable[[str], None],
) -> tuple[Difference | None, Difference | None]:
    """(how much worse the case is now than with all changes put back, how much worse than the baseline it is then)."""
    if not variants:
        return None, None
    on_variant(f"{ALL} put back" if len(variants) > 1 else "")
    case = measuring.case
    for variant in variants:
        case = variant(case)
    return (
        _difference(measuring.compared(measuring.other(case), measuring.case, now)),
        _difference(measuring.compared(measuring.before, case, measuring.scored(case))),
    )


def _difference(found: Comparison) -> Difference:
    return Difference(worse=found.difference, low=found.low, high=found.high)


def report(found: Bisection, nodeid: str) -> Iterator[str]:
    """Lines for a reader."""
    total = numbers.Change(found.total.worse, found.total.low, found.total.high, found.scale)

    def row(what: str, one: Difference) -> str:
        share = f"{100 * one.worse / found.total.worse:.0f} %" if found.total.worse else ""
        change = numbers.Change(one.worse, one.low, one.high, found.scale)
        return f"  {change!s:<26}{share:>6}  {what}".rstrip()

    before, after = (numbers.plain(value, total.digits) for value in (found.before, found.after))
    yield f"{nodeid}: {found.metric} {after}, the baseline {before} ({found.described})"
    yield f"  worse by {'':<17}{'share':>6}  explained by ({100 * found.confidence:.3g} % confidence a side)"
    yield row("all that changed", found.total)
    for cause in found.causes:
        if cause.explains is not None:
            yield row("; ".join(cause.changes[:3]) + (" …" if len(cause.changes) > 3 else ""), cause.explains)
    if found.together is not None and sum(cause.explains is not None for cause in found.causes) > 1:
        yield row(f"{ALL} together", found.together)
    if found.remaining is not None:
        yield row("none of these: it remains with all of them put back", found.remaining)
    if not found.causes:
        yield "nothing that a result depends on has changed but the seeds"
    left = [cause for cause in found.causes if cause.explains is None]
    if left:
        yield "can't be put back here:"
    for cause in left:
        yield f"  {'; '.join(cause.changes[:3])}{' …' if len(cause.changes) > 3 else ''}: {cause.why_not}"
