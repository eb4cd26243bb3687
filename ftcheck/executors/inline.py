"""Fine-tunes in this process: the default, and the one that a debugger can follow."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck import examples, timing
from ftcheck.executors import Work
from ftcheck.executors.deadline import deadline
from ftcheck.finetune import OnProgress, Trained
from ftcheck.store import Entry, Publication, Store, StoreCorruptionError

if TYPE_CHECKING:
    from ftcheck.finetune.session import FineTuning
    from ftcheck.keys import Key


class InlineExecutor:
    """Trains and predicts here, one run at a time, when it is asked for."""

    works_ahead = False

    def begin(self, work: Work, seconds: float | None) -> None:
        pass

    def begun(self, predict: Key) -> bool:
        return False

    def close(self) -> None:
        pass

    def produce(
        self, work: Work, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]
    ) -> frozenset[str]:
        from ftcheck.executors.searching import informed
        from ftcheck.executors.sharing import sharing
        from ftcheck.finetune.session import FineTuning

        made = set()
        with ExitStack() as stack:
            tuning: FineTuning | None = None
            model: Path | None = None
            if work.job.case.training is not None:
                stack.enter_context(store.lock("runs", work.train.digest, on_wait=on_wait))
                # A session that was waited for may have published what this one wants.
                model = None if work.redo else model_of(store.get("runs", work.train.digest, model=True))
                if model is None:
                    job = informed(work, store, on_progress, on_wait)
                    if job.case.resources.processes > 1:
                        self._train_together(replace(work, job=job), store, on_progress, on_wait)
                        model = model_of(store.get("runs", work.train.digest, model=True))
                    else:
                        unfinished = _unfinished(work, store)
                        share = sharing(store, on_wait)
                        tuning = stack.enter_context(FineTuning(job, on_progress, share=share, unfinished=unfinished))
                        with deadline(work.timeout):
                            self._train(tuning, work, store)
                        if unfinished is not None:
                            shutil.rmtree(unfinished, ignore_errors=True)  # what is left goes with the next pruning
                    made.add("train")
            stack.enter_context(store.lock("predictions", work.predict.digest, on_wait=on_wait))
            if work.redo or store.get("predictions", work.predict.digest) is None:
                if tuning is None:
                    tuning = stack.enter_context(FineTuning(work.job, on_progress))
                    if model is not None:
                        tuning.load(model)
                with deadline(work.timeout):
                    self._predict(tuning, work, store)
                made.add("predict")
        return frozenset(made)

    @staticmethod
    def _train(tuning: FineTuning, work: Work, store: Store) -> None:
        trained = tuning.train()
        with timing.phase("store"), store.publish("runs", work.train, replace=True) as publication:
            tuning.save(publication.path / "model")
            _complete(publication, trained, work)

    @staticmethod
    def _train_together(work: Work, store: Store, on_progress: OnProgress, on_wait: Callable[[str], None]) -> None:
        from ftcheck.executors import launching

        with store.publish("runs", work.train, replace=True) as publication:
            trained = launching.train(work, publication.path / "model", store, on_progress, on_wait)
            _complete(publication, trained, work)

    @staticmethod
    def _predict(tuning: FineTuning, work: Work, store: Store) -> None:
        predicted = tuning.predict()
        with timing.phase("store"), store.publish("predictions", work.predict, replace=True) as publication:
            examples.write(predicted.records, publication.path / examples.FILE)
            content = asdict(replace(predicted, records=[]))  # asdict copies all that is in them
            del content["records"]
            work.refuse_changed()
            publication.content = content


def _complete(publication: Publication, trained: Trained, work: Work) -> None:
    """What is kept of a training beside its model."""
    examples.write_hashes(trained.row_hashes, publication.path / examples.TRAIN_ROWS)
    work.refuse_changed()
    publication.content = asdict(trained)
    del publication.content["row_hashes"]


def _unfinished(work: Work, store: Store) -> Path | None:
    """Where a training's checkpoints lie until it is published; None where it writes none. What was broken off is gone
    on with, unless it is to be done anew."""
    from ftcheck.finetune import resuming

    if not resuming.asked_for(work.job):
        return None
    if work.redo:
        shutil.rmtree(store.unfinished("runs", work.train.digest))
    return store.unfinished("runs", work.train.digest)


def model_of(found: Entry | None) -> Path | None:
    """Where a trained model is, verified; None where there is none to load, or a damaged one (the store warns)."""
    if found is None or not has_model(found):
        return None
    try:
        return found.verify("model/") / "model"
    except StoreCorruptionError:
        return None


def has_model(entry: Entry) -> bool:
    """Whether the entry still holds its model (`ftcheck cache prune --models` and `keep_model` take it away)."""
    return any(name.startswith("model/") for name in entry.manifest["files"])
