"""Checkpoints of under a million parameters, of random weights, with a tokenizer learned from the training rows.

There is no small pretrained decoder or encoder-decoder to take (`FTCHECK_REAL_CHECKPOINT` is a BERT). These know
nothing before they are trained, and what a minute on two cores teaches them is how texts of a kind are written, not
what they say: their suites are gated by how well they predict text, and say beside it what is reached without a model.

They are made anew in a folder that is gone when Python ends; their content, and so every key, is the same each time.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PAD, END = "<pad>", "</s>"
"""Tokens 0 and 1."""
WIDTH = 128


def decoder(texts: Iterable[str], *, vocabulary: int, positions: int) -> str:
    """A GPT-2 of 3 layers."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=positions,
        n_embd=WIDTH,
        n_layer=3,
        n_head=4,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    return _saved(GPT2LMHeadModel, config, _tokenizer(texts, vocabulary, bos_token=END))


def encoder_decoder(texts: Iterable[str], *, vocabulary: int) -> str:
    """A T5 (v1.1) of 2 layers each way."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=vocabulary,
        d_model=WIDTH,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return _saved(T5ForConditionalGeneration, config, _tokenizer(texts, vocabulary, ends=True))


def _tokenizer(texts: Iterable[str], vocabulary: int, *, ends: bool = False, **special: str) -> Any:
    """Byte-level BPE. With `ends`, a text ends with END, as encoder-decoders have it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    if ends:
        core.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=PAD, eos_token=END, **special)


def _saved(kind: Any, config: Any, tokenizer: Any) -> str:
    import torch

    from ftcheck.finetune.quiet import quiet

    folder = Path(tempfile.mkdtemp(prefix="ftcheck-real-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)
