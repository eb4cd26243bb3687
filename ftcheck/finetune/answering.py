"""What the model of a run answers to rows: encoded, batched, decoded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ftcheck import tasks, timing
from ftcheck.finetune import Job, OnProgress, Progress, Share, memory
from ftcheck.finetune.applying import Applied

if TYPE_CHECKING:
    from ftcheck.finetune.data import Loaded, RoleRows
    from ftcheck.finetune.predict import Answers
    from ftcheck.finetune.techniques import Context
    from ftcheck.tasks import Meta, Rows
    from ftcheck.tasks.features import EncodedRows


def silent(progress: Progress) -> None:
    """Nobody is told."""


class Answering:
    """A run's model and tokenizer, and all that its answers depend on."""

    def __init__(self, job: Job, on_progress: OnProgress, share: Share) -> None:
        self.task = tasks.get(job.case.task)
        self._on_progress = on_progress
        self._share = share
        self._begin(job)

    def _begin(self, job: Job) -> None:
        """As nothing had been done yet."""
        self.job = job
        self.model: Any = None
        self.tokenizer: Any = None
        self._answering: Any = None
        self.meta: Meta = {}
        self.tuned: dict[str, Any] = {}
        self._notes: list[str] = []
        self._records: dict[str, Any] = {}
        self._reference: dict[str, Sequence[Any]] = {}
        """Stage -> the outputs of the model that the training started from."""
        self._answered_at_once = 0
        """How many features fit into memory, where it ran out with more; 0: all that were asked for."""
        self.applied = Applied(
            job, self.task, note=self._notes.append, record=self._records.__setitem__, share=self._share
        )

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

    def _context(self, rows: Loaded | None, features: EncodedRows | None = None) -> Context:
        """What techniques are told of the run as it stands."""
        return self.applied.context(self.meta, self.tokenizer, rows, features)

    @timing.phase("tokenize")
    def _encode(self, found: RoleRows, role: str) -> EncodedRows:
        training = role == "train"

        def make(rows: RoleRows) -> EncodedRows:
            options = self.job.case.task_options
            return self.task.encode(
                rows.dataset, self.tokenizer, self.meta, options, training=training, where=rows.place
            )

        features = self._kept("training" if training else "judged", found, make)
        assert features is not None
        self._notes.extend(f"{role}: {note}" for note in features.notes)
        return features

    @timing.phase("tokenize")
    def _prompts(self, rows: Loaded, role: str) -> EncodedRows | None:
        from ftcheck.finetune import encoded

        def make(rows: RoleRows) -> EncodedRows | None:
            options = self.job.case.task_options
            return self.task.prompts(rows.dataset, self.tokenizer, self.meta, options, where=rows.place)

        prompts = self._kept(encoded.PROMPTS, rows.roles[role], make)
        self._notes.extend(f"{role}: {note}" for note in (prompts.notes if prompts is not None else ()))
        return prompts

    def _kept(self, kind: str, found: RoleRows, make: Callable[[RoleRows], EncodedRows | None]) -> EncodedRows | None:
        """What earlier runs of this process have made of the same, and what `make` makes of the rest."""
        from ftcheck.finetune import encoded

        key = encoded.key(self.job.case, kind, found, self.tokenizer, self.meta)
        if key is None:
            return make(found)

        def of(index: Sequence[int] | None) -> EncodedRows | None:
            return make(found if index is None else found.take(index))

        return encoded.KEPT.by_row(key, found.hashes, self.tokenizer, of)

    def _run(self, model: Any, features: EncodedRows, prompts: EncodedRows | None, stage: str) -> Answers:
        from ftcheck.finetune import predict

        def on_batch(done: int, total: int) -> None:
            self._on_progress(Progress(stage=stage, done=done, total=total))  # type: ignore[arg-type]

        def answered(model: Any) -> Answers:
            size = self._batch_size()
            with memory.answering(self.job):
                found = predict.answer(
                    model,
                    self.tokenizer,
                    self.task,
                    features,
                    prompts,
                    meta=self.meta,
                    job=self.job,
                    batch_size=size,
                    texts_at_once=memory.written_at_once(self.job),
                    on_batch=on_batch,
                )
            if 0 < found.batch_size < size:
                self._answered_at_once = found.batch_size
                self._notes.append(memory.told_of_answers(memory.answered_at_once(self.job), found.batch_size))
            return found

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

        with memory.answering(self.job):
            return predict.difference(
                self.model,
                self._answering,
                features,
                self.task.collator(self.tokenizer, None),
                self.task,
                device=self.job.device,
                precision=self.job.precision,
                batch_size=self._batch_size(),
            )

    @timing.phase("decode")
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

    def _batch_size(self) -> int:
        """How many features are answered at a time."""
        return self._answered_at_once or memory.answered_at_once(self.job)
