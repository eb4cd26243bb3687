"""Results out of the run store by their predict keys, without the suite that made them. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck import baselines, tasks
from ftcheck.errors import FtcheckError, StoreError
from ftcheck.evidence import Arm
from ftcheck.keys import Key
from ftcheck.metrics import Context, Lookup
from ftcheck.references import Other
from ftcheck.runs import train_rows
from ftcheck.scoring import Scorer

if TYPE_CHECKING:
    from ftcheck.metrics import Metric
    from ftcheck.store import Entry, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """One run as the store knows it."""

    predict: Key
    predicted: Entry
    train: Key
    trained: Entry | None
    """None where nothing was trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A result with all that a comparison needs."""

    other: Other
    metrics: Mapping[str, Metric]
    """Those whose definition is here."""


def run(store: Store, predict: str) -> StoredRun:
    """The run with this predict key. Raises StoreError where the store doesn't have all of it."""
    predicted = store.get("predictions", predict, used=False)
    if predicted is None:
        raise StoreError("its predictions aren't in this store")
    key = Key(predict, predicted.components)
    digest = str(predicted.components["train"])
    trained = store.get("runs", digest, used=False)
    if trained is not None:
        return StoredRun(predict=key, predicted=predicted, train=Key(digest, trained.components), trained=trained)
    # Weights that were judged as they are have no training; what the case was is remembered.
    for case in store.cases():
        for past in case.runs:
            if past.keys["train"].digest == digest and "training" not in past.keys["train"].components:
                return StoredRun(predict=key, predicted=predicted, train=past.keys["train"], trained=None)
    raise StoreError("its training isn't in this store")


def siblings(store: Store, first: StoredRun) -> list[StoredRun]:
    """The runs in the store that differ from `first` in nothing but the seed, by seed; `first` is among them."""
    if first.trained is None:
        return [first]
    wanted = _without(first.predict, "train"), _without(first.train, "seed")
    found = []
    for digest in store.keys("predictions"):
        predicted = store.get("predictions", digest, used=False)
        if predicted is None or _without(Key(digest, predicted.components), "train") != wanted[0]:
            continue
        trained = store.get("runs", str(predicted.components["train"]), used=False)
        if trained is None:
            continue
        train = Key(str(predicted.components["train"]), trained.components)
        if _without(train, "seed") == wanted[1]:
            key = Key(digest, predicted.components)
            found.append(StoredRun(predict=key, predicted=predicted, train=train, trained=trained))
    return sorted(found, key=lambda one: int(one.train.components["seed"]))


def _without(key: Key, name: str) -> dict[str, Any]:
    return {known: value for known, value in key.components.items() if known != name}


def metric_names(store: Store, first: StoredRun) -> tuple[str, ...]:
    """The metrics that were computed of a run: those of its largest entry of scores, else its task's own."""
    found: tuple[str, ...] = ()
    for digest in store.keys("scores"):
        entry = store.get("scores", digest, used=False)
        if entry is not None and entry.components["predict"] == first.predict.digest:
            found = max(found, tuple(entry.components["metrics"]), key=len)
    task, options = _task(first.train.components, first.predict.components)
    return found or task.default_metrics(options)


def restored(
    store: Store, runs: Sequence[StoredRun], names: Iterable[str], *, against: str, folder: Path | None
) -> Restored:
    """Finished runs of one recipe with the statistics of the metrics called `names`, as far as those can be computed
    here. Raises FtcheckError for runs that were judged on different rows, or a task that isn't here."""
    first = runs[0]
    task, options = _task(first.train.components, first.predict.components)
    if len({one.predicted.content["rows"]["eval"]["hashes"] for one in runs}) > 1:
        raise StoreError("its runs were judged on different rows")
    context = task.context(dict(first.predicted.content["meta"]), options)
    lookup = Lookup(inputs=task.inputs(options), folder=folder)
    built = _built(lookup, context, names)
    scorer = Scorer(task=task, options=options, lookup=lookup, store=store)
    found = [scorer.scores(one.predict, one.predicted, list(built.values())) for one in runs]
    other = Other(
        against=against,
        described="",
        arm=Arm(
            ids=found[0][0],
            metrics={name: [rows[name] for _, rows in found] for name in built},
            signatures={name: metric.signature for name, metric in built.items()},
            fixed="training" not in first.train.components,
            keys=tuple(one.predict.digest for one in runs),
        ),
        components=baselines.condensed(first.train.components, first.predict.components),
        train_keys=tuple(one.train.digest for one in runs),
        seeds=tuple(int(one.train.components.get("seed", 0)) for one in runs),
        trace=tuple(tuple(one.trained.content.get("first_losses", ())) if one.trained else () for one in runs),
        rows=train_rows(first.trained),
        labels=context.labels,
        environment=first.trained.content.get("environment", {}) if first.trained else {},
    )
    return Restored(other=other, metrics=built)


def definitions(other: Other, folder: Path | None) -> dict[str, Metric]:
    """The metrics of an accepted result, as far as they are defined here as they were then."""
    try:
        task, options = _task(other.components["train"], other.components["predict"])
    except (FtcheckError, KeyError):
        return {}
    lookup = Lookup(inputs=task.inputs(options), folder=folder)
    built = _built(lookup, Context(labels=other.labels, options=options), other.arm.metrics)
    return {name: metric for name, metric in built.items() if metric.signature == other.arm.signatures[name]}


def _task(train: Mapping[str, Any], predict: Mapping[str, Any]) -> tuple[tasks.Task, dict[str, Any]]:
    """The task of two keys' components with all of its options. Raises TaskError."""
    name, path = train["task"]["name"], train["task"]["class"]
    task = tasks.get(name if name in tasks.names() and tasks.import_path(name) == path else path)
    given = {**train["task"]["options"], **predict.get("decoding", {})}
    return task, {**task.options().model_dump(), **given}


def _built(lookup: Lookup, context: Context, names: Iterable[str]) -> dict[str, Metric]:
    """Those metrics that can be made here; costs aren't among them."""
    found = {}
    for name in names:
        try:
            if not lookup.is_cost(name):
                found[name] = lookup.build(name, context)
        except FtcheckError:
            continue  # its value is compared, and that there is nothing more to it is said
    return found
