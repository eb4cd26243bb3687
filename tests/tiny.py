"""Checkpoints of some kilobytes, made in a moment: real architectures and tokenizers, random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

TEXT = """
the a of in to is was and cat dog bird fish tree house river city sun moon red blue green small big old new runs sleeps
eats sees likes who what where when did does paris rome berlin oslo ann bob eve . , ? ! ' -
"""
WORDS = TEXT.split()
PIECES = [
    *"abcdefghijklmnopqrstuvwxyz",
    *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789"),
    *"0123456789",
]


def bert_tokenizer(path: Path) -> Any:
    """A BERT tokenizer (lower case) whose words are WORDS; others fall into letters."""
    from transformers import BertTokenizerFast

    path.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *PIECES]
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


def byte_tokenizer(path: Path, padding_side: str = "right") -> Any:
    """GPT-2's tokenizer without merges, a token a byte; it has no padding token."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import GPT2TokenizerFast

    path.mkdir(parents=True, exist_ok=True)
    tokens = [*sorted(ByteLevel.alphabet()), "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = GPT2TokenizerFast(vocab=vocabulary, merges=[], padding_side=padding_side)
    tokenizer.save_pretrained(path)
    return tokenizer


def gpt2(path: Path, *, head: str = "GPT2Model", padding_side: str = "right", **config: Any) -> Path:
    """A GPT-2 of 2 layers, 32 wide; `head` is the class saved."""
    import torch
    import transformers

    tokenizer = byte_tokenizer(path, padding_side)
    settings = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128, **config}
    end = len(tokenizer) - 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = transformers.GPT2Config(**settings, bos_token_id=end, eos_token_id=end)
        getattr(transformers, head)(made).save_pretrained(path)
    return path


def roberta(path: Path, **config: Any) -> Path:
    """A RoBERTa of 2 layers, 32 wide, byte-level: 64 positions, of which 2 are never used."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    path.mkdir(parents=True, exist_ok=True)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(ByteLevel.alphabet())]
    tokenizer = RobertaTokenizerFast(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    tokenizer.save_pretrained(path)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "type_vocab_size": 1,
        **config,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        RobertaModel(RobertaConfig(**settings)).save_pretrained(path)
    return path


def llama(path: Path, *, head: str = "LlamaModel", padding_side: str = "right", **config: Any) -> Path:
    """A Llama of 2 layers, 32 wide, with GPT-2's tokenizer; `head` is the class saved."""
    import torch
    import transformers

    tokenizer = byte_tokenizer(path, padding_side)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        **config,
    }
    end = len(tokenizer) - 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = transformers.LlamaConfig(**settings, bos_token_id=end, eos_token_id=end)
        getattr(transformers, head)(made).save_pretrained(path)
    return path


def word_tokenizer(path: Path) -> Any:
    """A token a word of WORDS, and an end after each text, as T5, BART and Marian have it: padding is 0, the end 1."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    path.mkdir(parents=True, exist_ok=True)
    tokens = ["<pad>", "</s>", "<unk>", *dict.fromkeys(WORDS)]
    core = Tokenizer(models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )
    tokenizer.save_pretrained(path)
    return tokenizer


def t5(path: Path, **config: Any) -> Path:
    """A T5 of 2 layers, 32 wide."""
    from transformers import T5Config, T5ForConditionalGeneration

    settings = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, **config}
    tokenizer = word_tokenizer(path)
    made = T5Config(
        **{"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, **settings}
    )
    return _saved(T5ForConditionalGeneration, made, path)


def bart(path: Path, **config: Any) -> Path:
    """A BART of 2 layers, 32 wide, whose decoder starts with the end token and is forced to write it in the end."""
    from transformers import BartConfig, BartForConditionalGeneration

    tokenizer = word_tokenizer(path)
    made = BartConfig(**encoder_decoder(tokenizer, decoder_start_token_id=1, forced_eos_token_id=1, **config))
    return _saved(BartForConditionalGeneration, made, path)


def marian(path: Path, **config: Any) -> Path:
    """A Marian of 2 layers, 32 wide, whose decoder starts with padding."""
    from transformers import MarianConfig, MarianMTModel

    tokenizer = word_tokenizer(path)
    given = {"decoder_start_token_id": 0, "forced_eos_token_id": 1, "scale_embedding": True, **config}
    made = MarianConfig(**encoder_decoder(tokenizer, **given))
    return _saved(MarianMTModel, made, path)


def encoder_decoder(tokenizer: Any, **config: Any) -> dict[str, Any]:
    """The config of BART and its kin: 2 layers, 32 wide."""
    sizes = {
        f"{part}_{name}": size
        for part in ("encoder", "decoder")
        for name, size in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 64))
    }
    known = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1}
    return {**sizes, **known, "d_model": 32, "max_position_embeddings": 64, "init_std": 0.1, **config}


def _saved(kind: Any, config: Any, path: Path) -> Path:
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(config).save_pretrained(path)
    return path
