"""What a case has before it is trained: its rows, the size of its checkpoint, and what does without fine-tuning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ftcheck import metrics, tasks
from ftcheck.errors import CheckpointError, DataError, shown

if TYPE_CHECKING:
    from ftcheck.finetune import Job, OnProgress
    from ftcheck.finetune.data import Loaded, RoleRows

SAMPLED = 2_000
"""Rows whose tokens are counted, and judged rows that the checkpoint answers as it is."""
SMALL = 150_000_000
"""Parameters up to which the checkpoint is tried as it is."""
MEASURED_LENGTHS = ("text-classification", "token-classification", "multiple-choice")
"""Tasks whose features are whole rows, so that their lengths say where rows would be cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What can be had without fine-tuning."""

    name: str
    scores: Mapping[str, float]
    """Metric -> value on the judged rows; empty where it can't be had."""
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model before it is loaded."""

    parameters: int
    layers: int
    hidden: int
    heads: int
    longest: int | None
    """Tokens that it takes; None where nothing bounds it."""


def checkpoint(job: Job) -> tuple[Size, Any]:
    """The model's size, without its weights, and the tokenizer. Raises CheckpointError."""
    from ftcheck.finetune import model as models
    from ftcheck.finetune.quiet import quiet

    task, source = tasks.get(job.case.task), models.Source.of_model(job)
    with quiet():
        config = models.load_config(source)
        tokenizer, _ = models.load_tokenizer(models.Source.of_tokenizer(job), task, config)
        try:
            model = models.without_weights(source, task.auto_class)
        except (ValueError, TypeError, AttributeError, RuntimeError, NotImplementedError) as error:
            raise CheckpointError(f"{source.shown}: no model can be made of it: {shown(error, 200)}") from error
    longest = models.longest_sequence(model)
    if longest is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
    return (
        Size(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            layers=int(getattr(config, "num_hidden_layers", 12)),
            hidden=int(getattr(config, "hidden_size", 768)),
            heads=int(getattr(config, "num_attention_heads", 12)),
            longest=longest,
        ),
        tokenizer,
    )


def classes(train: RoleRows, column: str | None) -> dict[str, int]:
    """Class -> rows, the commonest first."""
    if column is None:
        return {}
    return dict(Counter(_names(train, column)).most_common())


def _names(found: RoleRows, column: str) -> list[str]:
    from ftcheck.finetune.data import rows

    return [str(name) for name in rows.named_values(found.dataset.data.table, column)]


def lengths(job: Job, train: RoleRows, tokenizer: Any) -> tuple[int, ...]:
    """Tokens of evenly spread training rows as the case's task makes them, uncut but for what the model takes."""
    import numpy as np

    task, options = tasks.get(job.case.task), job.case.task_options
    if job.case.task not in MEASURED_LENGTHS:
        return ()
    picked = np.unique(np.linspace(0, len(train.hashes) - 1, SAMPLED).astype(int))
    sample = train.dataset.select(picked)

    def where(row: int) -> str:
        return train.place(int(picked[row]))

    from ftcheck.finetune import model as models

    meta = task.learn(train.dataset, models.load_config(models.Source.of_model(job)), options, train.place)
    features = task.encode(sample, tokenizer, meta, {**options, "max_length": None}, training=True, where=where)
    return tuple(sorted(int(length) for length in np.diff(features.starts)))


def references(job: Job, found: Loaded, column: str | None, size: Size, on_progress: OnProgress) -> Iterator[Reference]:
    if column is not None and "text" in found.roles["train"].dataset.column_names:
        yield from _of_words(found, column)
    if size.parameters <= SMALL:
        yield _as_it_is(job, on_progress)


def _of_words(found: Loaded, column: str) -> Iterator[Reference]:
    """The commonest class, and a logistic regression on TF-IDF of words and pairs of words, as scikit-learn has it."""
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.pipeline import make_pipeline

    texts = {role: _texts(found.roles[role]) for role in ("train", "eval")}
    gold = {role: _names(found.roles[role], column) for role in ("train", "eval")}
    words = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000))
    for name, model in (("majority", DummyClassifier(strategy="most_frequent")), ("TF-IDF", words)):
        try:
            predicted = model.fit(texts["train"], gold["train"]).predict(texts["eval"])
        except ValueError as error:  # no word is left of any text
            yield Reference(name=name, scores={}, why_not=shown(error, 120))
            continue
        yield Reference(
            name=name,
            scores={
                "accuracy": float(accuracy_score(gold["eval"], predicted)),
                "macro_f1": float(f1_score(gold["eval"], predicted, average="macro", zero_division=0)),
            },
        )


def _texts(found: RoleRows) -> list[str]:
    pair = "text_pair" in found.dataset.column_names
    columns = [found.dataset[name][:] for name in (("text", "text_pair") if pair else ("text",))]
    return [" ".join(map(str, parts)) for parts in zip(*columns, strict=True)]


def _as_it_is(job: Job, on_progress: OnProgress) -> Reference:
    """The checkpoint's own answers, where it has a head for the task."""
    from ftcheck.finetune.session import FineTuning

    case = replace(job.case, training=None, early_stopping=None)
    lookup, task = tasks.lookup(case), tasks.get(case.task)
    try:
        with FineTuning(replace(job, case=case, limit=SAMPLED), on_progress) as tuning:
            predicted = tuning.predict()
    except (CheckpointError, DataError) as error:
        return Reference(name="as it is", scores={}, why_not=str(error))
    inputs = task.score_inputs(predicted.records, dict(predicted.meta), case.task_options)
    context = task.context(dict(predicted.meta), case.task_options)
    names = [name for name in case.metrics if not lookup.is_cost(name)]
    return Reference(
        name="as it is",
        scores={
            name: metrics.value(lookup.build(name, context), *inputs[lookup.describe(name).input]) for name in names
        },
    )
