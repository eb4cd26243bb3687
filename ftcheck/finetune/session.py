"""One run in the heavy room: data, model, training, saving, predicting; and everything given back at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ftcheck import metrics, tasks, timing
from ftcheck.errors import CheckpointError, DataError, FtcheckError, OutOfMemoryError, TrainingError, shown
from ftcheck.finetune import (
    Job,
    OnProgress,
    Predicted,
    Progress,
    Share,
    Spent,
    Trained,
    allocator,
    memory,
    spreading,
    together,
    unshared,
)
from ftcheck.finetune.answering import Answering, silent
from ftcheck.finetune.environment import PeakMemory, describe, give_back, let_go
from ftcheck.finetune.judged import identified
from ftcheck.finetune.parameters import sizes
from ftcheck.finetune.quiet import own_environment, own_randomness, quiet

if TYPE_CHECKING:
    from ftcheck.finetune.data import Loaded, RoleRows, Stream
    from ftcheck.finetune.techniques import Context
    from ftcheck.finetune.trainer import Evaluate
    from ftcheck.finetune.work import Tokens
    from ftcheck.tasks import Rows, Where
    from ftcheck.tasks.features import EncodedRows

BESIDE = "ftcheck.json"
"""Beside a saved model: what the task learned and what was tuned, without which its answers can't be read."""


OnScores = Callable[[Mapping[str, float], int], None]
"""(loss and metrics on the tune rows, global step)."""


def unheard(scores: Mapping[str, float], step: int) -> None:
    """Nobody is told."""


class FineTuning(Answering):
    """Makes one run. A context manager: on exit the model's memory is given back.

    `train()`, then `save()` and `predict()`; or `load()`, then `predict()`; or for `training: false` `predict()` alone.
    `loaded` is for rows that are there already; else they come from the case's data when they are needed. `on_scores`
    is told of each look at the tune rows while training, and may raise to stop it. `share` keeps what is the same for
    several runs. `unfinished` is a folder of this run's, for checkpoints that a training goes on from.
    """

    def __init__(
        self,
        job: Job,
        on_progress: OnProgress = silent,
        *,
        loaded: Loaded | None = None,
        on_scores: OnScores = unheard,
        share: Share = unshared,
        unfinished: Path | None = None,
    ) -> None:
        super().__init__(job, on_progress, share)
        self._on_scores = on_scores
        self._loaded = loaded
        self._unfinished = unfinished

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.model = self.tokenizer = self._loaded = self._answering = None
        if isinstance(error, FtcheckError | SystemExit):  # another one's frames are of use to who looks for the bug
            let_go(error)
        give_back(self.job.device)

    def train(self) -> Trained:
        """Fine-tune the case's checkpoint on its training rows, and tune on its tune rows what the task tunes.

        With `training: false` the checkpoint is loaded as it is. Where memory runs out and the case says so
        (`on_oom: halve_batch`), all is begun anew with smaller batches. Raises FtcheckError: DataError,
        CheckpointError, TrainingError.
        """
        asked = self.job
        while True:
            try:
                return self._train(asked)
            except OutOfMemoryError:
                smaller = memory.smaller(self.job)
                if smaller is None or self.job.case.on_oom == "fail":
                    raise
            # Out here the error is gone, and what its traceback held of the model and its gradients.
            self._begin(smaller)
            give_back(self.job.device)

    def _train(self, asked: Job) -> Trained:
        """One try. `asked`: the job as the case has it, which this one may have smaller batches than."""
        from ftcheck.finetune import trainer

        with timing.recording() as recorder, self._stage() as warnings:
            recorder.watch(PeakMemory(self.job.device))
            rows = self._rows()
            self._notes.extend(note for note in rows.notes if note not in rows.judged_notes)
            for name, found in self.job.found.items():
                self._notes.extend(found.notes)
                self._records[name] = dict(found.record)
            if self.job is not asked:
                self._records["on_oom"], note = memory.told(asked, self.job)
                self._notes.append(note)
            self._start(rows)
            outcome = None
            if self.job.case.training is not None:
                context = self._context(rows)
                features = (
                    self._training_features(rows, context) if rows.stream is None else self._streamed(rows.stream)
                )
                evaluate = self._told(self._evaluation(rows))
                with timing.phase("train"):
                    outcome = trainer.train(
                        context,
                        self.applied.techniques,
                        self.model,
                        features,
                        evaluate=evaluate,
                        on_progress=self._on_progress,
                        unfinished=self._unfinished,
                    )
                self.model = outcome.model
            if together.is_first():
                if outcome is not None:
                    self.model = self.applied.finish(self.model.to(self.job.device), context)
                self._tune(rows)
            recorder.turn()
            most = together.most(float(max(recorder.peak_bytes.values())))
            costs = {**sizes(self.model), "peak_memory_bytes": most}
            if outcome is not None:
                costs["train_seconds"] = outcome.seconds
                costs["train_samples_per_second"] = outcome.samples_per_second
        return Trained(
            meta=self.meta,
            tuned=self.tuned,
            costs=costs,
            log_history=outcome.log_history if outcome is not None else (),
            environment={**describe(self.job.device), **together.described()},
            rows={role: counts for role, counts in rows.rows.items() if role != "eval"},
            first_losses=outcome.first_losses if outcome is not None else (),
            spent=self._spent(recorder, outcome.tokens if outcome is not None else None, trains=True),
            row_hashes=tuple(rows.roles["train"].hashes) if "train" in rows.roles and rows.stream is None else (),
            records=self._records,
            notes=tuple(dict.fromkeys(self._notes)),
            warnings=tuple(warnings),
        )

    def score(self) -> dict[str, float]:
        """`loss` and the case's metrics of the model on the tune rows. Raises DataError where there are none."""
        with self._stage():
            evaluate = self._evaluation(self._rows())
            if evaluate is None:
                raise DataError("there are no tune rows to score: give data.splits.tune or data.holdout.tune")
            return evaluate(self._in_training(None), 0)

    def save(self, directory: Path) -> None:
        """Model (safetensors) and tokenizer, with what `load` needs to read its answers."""
        with quiet():
            directory.mkdir(parents=True, exist_ok=True)
            keeper = self.applied.keeper
            if keeper is None:
                self.model.save_pretrained(directory)
            else:
                keeper.save(self.model, directory, self._context(None))
            self.tokenizer.save_pretrained(directory)
        beside = json.dumps({"meta": self.meta, "tuned": self.tuned}, sort_keys=True)
        (directory / BESIDE).write_text(beside, encoding="utf-8")

    def load(self, directory: Path) -> None:
        """The model that `save` left. Raises CheckpointError."""
        from ftcheck.finetune import model as models

        try:
            beside = json.loads((directory / BESIDE).read_text(encoding="utf-8"))
            self.meta, self.tuned = beside["meta"], beside["tuned"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{directory / BESIDE}: can't be read: {error}") from error
        with self._stage(), memory.loading(self.job):
            keeper = self.applied.keeper
            if keeper is None:
                self.model, self.tokenizer, _ = models.load(self.job, self.task, self.meta, directory)
            else:
                self.tokenizer = models.load_kept_tokenizer(self.job, self.task, directory)
                self.model = keeper.load(directory, self._context(None))
            self.model.to(self.job.device).eval()

    def predict(self) -> Predicted:
        """Answer the evaluation rows. With `training: false` and nothing loaded yet, the checkpoint as it is answers.

        Raises FtcheckError: DataError, CheckpointError, TrainingError (out of memory).
        """
        with timing.recording() as recorder, self._stage() as warnings:
            recorder.watch(PeakMemory(self.job.device))
            before = len(self._notes)
            if self.model is None and self.job.case.training is not None:
                raise RuntimeError("predict() needs train() or load() first")
            rows = self._rows()
            if self.model is None:
                self._notes.extend(rows.notes)
                self._start(rows)
                self._tune(rows)
            else:
                self._notes.extend((*rows.judged_notes, *rows.streamed_notes))
                self._check(rows, ("eval",), says=("eval",))
            features, prompts = self._encode(rows.roles["eval"], "eval"), self._prompts(rows, "eval")
            self.answering(features)
            start = time.perf_counter()
            with timing.phase("predict"):
                answers = self._run(self._answering, features, prompts, "predict")
            seconds = time.perf_counter() - start
            self._notes.extend(f"eval: {note}" for note in answers.notes)
            records = identified(
                self._decode(answers, features, rows.roles["eval"].dataset, self.tuned), rows, self.task
            )
            costs = {"eval_seconds": seconds, "eval_samples_per_second": len(records) / max(seconds, 1e-9)}
            if self.job.case.training is None:  # there is no training's entry that has them
                costs |= sizes(self.model)
            if self.applied.compares:
                costs["parity_difference"] = self._difference(features)
            costs |= self.applied.costs(self._answering, self._context(rows, features))
        return Predicted(
            records=records,
            meta=self.meta,
            tuned=self.tuned,
            costs=costs,
            rows={"eval": rows.rows["eval"]},
            spent=self._spent(recorder, answers.tokens, trains=False),
            notes=tuple(dict.fromkeys(self._notes[before:])),
            warnings=tuple(warnings),
        )

    @contextmanager
    def _stage(self) -> Iterator[list[str]]:
        """Quiet, in an environment of its own, random streams put back; what the machine runs out of is explained."""
        with timing.phase("import"), quiet():  # here, where it is seen, rather than wherever they are wanted first
            import datasets  # noqa: F401
            from transformers import AutoModel, Trainer  # noqa: F401
        device, fewer = self.job.device, "use fewer (data.limit), or data.streaming: true"
        with (
            quiet() as warnings,
            own_environment(device),
            own_randomness(device),
            allocator.keeping(device),
            memory.explained(device, "reading and encoding the rows", fewer),
        ):
            yield warnings

    def _spent(self, recorder: timing.Recorder, tokens: Tokens | None, *, trains: bool) -> Spent:
        """Where a stage's time went, and what came of it."""
        from ftcheck.finetune import work

        found = None
        if tokens is not None and tokens.places:
            job = self.job
            found = work.work(
                self.model if trains else self._answering,
                tokens,
                trains=trains,
                per_token=self.task.per_token,
                limit=work.limit(job.device, job.precision) if job.profile else None,
            )
        return Spent(
            seconds=dict(recorder.seconds),
            peak_bytes=dict(recorder.peak_bytes),
            work=None if found is None else asdict(found),
        )

    @timing.phase("data")
    def _rows(self) -> Loaded:
        """The rows of all roles, loaded once: also whoever only predicts must know which rows were trained on."""
        if self._loaded is None:
            from ftcheck.finetune import data

            self._on_progress(Progress(stage="load"))
            self._loaded = data.load(self.job)
        return self._loaded

    def _start(self, rows: Loaded) -> None:
        """Learn from the training rows, check all rows, seed, and make the model."""
        from transformers import set_seed

        from ftcheck.finetune import model as models

        job, training = self.job, self.job.case.training is not None
        if missing := job.case.parents.keys() - job.parents.keys():
            raise TrainingError(f"the model that {', '.join(sorted(missing))} names is gone: run again")
        self._on_progress(Progress(stage="load"))
        config = models.load_config(models.Source.of_model(job))
        learned_from, where = self._learned_from(rows) if training else (None, "row {}".format)
        try:
            self.meta = self.task.learn(learned_from, config, job.case.task_options, where)
        except DataError as error:
            if job.limit is None:
                raise
            raise DataError(f"{error} (of so few rows: raise --ft-limit={job.limit})") from None
        if training:  # before the time that it takes, what would fail after it
            self._check(rows, rows.roles, says=("train", "tune"))
        set_seed(job.seed)
        context = self._context(rows)
        with timing.phase("model"), memory.loading(job):
            self.model, self.tokenizer, notes = models.load(
                job, self.task, self.meta, training=training, more=self.applied.model_kwargs(context)
            )
            self._notes.extend(notes)
            if training:
                self.model = self.applied.adapt(self.model, self._context(rows))
            if not (training and spreading.asked(job)):  # no device may have room for the whole model and what comes
                self.model.to(job.device)
        if training:
            self.meta |= self.task.probe(self.model, self.meta, job.case.task_options)
        else:  # after the checkpoint proved to have classes of its own
            self._check(rows, rows.roles, says=("tune", "eval"))

    def _learned_from(self, rows: Loaded) -> tuple[Rows, Where]:
        """The training rows, and where each came from. In a smoke run all rows: a handful hasn't all classes."""
        if self.job.limit is None:
            return rows.roles["train"].dataset, rows.roles["train"].place
        from datasets import concatenate_datasets

        def where(row: int) -> str:
            for found in rows.roles.values():
                if row < len(found.dataset):
                    return found.place(row)
                row -= len(found.dataset)
            raise IndexError(row)

        try:
            return concatenate_datasets([found.dataset for found in rows.roles.values()]), where
        except (ValueError, TypeError) as error:
            raise DataError(f"the columns of {', '.join(rows.roles)} differ in kind: {shown(error, 300)}") from error

    def _check(self, rows: Loaded, roles: Collection[str], *, says: Collection[str]) -> None:
        """Refuse rows of `roles` that can't be used; keep the notes on those in `says`."""
        for role in roles:
            found = rows.roles[role]
            notes = self.task.check(found.dataset, role, self.meta, self.job.case.task_options, found.place)
            if role in says:
                self._notes.extend(notes)

    def _training_features(self, rows: Loaded, context: Context) -> EncodedRows:
        """The training rows, encoded, as techniques have them."""
        found = self.applied.rows(rows.roles["train"], context)
        return self.applied.features(self._encode(found, "train"), found, context)

    def _streamed(self, stream: Stream) -> Any:
        """The features of the training rows as the Trainer asks for them. The notes of the first rows stand for all."""
        from ftcheck.finetune import streaming

        task, options = self.task, self.job.case.task_options

        def encode(chunk: RoleRows) -> EncodedRows:
            task.check(chunk.dataset, "train", self.meta, options, chunk.place)
            return task.encode(chunk.dataset, self.tokenizer, self.meta, options, training=True, where=chunk.place)

        self._notes.extend(f"train: of the first rows, {note}" for note in encode(stream.head).notes)
        return streaming.features(stream, encode)

    def _evaluation(self, rows: Loaded) -> Evaluate | None:
        """What looks at the tune split; None where the case has none."""
        if "tune" not in rows.roles:
            return None
        features, dataset = self._encode(rows.roles["tune"], "tune"), rows.roles["tune"].dataset
        prompts, case = self._prompts(rows, "tune"), self.job.case
        lookup = tasks.lookup(case)
        names = [name for name in case.metrics if not lookup.is_cost(name)]

        @timing.phase("evaluate")
        def evaluate(model: Any, step: int) -> dict[str, float]:
            answers = self._run(model, features, prompts, "evaluate")
            tuned = self.tuned
            if self.task.tunes(dataset, case.task_options):
                tuned = self.task.tune(answers.arrays, features, dataset, case.task_options)
            records = self._decode(answers, features, dataset, tuned)
            inputs = self.task.score_inputs(records, self.meta, case.task_options)
            context = self.task.context(self.meta, case.task_options)
            scores = {} if answers.loss is None else {"loss": answers.loss}
            for name in names:
                predictions, references = inputs[lookup.describe(name).input]
                scores[name] = metrics.value(lookup.build(name, context), predictions, references)
            return scores

        return evaluate

    def _told(self, evaluate: Evaluate | None) -> Evaluate | None:
        """The same, its scores told to whoever listens."""
        if evaluate is None:
            return None

        def told(model: Any, step: int) -> dict[str, float]:
            scores = evaluate(model, step)
            self._on_scores(scores, step)
            return scores

        return told

    def _tune(self, rows: Loaded) -> None:
        """Settings that the task finds on the tune split."""
        options = self.job.case.task_options
        if "tune" not in rows.roles or not self.task.tunes(rows.roles["tune"].dataset, options):
            return
        features, dataset = self._encode(rows.roles["tune"], "tune"), rows.roles["tune"].dataset
        answers = self._run(self._in_training(features), features, None, "evaluate")
        self.tuned = self.task.tune(answers.arrays, features, dataset, options)
        found = ", ".join(f"{name} {value:.4g}" for name, value in self.tuned.items())
        self._notes.append(f"tuned on {len(dataset):,} tune rows: {found}")
