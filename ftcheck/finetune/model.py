"""Loads models and tokenizers: float32, safetensors only, no remote code, one clear error for what can't be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftcheck.errors import CheckpointError, shown
from ftcheck.finetune import Job
from ftcheck.keys.hub import remember
from ftcheck.spec import Checkpoint
from ftcheck.tasks import Meta, Task

LENGTHS = ("max_length", "max_source_length", "max_target_length")
"""Options of tasks that say where texts are cut."""

STARTS_FROM = "init_from"
"""The technique whose parent takes the checkpoint's place."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a checkpoint is: a Hub id with what pins it, or a folder."""

    path: str
    shown: str
    arguments: Mapping[str, Any]

    @classmethod
    def of_model(cls, job: Job) -> Source:
        """The case's checkpoint. Raises CheckpointError for a folder that isn't one."""
        checkpoint = job.case.checkpoint
        if STARTS_FROM in job.parents:
            return cls.folder(str(job.parents[STARTS_FROM]))
        if checkpoint.local:
            return cls.folder(checkpoint.path)
        return cls._hub(checkpoint.path, job.checkpoint_revision or checkpoint.revision, job)

    @classmethod
    def of_tokenizer(cls, job: Job) -> Source:
        """The case's tokenizer: its own, or the checkpoint's."""
        checkpoint = job.case.checkpoint
        path = checkpoint.tokenizer
        if path is None or path == checkpoint.path:
            return cls.of_model(job)
        if Path(path).is_absolute():
            return cls(path=path, shown=f"tokenizer {path}", arguments={"local_files_only": True})
        return cls._hub(path, job.tokenizer_revision, job)

    @classmethod
    def of_other(cls, checkpoint: Checkpoint, job: Job) -> Source:
        """A model that a technique names. Raises CheckpointError for a folder that isn't one."""
        if checkpoint.local:
            return cls.folder(checkpoint.path)
        return cls._hub(checkpoint.path, job.revisions.get(checkpoint.path), job)

    @classmethod
    def folder(cls, path: str) -> Source:
        """A model's folder. Raises CheckpointError where it is no checkpoint, or has pickled weights only."""
        folder = Path(path)
        if not folder.is_dir():
            raise CheckpointError(f"checkpoint {path}: there is no such folder")
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"checkpoint {path}: there is no config.json in it, so it is no checkpoint")
        if not any(folder.glob("*.safetensors")):
            pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
            if pickles:
                raise CheckpointError(_only_pickles(path, pickles[0]))
            raise CheckpointError(f"checkpoint {path}: there are no weights in it (model.safetensors)")
        return cls(path=path, shown=f"checkpoint {path}", arguments={"local_files_only": True})

    @classmethod
    def _hub(cls, path: str, revision: str | None, job: Job) -> Source:
        at = f"@{revision[:12]}" if revision else ""
        return cls(
            path=path,
            shown=f"checkpoint {path}{at}",
            arguments={"revision": revision or "main", "local_files_only": job.offline},
        )


def load(
    job: Job,
    task: Task,
    meta: Meta,
    directory: Path | None = None,
    *,
    training: bool = False,
    more: Mapping[str, Any] | None = None,
) -> tuple[Any, Any, list[str]]:
    """(model on the CPU, tokenizer, notes) of a folder that `FineTuning.save` made, or of the case's checkpoint.

    `more` goes to `from_pretrained` besides the task's own arguments. Raises CheckpointError.
    """
    source = Source.of_model(job) if directory is None else Source.folder(str(directory))
    of_tokenizer = Source.of_tokenizer(job) if directory is None else source
    tokenizer, notes = load_tokenizer(of_tokenizer, task, load_config(source))
    model, found = load_model(source, task, meta, tokenizer, training=training, more=more or {})
    check_length(model, job.case.task_options, source)
    if directory is None:
        _remember(job)
    return model, tokenizer, [*notes, *found]


def _remember(job: Job) -> None:
    """Where the case names a branch, note which commit's files are in the local Hub cache now."""
    checkpoint = job.case.checkpoint
    if job.checkpoint_revision is not None:
        remember(checkpoint.path, "model", checkpoint.revision, job.checkpoint_revision)
    if job.tokenizer_revision is not None and checkpoint.tokenizer not in (None, checkpoint.path):
        remember(checkpoint.tokenizer, "model", None, job.tokenizer_revision)


def load_config(source: Source) -> Any:
    """The checkpoint's config. Raises CheckpointError."""
    from transformers import AutoConfig

    with _translated(source):
        return AutoConfig.from_pretrained(source.path, trust_remote_code=False, **source.arguments)


def load_tokenizer(source: Source, task: Task, config: Any) -> tuple[Any, list[str]]:
    """The tokenizer, with a padding token, and notes. Raises CheckpointError for one that doesn't fit the task."""
    from transformers import AutoTokenizer

    with _translated(source):
        tokenizer = AutoTokenizer.from_pretrained(
            source.path, trust_remote_code=False, **source.arguments, **task.tokenizer_kwargs
        )
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise CheckpointError(
            f"{source.shown}: there is no tokenizer in it (tokenizer.json, or vocab.txt and its like)"
        )
    if task.needs_offsets and not tokenizer.is_fast:
        raise CheckpointError(
            f"{source.shown}: {task.name} needs a fast tokenizer (tokenizer.json), to know where tokens came from; "
            f"{type(tokenizer).__name__} is none"
        )
    return tokenizer, _give_padding(tokenizer, config, source)


def _give_padding(tokenizer: Any, config: Any, source: Source) -> list[str]:
    """Batches need a padding token. Decoders often have none; any token will do where a mask hides it."""
    if tokenizer.pad_token_id is not None:
        return []
    known = getattr(config, "pad_token_id", None)
    if isinstance(known, int) and 0 <= known < len(tokenizer):
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(known)
    elif tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    else:
        raise CheckpointError(
            f"{source.shown}: the tokenizer has neither a padding token nor an end-of-text token to pad with; save it "
            "with one: tokenizer.pad_token = tokenizer.unk_token (or another), then tokenizer.save_pretrained(...)"
        )
    return [f"the tokenizer has no padding token: batches are padded with {shown(tokenizer.pad_token)}"]


def load_kept_tokenizer(job: Job, task: Task, directory: Path) -> Any:
    """The tokenizer that `FineTuning.save` left beside what a technique keeps. Raises CheckpointError."""
    source = Source(path=str(directory), shown=f"checkpoint {directory}", arguments={"local_files_only": True})
    return load_tokenizer(source, task, load_config(Source.of_model(job)))[0]


def load_model(
    source: Source, task: Task, meta: Meta, tokenizer: Any, *, training: bool, more: Mapping[str, Any]
) -> tuple[Any, list[str]]:
    """The task's model on the CPU in float32, and notes. Draws the random numbers of a new head.

    Training, a head that is missing or has another size is made anew; else it is an error, as is a missing body always.
    Raises CheckpointError.
    """
    import torch
    import transformers

    with _translated(source):
        model, info = getattr(transformers, task.auto_class).from_pretrained(
            source.path,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **{**task.model_kwargs(meta), **source.arguments, **more},
        )
    notes = _judge(model, info, source, task, training=training)
    _agree(model, tokenizer, source)
    return model, notes


def _judge(model: Any, info: Mapping[str, Any], source: Source, task: Task, *, training: bool) -> list[str]:
    """What of the model wasn't in the checkpoint: nothing but the head may be new, and only to be trained."""
    missing = sorted(key for key in info["missing_keys"] if task.needs_pooler or not _is_pooler(key))
    resized = {key: (tuple(had), tuple(has)) for key, had, has in sorted(info["mismatched_keys"], key=_matrices_first)}
    body = [key for key in (*missing, *sorted(resized)) if not (task.new_head and _is_head(key, model))]
    if body:
        raise CheckpointError(
            f"{source.shown}: it isn't a whole {type(model).__name__}: {_some(body)} missing or of another size"
        )
    if not training and resized:
        key, (had, has) = next(iter(resized.items()))
        raise CheckpointError(
            f"{source.shown}: its head has another size ({key}: {_size(had)} in the checkpoint, {_size(has)} needed), "
            "and `training: false` can't learn a new one"
        )
    if not training and missing:
        raise CheckpointError(
            f"{source.shown}: it has no trained head for this task ({_some(missing)} missing), and `training: false` "
            "can't learn one: name a fine-tuned checkpoint, or train"
        )
    return [
        f"the head starts anew: {key} has {_size(had)} in the checkpoint, {_size(has)} here"
        for key, (had, has) in list(resized.items())[:1]
    ]


def _matrices_first(mismatch: tuple[str, Any, Any]) -> tuple[int, str]:
    return -len(mismatch[1]), mismatch[0]


def _is_head(key: str, model: Any) -> bool:
    """Outside the body that all heads share, or the pooler, which a masked language model has no weights for."""
    return not key.startswith(f"{model.base_model_prefix}.") or _is_pooler(key)


def _is_pooler(key: str) -> bool:
    return "pooler" in key.split(".")


def _agree(model: Any, tokenizer: Any, source: Source) -> None:
    """Model and tokenizer must know the same tokens, padding and longest sequence."""
    embedded = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > embedded:
        raise CheckpointError(
            f"{source.shown}: the tokenizer knows {len(tokenizer):,} tokens, but the model embeds {embedded:,}: "
            "they don't belong together"
        )
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    if tokenizer.padding_side == "left" and _positions(model) is not None:
        # Counted from the left, padding included: a text's positions, and so its answer, would depend on its batch.
        tokenizer.padding_side = "right"
    longest = longest_sequence(model)
    if longest is not None:
        tokenizer.model_max_length = min(tokenizer.model_max_length, longest)


def longest_sequence(model: Any) -> int | None:
    """How many tokens the model takes; None where nothing bounds it.

    RoBERTa and its kin number positions from padding_idx + 1, so that 514 embeddings serve 512 tokens.
    """
    config = model.config
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0 or not getattr(config, "position_biased_input", True):
        return None
    padding = getattr(_positions(model), "padding_idx", None)
    return limit if padding is None else limit - int(padding) - 1


def _positions(model: Any) -> Any:
    """The embedding of absolute positions; None where positions are relative or rotary."""
    import torch

    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if last in ("position_embeddings", "embed_positions", "wpe") and isinstance(module, torch.nn.Embedding):
            return module
    return None


def length_option(options: Mapping[str, Any]) -> str:
    """The option to lower where memory runs out: `task.max_length`, or what stands for it."""
    return f"task.{next((name for name in LENGTHS if name in options), LENGTHS[0])}"


def check_length(model: Any, options: Mapping[str, Any], source: Source) -> None:
    """Refuse a length beyond what the model takes: it would fail in an embedding, in the middle of training."""
    longest = longest_sequence(model)
    wanted = {name: options.get(name) for name in LENGTHS}
    wanted["generation.max_new_tokens"] = (options.get("generation") or {}).get("max_new_tokens")
    for name, length in wanted.items():
        if longest is not None and length is not None and length > longest:
            raise CheckpointError(
                f"task.{name} is {length}, but {source.shown} takes at most {longest} tokens: "
                f"lower {name.rpartition('.')[2]}"
            )


@contextmanager
def _translated(source: Source) -> Iterator[None]:
    """What transformers raises for a checkpoint, in one sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise CheckpointError(f"{source.shown}: its weights are damaged or cut off ({error}): get it again") from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise CheckpointError(f"{source.shown}: {_why(error, source)}") from error


def _why(error: Exception, source: Source) -> str:
    causes: dict[str, BaseException] = {}
    link: BaseException | None = error
    while link is not None:
        causes |= {kind.__name__: link for kind in type(link).__mro__}
        link = link.__cause__ or link.__context__
    text = str(error)
    reasons = {
        "GatedRepoError": "access to it is restricted: accept its terms on its page and log in (`hf auth login`)",
        "RepositoryNotFoundError": "there is no such model on the Hub (or it is private: `hf auth login`)",
        "RevisionNotFoundError": "it has no such revision",
        "LocalEntryNotFoundError": "it isn't in the local cache, and the Hub is out of reach or --ft-offline is set",
    }
    for name, reason in reasons.items():
        if name in causes:
            return reason
    if "TransportError" in causes:  # of the Hub client's HTTP library
        return f"its download broke off ({shown(causes['TransportError'], 200)}): run again"
    if "trust_remote_code" in text or "custom code" in text:
        return "it brings its own Python code, and ftcheck runs no code out of a checkpoint"
    if "safetensors" in text and ("no file named" in text or "does not appear to have" in text):
        return "it has no safetensors weights, and ftcheck never unpickles: convert them with save_pretrained"
    if "Unrecognized configuration class" in text:
        return f"its architecture has no head for this task ({shown(text.partition(' for this kind')[0], 160)})"
    return shown(" ".join(text.split()), 300)


def _only_pickles(path: str, name: str) -> str:
    return (
        f"checkpoint {path}: it has pickled weights only ({name}), which can run any code when they are read, so "
        "ftcheck never does; convert it once where you trust it: AutoModel.from_pretrained(...).save_pretrained(...)"
    )


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{', '.join(keys[:3])}{more}"


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
