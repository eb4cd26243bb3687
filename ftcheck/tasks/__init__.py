"""One module per task: columns, Auto class, tokenize, collate, decode, default metrics.

Adding a task is adding a module with a subclass of `Task`, and a line in `BUILT_IN`. Outside of ftcheck it is a
subclass that a suite names by its import path, `my_package.tasks:Headlines`, or a package by an entry point of the
group `ftcheck.tasks`. What a task needs to know about the data of one case (its label names, say) is its `meta`: a JSON
object that `learn` makes from the training rows, stored with the run and handed back to every later step.

Importing this package or a task module imports no torch, transformers, datasets, NumPy or pyarrow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar

from ftcheck import importpath
from ftcheck.errors import TaskError, one_of, shown

if TYPE_CHECKING:
    import numpy as np
    from pydantic import BaseModel

    from ftcheck.metrics import Context, Input, Lookup
    from ftcheck.results import Confusion, WorstExample
    from ftcheck.spec import Case
    from ftcheck.tasks.features import EncodedRows

Meta = dict[str, Any]
"""JSON object: what a task learned from the training rows."""
Record = dict[str, Any]
"""One example's prediction as builtins: a row of examples.parquet. Holds at least what `score_inputs` needs, which gets
lists of floats as `array("d")`."""
Rows = Any
"""A datasets.Dataset whose columns have the task's names."""
Where = Callable[[int], str]
"""Where a row came from, for a message: `train.csv:17`."""


class Task(ABC):
    """What ftcheck must know about a kind of problem. Stateless; one instance serves all cases.

    A task says what its columns are, how rows become model inputs and outputs become records, and what metrics may be
    computed from those. What is abstract here every task must have; the rest has a default that many tasks keep.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Part of every key: raise it when encoding or decoding changes."""
    columns: ClassVar[Mapping[str, bool]]
    """The task's column names -> whether the data must have it."""
    auto_class: ClassVar[str]
    """The class of transformers that loads the model: `AutoModelForSequenceClassification`."""
    options: ClassVar[type[BaseModel]]
    """The task's settings in a suite (`task: {name: ..., max_length: 256}`): frozen, extra="forbid", all defaulted."""
    decoding_options: ClassVar[frozenset[str]] = frozenset()
    """Those of `options` that only predictions depend on: changing one trains nothing anew, unless scores were looked
    at while training."""
    training_defaults: ClassVar[Mapping[str, Any]] = {}
    """TrainingArguments fields that this task sets unless the suite does."""
    tokenizer_kwargs: ClassVar[Mapping[str, Any]] = {}
    """What the tokenizer must be loaded with."""
    needs_offsets: ClassVar[bool] = False
    """Whether encoding must know which characters or words a token came from, which only fast tokenizers tell."""
    new_head: ClassVar[bool] = True
    """Whether a head that the checkpoint lacks is made anew and learned; not where it holds the vocabulary."""
    needs_pooler: ClassVar[bool] = True
    """Whether a pooler that the checkpoint lacks is one that must be learned."""
    targets: ClassVar[tuple[str, ...]] = ("labels",)
    """Names of what a batch holds for the loss, not for the model. The first is there where rows have references."""
    per_token: ClassVar[bool] = False
    """Whether `outputs` has a line per token, not one per feature."""
    in_parts: ClassVar[bool] = False
    """Whether `outputs` and `loss` read logits as `tasks.likelihood` does, so that those of some `places` may come at a
    time where there is no room for all. Not inherited: who overrides one of them may read logits otherwise."""
    read_once: ClassVar[bool] = False
    """Whether `forward` has an encoder read what `generate` has it read of the same tokens, so that once is enough. Not
    inherited, either."""

    @abstractmethod
    def inputs(self, options: Mapping[str, Any]) -> frozenset[Input]:
        """What metrics may be computed from."""

    @abstractmethod
    def default_metrics(self, options: Mapping[str, Any]) -> tuple[str, ...]: ...

    def stratify_by(self, options: Mapping[str, Any]) -> str | None:
        """The column whose classes a holdout keeps in proportion; None: rows have no one class."""
        return None

    def context(self, meta: Meta, options: Mapping[str, Any]) -> Context:
        """What metrics may know about the case."""
        from ftcheck.metrics import Context

        return Context(labels=tuple(meta.get("labels", ())), options=options)

    @abstractmethod
    def score_inputs(
        self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]
    ) -> dict[Input, tuple[Sequence[Any], Sequence[Any]]]:
        """(predictions, references) for each of `inputs`, example by example in the order of `records`."""

    def confusions(self, records: Sequence[Record], meta: Meta) -> list[Confusion]:
        """The commonest mistakes, most frequent first; at most 10; empty where the task has no classes."""
        return []

    def worst(self, records: Sequence[Record], meta: Meta, options: Mapping[str, Any]) -> list[WorstExample]:
        """The most wrong examples, worst first; at most 10."""
        return []

    def learn(self, train: Rows | None, model_config: Any, options: Mapping[str, Any], where: Where) -> Meta:
        """What later steps must know, out of the training rows, or (train is None: `training: false`) out of the
        model's config (`id2label`). Raises DataError, or CheckpointError for a config that doesn't say."""
        return {}

    def check(self, rows: Rows, role: str, meta: Meta, options: Mapping[str, Any], where: Where) -> list[str]:
        """Refuse rows that can't be used (DataError: an unknown label, tags and words of different length, an answer
        that isn't in its context, naming the row); return notes for the reader."""
        return []

    def probe(self, model: Any, meta: Meta, options: Mapping[str, Any]) -> Meta:
        """What training must know of the loaded model itself, to be added to `meta`. Draws no random numbers."""
        return {}

    def model_kwargs(self, meta: Meta) -> dict[str, Any]:
        """What the Auto class needs besides the checkpoint: num_labels, id2label, label2id."""
        return {}

    @abstractmethod
    def encode(
        self,
        rows: Rows,
        tokenizer: Any,
        meta: Meta,
        options: Mapping[str, Any],
        *,
        training: bool,
        where: Where = "row {}".format,
    ) -> EncodedRows:
        """Checked rows -> model inputs; streamed training rows come a chunk at a time. One row may give several
        features (question answering) or be cut (notes say so). Raises DataError for a row that can't be encoded at
        these lengths."""

    def encodes_each_alone(self, options: Mapping[str, Any]) -> bool:
        """Whether `encode` makes one feature of each row, of nothing but the row, the same whether it is trained on or
        judged, with nothing `ragged`, nothing `aside` but by token, and notes only on rows that it had to change."""
        return False

    def collator(self, tokenizer: Any, pad_to_multiple_of: int | None) -> Any:
        """A data collator with dynamic padding."""
        from ftcheck.tasks.features import collator

        return collator(tokenizer, pad_to_multiple_of)

    @abstractmethod
    def loss(self, output: Any, targets: Mapping[str, Any], label_smoothing: float) -> Any:
        """The loss of a batch, *summed* over its items (a scalar tensor), from the model's output and the batch's
        `targets`. Whoever calls it divides by the items of all accumulated batches."""

    def items(self, targets: Mapping[str, Any]) -> Any:
        """What `loss` adds up over: examples, or tokens that have a label (an int or a scalar tensor)."""
        return len(targets[self.targets[0]])

    def forward(self, model: Any, batch: Mapping[str, Any], targets: Mapping[str, Any]) -> Any:
        """The model's output for a batch whose `targets` were taken out: for a model that must see them to be trained
        (a decoder reads what it has to write, one token late)."""
        return model(**batch)

    def runs_model(self, features: EncodedRows) -> bool:
        """Whether `outputs` of these features are wanted: not where all is generated and there is nothing to score."""
        return True

    def places(self, features: EncodedRows) -> np.ndarray | None:
        """(features,): at how many places, padding within the feature included, the model says something of every token
        of the vocabulary, so that only so many features are answered at once as there is memory for; None: nowhere."""
        return None

    @abstractmethod
    def outputs(self, output: Any, targets: Mapping[str, Any]) -> tuple[Any, ...]:
        """What `decode` needs of a model's output: tensors whose first axis is the batch. `targets` are the batch's,
        without the first where rows have no references. Raises CheckpointError where the model doesn't give it."""

    def wants_reference(self, options: Mapping[str, Any]) -> bool:
        """Whether `decode` also needs the outputs of the model that the training started from, after the model's."""
        return False

    def prompts(
        self,
        rows: Rows,
        tokenizer: Any,
        meta: Meta,
        options: Mapping[str, Any],
        *,
        where: Where = "row {}".format,
    ) -> EncodedRows | None:
        """What the model shall continue or answer by `generate`: one feature a row. None: nothing is generated."""
        return None

    def generation(self, tokenizer: Any, meta: Meta, options: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of `model.generate` besides the batch, for a task that has `prompts`. `seed` (of sampling) is ours
        and not handed on."""
        return {}

    @abstractmethod
    def decode(
        self,
        outputs: Sequence[np.ndarray],
        features: EncodedRows,
        rows: Rows,
        *,
        meta: Meta,
        options: Mapping[str, Any],
        tuned: Mapping[str, Any],
        texts: Sequence[str] | None = None,
    ) -> list[Record]:
        """Outputs in the order of `features` -> one record per row, in the rows' order. Each output is one array: a
        line per feature, or (`per_token`) a line per token, feature after feature, cut at `features.starts`. `texts`
        is what was generated, one a row; None where nothing was."""

    def tunes(self, rows: Rows, options: Mapping[str, Any]) -> bool:
        """Whether `tune` has anything to find on these rows."""
        return False

    def tune(
        self, outputs: Sequence[np.ndarray], features: EncodedRows, rows: Rows, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Settings found on the `tune` split (e.g. question answering's null threshold): JSON; {} for none."""
        return {}

    @abstractmethod
    def rows_from_input(self, value: Any) -> list[dict[str, Any]]:
        """`finetuned.predict`: one natural input of the task (a string, a pair, a dict) or a list of these -> rows
        without references. Raises DataError for what isn't one."""

    def is_one(self, value: Any) -> bool:
        """Whether `value` is a single natural input, not a list of them."""
        return not isinstance(value, list)

    def natural_output(self, record: Record, meta: Meta) -> Any:
        """A record -> what `finetuned.predict` returns for it (a frozen dataclass, e.g. `.label`, `.score`)."""
        return record


BUILT_IN: Mapping[str, str] = {
    "text-classification": "ftcheck.tasks.text_classification:TextClassification",
    "token-classification": "ftcheck.tasks.token_classification:TokenClassification",
    "question-answering": "ftcheck.tasks.question_answering:QuestionAnswering",
    "text-generation": "ftcheck.tasks.text_generation:TextGeneration",
    "fill-mask": "ftcheck.tasks.fill_mask:FillMask",
    "summarization": "ftcheck.tasks.summarization:Summarization",
    "translation": "ftcheck.tasks.translation:Translation",
    "multiple-choice": "ftcheck.tasks.multiple_choice:MultipleChoice",
    "sentence-similarity": "ftcheck.tasks.sentence_similarity:SentenceSimilarity",
    "preference": "ftcheck.tasks.preference:Preference",
}


ENTRY_POINTS = "ftcheck.tasks"
"""The group of entry points by which a package adds tasks: name of the task = import path of its class."""


def names() -> tuple[str, ...]:
    """The tasks that have a name: the built-in ones, then those of installed packages. Raises as `get` does."""
    return (*BUILT_IN, *_added())


@cache
def get(name: str) -> Task:
    """The task of this name, or import path of a class (which is imported).

    Raises TaskError: an unknown name, a class that can't be imported, or that isn't a whole task.
    """
    from ftcheck.tasks import own

    path = import_path(name)
    try:
        found = importpath.load(path)
    except ValueError as error:
        raise TaskError(f"the task {shown(name, 200)}: {error}") from None
    if problem := own.problem(found, None if name == path else name):
        raise TaskError(f"{shown(path, 200)} can't be used as a task: {problem}")
    try:
        task: Task = found()
    except Exception as error:
        raise TaskError(
            f"{shown(path, 200)} can't be used as a task: {found.__name__}() fails{importpath.where(error)}: "
            f"{type(error).__name__}: {shown(error, 300)}"
        ) from error
    return task


def import_path(name: str) -> str:
    """Where the class of a task stands: `package.module:Class`. Raises TaskError for an unknown name."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    if importpath.is_one(name):
        return name
    if name in _added():
        return _added()[name]
    raise TaskError(
        f"no task is called {shown(name, 60)!r}; {one_of(name, names())} "
        "(a task of your own is named by its import path, package.module:Class)"
    )


def lookup(case: Case) -> Lookup:
    """The metrics that `case` may use."""
    from ftcheck.metrics import Lookup

    return Lookup(inputs=get(case.task).inputs(case.task_options), folder=case.suite.parent)


@cache
def _added() -> Mapping[str, str]:
    """The tasks of installed packages: name -> import path."""
    found: dict[str, str] = {}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        taken = BUILT_IN.get(point.name) or found.get(point.name)
        if taken is not None and taken != point.value:
            raise TaskError(
                f"the entry point {shown(point.name, 60)} = {shown(point.value, 200)} of {ENTRY_POINTS} takes a name "
                f"that is taken by {taken}: its package must choose another"
            )
        found[point.name] = point.value
    return found
