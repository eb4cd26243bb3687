"""A training step by ways of taking it, and the operations that it spends most time in:
`python benchmarks/training_step.py [--ways dropout memory bf16-attention eager used-rows grouped token-budget]
[--epochs 4] [--batches 12] [--batch 32] [--tokens 192]`,
with FTCHECK_REAL_DATA and FTCHECK_REAL_CHECKPOINT set (docs/real-data.md).

Batches of questions of BANKING77 in bf16, or with `--tokens` of as many of them in a row as make so many tokens; each
way in a process of its own, in turn with the plain one. Told are seconds of an epoch over the same rows, without the
first, which warms up. `grouped` has batches of rows of like length, `token-budget` as many as have room in so many
tokens that there are as many steps. Ways joined by `+` are taken together.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from measure import machine, median_and_range

WAYS = ("plain", "dropout", "memory", "bf16-attention", "eager", "used-rows", "grouped", "token-budget")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ways", nargs="+", default=["dropout", "memory", "dropout+memory"])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, help="of each row, default those of a question")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--one", help="take this way in this process")
    options = parser.parse_args()
    if options.one:
        train(set(options.one.split("+")), options)
        return
    rows = f"rows of {options.tokens} tokens" if options.tokens else "questions"
    print(
        machine(), f"- {options.batches} steps of {options.batch} {rows}, {options.epochs - 1} epochs of each process"
    )
    for way in options.ways:
        pairs = [(of("plain", options), of(way, options)) for _ in range(options.runs)]
        ratios = [plain / other for plain, other in pairs]
        plain, taken = (median_and_range(seconds, "s") for seconds in zip(*pairs, strict=True))
        print(f"{way}: {taken}; plain {plain}")
        print(f"  plain / {way}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(of("plain", options, profiled=True))


def of(way: str, options: argparse.Namespace, *, profiled: bool = False) -> Any:
    """The median epoch's seconds; or the table of operations."""
    given = {"epochs": options.epochs, "batches": options.batches, "batch": options.batch, "tokens": options.tokens}
    command = [sys.executable, __file__, "--one", way]
    command += [part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))]
    env = {**os.environ, **({"PROFILED": "1"} if profiled else {})}
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    return said if profiled else statistics.median(map(float, said.split()))


def train(ways: set[str], options: argparse.Namespace) -> None:
    """Print the seconds of each epoch but the first."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    from ftcheck.finetune import allocator
    from ftcheck.finetune.techniques.dropout import fast_masks

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if unknown := ways - set(WAYS):
        raise SystemExit(f"no such way: {', '.join(unknown)}; known: {', '.join(WAYS)}")
    torch.manual_seed(0)
    checkpoint = os.environ["FTCHECK_REAL_CHECKPOINT"]
    given = {"attn_implementation": "eager"} if "eager" in ways else {}
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=77, **given)
    with (Path(os.environ["FTCHECK_REAL_DATA"]) / "banking77/train.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    random.Random(0).shuffle(texts)
    rows = options.batch * options.batches
    texts = [" ".join(texts[row : row + (options.tokens or 8) // 8]) for row in range(rows)]
    tokenized = partial(tokenizer, truncation=True, max_length=options.tokens)
    lengths = {text: len(ids) for text, ids in zip(texts, tokenized(texts)["input_ids"], strict=True)}
    parts = _parts(texts, lengths, ways, options.batch)
    if "used-rows" in ways:
        _only_used_rows(model, sorted({token for ids in tokenized(texts)["input_ids"] for token in ids}))
    if "bf16-attention" in ways:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-4, fused=True)
    model.train()

    def epoch() -> float:
        began = time.perf_counter()
        for part in parts:
            batch = tokenized(part, padding=True, return_tensors="pt")
            with torch.autocast("cpu", torch.bfloat16):
                loss = model(**batch, labels=torch.arange(len(part)) % 77).loss
            loss.item()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - began

    with ExitStack() as stack:
        if "dropout" in ways:
            stack.enter_context(fast_masks())
        if "memory" in ways:
            stack.enter_context(allocator.keeping("cpu"))
        epoch()
        if os.environ.get("PROFILED"):
            with profile(activities=[ProfilerActivity.CPU]) as found:
                epoch()
            print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=10, max_name_column_width=40))
        else:
            print(*(epoch() for _ in range(options.epochs - 1)))


def _parts(texts: list[str], lengths: Mapping[str, int], ways: set[str], size: int) -> list[list[str]]:
    """The batches of an epoch."""
    if {"grouped", "token-budget"} & ways:
        texts = sorted(texts, key=lambda text: -lengths[text])
    parts = [texts[low : low + size] for low in range(0, len(texts), size)]
    if "token-budget" not in ways:
        return parts
    budget = math.ceil(sum(len(part) * lengths[part[0]] for part in parts) / len(parts))
    found: list[list[str]] = []
    for text in texts:
        if not found or (len(found[-1]) + 1) * lengths[found[-1][0]] > budget:
            found.append([])
        found[-1].append(text)
    return found


def _only_used_rows(model: Any, tokens: list[int]) -> None:
    """Make the embedding's rows of these tokens all that there is to train of it."""
    import torch

    whole = model.get_input_embeddings()
    places = torch.zeros(whole.num_embeddings, dtype=torch.int64)
    places[torch.tensor(tokens)] = torch.arange(len(tokens))

    class Used(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(whole.weight.detach()[torch.tensor(tokens)].clone())

        def forward(self, ids: Any) -> Any:
            return torch.nn.functional.embedding(places[ids], self.weight)

    model.set_input_embeddings(Used())


if __name__ == "__main__":
    main()
