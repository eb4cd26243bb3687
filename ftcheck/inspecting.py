"""From a judgement to what charts show beside it: by class, part, length and confidence, and what gates could see."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ftcheck import examples, statistics, tables, tasks
from ftcheck.breakdown import Breakdown, PartScore, PowerCurve, ReliabilityBin
from ftcheck.errors import FtcheckError
from ftcheck.evidence import SHORT, Missing, Pair, Part, length_class
from ftcheck.metrics import leave_one_out

if TYPE_CHECKING:
    import numpy.typing as npt

    from ftcheck.evidence import Evidence
    from ftcheck.judging import Judgement
    from ftcheck.metrics import FloatArray, NumberArray
    from ftcheck.references import Other
    from ftcheck.spec import Case
    from ftcheck.statistics import Comparison
    from ftcheck.store import Store

BINS = 15
"""Of confidence, as the calibration error has them."""
TIMES_EXAMPLES = (0.5, 1, 2, 4, 8)
TIMES_SEEDS = (1, 2, 4)
"""What a power curve asks: so many times as much as was judged."""


def breakdown(case: Case, judgement: Judgement, others: Mapping[str, Other | Missing], store: Store) -> Breakdown:
    """What is known of a judged case beside its metrics and gates. Imports no torch; milliseconds a run.

    Raises StoreError for predictions that can't be read.
    """
    known, scored = judgement.evidence, judgement.scored
    columns = [examples.columns(run.predicted.read(examples.FILE), COLUMNS) for run in scored.runs]
    labels = tasks.get(case.task).context(dict(scored.runs[0].meta), case.task_options).labels
    pair, their_labels = _beside(known, others)
    same_classes = pair if their_labels == labels else None
    counted = crossed = tables.of_metrics(known.metrics, known.candidate, same_classes, labels)
    if crossed is None or crossed.now.confusion is None:
        crossed = tables.of_predictions(columns, _past_columns(same_classes, store), labels)
        counted = counted or crossed
    return Breakdown(
        confusion=None if crossed is None else crossed.matrix(),
        classes=() if counted is None else counted.scores(),
        classes_of="" if counted is None else counted.of,
        parts=tuple(_parts(case, known, pair)),
        lengths=tuple(_lengths(case, known, pair, columns[0])),
        reliability=reliability(columns),
        power=_power(case, judgement),
    )


COLUMNS = ("prediction", "reference", "predictions", "references", "scores", "length")
"""Of the records: what is counted here."""


def _beside(known: Evidence, others: Mapping[str, Other | Missing]) -> tuple[Pair | None, tuple[str, ...]]:
    """What the case is shown beside, and its classes: the first of its comparisons that is one."""
    for side, other in others.items():
        pair = known.pairs[side]
        if isinstance(pair, Pair) and not isinstance(other, Missing) and not pair.too_unlike and not pair.same:
            return pair, other.labels
    return None, ()


def _past_columns(pair: Pair | None, store: Store) -> list[dict[str, Any]] | None:
    """The other side's predictions, where the store still has them for every run and both judged the same examples.
    They only illustrate: what can't be read isn't shown."""
    if pair is None or pair.common != len(pair.reference.ids):
        return None
    found = []
    for key in pair.reference.keys:
        try:
            entry = store.get("predictions", key)
            if entry is None:
                return None
            found.append(examples.columns(entry.read(examples.FILE), COLUMNS))
        except FtcheckError:
            return None
    return found


def _parts(case: Case, known: Evidence, pair: Pair | None) -> Iterator[PartScore]:
    """Each metric on the parts that its gate judges."""
    for gate in case.gates:
        if gate.slices is not None and gate.metric in known.metrics:
            yield from (
                found
                for part in known.parts(gate.slices)[0]
                if (found := _part_score(gate.metric, part, known, pair)) is not None
            )


def _lengths(case: Case, known: Evidence, pair: Pair | None, columns: Mapping[str, Any]) -> Iterator[PartScore]:
    """The first gated metric (or the first of all) that adds up over examples, by classes of length."""
    names = [*(gate.metric for gate in case.gates), *known.metrics]
    usable = (name for name in names if name in known.metrics and _adds_up(known.candidate.metrics[name][0]))
    metric = next(usable, None)
    if metric is None or "length" not in columns:
        return
    lengths = examples.numbers(columns["length"])
    bins = np.ceil(np.log2(np.maximum(lengths, SHORT))).astype(np.int64)
    found = np.unique(bins)
    if len(found) < 2:
        return
    for exponent in found.tolist():
        part = Part(name=length_class(2**exponent), rows=np.flatnonzero(bins == exponent))
        score = _part_score(metric, part, known, pair)
        if score is not None:
            yield score


def _adds_up(rows: NumberArray) -> bool:
    """Whether the metric of some of the rows is made of their statistics alone."""
    return bool(rows.shape[1] != leave_one_out.COLUMNS)


def _part_score(metric: str, part: Part, known: Evidence, pair: Pair | None) -> PartScore | None:
    """A metric on a part; None where it has no value there."""
    own = known.value(metric, part)
    if own is None or not math.isfinite(own.value):
        return None
    assert part.rows is not None
    return PartScore(
        metric=metric,
        part=part.name,
        examples=len(part.rows),
        value=own.value,
        low=None if own.interval is None else own.interval.low,
        high=None if own.interval is None else own.interval.high,
        reference=_past_value(metric, part, known, pair),
    )


def _past_value(metric: str, part: Part, known: Evidence, pair: Pair | None) -> float | None:
    """What the other side has on a part's examples; None where that isn't known."""
    if pair is None or pair.reference.signatures.get(metric) != pair.candidate.signatures[metric]:
        return None
    assert part.rows is not None, "all rows are no part"
    theirs, ours = pair.places
    rows = theirs[np.isin(ours, part.rows)]
    if not len(rows):
        return None
    aggregate = known.metrics[metric].aggregate
    value = float(np.mean([statistics.value(run[rows], aggregate) for run in pair.reference.metrics[metric]]))
    return value if math.isfinite(value) else None


def reliability(runs: Sequence[Mapping[str, Any]]) -> tuple[ReliabilityBin, ...]:
    """Confidence against accuracy where each example has one class and probabilities; bins as the calibration error
    has them, empty ones left out."""
    confidence, right = [], []
    for columns in runs:
        if "scores" not in columns or not all(_of_one_class(columns.get(name)) for name in ("prediction", "reference")):
            return ()
        scores, starts = (examples.numbers(part) for part in (columns["scores"].flatten(), columns["scores"].offsets))
        confidence.append(np.maximum.reduceat(scores, starts[:-1]))
        right.append(examples.numbers(columns["prediction"]) == examples.numbers(columns["reference"]))
    return _bins(np.concatenate(confidence), np.concatenate(right))


def _of_one_class(column: Any) -> bool:
    """Whether a column is there and holds one whole number a row, and no row is without."""
    return column is not None and str(column.type) == "int64" and not column.null_count and len(column) > 0


def _bins(confidence: FloatArray, right: npt.NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    places = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    sizes, sure, good = (np.bincount(places, weights, BINS) for weights in (None, confidence, right))
    return tuple(
        ReliabilityBin(
            low=round(place / BINS, 6),
            high=round((place + 1) / BINS, 6),
            confidence=round(float(sure[place] / sizes[place]), 6),
            accuracy=round(float(good[place] / sizes[place]), 6),
            count=int(sizes[place]),
        )
        for place in np.flatnonzero(sizes).tolist()
    )


def _power(case: Case, judgement: Judgement) -> PowerCurve | None:
    """Of the first margin against a regression that was judged by its bounds."""
    for result in judgement.gates:
        told = result.comparison
        if result.bound != "max_regression" or result.part or told is None or told.margin is None:
            continue
        gate = next(gate for gate in case.gates if gate.metric == result.metric and gate.max_regression is not None)
        found = judgement.evidence.compared(gate.metric, "reference", Part(), confidence=told.confidence, relative=None)
        if isinstance(found, Missing) or found.noise is None or not math.isfinite(told.margin):
            continue
        n, seeds = found.clusters or found.examples, _seeds(found)
        sizes = tuple(dict.fromkeys(max(2, round(n * times)) for times in TIMES_EXAMPLES))
        values = statistics.detectable_curve(
            found, told.margin, examples=sizes, seeds=seeds, proven=gate.fail == "proven"
        )
        if not np.isfinite(values).all():
            continue
        return PowerCurve(
            metric=gate.metric,
            margin=told.margin,
            examples=sizes,
            seeds=seeds,
            detectable=tuple(tuple(round(value, 6) for value in row) for row in values),
            now=(n, seeds[0]),
        )
    return None


def _seeds(found: Comparison) -> tuple[int, ...]:
    """Seeds a side to ask for; fixed weights have none."""
    trained = [
        runs
        for runs, fixed in (
            (found.runs_baseline, found.fixed_baseline),
            (found.runs_candidate, found.fixed_candidate),
        )
        if not fixed
    ]
    return tuple(min(trained) * times for times in TIMES_SEEDS) if trained else (0,)
