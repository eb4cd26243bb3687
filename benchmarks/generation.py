"""What makes generation faster, one by one: texts of ftcheck's way and of another, in turn, in one process.

`python benchmarks/generation.py t5 [--prompts 64] [--precision bf16] [--beams 1] [--runs 3] [--against guide good]`,
with FTCHECK_REAL_DATA and FTCHECK_REAL_CHECKPOINT set (docs/real-data.md). Sources are SciTLDR's, cut at 512 tokens by
that checkpoint's tokenizer (decoders get the first 16 to 95 tokens). Models have the shape of the one that they are
called by and random weights, since shapes decide; where texts end is forced, at lengths of SciTLDR's summaries for
encoder-decoders, with a probability of 1/37 for each token by decoders. `encoder_decoder` and `decoder` are the
checkpoints of `fixtures/`, which end texts by themselves: they show how many texts differ.

Of each pair the ratio of processor seconds is taken, which other work on the machine disturbs least: how many times
as long the other takes. Set OMP_NUM_THREADS=1, since waiting threads count too. ftcheck's way is one by one left out by
`without-leaving`, `without-casts`, or altered: `static`, `batch:N`. With `--judged`, of an encoder-decoder, the
likelihood of the summaries is asked for, too, as an evaluation does: `reading-twice` reads the sources again to write.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
from measure import machine, median_and_range

from ftcheck import tasks
from ftcheck.finetune import predict, writing
from ftcheck.finetune.generating import Writer
from ftcheck.tasks.features import EncodedRows, Gatherer, Ragged, collator

FIXTURES = Path(__file__).parents[1] / "fixtures"
PAD, END = 0, 102
"""Of the checkpoint's tokenizer (BERT's)."""

LIMIT = 64
Texts = list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--beams", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--against", nargs="+", default=["guide", "good", "without-leaving", "without-casts"])
    parser.add_argument("--judged", action="store_true")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    sources, summaries = _texts(options.prompts)
    torch.manual_seed(0)
    model, tokenizer, prompts = MODELS[options.model](sources, summaries)
    print(f"{machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads -", end=" ")
    print(f"{options.model}, {len(prompts)} prompts, {options.precision}, beams {options.beams}")
    judged = _with_labels(tokenizer, prompts, summaries) if options.judged else None
    write = partial(_ours, model, tokenizer, prompts, judged, options)
    script = partial(_script, model, tokenizer, prompts, options)
    for against in options.against:
        other = _way(against, write, script)
        pairs = [(_timed(write), _timed(other)) for _ in range(options.runs)]
        _report(against, pairs)


def _report(against: str, pairs: Sequence[tuple[tuple[float, Texts], tuple[float, Texts]]]) -> None:
    ratios = [other / one for (one, _), (other, _) in pairs]
    (_, mine), (_, theirs) = pairs[-1]
    same = sum(one == other for one, other in zip(mine, theirs, strict=True))
    print(
        f"{against}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times as long; "
        f"ftcheck {median_and_range([one for (one, _), _ in pairs], 's')}; {same} of {len(mine)} texts equal",
        flush=True,
    )


def _timed(write: Callable[[], Texts]) -> tuple[float, Texts]:
    started = time.process_time()
    texts = write()
    return time.process_time() - started, texts


def _ours(
    model: Any,
    tokenizer: Any,
    prompts: EncodedRows,
    judged: EncodedRows | None,
    options: argparse.Namespace,
    batch: int = 64,
    **more: Any,
) -> Texts:
    arguments = {"max_new_tokens": LIMIT, "num_beams": options.beams, **more}
    where = {"device": "cpu", "precision": options.precision, "batch_size": batch}
    writer = Writer(model, tokenizer, prompts, arguments, **where)
    if judged is not None:
        task = tasks.get("summarization")
        on_read = writer.take if writer.reads(judged) else None
        predict.run(model, judged, task.collator(tokenizer, None), task, **where, on_read=on_read)
    return writer.finish().texts


def _with_labels(tokenizer: Any, prompts: EncodedRows, summaries: list[str]) -> EncodedRows:
    """The prompts, each with the summary whose likelihood is asked for."""
    labels = tokenizer(summaries[: len(prompts)])["input_ids"]
    return replace(prompts, ragged={"labels": Ragged.of([np.array(ids) for ids in labels])})


def _way(name: str, ours: Callable[..., Texts], script: Callable[..., Texts]) -> Callable[[], Texts]:
    kind, _, number = name.partition(":")
    if kind in SCRIPTS:
        return partial(script, *SCRIPTS[kind])
    if kind == "batch":
        return partial(ours, batch=int(number))
    if kind == "static":
        return partial(ours, cache_implementation="static")
    return lambda: _patched(*WITHOUT[kind], ours)


def _patched(where: Any, attribute: str, instead: Any, write: Callable[[], Texts]) -> Texts:
    with mock.patch.object(where, attribute, instead):
        return write()


def _script(
    model: Any,
    tokenizer: Any,
    prompts: EncodedRows,
    options: argparse.Namespace,
    size: int,
    is_sorted: bool,
) -> Texts:
    """The loop that scripts have around `generate`, as `predict_with_generate` does it too."""
    alone = not model.config.is_encoder_decoder
    order = list(range(len(prompts)))
    if is_sorted:
        order.sort(key=lambda index: -len(prompts[index]["input_ids"]))
    collate, texts = collator(tokenizer, None), [""] * len(order)
    if alone:
        object.__setattr__(collate, "left", True)
    with torch.no_grad(), _autocast(options.precision):
        for low in range(0, len(order), size):
            chosen = order[low : low + size]
            batch = collate([prompts[index] for index in chosen])
            tokens = model.generate(**batch, max_new_tokens=LIMIT, num_beams=options.beams)
            tokens = tokens[:, batch["input_ids"].shape[1] if alone else 1 :]
            for index, text in zip(chosen, tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True):
                texts[index] = text
    return texts


def _autocast(precision: str) -> AbstractContextManager[Any]:
    if precision == "fp32":
        return nullcontext()
    found: AbstractContextManager[Any] = torch.autocast("cpu", dtype=torch.bfloat16)
    return found


def _texts(count: int) -> tuple[list[str], list[str]]:
    """(sources, summaries) of SciTLDR's test rows."""
    path = Path(os.environ["FTCHECK_REAL_DATA"]) / "scitldr/test.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [" ".join(row["source"]) for row in rows[:count]], [row["target"][0] for row in rows]


def _encoded(tokenizer: Any, texts: list[str], cut: Callable[[int], int]) -> EncodedRows:
    gathered = Gatherer()
    ids = [tokens[: cut(len(tokens))] for tokens in tokenizer(texts, truncation=True, max_length=512)["input_ids"]]
    gathered.add({"input_ids": ids}, ["input_ids"])
    return EncodedRows(tokens=gathered.tokens(), starts=gathered.starts())


def _encoder_decoder(kind: str, sources: list[str], summaries: list[str]) -> tuple[Any, Any, EncodedRows]:
    """A T5-small or a BART as large, whose texts end where as many tokens are written as a row of the table says."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(os.environ["FTCHECK_REAL_CHECKPOINT"])
    table = torch.tensor([len(ids) for ids in tokenizer(summaries)["input_ids"]])
    base = {"t5": transformers.T5ForConditionalGeneration, "bart": transformers.BartForConditionalGeneration}[kind]

    class Ending(base):  # type: ignore[misc, valid-type]
        @wraps(base.forward)  # what a model takes, `generate` reads of its signature
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            if output.past_key_values is None:  # nothing is written
                return output
            wanted = table[(kwargs["attention_mask"].sum(dim=1) * 7919) % len(table)]
            ends = output.past_key_values.get_seq_length() >= wanted
            output.logits[:, -1, END] = torch.where(ends, 1e4, -1e4).to(output.logits.dtype)
            return output

    shared = {"pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD, "forced_eos_token_id": None}
    if kind == "t5":
        config: Any = transformers.T5Config(vocab_size=32128, d_model=512, d_ff=2048, num_layers=6, **shared)
    else:
        layers = {f"{part}_{what}": count for part in ("encoder", "decoder") for what, count in BART.items()}
        config = transformers.BartConfig(vocab_size=50265, d_model=512, bos_token_id=101, **layers, **shared)
    return Ending(config).eval(), tokenizer, _encoded(tokenizer, sources, lambda length: length)


def _gpt2(sources: list[str], summaries: list[str]) -> tuple[Any, Any, EncodedRows]:
    """A GPT-2 of 124 million weights; which tokens end a text is drawn by token and place."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(os.environ["FTCHECK_REAL_CHECKPOINT"])

    class Ending(transformers.GPT2LMHeadModel):  # type: ignore[misc]
        @wraps(transformers.GPT2LMHeadModel.forward)  # what a model takes, `generate` reads of its signature
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            drawn = kwargs["input_ids"][:, -1] * 7919 + kwargs["position_ids"][:, -1] * 104729
            output.logits[:, -1, END] = torch.where(drawn % 37 == 0, 1e4, -1e4).to(output.logits.dtype)
            return output

    config = transformers.GPT2Config(pad_token_id=PAD, eos_token_id=END, bos_token_id=101)
    return Ending(config).eval(), tokenizer, _encoded(tokenizer, sources, lambda length: 16 + length * 7919 % 80)


def _fixture(kind: str, sources: list[str], summaries: list[str]) -> tuple[Any, Any, EncodedRows]:
    """A checkpoint of `fixtures/`, as it is."""
    auto = {"decoder": "AutoModelForCausalLM", "encoder_decoder": "AutoModelForSeq2SeqLM"}[kind]
    tokenizer = transformers.AutoTokenizer.from_pretrained(FIXTURES / kind)
    model = getattr(transformers, auto).from_pretrained(FIXTURES / kind).eval()
    model.generation_config.min_new_tokens = 4  # what it wasn't pretrained on it answers with nothing
    room = 96 if kind == "decoder" else 512
    return model, tokenizer, _encoded(tokenizer, sources, lambda length: min(length, room))


BART = {"layers": 6, "ffn_dim": 2048, "attention_heads": 8}

MODELS: Mapping[str, Callable[[list[str], list[str]], tuple[Any, Any, EncodedRows]]] = {
    "t5": partial(_encoder_decoder, "t5"),
    "bart": partial(_encoder_decoder, "bart"),
    "gpt2": _gpt2,
    "encoder_decoder": partial(_fixture, "encoder_decoder"),
    "decoder": partial(_fixture, "decoder"),
}

SCRIPTS = {"guide": (8, False), "good": (32, True)}
"""Batch size, and whether sorted by length."""

WITHOUT: Mapping[str, tuple[Any, str, Any]] = {
    "without-leaving": (writing, "finished_rows_leave", lambda model, arguments: nullcontext()),
    "without-casts": (writing, "weights_cast_once", lambda model: torch.inference_mode()),
    "reading-twice": (Writer, "reads", lambda self, features: False),
}
"""Where a function is, its name, and what stands for it."""


if __name__ == "__main__":
    main()
