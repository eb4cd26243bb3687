"""Which files of a local checkpoint folder loading can read, and which of them are the tokenizer's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final

from ftcheck import plainfiles
from ftcheck.errors import CheckpointError, shown

TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "*-vocab.*",
    "merges.txt",
    "bpe.codes",
    "dict.txt",
    "*.model",
    "*.spm",
    "*.tiktoken",
    "tekken.json",
    "chat_template*",
    "additional_chat_templates/*",
    "preprocessor_config.json",
    "processor_config.json",
)
"""What tokenizers of transformers read: fast, WordPiece, BPE, sentencepiece, tiktoken, chat templates, processors."""

LEFTOVERS: Final = (
    "optimizer.*",
    "scheduler.*",
    "scaler.*",
    "rng_state*",
    "trainer_state.json",
    "training_args.bin",
    "events.out.tfevents.*",
    "all_results.json",
    "*_results.json",
    "*.md",
    "LICENSE*",
    "NOTICE*",
)
"""What a training or a download leaves beside a model, and no loading reads. Whatever isn't named here is hashed."""

OTHER_FRAMEWORKS: Final = (
    "pytorch_model*.bin*",
    "tf_model*",
    "flax_model*",
    "rust_model.ot",
    "model.ckpt*",
    "*.onnx",
    "*.onnx_data",
    "*.tflite",
    "*.msgpack",
    "*.gguf",
)
"""Weights that are not read where safetensors are there."""

_LEFTOVER_FOLDERS: Final = re.compile(
    r"\..*|__pycache__|runs|logs|onnx|openvino|coreml|checkpoint-\d+|global_step\d+|wandb"
)


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    """A folder's files by their names relative to it (POSIX, sorted): the model's, and the tokenizer's."""

    model: tuple[str, ...]
    tokenizer: tuple[str, ...]


def checkpoint_files(folder: Path) -> CheckpointFiles:
    """The files that loading `folder` can read. Raises CheckpointError where it is no checkpoint that can be used."""
    names = _names(folder, "checkpoint")
    if "config.json" not in names:
        if "adapter_config.json" in names:
            raise CheckpointError(
                f"{shown(folder)} holds an adapter without its model: merge it into its base model and save that, "
                "then give the merged folder as checkpoint"
            )
        raise CheckpointError(
            f"{shown(folder)} is no checkpoint: it has no config.json; give a folder that `save_pretrained` wrote"
        )
    _check_weights(folder, names)
    own = tuple(name for name in names if not _matches(name, OTHER_FRAMEWORKS))
    tokenizer = tuple(name for name in own if _matches(name, TOKENIZER_FILES))
    return CheckpointFiles(model=tuple(name for name in own if name not in tokenizer), tokenizer=tokenizer)


def tokenizer_files(folder: Path) -> tuple[str, ...]:
    """The files that a tokenizer is loaded from. Raises CheckpointError where `folder` holds none."""
    names = tuple(name for name in _names(folder, "tokenizer") if _matches(name, TOKENIZER_FILES))
    if not names:
        raise CheckpointError(
            f"{shown(folder)} holds no tokenizer (tokenizer.json, vocab.txt, a sentencepiece model, ...): "
            "save one there with `save_pretrained`, or name where the tokenizer is"
        )
    return names


def _names(folder: Path, what: str) -> tuple[str, ...]:
    if not folder.exists():
        raise CheckpointError(f"the {what} {shown(folder)} doesn't exist: give a folder or a Hub id (OWNER/NAME)")
    if not folder.is_dir():
        raise CheckpointError(f"the {what} {shown(folder)} is a file: give the folder that `save_pretrained` wrote")
    return tuple(sorted(name for name in walk(folder) if not _matches(name, LEFTOVERS)))


def walk(folder: Path) -> Iterator[str]:
    """Names of the files below `folder`, relative to it (POSIX); hidden ones and leftover folders are passed over."""
    for place, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not _LEFTOVER_FOLDERS.fullmatch(name))
        below = Path(place).relative_to(folder)
        yield from (str(PurePosixPath(below / name)) for name in sorted(files) if not name.startswith("."))


def _unreadable(error: OSError) -> None:
    raise CheckpointError(f"{shown(error.filename)} can't be read: {error.strerror}") from None


def _check_weights(folder: Path, names: tuple[str, ...]) -> None:
    """Refuse a folder whose weights are missing, are pickles only, or lack a part that their index names."""
    root = [name for name in names if "/" not in name]
    for index in (name for name in root if name.endswith(".safetensors.index.json")):
        missing = sorted(_shards(folder / index) - set(root))
        if missing:
            raise CheckpointError(
                f"{shown(folder)} is incomplete: {index} names {shown(missing[0])}, which isn't there; copy it again"
            )
    if any(name.endswith(".safetensors") for name in root):
        return
    if any(_matches(name, ("*.bin", "*.pt", "*.pth")) for name in root):
        raise CheckpointError(
            f"{shown(folder)} has its weights as a pickle only, which is never loaded (it can run code); "
            "if you trust it, convert it once, with the model's own Auto class: "
            "AutoModel.from_pretrained(DIR, use_safetensors=False).save_pretrained(DIR)"
        )
    raise CheckpointError(
        f"{shown(folder)} has no weights: there is no *.safetensors file beside its config.json; give a folder that "
        "`save_pretrained` wrote"
    )


def _shards(index: Path) -> set[str]:
    try:
        return {str(name) for name in plainfiles.json_of(plainfiles.read(index))["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{shown(index)} is no index of weights ({type(error).__name__}): copy the checkpoint again"
        ) from None


@lru_cache(maxsize=4096)  # checkpoints of many cases have the same names
def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
