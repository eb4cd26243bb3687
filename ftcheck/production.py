"""From a case to its finished runs: their keys, what they need before them, and each stage brought into the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck import keys, timing
from ftcheck.errors import StoreError, TrainingError
from ftcheck.executors import SearchWork, Work, refuse_alone
from ftcheck.executors.deadline import Timeout
from ftcheck.executors.inline import model_of
from ftcheck.finetune import Job, OnProgress, Progress, techniques
from ftcheck.runs import MAKING, Finished, Measured, PlannedRun, Run
from ftcheck.trackers import tensorboard

if TYPE_CHECKING:
    from ftcheck.devices import Device
    from ftcheck.executors import Executor
    from ftcheck.keys import Identifier, Key
    from ftcheck.settings import Settings
    from ftcheck.spec import Case
    from ftcheck.store import Entry, Stage, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """Makes the runs of cases, or finds them in the store."""

    settings: Settings
    store: Store
    identifier: Identifier
    device: Device
    executor: Executor
    started: float = field(default_factory=time.monotonic)
    """When the session began to measure."""
    refreshed: set[str] = field(default_factory=set)
    """Digests of what `--ft-cache=refresh` has made anew: other cases of the session find it."""
    chosen: set[str] = field(default_factory=set)
    """Digests of the predict keys of runs that `--ft-verify` makes once more."""

    def seeds(self, case: Case) -> tuple[int, ...]:
        """Those that are run in any case: the suite's, or as many as --ft-seeds says."""
        seeds = case.seeds
        if self.settings.seeds is not None:
            seeds = tuple(range(case.seeds[0], case.seeds[0] + self.settings.seeds))
        return seeds[:1] if case.training is None else seeds

    @timing.phase("keys")
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
                    profile=self.settings.profile,
                    allow_remote_code=self.settings.allow_remote_code,
                    parents={technique: self._model_folder(run) for technique, run in parents.items()},
                    parent_keys={technique: run.train.digest for technique, run in parents.items()},
                    **self.identifier.revisions(case),
                )
                run = Run.of(job, self.identifier)
                if folding is not None:
                    parts = (Run.of(replace(job, fold=fold), self.identifier) for fold in range(folding.folds))
                    run = replace(run, parts=tuple(parts))
                made.append(run)
        return tuple(made)

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

    def begin(self, case: Case) -> None:
        """Let the executor make ahead, as far as it does that, what `finish` will ask for. Raises what keeps an input
        from being identified."""
        if self.settings.cache == "only" or not self.executor.works_ahead:
            return
        for whole in self.runs(case):
            if whole.parts and self.there(whole):
                continue
            for run in whole.parts or (whole,):
                if not self.there(run):
                    self._begin(run, redo=self.settings.cache == "refresh")

    def there(self, run: Run) -> bool:
        """Whether both stages of `run` are in the store."""
        if self._found("predictions", run.predict) is None:
            return False
        return run.job.case.training is None or self._found("runs", run.train) is not None

    def _begin(self, run: Run, *, redo: bool) -> None:
        """Begin a run behind the models that it needs. What another machine has of them, and of the run itself, is
        brought here first: the executor's processes look nowhere else."""
        only_predicts = self._only_predicts(run, redo=redo)
        self._refuse_alone(run, only_predicts=only_predicts)
        after: tuple[str, ...] = ()
        if not only_predicts or techniques.answers_with_parents(run.job.case):
            after = self._begin_parents(run.job)
        search, searched = None, None if only_predicts else self._search(run.job.case)
        if searched is not None:
            search = SearchWork(job=searched.job, key=searched.train, redo=redo)
            if self._found("searches", searched.train) is None:
                after += self._begin_parents(searched.job)
        self.executor.begin(self._work(run, search, redo=redo, after=after), self._seconds(run))

    def _begin_parents(self, job: Job) -> tuple[str, ...]:
        """The train keys' digests of the models that a job waits for."""
        waits = []
        for run in self._parents(job.case, job.seed).values():
            trained = self._found("runs", run.train, model=True)
            if model_of(trained) is None:
                self._begin(run, redo=trained is None and self.settings.cache == "refresh")
                waits.append(run.train.digest)
        return tuple(waits)

    def _seconds(self, run: Run) -> float | None:
        """How long the case's training took the last time; None where nobody knows."""
        known = self._last(run)
        return None if known is None else known[1].get("train_seconds")

    def _peak(self, run: Run) -> int | None:
        """The most memory that the case's training had the last time; None where nobody knows, or it was of another
        size."""
        from ftcheck.executors import needs  # here, since most sessions find all they need

        known = self._last(run)
        if known is None or not needs.alike(known[0].components, run.train.components):
            return None
        return int(known[1].get("peak_memory_bytes", 0)) or None

    def _last(self, run: Run) -> tuple[Key, Mapping[str, float]] | None:
        """The train key and the costs of the case's last run, if they are known."""
        known = self.store.case(str(run.job.case.suite), run.job.case.id)
        if known is None or not known.runs or "train" not in known.runs[-1].keys:
            return None
        key = known.runs[-1].keys["train"]
        entry = self.store.get("runs", key.digest, used=False)
        return None if entry is None else (key, entry.content["costs"])

    def drop_models(self, measured: Measured, case: Case) -> None:
        """Take out of the store the models that the case doesn't want kept, now that nobody reads them.

        Where the store can't be changed they stay: the case was judged, so that is a warning.
        """
        if case.keep_model == "all":
            return
        from ftcheck.store import remove_model

        made = [(part, finished.made) for finished in measured.runs for part in finished.run.parts or (finished.run,)]
        for index, (run, stages) in enumerate(made):
            if "train" in stages and (index > 0 or case.keep_model == "none"):
                try:
                    with self.store.lock("runs", run.train.digest):
                        remove_model(self.store, "runs", run.train.digest)
                except (StoreError, OSError) as error:
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
        missing = predicted is None or (trained is None and case.training is not None)
        if missing or self.executor.begun(run.predict):
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
        assert predicted is not None
        finished = Finished(run=run, trained=trained, predicted=predicted, made=made)
        return tensorboard.completed(finished, self.settings.tensorboard, self.store.warnings)

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
        only_predicts = self._only_predicts(run, redo=redo)
        self._refuse_alone(run, only_predicts=only_predicts)
        search = None if only_predicts else self._search_work(run.job.case, on_progress, on_wait, redo=redo)
        if not only_predicts or techniques.answers_with_parents(run.job.case):
            self._make_parents(run.job, on_progress, on_wait)
        with timing.phase(MAKING):
            made = self.executor.produce(self._work(run, search, redo=redo), self.store, on_progress, on_wait)
        self.refreshed.update((run.train.digest, run.predict.digest))
        if search is not None:
            self.refreshed.add(search.key.digest)
        return made

    def _refuse_alone(self, run: Run, *, only_predicts: bool) -> None:
        if self.settings.executor != "ray" and not only_predicts:
            refuse_alone(run.job.case)

    def _only_predicts(self, run: Run, *, redo: bool) -> bool:
        """Whether the model of `run` is there. Verified: one that turned out to be damaged later would be trained again
        without what its search found."""
        if redo or run.job.case.training is None:
            return False
        return model_of(self.store.get("runs", run.train.digest, model=True)) is not None

    def _work(self, run: Run, search: SearchWork | None, *, redo: bool, after: tuple[str, ...] = ()) -> Work:
        return Work(
            # Of work that is under way already, the events that it writes are not to be touched.
            job=run.job
            if self.executor.begun(run.predict)
            else tensorboard.begun(run, self.settings.tensorboard, self.store.warnings),
            search=search,
            train=run.train,
            predict=run.predict,
            redo=redo,
            refuse_changed=partial(self._refuse_changed, run),
            after=after,
            timeout=self._timeout(run.job.case),
            peak=self._peak(run),
            commits=dict(self.identifier.commits),
        )

    def _timeout(self, case: Case) -> Timeout | None:
        """How long a stage of a run of `case` may take now. Raises TrainingError where the session has no time left."""
        given = None if case.timeout is None else Timeout(seconds=case.timeout, said=f"timeout: {case.timeout:g}s")
        if self.settings.timeout is None:
            return given
        left = self.settings.timeout - (time.monotonic() - self.started)
        if left <= 0:
            raise TrainingError(f"--ft-timeout={self.settings.timeout:g}s is over: this was not begun any more")
        if given is not None and given.seconds <= left:
            return given
        return Timeout(seconds=left, said=f"--ft-timeout={self.settings.timeout:g}s")

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

    def require_parents(self, job: Job) -> None:
        """Raise StoreError where a model that a job needs isn't in the store."""
        for run in self._parents(job.case, job.seed).values():
            if model_of(self.store.get("runs", run.train.digest, model=True)) is None:
                raise StoreError(
                    f"--ft-verify can't make {job.case.id} once more: the model of {run.job.case.id}, which it needs, "
                    "was taken out of the store (`keep_model`, `ftcheck cache prune --models`); "
                    "make it anew with --ft-cache=refresh"
                )

    def work_again(self, run: Run) -> Work:
        """What makes `run` once more from its beginning; a search in the store isn't repeated."""
        search = self._search(run.job.case)
        return Work(
            job=run.job,
            train=run.train,
            predict=run.predict,
            refuse_changed=partial(self._refuse_changed, run),
            search=None if search is None else SearchWork(job=search.job, key=search.train),
            timeout=self._timeout(run.job.case),
        )

    def _refuse_changed(self, run: Run) -> None:
        """Raise TrainingError where a file was edited since the keys of `run` were made: they'd lie of it."""
        now = self.runs(run.job.case, [run.job.seed])[0]
        if run.job.fold is not None:
            now = now.parts[run.job.fold]
        if changes := run.changes(now):
            raise TrainingError(
                f"an input changed while it was being used ({'; '.join(map(str, changes[:3]))}): "
                "nothing is kept; run again"
            )
