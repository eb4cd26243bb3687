"""The one orchestrator: Case -> keys -> store? -> fine-tune -> predict -> score -> judge -> CaseResult."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ftcheck import examples, gates, keys, metrics, tasks
from ftcheck.errors import MetricError, StoreError, TrainingError, shown
from ftcheck.executors import Work
from ftcheck.executors.inline import has_model
from ftcheck.finetune import Job, OnProgress, Progress
from ftcheck.results import CaseResult, Confusion, MetricResult, RunResult, StageOrigin, WorstExample

if TYPE_CHECKING:
    from ftcheck.devices import Device
    from ftcheck.executors import Executor
    from ftcheck.keys import Identifier, Key
    from ftcheck.metrics import Context, Definition, FloatArray, Lookup, Metric
    from ftcheck.settings import Settings
    from ftcheck.spec import Case
    from ftcheck.store import Entry, Stage, Store

STATISTICS = "statistics.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a case before anything is computed: its seed, its keys, and the job that would make it."""

    job: Job
    train: Key
    predict: Key


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """What measuring one run would take."""

    seed: int
    train: str
    """`train`, `found` or `none` (the checkpoint is judged as it is)."""
    predict: str
    """`evaluate` or `found`."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A judged case, and the runs behind it for whoever wants to look closer."""

    result: CaseResult
    runs: tuple[Finished, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Measures and judges cases, one at a time."""

    settings: Settings
    store: Store
    identifier: Identifier
    device: Device
    executor: Executor
    refreshed: set[str] = field(default_factory=set)
    """Digests of what `--ft-cache=refresh` has made anew: other cases of the session find it."""

    def runs(self, case: Case) -> tuple[Run, ...]:
        """The runs that `case` asks for, with their keys. Raises what keeps an input from being identified."""
        from ftcheck.devices import resolve_precision

        seeds = case.seeds
        if self.settings.seeds is not None:
            seeds = tuple(range(case.seeds[0], case.seeds[0] + self.settings.seeds))
        if case.training is None:
            seeds = seeds[:1]
        precision = resolve_precision(case.precision, self.device)
        made = []
        with self.identifier.at_once():
            for seed in seeds:
                train = keys.train_key(
                    case,
                    seed,
                    device_type=self.device.kind,
                    precision=precision,
                    identifier=self.identifier,
                    limit=self.settings.limit,
                )
                predict = keys.predict_key(
                    train,
                    case,
                    identifier=self.identifier,
                    limit=self.settings.limit,
                    device_type=self.device.kind,
                    precision=precision,
                )
                job = Job(
                    case=case,
                    seed=seed,
                    device=str(self.device),
                    precision=precision,
                    limit=self.settings.limit,
                    offline=self.settings.offline,
                    **self.identifier.revisions(case),
                )
                made.append(Run(job=job, train=train, predict=predict))
        return tuple(made)

    def plan(self, case: Case) -> tuple[PlannedRun, ...]:
        """What `measure` would have to do. Imports no torch."""
        planned = []
        for run in self.runs(case):
            predicted = self._found("predictions", run.predict) is not None
            if case.training is None:
                train = "none"
            else:
                trained = self._found("runs", run.train)
                # Predicting takes the model, which may have been taken out.
                train = "found" if trained is not None and (predicted or has_model(trained)) else "train"
            planned.append(PlannedRun(seed=run.job.seed, train=train, predict="found" if predicted else "evaluate"))
        return tuple(planned)

    def measure(
        self, case: Case, nodeid: str, on_progress: Callable[[int, Progress], None], on_wait: Callable[[str], None]
    ) -> Measured:
        """Bring every run of `case` into the store, score it, and judge the case.

        Raises FtcheckError for whatever keeps the case from being measured.
        """
        finished = tuple(self._finish(run, partial(on_progress, run.job.seed), on_wait) for run in self.runs(case))
        task = tasks.get(case.task)
        self._same_examples(finished)
        context = task.context(dict(finished[0].meta), case.task_options)
        lookup = tasks.lookup(case)
        built, left_out = _built(case, context, lookup)
        scored = [self._scores(case, run, built) for run in finished]
        values = {
            **{metric.name: self._estimate(metric, [s[metric.name] for s in scored], case) for metric in built},
            **{name: _cost(lookup.describe(name), finished) for name in case.metrics if lookup.is_cost(name)},
        }
        unbounded = [
            f"{metric.name} has no interval: {why}"
            for metric in built
            if (why := _no_interval(metric, scored[0][metric.name]))
        ]
        smoke = self.settings.limit is not None
        judged = () if smoke else gates.judge(case.gates, values)
        verdict = "smoke" if smoke else gates.verdict(judged)
        if not smoke:  # `why` compares whole runs
            self.store.record_case(
                str(case.suite), case.id, {"train": finished[0].run.train, "predict": finished[0].run.predict}
            )
        result = CaseResult(
            suite=str(case.suite),
            case_id=case.id,
            nodeid=nodeid,
            task=case.task,
            checkpoint=case.checkpoint.path,
            verdict=verdict,
            device=str(self.device),
            precision=finished[0].run.job.precision,
            seeds=tuple(run.run.job.seed for run in finished),
            metrics=tuple(values[name] for name in case.metrics if name in values),
            gates=judged,
            runs=tuple(_run_result(run) for run in finished),
            examples=int(finished[0].predicted.content["rows"]["eval"]["count"]),
            notes=(*_notes(finished), *left_out, *unbounded, *self.warnings()),
            limited=self.settings.limit,
        )
        if verdict == "fail":
            confusions, worst = self._errors(case, finished)
            result = replace(result, confusions=confusions, worst=worst)
        return Measured(result=result, runs=finished)

    def warnings(self) -> tuple[str, ...]:
        """What the store has to tell the reader since it was asked last: entries set aside, what couldn't be noted."""
        said = tuple(self.store.warnings)
        self.store.warnings.clear()
        return said

    def drop_models(self, measured: Measured, case: Case) -> None:
        """Take out of the store the models that the case doesn't want kept, now that nobody reads them.

        Where the store can't be changed they stay: the case was judged, so that is a warning.
        """
        from ftcheck.store import remove_model

        if case.keep_model == "all":
            return
        for index, run in enumerate(measured.runs):
            if "train" in run.made and (index > 0 or case.keep_model == "none"):
                try:
                    with self.store.lock("runs", run.run.train.digest):
                        remove_model(self.store, "runs", run.run.train.digest)
                except StoreError as error:
                    self.store.warnings.append(f"{case.id}: a model that is not wanted stays: {error}")

    def _found(self, stage: Stage, key: Key) -> Entry | None:
        if self.settings.cache == "refresh" and key.digest not in self.refreshed:
            return None
        return self.store.get(stage, key.digest)

    def _finish(self, run: Run, on_progress: OnProgress, on_wait: Callable[[str], None]) -> Finished:
        case = run.job.case
        trained = self._found("runs", run.train) if case.training is not None else None
        predicted = self._found("predictions", run.predict)
        made: frozenset[str] = frozenset()
        if predicted is None or (trained is None and case.training is not None):
            if self.settings.cache == "only":
                stage = "trained" if trained is None and case.training is not None else "evaluated"
                raise StoreError(
                    f"seed {run.job.seed} has not been {stage} yet and --ft-cache=only forbids doing it: "
                    "run without it once (`--ft-plan` shows what is missing)"
                )
            self.store.check_writable()
            work = Work(
                job=run.job,
                train=run.train,
                predict=run.predict,
                redo=self.settings.cache == "refresh",
                refuse_changed=partial(self._refuse_changed, run),
            )
            made = self.executor.produce(work, self.store, on_progress, on_wait)
            self.refreshed.update((run.train.digest, run.predict.digest))
            trained = self.store.get("runs", run.train.digest) if case.training is not None else None
            predicted = self.store.get("predictions", run.predict.digest)
            if predicted is None or (trained is None and case.training is not None):
                raise StoreError(f"what was just written to {self.store.root} is gone or damaged: is the disk failing?")
        return Finished(run=run, trained=trained, predicted=predicted, made=made)

    def _refuse_changed(self, run: Run) -> None:
        """Raise TrainingError where a file was edited since the keys of `run` were made: they'd lie of it."""
        now = next(other for other in self.runs(run.job.case) if other.job.seed == run.job.seed)
        changes = [*keys.diff(run.train.components, now.train.components)]
        changes += [c for c in keys.diff(run.predict.components, now.predict.components) if c.path != "train"]
        if changes:
            raise TrainingError(
                f"an input changed while it was being used ({'; '.join(map(str, changes[:3]))}): "
                "nothing is kept; run again"
            )

    def _scores(self, case: Case, run: Finished, built: Sequence[Metric]) -> dict[str, FloatArray]:
        """Example statistics of every metric for one run: from the store, or computed from its records and
        published."""
        from ftcheck.store import load_npz

        key = keys.score_key(run.run.predict, {metric.name: metric.signature for metric in built})
        found = None if "predict" in run.made else self.store.get("scores", key.digest)
        if found is not None:
            arrays = load_npz(found.read(STATISTICS))
            return {name: arrays[f"metric{i}"] for i, name in enumerate(found.content["metrics"])}
        task = tasks.get(case.task)
        inputs = task.score_inputs(run.records(), dict(run.meta), case.task_options)
        lookup = tasks.lookup(case)
        statistics = {metric.name: metric.statistics(*inputs[lookup.describe(metric.name).input]) for metric in built}
        if self.store.writable:
            import numpy as np

            with self.store.publish("scores", key, replace=True) as publication:
                # A metric's name may hold any text (f1[a/b]), a member's may not.
                members: dict[str, Any] = {f"metric{i}": _small(rows) for i, rows in enumerate(statistics.values())}
                np.savez_compressed(publication.path / STATISTICS, **members)
                publication.content = {"metrics": list(statistics)}
        return statistics

    @staticmethod
    def _same_examples(finished: Sequence[Finished]) -> None:
        digests = {run.predicted.content["rows"]["eval"]["hashes"] for run in finished}
        if len(digests) > 1:
            raise MetricError("the seeds of this case were judged on different rows: is its data made at random?")

    @staticmethod
    def _estimate(metric: Metric, runs: Sequence[FloatArray], case: Case) -> MetricResult:
        from ftcheck.statistics import estimate

        found = estimate(
            runs,
            metric.aggregate,
            scale=metric.scale,
            binary=metric.binary,
            fixed=case.training is None,
            no_interval=_no_interval(metric, runs[0]),
        )
        return MetricResult(
            name=metric.name,
            value=found.value,
            per_seed=found.per_run,
            greater_is_better=metric.greater_is_better,
            signature=metric.signature,
            interval=found.interval,
            no_interval=found.no_interval,
            examples=found.examples,
        )

    @staticmethod
    def _errors(case: Case, finished: Sequence[Finished]) -> tuple[tuple[Confusion, ...], tuple[WorstExample, ...]]:
        """The commonest confusions over all runs, and the worst examples of the first."""
        task = tasks.get(case.task)
        counts: Counter[tuple[str, str]] = Counter()
        for run in finished:
            for confusion in task.confusions(run.records(), dict(run.meta)):
                counts[confusion.gold, confusion.predicted] += confusion.count
        first = finished[0]
        return (
            tuple(
                Confusion(gold=gold, predicted=predicted, count=n) for (gold, predicted), n in counts.most_common(10)
            ),
            tuple(task.worst(first.records(), dict(first.meta), case.task_options)),
        )


def _built(case: Case, context: Context, lookup: Lookup) -> tuple[list[Metric], list[str]]:
    """The case's metrics but costs, and what is to be said of a default one that doesn't fit the data (it is left out).

    Raises MetricError for one that a gate names.
    """
    defaults = set(tasks.get(case.task).default_metrics(case.task_options)) - {gate.metric for gate in case.gates}
    built, left_out = [], []
    for name in case.metrics:
        if lookup.is_cost(name):
            continue
        try:
            built.append(lookup.build(name, context))
        except MetricError as error:
            if name not in defaults:
                raise
            left_out.append(f"{name} is left out: {error}")
    return built, left_out


def _no_interval(metric: Metric, statistics: FloatArray) -> str:
    """Why a metric of the user's has no interval over so many examples; empty for all others."""
    return metric.no_interval(statistics) if isinstance(metric, metrics.WithoutInterval) else ""


def _small(rows: FloatArray) -> Any:
    """The same numbers in the smallest type that holds them exactly: statistics are mostly small counts."""
    import numpy as np

    for kind in (np.uint8, np.int16, np.int32):
        if rows.size == 0 or (
            rows.min() >= np.iinfo(kind).min and rows.max() <= np.iinfo(kind).max and (rows == np.rint(rows)).all()
        ):
            return rows.astype(kind)
    return rows


def _cost(known: Definition, finished: Sequence[Finished]) -> MetricResult:
    values = tuple(float(run.costs().get(known.name, math.nan)) for run in finished)
    return MetricResult(
        name=known.name,
        value=math.fsum(values) / len(values),
        per_seed=values,
        greater_is_better=known.greater_is_better,
        signature=known.name,
        no_interval="a cost of these runs, not an estimate from examples",
    )


def _run_result(run: Finished) -> RunResult:
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
    )


def _notes(finished: Sequence[Finished]) -> tuple[str, ...]:
    """What the stages want said, each once, in the order it came up."""
    said: dict[str, None] = {}
    for run in finished:
        for entry in (run.trained, run.predicted):
            for note in entry.content["notes"] if entry else ():
                said[shown(note, 300)] = None
    return tuple(said)
