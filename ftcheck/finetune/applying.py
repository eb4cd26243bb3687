"""The techniques of one run, applied in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ftcheck.finetune import Job, Share, techniques

if TYPE_CHECKING:
    from ftcheck.finetune.data import Loaded, RoleRows
    from ftcheck.finetune.techniques import Context, Technique
    from ftcheck.tasks import Meta, Task
    from ftcheck.tasks.features import EncodedRows


class Applied:
    """All techniques of a job's case as one: each hook of `Technique`, called of one after the other."""

    def __init__(
        self,
        job: Job,
        task: Task,
        *,
        note: Callable[[str], None],
        record: Callable[[str, Any], None],
        share: Share,
    ) -> None:
        self.techniques = techniques.of(job.case)
        self._job = job
        self._task = task
        self._note = note
        self._record = record
        self._share = share

    def context(
        self, meta: Meta, tokenizer: Any, rows: Loaded | None = None, features: EncodedRows | None = None
    ) -> Context:
        """What techniques are told of the run as it stands. `features`: the rows that the judged model answers."""

        def load_base() -> Any:
            import torch

            from ftcheck.finetune import model as models

            more = self.model_kwargs(self.context(meta, tokenizer, rows))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self._job.seed)
                return models.load(self._job, self._task, meta, training=True, more=more)[0]

        return techniques.Context(
            job=self._job,
            task=self._task,
            meta=meta,
            tokenizer=tokenizer,
            train=rows.roles.get("train") if rows is not None and rows.stream is None else None,
            note=self._note,
            record=self._record,
            share=self._share,
            load_base=load_base,
            features=features,
            parents=self._job.parents,
            techniques=self.techniques,
        )

    def model_kwargs(self, context: Context) -> dict[str, Any]:
        """What `from_pretrained` is called with besides the task's own."""
        return {name: value for technique in self.techniques for name, value in technique.model_kwargs(context).items()}

    def rows(self, rows: RoleRows, context: Context) -> RoleRows:
        """The training rows that are used instead of `rows`."""
        for technique in self.techniques:
            rows = technique.rows(rows, context)
        return rows

    def features(self, features: EncodedRows, rows: RoleRows, context: Context) -> EncodedRows:
        """The features that are used instead of `features`, which were made of `rows`."""
        for technique in self.techniques:
            features = technique.features(features, rows, context)
        return features

    def adapt(self, model: Any, context: Context) -> Any:
        """The model that is trained instead of `model`."""
        for technique in self.techniques:
            model = technique.adapt(model, context)
        return model

    def finish(self, model: Any, context: Context) -> Any:
        """The model that is kept, after the training."""
        for technique in self.techniques:
            model = technique.finish(model, context)
        return model

    def judged(self, model: Any, context: Context, *, in_training: bool = False) -> Any:
        """The model that answers, made of the one that is kept. `in_training`: without what the training's key knows
        nothing of."""
        for technique in self.techniques:
            if not (in_training and technique.afterwards):
                model = technique.judged(model, context)
        return model

    @property
    def keeper(self) -> Technique | None:
        """The one that saves and loads the model by itself."""
        return next((technique for technique in self.techniques if technique.keeps), None)

    @property
    def compares(self) -> bool:
        """Whether the model that answers differs from the one that is kept."""
        return any(technique.compares for technique in self.techniques)

    def costs(self, model: Any, context: Context) -> dict[str, float]:
        """Measures of the model that answers."""
        return {name: value for technique in self.techniques for name, value in technique.costs(model, context).items()}
