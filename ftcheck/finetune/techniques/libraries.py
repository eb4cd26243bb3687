"""Trainers of TRL and sentence-transformers: they read rows by themselves and have arguments of their own kinds.

What is trained is the task's own model, so that keeping, predicting and judging are the same as with any Trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ftcheck.errors import TechniqueError, one_of, shown
from ftcheck.finetune.techniques import TrainerBase, need

if TYPE_CHECKING:
    from ftcheck.finetune.data import RoleRows
    from ftcheck.finetune.techniques import Context

Inputs = Callable[[Any, "Context", Any, Mapping[str, Any]], dict[str, Any]]
"""(the task's model, context, training rows, options) -> what the Trainer takes."""


HALVES_NOTHING = (
    "computes the loss in its own way, so that half the batch with twice the accumulation may train something else: "
    "leave out on_oom: halve_batch, and give a per_device_train_batch_size that fits"
)
"""Why none of these Trainers goes with `on_oom: halve_batch`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """One Trainer of a library."""

    module: str
    extra: str
    arguments: str
    """The class of its arguments, in the same module."""
    task: str
    inputs: Inputs
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Fields of its arguments whose defaults are ours."""
    wraps: bool = False
    """Whether it trains the task's model within one of its own, so that names of parameters are others."""
    not_fields: tuple[str, ...] = ()
    """Options that aren't fields of its arguments."""
    finish: Callable[[Any], None] | None = None


def known(path: str) -> str | None:
    """The name of the Trainer here that an import path leads to, told by the path alone; None for any other."""
    module, _, name = path.partition(":")
    found = LIBRARIES.get(name)
    return name if found is not None and module.partition(".")[0] == found.module else None


def foreign(path: str) -> bool:
    """Whether an import path leads into one of these libraries."""
    return path.partition(":")[0].partition(".")[0] in {library.module for library in LIBRARIES.values()}


def above(kind: type) -> str | None:
    """The name of the Trainer here that a class is derived from, or is; None for any other."""
    for base in kind.__mro__:
        found = LIBRARIES.get(base.__name__)
        if found is not None and base.__module__.partition(".")[0] == found.module:
            return base.__name__
    return None


def base(name: str, kind: type, options: Mapping[str, Any], rows: RoleRows, context: Context) -> TrainerBase:
    """What ftcheck's Trainer is derived from: `kind`, which is this Trainer, or a class derived from it.

    Raises MissingExtraError, and TechniqueError for options that it doesn't take.
    """
    library = LIBRARIES[name]
    arguments = getattr(need(library.module, "trainer", library.extra), library.arguments)
    fields = {option: value for option, value in options.items() if option not in library.not_fields}
    for option in fields:
        if option not in arguments.__dataclass_fields__:
            hint = one_of(option, arguments.__dataclass_fields__)
            raise TechniqueError(f"trainer.options: {library.arguments} has no field {shown(option, 60)!r}; {hint}")

    length = context.job.case.task_options["max_length"]
    if length is not None and "max_length" in arguments.__dataclass_fields__:
        fields.setdefault("max_length", length)
    return TrainerBase(
        kind=kind,
        arguments=arguments,
        fields={**library.defaults, **fields},
        inputs=lambda model, now: library.inputs(model, now, rows.dataset, options),
        finish=library.finish,
    )


def _texts(dataset: Any, columns: Mapping[str, str]) -> Any:
    """These columns of the rows under other names, in memory: a library may map them without leaving files."""
    from datasets import Dataset

    return Dataset.from_dict({new: dataset[old][:] for old, new in columns.items() if old in dataset.column_names})


def _of_language_models(model: Any, context: Context, rows: Any) -> dict[str, Any]:
    """Prompts begin with the token that begins a text, as those do that are judged."""
    from copy import deepcopy

    tokenizer = deepcopy(context.tokenizer)
    begin = tokenizer.bos_token
    if "prompt" in rows.column_names and begin and tokenizer("")["input_ids"][:1] != [tokenizer.bos_token_id]:
        prompts = [begin + prompt if isinstance(prompt, str) else prompt for prompt in rows["prompt"][:]]
        rows = rows.remove_columns("prompt").add_column("prompt", prompts)
    return {"model": model, "train_dataset": rows, "processing_class": tokenizer}


def _sft(model: Any, context: Context, dataset: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    rows = _texts(dataset, {name: name for name in context.task.columns})
    if "completion" in rows.column_names:  # of several that are accepted, the first is learned
        said = [one[0] if isinstance(one, list) else one for one in rows["completion"][:]]
        rows = rows.remove_columns("completion").add_column("completion", said)
    return _of_language_models(model, context, rows)


def _dpo(model: Any, context: Context, dataset: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The reference is what the training starts from."""
    rows = _texts(dataset, {name: name for name in context.task.columns})
    return {**_of_language_models(model, context, rows), "ref_model": context.load_base()}


def _embeddings(model: Any, context: Context, dataset: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The model as a SentenceTransformer with mean pooling, which trains the same weights."""
    from tempfile import TemporaryDirectory

    from sentence_transformers import SentenceTransformer, losses
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    task_options = context.job.case.task_options
    with TemporaryDirectory(prefix="ftcheck-") as folder:
        model.save_pretrained(folder)
        context.tokenizer.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=task_options["max_length"])
    transformer.model = model
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    whole = SentenceTransformer(modules=[transformer, pooling], device=context.job.device)
    whole.model_card_data.generate_widget_examples = False  # of a card that nobody writes
    rows = _texts(dataset, {"text": "sentence1", "text_pair": "sentence2"})
    rows = rows.add_column("label", [float(score) / task_options["scale"] for score in dataset["label"][:]])
    name = options.get("loss", "CoSENTLoss")
    if not hasattr(losses, str(name)):
        raise TechniqueError(f"trainer.options.loss: {shown(name, 60)!r} is no loss of sentence_transformers.losses")
    return {"model": whole, "train_dataset": rows, "loss": getattr(losses, name)(whole)}


_UNCHANGED: Mapping[str, Any] = {"gradient_checkpointing": None}
"""TRL's would be true; `training.activation_checkpointing` says it, as for any Trainer."""


def _without_fused_head(model: Any) -> None:
    """TRL puts a forward of its own on the model, beneath an adapter where there is one."""
    for module in model.modules():
        module.__dict__.pop("forward", None)


LIBRARIES: Mapping[str, Library] = {
    "SFTTrainer": Library(
        module="trl",
        extra="trl",
        arguments="SFTConfig",
        task="text-generation",
        inputs=_sft,
        defaults=_UNCHANGED,
        finish=_without_fused_head,
    ),
    "DPOTrainer": Library(
        module="trl",
        extra="trl",
        arguments="DPOConfig",
        task="preference",
        inputs=_dpo,
        defaults=_UNCHANGED,
        finish=_without_fused_head,
    ),
    "SentenceTransformerTrainer": Library(
        module="sentence_transformers",
        extra="sentence-transformers",
        arguments="SentenceTransformerTrainingArguments",
        task="sentence-similarity",
        inputs=_embeddings,
        wraps=True,
        not_fields=("loss",),
    ),
}
"""Name of the class -> what ftcheck must know of it."""
