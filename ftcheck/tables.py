"""Contingency tables of classes: how often each was taken for which, of a candidate and of what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ftcheck import examples, statistics
from ftcheck.breakdown import ClassScore, ConfusionMatrix
from ftcheck.metrics import counts
from ftcheck.metrics.classification import OverClasses
from ftcheck.metrics.label_sets import OverSets
from ftcheck.metrics.sequence_labelling import EntityRate

if TYPE_CHECKING:
    import numpy.typing as npt

    from ftcheck.evidence import Arm, Pair
    from ftcheck.metrics import FloatArray, Metric, NumberArray

    Counts = npt.NDArray[np.int64]

MOST_CLASSES = 12
"""Of a confusion matrix that is shown."""
MOST_SCORES = 200
"""Classes whose precision, recall and F1 are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one side of a comparison counts by class, all its runs pooled."""

    runs: int
    totals: FloatArray
    """(3C + 1,): hits, predicted and gold by class, as `metrics.counts` has them."""
    confusion: Counts | None = None
    """(C, C): gold by predicted; None where classes exclude no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Both sides."""

    names: tuple[str, ...]
    of: str
    """What was counted: `examples`, `words` or `entities`."""
    now: Side
    then: Side | None

    def matrix(self) -> ConfusionMatrix | None:
        """The matrix of those classes that are confused most, in their order; None for fewer than two classes."""
        now, then = self.now.confusion, None if self.then is None else self.then.confusion
        if now is None or len(self.names) < 2:
            return None
        mistakes = sum(_mistakes(side) for side in (now, then) if side is not None)
        chosen = np.sort(np.argsort(-mistakes, kind="stable")[:MOST_CLASSES])
        return ConfusionMatrix(
            of=self.of,
            classes=tuple(self.names[place] for place in chosen.tolist()),
            left_out=len(self.names) - len(chosen),
            now=_part_of(now, chosen),
            then=None if then is None else _part_of(then, chosen),
        )

    def scores(self) -> tuple[ClassScore, ...]:
        """Of each class that is gold or predicted somewhere, in their order."""
        now, then = _rates(self.now), None if self.then is None else _rates(self.then)
        _, predicted, gold = np.split(self.now.totals[:-1], 3)
        there = np.flatnonzero(predicted + gold)[:MOST_SCORES]
        return tuple(
            ClassScore(
                name=self.names[place],
                support=round(float(gold[place]) / self.now.runs),
                precision=now[0][place],
                recall=now[1][place],
                f1=now[2][place],
                then=None if then is None else (then[0][place], then[1][place], then[2][place]),
            )
            for place in there.tolist()
        )


def of_metrics(
    metrics: Mapping[str, Metric], candidate: Arm, pair: Pair | None, labels: Sequence[str]
) -> Counted | None:
    """Out of the example statistics of an average over classes; None where the case has none. `pair` is with a side
    that has the same classes; both then count on the examples that both judged."""
    for name, metric in metrics.items():
        found = _classes_of(metric, labels)
        if found is None:
            continue
        names, of = found
        exclusive = isinstance(metric, OverClasses)
        now, then = candidate.metrics[name], None
        if pair is not None and pair.reference.signatures.get(name) == pair.candidate.signatures[name]:
            theirs, ours = pair.places
            then = _side([run[theirs] for run in pair.reference.metrics[name]], exclusive=exclusive)
            now = [run[ours] for run in now]
        return Counted(names=names, of=of, now=_side(now, exclusive=exclusive), then=then)
    return None


def of_predictions(
    now: Sequence[Mapping[str, Any]], then: Sequence[Mapping[str, Any]] | None, labels: Sequence[str]
) -> Counted | None:
    """Out of predicted classes, or tags word by word; None where that isn't what was predicted."""
    names = tuple(labels)
    ours = _side_of_predictions(now, names)
    if ours is None:
        return None
    theirs = None if then is None else _side_of_predictions(then, names)
    return Counted(names=names, of="words" if "predictions" in now[0] else "examples", now=ours, then=theirs)


def _classes_of(metric: Metric, labels: Sequence[str]) -> tuple[tuple[str, ...], str] | None:
    """(the classes that a metric counts by, what of), None for one that doesn't."""
    if isinstance(metric, OverClasses) or (isinstance(metric, OverSets) and metric.average in ("macro", "weighted")):
        return tuple(labels), "examples"
    if isinstance(metric, EntityRate) and metric.average is not None:
        return metric.types, "entities"
    return None


def _side(runs: Sequence[NumberArray], *, exclusive: bool) -> Side:
    """Of example statistics, (n, 3C + 1) a run."""
    totals: FloatArray = np.sum([statistics.totals(run) for run in runs], axis=0)
    if not exclusive:
        return Side(runs=len(runs), totals=totals)
    confusion = np.sum([_crossed(run) for run in runs], axis=0)
    return Side(runs=len(runs), totals=totals, confusion=confusion)


def _crossed(rows: NumberArray) -> Counts:
    """(C, C) of (n, 3C + 1) statistics that hold one predicted and one gold class an example."""
    classes = (rows.shape[1] - 1) // 3
    predicted, gold = (rows[:, start : start + classes].argmax(axis=1) for start in (classes, 2 * classes))
    return _pairs(gold, predicted, classes)


def _pairs(gold: Counts, predicted: Counts, classes: int) -> Counts:
    crossed: Counts = np.bincount(gold * classes + predicted, minlength=classes**2).reshape(classes, classes)
    return crossed


def _side_of_predictions(runs: Sequence[Mapping[str, Any]], names: tuple[str, ...]) -> Side | None:
    crossed = []
    for columns in runs:
        pair = _tags(columns, names) if "predictions" in columns else _ids(columns)
        if pair is None or not len(pair[0]) or max(int(side.max()) for side in pair) >= len(names):
            return None
        crossed.append(_pairs(*pair, len(names)))
    confusion: Counts = np.sum(crossed, axis=0)
    parts = (np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1), [confusion.sum()])
    return Side(runs=len(runs), totals=np.concatenate(parts).astype(np.float64), confusion=confusion)


def _ids(columns: Mapping[str, Any]) -> tuple[Counts, Counts] | None:
    """(gold, predicted) class ids."""
    found = [columns.get(name) for name in ("reference", "prediction")]
    if any(column is None or str(column.type) != "int64" or column.null_count for column in found):
        return None
    gold, predicted = map(examples.numbers, found)
    return gold.astype(np.int64), predicted.astype(np.int64)


def _tags(columns: Mapping[str, Any], names: tuple[str, ...]) -> tuple[Counts, Counts] | None:
    """(gold, predicted) tags as ids, word by word; None where there are none, or others than `names`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for name in ("references", "predictions"):
        words = columns[name].flatten() if name in columns else None
        if words is None or not pa.types.is_string(words.type):
            return None
        places = pc.index_in(words, value_set=pa.array(names, words.type))
        if places.null_count:
            return None
        found.append(examples.numbers(places).astype(np.int64))
    return found[0], found[1]


def _mistakes(confusion: Counts) -> Counts:
    """(C,): how often each class was taken for another, or another for it."""
    mistakes: Counts = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * np.diag(confusion)
    return mistakes


def _part_of(confusion: Counts, chosen: Counts) -> tuple[tuple[int, ...], ...]:
    """The chosen rows and columns, and a last column of all others."""
    inside = confusion[np.ix_(chosen, chosen)]
    rest = confusion[chosen].sum(axis=1) - inside.sum(axis=1)
    return tuple(tuple(map(int, row)) for row in np.column_stack([inside, rest]))


def _rates(side: Side) -> tuple[list[float], list[float], list[float]]:
    """Precision, recall and F1 by class, as many digits as a table needs."""
    precision, recall, f1 = (counts.rates(side.totals, rate)[0] for rate in ("precision", "recall", "f1"))
    return np.round(precision, 6).tolist(), np.round(recall, 6).tolist(), np.round(f1, 6).tolist()
