"""One module per task: columns, Auto class, tokenize, collate, decode, default metrics.

Adding a task is adding a module with a class that follows `Task`, and a line in `BUILT_IN`. What a task needs to know
about the data of one case (its label names, say) is its `meta`: a JSON object that `learn` makes from the training
rows, stored with the run and handed back to every later step.

Importing this package or a task module imports no torch, transformers, datasets, NumPy or pyarrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from pydantic import BaseModel

    from ftcheck.metrics import Context, Input
    from ftcheck.results import Confusion, WorstExample

Meta = dict[str, Any]
"""JSON object: what a task learned from the training rows."""
Record = dict[str, Any]
"""One example's prediction as builtins: a row of examples.parquet. Holds at least what `score_inputs` needs."""
Rows = Any
"""A datasets.Dataset whose columns have the task's names."""
Where = Callable[[int], str]
"""Where a row came from, for a message: `train.csv:17`."""


class Task(Protocol):
    """What ftcheck must know about a kind of problem. Stateless; one instance serves all cases."""

    name: str
    version: int
    """Part of every key: raise it when encoding or decoding changes."""
    columns: Mapping[str, bool]
    """The task's column names -> whether the data must have it."""
    auto_class: str
    """The class of transformers that loads the model: `AutoModelForSequenceClassification`."""
    inputs: frozenset[Input]
    """What metrics may be computed from."""
    default_metrics: tuple[str, ...]
    options: type[BaseModel]
    """The task's settings in a suite (`task: {name: ..., max_length: 256}`): frozen, extra="forbid", all defaulted."""
    training_defaults: Mapping[str, Any]
    """TrainingArguments fields that this task sets unless the suite does."""
    tokenizer_kwargs: Mapping[str, Any]
    """What the tokenizer must be loaded with."""
    needs_offsets: bool
    """Whether encoding must know which characters or words a token came from, which only fast tokenizers tell."""
    targets: tuple[str, ...]
    """Names of what a batch holds for the loss, not for the model: `labels`."""
    per_token: bool
    """Whether `outputs` has a line per token, not one per feature."""

    def context(self, meta: Meta, options: Mapping[str, Any]) -> Context:
        """What metrics may know about the case."""

    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        """(predictions, references) for each of `inputs`, example by example in the order of `records`."""

    def confusions(self, records: Sequence[Record], meta: Meta) -> list[Confusion]:
        """The commonest mistakes, most frequent first; at most 10; empty where the task has no classes."""

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        """The most wrong examples, worst first; at most 10."""

    def learn(self, train: Rows | None, model_config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        """What later steps must know, out of the training rows, or (train is None: `training: false`) out of the
        model's config (`id2label`). Raises DataError, or CheckpointError for a config that doesn't say."""

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        """Refuse rows that can't be used (DataError: an unknown label, tags and words of different length, an answer
        that isn't in its context, naming the row); return notes for the reader."""

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        """What the Auto class needs besides the checkpoint: num_labels, id2label, label2id."""

    def encode(
        self,
        rows: Rows,
        tokenizer: Any,
        meta: Meta,
        options: Mapping[str, Any],
        *,
        training: bool,
        where: Where = "row {}".format,
    ) -> Features:
        """Checked rows -> model inputs. One row may give several features (question answering) or be cut (notes say
        so). Raises DataError for a row that can't be encoded at these lengths."""

    def collator(self, tokenizer: Any, pad_to_multiple_of: int | None) -> Any:
        """A data collator with dynamic padding."""

    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        """The loss of a batch, *summed* over its items (a scalar tensor), from the model's output and the batch's
        `targets`. Whoever calls it divides by the items of all accumulated batches."""

    def items(self, targets: Mapping[str, Any]) -> Any:
        """What `loss` adds up over: examples, or tokens that have a label (an int or a scalar tensor)."""

    def outputs(self, output: Any) -> tuple[Any, ...]:
        """What `decode` needs of a model's output: tensors whose first axis is the batch. Raises CheckpointError where
        the model doesn't give it."""

    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: Features,
        rows: Rows,
        *,
        meta: Meta,
        options: Mapping[str, Any],
        tuned: Mapping[str, Any],
    ) -> list[Record]:
        """Outputs in the order of `features` -> one record per row, in the rows' order. Each output is one array: a
        line per feature, or (`per_token`) a line per token, feature after feature, cut at `features.starts`."""

    def tunes(self, rows: Rows, options: Mapping[str, Any]) -> bool:
        """Whether `tune` has anything to find on these rows."""

    def tune(
        self, outputs: Sequence[np.ndarray], features: Features, rows: Rows, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Settings found on the `tune` split (e.g. question answering's null threshold): JSON; {} for none."""

    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        """`finetuned.predict`: one natural input of the task (a string, a pair, a dict) or a list of these -> rows
        without references. Raises DataError for what isn't one."""

    def is_one(self, value: Any) -> bool:
        """Whether `value` is a single natural input, not a list of them."""

    def natural_output(self, record: Record, meta: Meta) -> Any:
        """A record -> what `finetuned.predict` returns for it (a frozen dataclass, e.g. `.label`, `.score`)."""


class Features(Protocol):
    """Encoded rows: a sequence of dicts of token arrays for the collator, with what `decode` needs to find its way
    back."""

    notes: list[str]
    """Said to the reader: "12 of 1,287 rows were cut at 128 tokens"."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @property
    def starts(self) -> np.ndarray:
        """(features + 1,): where each feature begins in arrays that hold all tokens, one feature after the other."""


BUILT_IN: Mapping[str, str] = {
    "text-classification": "ftcheck.tasks.text_classification:TextClassification",
    "token-classification": "ftcheck.tasks.token_classification:TokenClassification",
    "question-answering": "ftcheck.tasks.question_answering:QuestionAnswering",
}


@cache
def get(name: str) -> Task:
    """The task called `name`. Raises KeyError for an unknown one."""
    module, _, attribute = BUILT_IN[name].partition(":")
    task: Task = getattr(import_module(module), attribute)()
    return task
