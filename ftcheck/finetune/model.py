"""Loads models and tokenizers: float32, safetensors only, code of theirs only where it is trusted (`own_code`), one
clear error for what can't be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftcheck.errors import CheckpointError, chain, shown
from ftcheck.finetune import Job, own_code
from ftcheck.finetune.memory import out_of_memory
from ftcheck.finetune.own_code import Code
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
    code: Code | None = None
    """Of its own, that the suite trusts."""
    kept: bool = False
    """Whether it was trained here: its code is where its checkpoint's is."""
    other: bool = False
    """Whether it isn't the case's own: it can't bring code."""

    @classmethod
    def of_model(cls, job: Job) -> Source:
        """The case's checkpoint. Raises CheckpointError for a folder that isn't one."""
        checkpoint = job.case.checkpoint
        code = Code.of(checkpoint, job)
        if STARTS_FROM in job.parents:
            return cls.folder(str(job.parents[STARTS_FROM]), code, kept=True)
        if checkpoint.local:
            return cls.folder(checkpoint.path, code)
        return cls._hub(checkpoint.path, job.checkpoint_revision or checkpoint.revision, job, code)

    @classmethod
    def of_tokenizer(cls, job: Job) -> Source:
        """The case's tokenizer: its own, or the checkpoint's."""
        checkpoint = job.case.checkpoint
        path = checkpoint.tokenizer
        if path is None or path == checkpoint.path:
            return cls.of_model(job)
        code = Code.of(checkpoint, job)
        if Path(path).is_absolute():
            return cls(path=path, shown=f"tokenizer {path}", arguments={"local_files_only": True}, code=code)
        return cls._hub(path, job.tokenizer_revision, job, code)

    @classmethod
    def of_other(cls, checkpoint: Checkpoint, job: Job) -> Source:
        """A model that a technique names. Raises CheckpointError for a folder that isn't one."""
        if checkpoint.local:
            return replace(cls.folder(checkpoint.path), other=True)
        return replace(cls._hub(checkpoint.path, job.revisions.get(checkpoint.path), job), other=True)

    @classmethod
    def trained(cls, path: Path, job: Job) -> Source:
        """What `FineTuning.save` left. Raises CheckpointError for a folder that isn't that."""
        return cls.folder(str(path), Code.of(job.case.checkpoint, job), kept=True)

    @classmethod
    def folder(cls, path: str, code: Code | None = None, *, kept: bool = False) -> Source:
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
        return cls(path=path, shown=f"checkpoint {path}", arguments={"local_files_only": True}, code=code, kept=kept)

    @classmethod
    def _hub(cls, path: str, revision: str | None, job: Job, code: Code | None = None) -> Source:
        at = f"@{revision[:12]}" if revision else ""
        return cls(
            path=path,
            shown=f"checkpoint {path}{at}",
            arguments={"revision": revision or "main", "local_files_only": job.offline},
            code=code,
        )

    def own_class(self, kind: str, settings: Mapping[str, Any]) -> type[Any] | None:
        """The class of its own that `settings` (config.json's, or the tokenizer's) name for `kind`; None: one of
        transformers' serves. Raises CheckpointError for code that isn't to run."""
        auto_map = settings.get("auto_map")
        if isinstance(auto_map, list | tuple):  # an older form, of tokenizers
            auto_map = {"AutoTokenizer": auto_map}
        if not isinstance(auto_map, Mapping):
            return None
        try:
            return own_code.class_named(auto_map, kind, self.path, self.code, kept=self.kept)
        except CheckpointError as error:
            raise CheckpointError(f"{self.shown}: {error}") from error.__cause__


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
    source = Source.of_model(job) if directory is None else Source.trained(directory, job)
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
    from transformers import AutoConfig, PreTrainedConfig

    with _translated(source):
        if source.code is not None:
            settings, _ = PreTrainedConfig.get_config_dict(source.path, **source.arguments)
            own = source.own_class("AutoConfig", settings)
            if own is not None:
                return own.from_pretrained(source.path, **source.arguments)
        return AutoConfig.from_pretrained(source.path, trust_remote_code=False, **source.arguments)


def load_tokenizer(source: Source, task: Task, config: Any) -> tuple[Any, list[str]]:
    """The tokenizer, with a padding token, and notes. Raises CheckpointError for one that doesn't fit the task."""
    from transformers import AutoTokenizer
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    with _translated(source):
        kind: Any = AutoTokenizer
        if source.code is not None:
            settings = get_tokenizer_config(source.path, **source.arguments)
            kind = source.own_class("AutoTokenizer", settings) or AutoTokenizer
        tokenizer = kind.from_pretrained(
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
    source = Source(
        path=str(directory),
        shown=f"checkpoint {directory}",
        arguments={"local_files_only": True},
        code=Code.of(job.case.checkpoint, job),
        kept=True,
    )
    return load_tokenizer(source, task, load_config(Source.of_model(job)))[0]


def load_model(
    source: Source, task: Task, meta: Meta, tokenizer: Any, *, training: bool, more: Mapping[str, Any]
) -> tuple[Any, list[str]]:
    """The task's model on the CPU in float32, and notes. Draws the random numbers of a new head.

    Training, a head that is missing or has another size is made anew; else it is an error, as is a missing body always.
    Raises CheckpointError.
    """
    import torch

    with _translated(source):
        model, info = model_class(source, task.auto_class).from_pretrained(
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


def model_class(source: Source, auto_class: str) -> Any:
    """What makes the source's model: a class of its own where it is trusted, else transformers' Auto class.

    Raises CheckpointError where its own code has no class for that.
    """
    import transformers
    from transformers.models.auto.auto_factory import add_generation_mixin_to_remote_model

    if source.code is None:
        return getattr(transformers, auto_class)
    settings = load_config(source).to_dict()
    own = source.own_class(auto_class, settings)
    if own is not None:
        return add_generation_mixin_to_remote_model(own)
    auto_map = settings.get("auto_map") or {}
    if "AutoConfig" in auto_map:
        has = shown(", ".join(sorted(map(str, auto_map))))
        raise CheckpointError(f"{source.shown}: its own code has no {auto_class} (it has {has})")
    return getattr(transformers, auto_class)


def without_weights(source: Source, auto_class: str) -> Any:
    """The source's model on torch's meta device. Raises as `load_config`, and what making it raises."""
    import torch

    kind, config = model_class(source, auto_class), load_config(source)
    with torch.device("meta"):
        return kind.from_config(config) if hasattr(kind, "from_config") else kind(config)


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
    if getattr(model.config, "pad_token_id", None) is None:
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
        if out_of_memory(error):
            raise
        raise CheckpointError(f"{source.shown}: {_why(error, source)}") from error


def _why(error: Exception, source: Source) -> str:
    causes: dict[str, BaseException] = {}
    for link in chain(error):
        causes |= {kind.__name__: link for kind in type(link).__mro__}
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
        return own_code.OTHERS if source.other else own_code.refusal(source.path, source.arguments.get("revision"))
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
