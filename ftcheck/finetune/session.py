"""One run in the heavy room: data, model, training, saving, predicting; and everything given back at the end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ftcheck import metrics, tasks
from ftcheck.errors import CheckpointError, DataError, TrainingError, shown
from ftcheck.finetune import Job, OnProgress, Predicted, Progress, Share, Trained, unshared
from ftcheck.finetune.applying import Applied
from ftcheck.finetune.environment import PeakMemory, describe, give_back
from ftcheck.finetune.judged import identified
from ftcheck.finetune.quiet import own_environment, own_randomness, quiet

if TYPE_CHECKING:
    from ftcheck.finetune.data import Loaded, RoleRows, Stream
    from ftcheck.finetune.predict import Answers
    from ftcheck.finetune.techniques import Context
    from ftcheck.finetune.trainer import Evaluate
    from ftcheck.tasks import Meta, Rows, Where
    from ftcheck.tasks.features import EncodedRows

BESIDE = "ftcheck.json"
"""Beside a saved model: what the task learned and what was tuned, without which its answers can't be read."""


OnScores = Callable[[Mapping[str, float], int], None]
"""(loss and metrics on the tune rows, global step)."""


def silent(progress: Progress) -> None:
    """Nobody is told."""


def unheard(scores: Mapping[str, float], step: int) -> None:
    """Nobody is told."""


class FineTuning:
    """Makes one run. A context manager: on exit the model's memory is given back.

    `train()`, then `save()` and `predict()`; or `load()`, then `predict()`; or for `training: false` `predict()` alone.
    `loaded` is for rows that are there already; else they come from the case's data when they are needed. `on_scores`
    is told of each look at the tune rows while training, and may raise to stop it. `share` keeps what is the same for
    several runs.
    """

    def __init__(
        self,
        job: Job,
        on_progress: OnProgress = silent,
        *,
        loaded: Loaded | None = None,
        on_scores: OnScores = unheard,
        share: Share = unshared,
    ) -> None:
        self.job = job
        self.task = tasks.get(job.case.task)
        self.model: Any = None
        self.tokenizer: Any = None
        self.meta: Meta = {}
        self.tuned: dict[str, Any] = {}
        self._on_progress = on_progress
        self._on_scores = on_scores
        self._loaded = loaded
        self._notes: list[str] = []
        self._records: dict[str, Any] = {}
        self.applied = Applied(job, self.task, note=self._notes.append, record=self._records.__setitem__, share=share)
        self._answering: Any = None
        self._reference: dict[str, Sequence[Any]] = {}
        """Stage -> the outputs of the model that the training started from."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.model = self.tokenizer = self._loaded = self._answering = None
        give_back(self.job.device)

    def train(self) -> Trained:
        """Fine-tune the case's checkpoint on its training rows, and tune on its tune rows what the task tunes.

        With `training: false` the checkpoint is loaded as it is. Raises FtcheckError: DataError, CheckpointError,
        TrainingError.
        """
        from ftcheck.finetune import trainer

        memory = PeakMemory(self.job.device)
        with self._stage() as warnings:
            memory.start()
            rows = self._rows()
            self._notes.extend(note for note in rows.notes if note not in rows.judged_notes)
            for name, found in self.job.found.items():
                self._notes.extend(found.notes)
                self._records[name] = dict(found.record)
            self._start(rows)
            outcome = None
            if self.job.case.training is not None:
                context = self._context(rows)
                features = (
                    self._training_features(rows, context) if rows.stream is None else self._streamed(rows.stream)
                )
                outcome = trainer.train(
                    context,
                    self.applied.techniques,
                    self.model,
                    features,
                    evaluate=self._told(self._evaluation(rows)),
                    on_progress=self._on_progress,
                )
                self.model = self.applied.finish(self.model, context)
            self._tune(rows)
            costs = {**self._sizes(), "peak_memory_bytes": float(memory.bytes())}
            if outcome is not None:
                costs["train_seconds"] = outcome.seconds
                costs["train_samples_per_second"] = outcome.samples_per_second
        return Trained(
            meta=self.meta,
            tuned=self.tuned,
            costs=costs,
            log_history=outcome.log_history if outcome is not None else (),
            environment=describe(self.job.device),
            rows={role: counts for role, counts in rows.rows.items() if role != "eval"},
            first_losses=outcome.first_losses if outcome is not None else (),
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
        with self._stage():
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
        with self._stage() as warnings:
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
            answers = self._run(self._answering, features, prompts, "predict")
            seconds = time.perf_counter() - start
            self._notes.extend(f"eval: {note}" for note in answers.notes)
            records = identified(
                self._decode(answers, features, rows.roles["eval"].dataset, self.tuned), rows, self.task
            )
            costs = {"eval_seconds": seconds, "eval_samples_per_second": len(records) / max(seconds, 1e-9)}
            if self.job.case.training is None:  # there is no training's entry that has them
                costs |= self._sizes()
            if self.applied.compares:
                costs["parity_difference"] = self._difference(features)
            costs |= self.applied.costs(self._answering, self._context(rows, features))
        return Predicted(
            records=records,
            meta=self.meta,
            tuned=self.tuned,
            costs=costs,
            rows={"eval": rows.rows["eval"]},
            notes=tuple(dict.fromkeys(self._notes[before:])),
            warnings=tuple(warnings),
        )

    @contextmanager
    def _stage(self) -> Iterator[list[str]]:
        """Quiet, in an environment of its own, random streams put back; what the device runs out of is explained."""
        from ftcheck.finetune.model import length_option
        from ftcheck.finetune.predict import BATCH_SIZE, out_of_memory

        with quiet() as warnings, own_environment(self.job.device), own_randomness(self.job.device):
            try:
                yield warnings
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                size = self._batch_size(BATCH_SIZE)
                raise TrainingError(
                    f"out of memory on {self.job.device}, predicting with per_device_eval_batch_size {size}: lower it "
                    f"under `training`, or lower {length_option(self.job.case.task_options)}"
                ) from error

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
        self.model, self.tokenizer, notes = models.load(
            job, self.task, self.meta, training=training, more=self.applied.model_kwargs(context)
        )
        self._notes.extend(notes)
        if training:
            self.model = self.applied.adapt(self.model, self._context(rows))
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

    def _context(self, rows: Loaded | None, features: EncodedRows | None = None) -> Context:
        """What techniques are told of the run as it stands."""
        return self.applied.context(self.meta, self.tokenizer, rows, features)

    def _training_features(self, rows: Loaded, context: Context) -> EncodedRows:
        """The training rows, encoded, as techniques have them."""
        found = self.applied.rows(rows.roles["train"], context)
        return self.applied.features(self._encode(found, "train"), found, context)

    def answering(self, features: EncodedRows | None = None) -> Any:
        """The model that answers, which techniques may make out of the one that is kept."""
        if self._answering is None:
            self._answering = self.applied.judged(self.model, self._context(None, features))
        return self._answering

    def _in_training(self, features: EncodedRows | None) -> Any:
        """The model that answers where a training is to be found again by its key, which knows nothing of what becomes
        of the model afterwards."""
        if self.job.case.training is None:
            return self.answering(features)
        return self.applied.judged(self.model, self._context(None, features), in_training=True)

    def _encode(self, found: RoleRows, role: str) -> EncodedRows:
        features = self.task.encode(
            found.dataset,
            self.tokenizer,
            self.meta,
            self.job.case.task_options,
            training=role == "train",
            where=found.place,
        )
        self._notes.extend(f"{role}: {note}" for note in features.notes)
        return features

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

    def _prompts(self, rows: Loaded, role: str) -> EncodedRows | None:
        found = rows.roles[role]
        prompts = self.task.prompts(
            found.dataset, self.tokenizer, self.meta, self.job.case.task_options, where=found.place
        )
        self._notes.extend(f"{role}: {note}" for note in (prompts.notes if prompts is not None else ()))
        return prompts

    def _run(self, model: Any, features: EncodedRows, prompts: EncodedRows | None, stage: str) -> Answers:
        from ftcheck.finetune import predict

        def on_batch(done: int, total: int) -> None:
            self._on_progress(Progress(stage=stage, done=done, total=total))  # type: ignore[arg-type]

        def answered(model: Any) -> Answers:
            return predict.answer(
                model,
                self.tokenizer,
                self.task,
                features,
                prompts,
                meta=self.meta,
                job=self.job,
                batch_size=self._batch_size(predict.BATCH_SIZE),
                on_batch=on_batch,
            )

        answers = answered(model)
        if not self.task.wants_reference(self.job.case.task_options):
            return answers
        if stage not in self._reference:  # the rows of a stage are the same whenever it comes
            base = self._context(None).load_base().to(self.job.device)
            self._reference[stage] = answered(base).arrays
        return replace(answers, arrays=[*answers.arrays, *self._reference[stage]])

    def _difference(self, features: EncodedRows) -> float:
        """How far the outputs of the model that answers lie from those of the kept one, at most."""
        from ftcheck.finetune import predict

        return predict.difference(
            self.model,
            self._answering,
            features,
            self.task.collator(self.tokenizer, None),
            self.task,
            device=self.job.device,
            precision=self.job.precision,
            batch_size=self._batch_size(predict.BATCH_SIZE),
        )

    def _decode(self, answers: Answers, features: EncodedRows, dataset: Rows, tuned: Mapping[str, Any]) -> Any:
        return self.task.decode(
            answers.arrays,
            features,
            dataset,
            meta=self.meta,
            options=self.job.case.task_options,
            tuned=tuned,
            texts=answers.texts,
        )

    def _batch_size(self, default: int) -> int:
        given = {**self.task.training_defaults, **(self.job.case.training or {})}
        return int(given.get("per_device_eval_batch_size", default))

    def _sizes(self) -> dict[str, float]:
        """Parameters, those that training changes, and the bytes of all weights as they are saved."""
        from ftcheck.finetune.parameters import bytes_of, count

        parameters = list(self.model.parameters())
        return {
            "parameters": float(sum(map(count, parameters))),
            "trainable_parameters": float(sum(count(p) for p in parameters if p.requires_grad)),
            "model_bytes": float(bytes_of(self.model)),
        }
