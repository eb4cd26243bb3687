"""The one orchestrator: Case -> keys -> store? -> fine-tune -> predict -> score -> judge -> CaseResult."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck import gates, keys, proposals, tasks
from ftcheck.errors import BaselineError, FtcheckError, MetricError, StoreError, TrainingError
from ftcheck.executors import SearchWork, Work
from ftcheck.executors.inline import model_of
from ftcheck.finetune import Job, OnProgress, Progress, techniques
from ftcheck.results import CaseResult, Confusion, WorstExample
from ftcheck.runs import Finished, Measured, PlannedRun, Run, Scored, notes, run_result
from ftcheck.scoring import Scorer

if TYPE_CHECKING:
    from ftcheck.devices import Device
    from ftcheck.evidence import Missing
    from ftcheck.executors import Executor
    from ftcheck.keys import Identifier, Key
    from ftcheck.metrics import Context, Lookup, Metric
    from ftcheck.references import Other, Peers
    from ftcheck.settings import Settings
    from ftcheck.spec import Case
    from ftcheck.store import Entry, Stage, Store

REFERENCE, FIRST = "reference", "first"
"""The two that margins compare with (see `Evidence.pairs`)."""


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

    def seeds(self, case: Case) -> tuple[int, ...]:
        """Those that are run in any case: the suite's, or as many as --ft-seeds says."""
        seeds = case.seeds
        if self.settings.seeds is not None:
            seeds = tuple(range(case.seeds[0], case.seeds[0] + self.settings.seeds))
        return seeds[:1] if case.training is None else seeds

    def runs(self, case: Case, seeds: Sequence[int] | None = None) -> tuple[Run, ...]:
        """The runs of `case` with their keys, of these seeds or those that it asks for. Raises what keeps an input from
        being identified."""
        from ftcheck.devices import resolve_precision

        seeds = self.seeds(case) if seeds is None else seeds
        precision = resolve_precision(case.precision, self.device)
        folding = techniques.folding(case)
        made = []
        with self.identifier.at_once():
            for seed in seeds:
                parents = self._parents(case, seed)
                job = Job(
                    case=case,
                    seed=seed,
                    device=str(self.device),
                    precision=precision,
                    limit=self.settings.limit,
                    offline=self.settings.offline,
                    parents={technique: self._model_folder(run) for technique, run in parents.items()},
                    **self.identifier.revisions(case),
                )
                parent_keys = {technique: run.train for technique, run in parents.items()}
                run = self._run(job, parent_keys)
                if folding is not None:
                    parts = (self._run(replace(job, fold=fold), parent_keys) for fold in range(folding.folds))
                    run = replace(run, parts=tuple(parts))
                made.append(run)
        return tuple(made)

    def _run(self, job: Job, parents: Mapping[str, Key]) -> Run:
        """The run of a job with its keys."""
        train = keys.train_key(
            job.case,
            job.seed,
            device_type=self.device.kind,
            precision=job.precision,
            identifier=self.identifier,
            limit=job.limit,
            parents=parents,
            fold=job.fold,
        )
        predict = keys.predict_key(
            train,
            job.case,
            identifier=self.identifier,
            limit=job.limit,
            device_type=self.device.kind,
            precision=job.precision,
        )
        return Run(job=job, train=train, predict=predict)

    def _parents(self, case: Case, seed: int) -> dict[str, Run]:
        """Technique -> the run whose model the run of `case` with this seed takes."""
        return {
            technique: self.runs(parent, [keys.parent_seed(parent, seed)])[0]
            for technique, parent in case.parents.items()
        }

    def _model_folder(self, run: Run) -> Path:
        """Where the run's model is, or will be."""
        return self.store.place("runs", run.train.digest) / "model"

    def plan(self, case: Case) -> tuple[PlannedRun, ...]:
        """What `measure` would have to do. Imports no torch."""
        planned = []
        for run in self.runs(case):
            predicted = self._found("predictions", run.predict) is not None
            train = self._planned(run, predicted=predicted)
            missing = (*self._untrained_parents(run.job), *self._unsearched(case)) if train == "train" else ()
            planned.append(
                PlannedRun(seed=run.job.seed, train=train, predict="found" if predicted else "evaluate", after=missing)
            )
        return tuple(planned)

    def _planned(self, run: Run, *, predicted: bool) -> str:
        """What the training of a run would take; `predicted`: whether its predictions are in the store."""
        if run.job.case.training is None:
            return "none"
        trained = self._found("runs", run.train)
        if run.parts and not (predicted and trained is not None):
            found = (self._found("predictions", part.predict) is not None for part in run.parts)
            each = [self._planned(part, predicted=there) for part, there in zip(run.parts, found, strict=True)]
            return "train" if "train" in each else "found"
        # Predicting takes the model, which may have been taken out.
        return "found" if trained is not None and (predicted or self.store.offers_model(trained)) else "train"

    def _untrained_parents(self, job: Job) -> tuple[str, ...]:
        """The ids of the cases that would have to be trained before this run, the first one first."""
        found: list[str] = []
        for run in self._parents(job.case, job.seed).values():
            trained = self._found("runs", run.train)
            if trained is None or not self.store.offers_model(trained):
                found += (*self._untrained_parents(run.job), run.job.case.id)
        return tuple(found)

    def _search(self, case: Case) -> Run | None:
        """The run that a search's own are like, with the search's key; None where the case searches for nothing."""
        searching = techniques.searching(case)
        if searching is None:
            return None
        (run,) = self.runs(case, [searching.search_seed])
        return replace(run, train=keys.search_key(run.train))

    def _unsearched(self, case: Case) -> tuple[str, ...]:
        """What would have to be searched for before a run of `case`."""
        run = self._search(case)
        if run is None or self._found("searches", run.train) is not None:
            return ()
        return (*self._untrained_parents(run.job), "a search")

    def measure(
        self,
        case: Case,
        nodeid: str,
        on_progress: Callable[[int, Progress], None],
        on_wait: Callable[[str], None],
        *,
        peers: Peers = lambda name: None,
    ) -> Measured:
        """Bring every run of `case` into the store, score it, and judge the case.

        Raises FtcheckError for whatever keeps the case from being measured.
        """

        from ftcheck import references
        from ftcheck.judging import judge

        finish = partial(self.finish, on_progress=on_progress, on_wait=on_wait)

        finished = finish(case)
        smoke = self.settings.limit is not None
        others = {} if smoke else self._others(case, finish, peers)
        while True:
            scored = self.scored(case, finished)
            try:
                judgement = judge(case, scored, others, self.store, smoke=smoke)
            except BaselineError as error:
                others = dict.fromkeys(others, self._replaceable(error))
                continue
            last = max(run.run.job.seed for run in finished)
            if case.max_seeds is None or len(finished) >= case.max_seeds or not gates.undecided(judgement.gates):
                break
            finished = (*finished, *finish(case, [last + 1]))
        if not smoke:  # `why` compares whole runs
            first = finished[0].run
            self.store.record_case(str(case.suite), case.id, {"train": first.train, "predict": first.predict})
        result = CaseResult(
            suite=str(case.suite),
            case_id=case.id,
            nodeid=nodeid,
            task=case.task,
            checkpoint=case.checkpoint.path,
            verdict="smoke" if smoke else gates.verdict(judgement.gates),
            device=str(self.device),
            precision=finished[0].run.job.precision,
            seeds=tuple(run.run.job.seed for run in judgement.scored.runs),
            metrics=tuple(judgement.values[name] for name in case.metrics if name in judgement.values),
            gates=judgement.gates,
            runs=tuple(run_result(run) for run in finished),
            examples=int(finished[0].predicted.content["rows"]["eval"]["count"]),
            notes=(*notes(finished), *judgement.notes, *self.warnings()),
            references=judgement.references,
            limited=self.settings.limit,
        )
        proposal = None
        if self.settings.updates and not smoke:
            proposal = proposals.propose(
                case.suite,
                case.id,
                self.device.kind,
                references.of_scored(judgement.scored, "", fixed=case.training is None),
                judgement.values,
                reason=self.settings.reason or "",
            )
            proposal = proposals.with_outlook(proposal, case, judgement.scored, judgement.values)
            result, proposal = proposals.settled(result, proposal, proposals.Rules.of(case, self.settings))
        if result.verdict == "fail":
            confusions, worst = self._errors(case, finished)
            result = replace(result, confusions=confusions, worst=worst)
        return Measured(result=result, runs=finished, scored=judgement.scored, proposal=proposal)

    def finish(
        self,
        case: Case,
        seeds: Sequence[int] | None = None,
        *,
        on_progress: Callable[[int, Progress], None],
        on_wait: Callable[[str], None],
    ) -> tuple[Finished, ...]:
        """The runs of `case` of these seeds (or those that it asks for), each brought into the store where it isn't
        there. Raises FtcheckError for whatever keeps one from being made."""
        runs = self.runs(case, seeds)
        return tuple(self._finish(run, partial(on_progress, run.job.seed), on_wait) for run in runs)

    def _others(
        self,
        case: Case,
        finish: Callable[[Case], tuple[Finished, ...]],
        peers: Peers,
    ) -> dict[str, Other | Missing]:
        """What the case's margins compare with; nothing where it has none."""
        from ftcheck import references

        bounds = [bounds for gate in case.gates for bounds in (gate, gate.slices) if bounds is not None]
        wanted: dict[str, Callable[[], Other | Missing]] = {}
        if any(bound.max_regression is not None or bound.max_gain is not None for bound in bounds):
            wanted[REFERENCE] = partial(self._reference, case, finish, peers)
        if any(bound.max_drift is not None for bound in bounds):
            wanted[FIRST] = partial(references.committed, case, self.device.kind, first=True)
        found: dict[str, Other | Missing] = {}
        for side, look in wanted.items():
            try:
                found[side] = look()
            except BaselineError as error:
                found[side] = self._replaceable(error)
        return found

    def _replaceable(self, error: BaselineError) -> Missing:
        """A baseline that can't be used is no hindrance where it is going to be replaced; else its error is raised."""
        from ftcheck.evidence import Missing

        if not self.settings.updates:
            raise error
        return Missing(verdict="incomparable", why=str(error))

    def _reference(self, case: Case, finish: Callable[[Case], tuple[Finished, ...]], peers: Peers) -> Other | Missing:
        from ftcheck import references

        device, to = self.device.kind, self.settings.compare
        if to is not None:
            if Path(to).is_dir():
                return references.in_folder(case, device, Path(to))
            if to.endswith(".json"):
                from ftcheck import operands

                return operands.in_results(case, device, Path(to), self.store)
            return references.at_commit(case, device, to)
        kind, _, name = case.vs.partition(":")
        if kind == "git":
            return references.at_commit(case, device, name)
        if kind == "baseline":
            return references.committed(case, device)
        if kind == "case":
            other = peers(name)
            if other is None:
                raise MetricError(f"vs: no case of {case.suite.name} is called {name}")
            against = f"case {name}"
        else:
            data = case.data
            if techniques.folding(case) is not None:  # what the folds judge together
                data = replace(data, splits={**data.splits, "eval": data.splits.get("train", "train")})
            other = replace(
                case, training=None, early_stopping=None, seeds=case.seeds[:1], techniques={}, parents={}, data=data
            )
            against = "the base checkpoint"
        try:
            scored = self.scored(other, finish(other), named=case)
        except FtcheckError as error:
            raise type(error)(f"compared with {against}, which can't be measured: {error}") from error
        return references.of_scored(scored, against, fixed=other.training is None)

    def scored(self, case: Case, finished: tuple[Finished, ...], *, named: Case | None = None) -> Scored:
        """The example statistics of the metrics of `case` (or those that another case names) for its runs.

        Raises MetricError: a metric that can't be computed, runs that were judged on different rows.
        """
        import numpy as np

        task = tasks.get(case.task)
        self._same_examples(finished)
        context = task.context(dict(finished[0].meta), case.task_options)
        built, left_out = _built(named or case, context, tasks.lookup(case))
        scorer = Scorer(task=task, options=case.task_options, lookup=tasks.lookup(case), store=self.store)
        found = [scorer.scores(run.run.predict, run.predicted, built, anew="predict" in run.made) for run in finished]
        return Scored(
            runs=finished,
            ids=found[0][0],
            metrics={metric.name: metric for metric in built},
            statistics={
                metric.name: tuple(np.asarray(statistics[metric.name], dtype=np.float64) for _, statistics in found)
                for metric in built
            },
            left_out=tuple(left_out),
        )

    def warnings(self) -> tuple[str, ...]:
        """What the store has to tell the reader since it was asked last: entries set aside, what couldn't be noted."""
        said = tuple(self.store.warnings)
        del self.store.warnings[: len(said)]  # an upload may have added one meanwhile
        return said

    def drop_models(self, measured: Measured, case: Case) -> None:
        """Take out of the store the models that the case doesn't want kept, now that nobody reads them.

        Where the store can't be changed they stay: the case was judged, so that is a warning.
        """
        from ftcheck.store import remove_model

        if case.keep_model == "all":
            return
        made = [(part, finished.made) for finished in measured.runs for part in finished.run.parts or (finished.run,)]
        for index, (run, stages) in enumerate(made):
            if "train" in stages and (index > 0 or case.keep_model == "none"):
                try:
                    with self.store.lock("runs", run.train.digest):
                        remove_model(self.store, "runs", run.train.digest)
                except StoreError as error:
                    self.store.warnings.append(f"{case.id}: a model that is not wanted stays: {error}")

    def _found(self, stage: Stage, key: Key, *, model: bool = False) -> Entry | None:
        if self.settings.cache == "refresh" and key.digest not in self.refreshed:
            return None
        return self.store.get(stage, key.digest, model=model)

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
            if run.parts:
                made = self._fold(run, on_progress, on_wait)
            else:
                made = self._make(run, on_progress, on_wait, redo=self.settings.cache == "refresh")
            trained = self.store.get("runs", run.train.digest) if case.training is not None else None
            predicted = self.store.get("predictions", run.predict.digest)
            if predicted is None or (trained is None and case.training is not None):
                raise StoreError(f"what was just written to {self.store.root} is gone or damaged: is the disk failing?")
        return Finished(run=run, trained=trained, predicted=predicted, made=made)

    def _fold(self, run: Run, on_progress: OnProgress, on_wait: Callable[[str], None]) -> frozenset[str]:
        """Bring each fold of `run` into the store, and what they are together."""
        from ftcheck import folding

        finished = [self._finish(part, on_progress, on_wait) for part in run.parts]
        folding.publish(run.train, run.predict, finished, self.store)
        self.refreshed.update((run.train.digest, run.predict.digest))
        return frozenset().union(*(part.made for part in finished))

    def _make(self, run: Run, on_progress: OnProgress, on_wait: Callable[[str], None], *, redo: bool) -> frozenset[str]:
        """Bring both stages of `run` into the store; returns those made just now."""
        self.store.check_writable()
        # Verified: one that turned out to be damaged later would be trained again without what its search found.
        only_predicts = not redo and model_of(self.store.get("runs", run.train.digest, model=True)) is not None
        search = None if only_predicts else self._search_work(run.job.case, on_progress, on_wait, redo=redo)
        whole = not any(technique.keeps for technique in techniques.of(run.job.case))
        if not (whole and only_predicts):
            self._make_parents(run.job, on_progress, on_wait)
        work = Work(
            job=run.job,
            search=search,
            train=run.train,
            predict=run.predict,
            redo=redo,
            refuse_changed=partial(self._refuse_changed, run),
        )
        made = self.executor.produce(work, self.store, on_progress, on_wait)
        self.refreshed.update((run.train.digest, run.predict.digest))
        if search is not None:
            self.refreshed.add(search.key.digest)
        return made

    def _search_work(
        self, case: Case, on_progress: OnProgress, on_wait: Callable[[str], None], *, redo: bool
    ) -> SearchWork | None:
        """What has to be found before the first run of `case` is trained."""
        run = self._search(case)
        if run is None:
            return None
        # What others of its runs found must do for this one: the case's runs differ in their seed alone.
        redo = redo and run.train.digest not in self.refreshed
        if redo or self.store.get("searches", run.train.digest) is None:
            self._make_parents(run.job, on_progress, on_wait)
        return SearchWork(job=run.job, key=run.train, redo=redo)

    def _make_parents(self, job: Job, on_progress: OnProgress, on_wait: Callable[[str], None]) -> None:
        """Bring the models that a job needs into the store."""
        for run in self._parents(job.case, job.seed).values():
            trained = self._found("runs", run.train, model=True)
            if model_of(trained) is not None:
                continue
            # Not trained yet, or its model was taken out, or is damaged.
            self._make(run, on_progress, on_wait, redo=trained is None and self.settings.cache == "refresh")
            if model_of(self.store.get("runs", run.train.digest)) is None:
                raise StoreError(f"the model of {run.job.case.id}, which {job.case.id} needs, is gone: run again")

    def _refuse_changed(self, run: Run) -> None:
        """Raise TrainingError where a file was edited since the keys of `run` were made: they'd lie of it."""
        now = self.runs(run.job.case, [run.job.seed])[0]
        if run.job.fold is not None:
            now = now.parts[run.job.fold]
        changes = [*keys.diff(run.train.components, now.train.components)]
        changes += [c for c in keys.diff(run.predict.components, now.predict.components) if c.path != "train"]
        if changes:
            raise TrainingError(
                f"an input changed while it was being used ({'; '.join(map(str, changes[:3]))}): "
                "nothing is kept; run again"
            )

    @staticmethod
    def _same_examples(finished: Sequence[Finished]) -> None:
        digests = {run.predicted.content["rows"]["eval"]["hashes"] for run in finished}
        if len(digests) > 1:
            raise MetricError("the seeds of this case were judged on different rows: is its data made at random?")

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
