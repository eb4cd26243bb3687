"""What a case is made of while it is measured: runs before and after their stages, and what reports say of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftcheck import examples
from ftcheck.errors import shown
from ftcheck.finetune import Job
from ftcheck.profile import Phase, Profile, Throughput, together
from ftcheck.results import (
    CaseResult,
    JudgedData,
    LearningRateCurve,
    MetricResult,
    RunResult,
    SearchHistory,
    StageOrigin,
    Trial,
)
from ftcheck.spec.case import EVAL_SPLITS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ftcheck.keys import Change, Identifier, Key
    from ftcheck.metrics import Definition, Metric, NumberArray
    from ftcheck.proposals import Proposal
    from ftcheck.store import Entry
    from ftcheck.timing import Recorder

MAKING = "run"
"""The phase in which a session has runs made: they know for themselves what they spent."""

MOST_ROWS = 50_000
"""Training rows up to which their hashes are committed with a baseline: 200 KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a case before anything is computed: its seed, its keys, and the job that would make it."""

    job: Job
    train: Key
    predict: Key
    parts: tuple[Run, ...] = ()
    """Its folds; this run is then all of them together."""

    @classmethod
    def of(cls, job: Job, identifier: Identifier) -> Run:
        """The run of a job with its keys, made of the inputs as they are now. Raises FtcheckError for an input without
        an identity."""
        from ftcheck import keys

        device_type = job.device.partition(":")[0]
        train = keys.train_key(
            job.case,
            job.seed,
            device_type=device_type,
            precision=job.precision,
            identifier=identifier,
            limit=job.limit,
            parents={technique: keys.Key(digest, {}) for technique, digest in job.parent_keys.items()},
            fold=job.fold,
        )
        predict = keys.predict_key(
            train,
            job.case,
            device_type=device_type,
            precision=job.precision,
            identifier=identifier,
            limit=job.limit,
        )
        return cls(job=job, train=train, predict=predict)

    def changes(self, now: Run) -> tuple[Change, ...]:
        """What is other in the inputs of `now`, the same run with its keys made once more."""
        from ftcheck import keys

        return (
            *keys.diff(self.train.components, now.train.components),
            *(c for c in keys.diff(self.predict.components, now.predict.components) if c.path != "train"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """What measuring one run would take."""

    seed: int
    train: str
    """`train`, `found` or `none` (the checkpoint is judged as it is)."""
    predict: str
    """`evaluate` or `found`."""
    after: tuple[str, ...] = ()
    """What would come first: the ids of the cases whose models it needs and that aren't trained yet, a search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """One run with both stages in the store."""

    run: Run
    trained: Entry | None
    predicted: Entry
    made: frozenset[str]

    @property
    def meta(self) -> Mapping[str, Any]:
        meta: Mapping[str, Any] = self.predicted.content["meta"]
        return meta

    def records(self) -> list[dict[str, Any]]:
        """The run's predictions, one record per judged example."""
        return examples.read(self.predicted.read(examples.FILE))

    def costs(self) -> dict[str, float]:
        """What training and prediction cost when they were made."""
        return {**(self.trained.content["costs"] if self.trained else {}), **self.predicted.content["costs"]}

    @property
    def first_losses(self) -> tuple[float, ...]:
        """Of the training's first steps."""
        return tuple(self.trained.content.get("first_losses", ())) if self.trained else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Finished runs of one case with the example statistics of its metrics."""

    runs: tuple[Finished, ...]
    ids: npt.NDArray[np.uint8]
    """(n, 16): the judged rows' hashes."""
    metrics: Mapping[str, Metric]
    statistics: Mapping[str, tuple[NumberArray, ...]]
    """Metric -> one (n, k) array a run."""
    left_out: tuple[str, ...] = ()
    """What is to be said of default metrics that don't fit the data."""

    def train_rows(self) -> npt.NDArray[np.uint8] | None:
        """(training rows, 4): the first bytes of their hashes. None where nothing was trained, or they are too many to
        be committed."""
        return train_rows(self.runs[0].trained)

    def without(self, dropped: Sequence[bool]) -> Scored:
        """The same without some runs."""
        kept = [index for index, drop in enumerate(dropped) if not drop]
        return Scored(
            runs=tuple(self.runs[index] for index in kept),
            ids=self.ids,
            metrics=self.metrics,
            statistics={name: tuple(rows[index] for index in kept) for name, rows in self.statistics.items()},
            left_out=self.left_out,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A judged case, and the runs behind it for whoever wants to look closer."""

    result: CaseResult
    runs: tuple[Finished, ...]
    scored: Scored
    proposal: Proposal | None = None
    """What --ft-update shall write."""


def train_rows(trained: Entry | None) -> npt.NDArray[np.uint8] | None:
    """(training rows, 4): the first bytes of the hashes that a training left. None where nothing was trained, or they
    are too many to be committed."""
    if trained is None or examples.TRAIN_ROWS not in trained.manifest["files"]:
        return None
    found = examples.read_hashes(trained.read(examples.TRAIN_ROWS))
    return found[:, :4].copy() if len(found) <= MOST_ROWS else None


def cost(known: Definition, finished: Sequence[Finished]) -> MetricResult:
    """A cost of the runs, as a metric without an interval."""
    values = tuple(float(run.costs().get(known.name, math.nan)) for run in finished)
    return MetricResult(
        name=known.name,
        value=math.fsum(values) / len(values),
        per_seed=values,
        greater_is_better=known.greater_is_better,
        signature=known.name,
        no_interval="a cost of these runs, not an estimate from examples",
    )


def run_result(run: Finished) -> RunResult:
    """What reports are told of one run."""
    content = run.trained.content if run.trained else {}
    costs = run.costs()

    def origin(stage: str, key: Key, seconds: str) -> StageOrigin:
        source = "computed" if stage in run.made else "store"
        if stage == "train" and run.run.job.case.training is None:
            source = "none"
        return StageOrigin(source=source, key=key.digest, seconds=float(costs.get(seconds, 0.0)))  # type: ignore[arg-type]

    return RunResult(
        seed=run.run.job.seed,
        train=origin("train", run.run.train, "train_seconds"),
        predict=origin("predict", run.run.predict, "eval_seconds"),
        costs=costs,
        warnings=tuple(content.get("warnings", ())) + tuple(run.predicted.content["warnings"]),
        environment=content.get("environment", {}),
        log_history=tuple(content.get("log_history", ())),
        search=_search(content.get("records", {}).get("search")),
        lr_curve=_lr_curve(content.get("records", {}).get("lr_finder")),
    )


def profile(finished: Sequence[Finished], recorder: Recorder) -> Profile:
    """Where a case's time and memory went: what was made in this session, and what `recorder` saw around it."""
    around = {name: spent for name, spent in recorder.seconds.items() if name != MAKING}
    made = [
        entry.content["spent"]
        for run in finished
        for stage, entry in (("train", run.trained), ("predict", run.predicted))
        if entry is not None and stage in run.made and entry.content.get("spent")
    ]
    seconds, peaks = together([{"seconds": around, "peak_bytes": {}}, *made])
    longest = sorted(seconds, key=lambda name: -seconds[name])
    return Profile(
        phases=tuple(Phase(name=name, seconds=seconds[name], peak_bytes=peaks.get(name)) for name in longest),
        throughput=tuple(_throughput(finished[0])),
    )


def _throughput(run: Finished) -> Iterator[Throughput]:
    costs = run.costs()
    for stage, entry, seconds in (("train", run.trained, "train_seconds"), ("predict", run.predicted, "eval_seconds")):
        work = ((entry.content.get("spent") if entry is not None else None) or {}).get("work")
        if work is not None and costs.get(seconds):
            yield Throughput(
                stage=stage,
                tokens_per_second=work["tokens"] / costs[seconds],
                padding=1 - work["tokens"] / work["places"],
                operations_per_second=work["operations"] and work["operations"] / costs[seconds],
                limit=work["limit"],
            )


def _search(record: Mapping[str, Any] | None) -> SearchHistory | None:
    """What the technique `search` left with a run."""
    if record is None:
        return None
    return SearchHistory(
        metric=record["metric"],
        direction=record["direction"],
        best=record["best"],
        trials=tuple(
            Trial(number=trial["number"], value=trial["value"], state=trial["state"], params=trial["training"])
            for trial in record["trials"]
        ),
    )


def _lr_curve(record: Mapping[str, Any] | None) -> LearningRateCurve | None:
    """What the technique `lr_finder` left with a run."""
    if record is None:
        return None
    return LearningRateCurve(
        rates=tuple(record["learning_rate"]),
        losses=tuple(record["loss"]),
        smoothed=tuple(record["smoothed"]),
        suggestion=record["steepest"],
        lowest=record["lowest"],
    )


def judged_data(run: Run) -> JudgedData:
    """What a run is judged on, as a reader knows it: of a file its own and its folder's name, no whole path."""
    data = run.job.case.data
    named = "eval" in data.splits or "eval" in data.holdout
    split = data.splits.get("eval", "") if named else next((s for s in EVAL_SPLITS if s in data.files), "")
    if run.parts:  # folds of the training rows
        split = data.splits.get("train", "train")
    files = data.files.get(split.partition("[")[0]) or sorted(name for each in data.files.values() for name in each)
    local = (
        Path(data.path).name if data.kind == "local" else ", ".join("/".join(Path(name).parts[-2:]) for name in files)
    )
    return JudgedData(
        name=data.path if data.kind in ("hub", "callable") else local,
        hub=data.kind == "hub",
        config=data.name or "",
        revision=run.job.data_revision or "",
        split=split,
    )


def notes(finished: Sequence[Finished]) -> tuple[str, ...]:
    """What the stages want said, each once, in the order it came up."""
    said: dict[str, None] = {}
    for run in finished:
        for entry in (run.trained, run.predicted):
            for note in entry.content["notes"] if entry else ():
                said[shown(note, 300)] = None
    return tuple(said)
