"""Checkpoints of some kilobytes, made in a moment: real architectures and tokenizers, random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = (
    "the a of in to is was and cat dog bird fish tree house river city sun moon red blue green small big old new runs "
    "sleeps eats sees likes who what where when did does Paris Rome Berlin Oslo Ann Bob Eve . , ? ! ' -"
).split()
PIECES = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"), *"0123456789"]


def bert_tokenizer(path: Path) -> Any:
    """A BERT tokenizer (lower case) whose words are WORDS; others fall into letters."""
    from transformers import BertTokenizerFast

    path.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(w.lower() for w in WORDS), *PIECES]
    tokenizer = BertTokenizerFast(vocab={token: index for index, token in enumerate(dict.fromkeys(vocabulary))})
    tokenizer.save_pretrained(path)
    return tokenizer


def bert(path: Path, *, head: str = "BertModel", labels: Sequence[str] | None = None, **config: Any) -> Path:
    """A BERT of 2 layers, 32 wide, at `path`; `head` is the class saved, `labels` its class names."""
    import torch
    import transformers

    tokenizer = bert_tokenizer(path)
    named = {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}} if labels else {}
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "initializer_range": 0.1,
        **named,
        **config,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, head)(transformers.BertConfig(**settings)).save_pretrained(path)
    return path


def gpt2(path: Path, **config: Any) -> Path:
    """A GPT-2 of 2 layers, 32 wide, byte-level, without a padding token."""
    import torch
    from transformers import GPT2Config, GPT2Model, GPT2TokenizerFast

    from tokenizers.pre_tokenizers import ByteLevel

    path.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*alphabet, "<|endoftext|>"])}
    tokenizer = GPT2TokenizerFast(vocab=vocabulary, merges=[])
    tokenizer.save_pretrained(path)
    settings = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, **config}
    end = len(tokenizer) - 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2Model(GPT2Config(**settings, bos_token_id=end, eos_token_id=end)).save_pretrained(path)
    return path
