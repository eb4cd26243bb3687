"""What benchmarks/growth.py measures: what ftcheck does outside the model, at a size, a thing at a time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SIZES: Mapping[str, tuple[int, ...]] = {
    "rows": (1_000, 10_000, 100_000, 1_000_000),
    "length": (16, 64, 256, 1024, 4096),
    "classes": (2, 10, 100, 1_000, 10_000),
    "seeds": (2, 5, 10, 30, 100),
    "cases": (100, 300, 1_000),
}
WORDS = np.array(["the", "old", "cat", "of", "a", "river", "sees", "small", "and", "red", "houses", "in", "it", "on"])

Act = Callable[[], object]


@dataclass(frozen=True)
class Point:
    """What something took at a size."""

    axis: str
    name: str
    size: int
    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Measure:
    """Something to be done: at a size, what is made ready, and what is then measured."""

    axis: str
    name: str
    ready: Callable[[int, Path], Act]
    most: int = 10**9
    """The largest size it is tried at."""


MEASURES: list[Measure] = []


def measured(axis: str, name: str, most: int = 10**9) -> Callable[[Callable[[int, Path], Act]], None]:
    """Registers what makes a thing ready."""
    return lambda ready: MEASURES.append(Measure(axis, name, ready, most))


# --- rows


def table(rows: int, words: int = 8, classes: int = 20) -> Any:
    """A table of texts and labels, no two texts alike."""
    import pyarrow as pa

    rng = np.random.default_rng(0)
    chosen = WORDS[rng.integers(0, len(WORDS), size=(rows, words))]
    texts = [f"{' '.join(line)} {number}" for number, line in enumerate(chosen.tolist())]
    return pa.table({"text": texts, "label": [f"class {label}" for label in rng.integers(0, classes, rows).tolist()]})


def written(rows: int, kind: str, folder: Path) -> Path:
    """The table as a file of a kind."""
    import pyarrow as pa
    from pyarrow import csv, feather, parquet

    path, rows_of = folder / f"rows.{kind}", table(rows)
    if kind == "csv":
        csv.write_csv(rows_of, path)
    elif kind == "parquet":
        parquet.write_table(rows_of, path)
    elif kind == "arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows_of.schema) as stream:
            stream.write_table(rows_of)
    else:
        assert feather
        path.write_text("".join(json.dumps(row) + "\n" for row in rows_of.to_pylist()))
    return path


def reading(kind: str, reader: str) -> Callable[[int, Path], Act]:
    def ready(size: int, folder: Path) -> Act:
        from ftcheck.finetune import data
        from ftcheck.spec import Data
        from tests.finetune.jobs import job

        path = str(written(size, kind, folder))
        given = Data(kind="reader", path=reader, files={"train": (path,)}, holdout={"eval": 0.2})
        made = job("text-classification", folder, data=given)
        return lambda: data.load(made)

    return ready


for name, reader in (("csv", "csv"), ("jsonl", "json"), ("parquet", "parquet")):
    measured("rows", f"read, split and hash the rows of {name}")(reading(name, reader))


@measured("rows", "hash a file")
def _(size: int, folder: Path) -> Act:
    from ftcheck.keys.files import file_digest

    path = written(size, "csv", folder)
    return lambda: file_digest(path)


def encoder(folder: Path) -> Any:
    from tests import tiny

    return tiny.bert_tokenizer(folder / "tokenizer")


def encoding(rows: Any, folder: Path, length: int | None = None) -> Act:
    """What tokenizes and checks rows of text-classification."""
    import datasets

    from ftcheck import tasks

    task = tasks.get("text-classification")
    options = task.options(max_length=length).model_dump()
    dataset, tokenizer = datasets.Dataset(rows), encoder(folder)
    meta = task.learn(dataset, None, options, "row {}".format)

    def act() -> Any:
        task.check(dataset, "train", meta, options, "row {}".format)
        return task.encode(dataset, tokenizer, meta, options, training=True)

    return act


@measured("rows", "learn classes, check and tokenize")
def _(size: int, folder: Path) -> Act:
    return encoding(table(size), folder)


def collating(rows: Any, folder: Path, length: int | None = None) -> Act:
    """What makes all batches of 32, sorted by length as prediction has them."""
    from ftcheck.tasks.features import collator

    features: Any = encoding(rows, folder, length)()
    collate = collator(encoder(folder), None)

    def act() -> None:
        order = np.argsort(-np.diff(features.starts), kind="stable")
        for low in range(0, len(order), 32):
            collate([features[int(index)] for index in order[low : low + 32]])

    return act


@measured("rows", "collate", most=100_000)
def _(size: int, folder: Path) -> Act:
    return collating(table(size), folder)


def anew(act: Act) -> Act:
    """The same without texts that ROUGE and sacrebleu's tokenizer remember: no time finds what one before left."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    from ftcheck.metrics import rouge

    def forgetting() -> object:
        for remembering in (rouge.sentences, Tokenizer13a.__call__, TokenizerRegexp.__call__):
            remembering.cache_clear()
        return act()

    return forgetting


def scored(metric: str, given: str, predictions: Any, references: Any, labels: Sequence[str] = ()) -> Act:
    """What makes example statistics, the value and the interval of a metric, for one run."""
    from ftcheck.metrics import Context, Lookup
    from ftcheck.statistics import estimate

    built = Lookup(inputs=frozenset({given})).build(metric, Context(labels=tuple(labels)))  # type: ignore[arg-type]

    def act() -> Any:
        rows = built.statistics(predictions, references)
        return estimate([rows], built.aggregate, scale=built.scale, binary=built.binary, fixed=True)

    return act


def classes(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


def labels(rows: int, count: int) -> tuple[list[int], list[int]]:
    """Predictions, a fifth of them wrong, and references."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, count, rows)
    return np.where(rng.random(rows) < 0.8, gold, rng.integers(0, count, rows)).tolist(), gold.tolist()


def probabilities(rows: int, count: int) -> tuple[Any, list[int]]:
    drawn = np.random.default_rng(0).random((rows, count))
    return drawn / drawn.sum(axis=1, keepdims=True), labels(rows, count)[1]


def numbers(rows: int) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(0)
    gold = rng.normal(size=rows)
    return (gold + rng.normal(size=rows)).tolist(), gold.tolist()


def sentences(rows: int, words: int) -> tuple[list[list[str]], list[list[str]]]:
    """Tags of `words` words each, an entity every four words."""
    gold = [["B-PER", "I-PER", "O", "O", "B-LOC", "O", "O", "O"][place % 8] for place in range(words)]
    wrong = [tag if place % 5 else "O" for place, tag in enumerate(gold)]
    return [wrong] * rows, [gold] * rows


def texts(rows: int, words: int) -> tuple[list[str], list[list[str]]]:
    """Predicted texts, and a reference each with a third of the words changed."""
    rng = np.random.default_rng(0)
    told = WORDS[rng.integers(0, len(WORDS), size=(rows, words))]
    other = WORDS[rng.integers(0, len(WORDS), size=(rows, words))]
    gold = np.where(rng.random((rows, words)) < 0.67, told, other)
    return [" ".join(line) for line in told.tolist()], [[" ".join(line)] for line in gold.tolist()]


def tokens(rows: int) -> tuple[list[list[float]], list[list[float]]]:
    rng = np.random.default_rng(0)
    return [[float(nll), 3.0] for nll in rng.gamma(5.0, size=rows)], [[8.0, 40.0]] * rows


for metric in ("accuracy", "macro_f1"):
    measured("rows", f"{metric}, 20 classes")(
        lambda size, folder, metric=metric: scored(metric, "label", *labels(size, 20), classes(20))
    )
for metric in ("log_loss", "ece", "roc_auc"):
    measured("rows", f"{metric}, 2 classes")(
        lambda size, folder, metric=metric: scored(metric, "scores", *probabilities(size, 2), classes(2))
    )
for metric in ("pearson", "spearman"):
    measured("rows", metric)(lambda size, folder, metric=metric: scored(metric, "value", *numbers(size)))
measured("rows", "perplexity")(lambda size, folder: scored("perplexity", "tokens", *tokens(size)))
measured("rows", "F1 of entities, 16 words")(
    lambda size, folder: scored("entity_f1", "tags", *sentences(size, 16), TAGS)
)
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TEXTS = {"rouge1": "ROUGE-1", "rougeL": "ROUGE-L", "bleu": "BLEU", "chrf": "chrF"}
for metric, shown in TEXTS.items():
    measured("rows", f"{shown}, 16 words", most=100_000)(
        lambda size, folder, metric=metric: anew(scored(metric, "text", *texts(size, 16)))
    )
measured("rows", "F1 of answers, 4 words")(lambda size, folder: scored("answer_f1", "answer", *texts(size, 4)))


def sides(rows: int, seeds: int) -> list[list[Any]]:
    """[right, 1] of both sides' runs."""
    rng = np.random.default_rng(0)
    return [
        [np.column_stack([rng.random(rows) < chance, np.ones(rows)]).astype(float) for _ in range(seeds)]
        for chance in (0.86, 0.85)
    ]


def comparing(rows: int, seeds: int) -> Act:
    """What compares two sides."""
    from ftcheck.metrics import counts
    from ftcheck.statistics import compare

    old, new = sides(rows, seeds)
    fixed = {"fixed_baseline": False, "fixed_candidate": False}
    return lambda: compare(old, new, counts.mean, greater_is_better=True, scale="proportion", **fixed)


measured("rows", "compare with a baseline, 3 seeds")(lambda size, folder: comparing(size, 3))


def bootstrapping(rows: int, seeds: int) -> Act:
    from ftcheck.metrics import translation
    from ftcheck.statistics import paired_bootstrap

    rng = np.random.default_rng(0)
    gold = rng.integers(8, 60, size=rows)
    both = []
    for chance in (0.70, 0.69):
        total = np.maximum(gold[:, None] - np.arange(4), 0)
        runs = [rng.binomial(total, chance ** np.arange(1, 5)) for _ in range(seeds)]
        both.append([np.column_stack([gold, gold, found, total]).astype(float) for found in runs])
    return lambda: paired_bootstrap(*both, translation.bleu, seed=0, resamples=200)


measured("rows", "paired bootstrap of BLEU, 200 resamples")(lambda size, folder: bootstrapping(size, 1))


@measured("rows", "write and read a baseline's statistics")
def _(size: int, folder: Path) -> Act:
    from ftcheck.baselines import Statistics

    ids = np.random.default_rng(0).integers(0, 256, size=(size, 16), dtype=np.uint8)
    held = Statistics(ids=ids, metrics={"accuracy": np.stack(sides(size, 3)[0])})
    return lambda: Statistics.load(held.dump())


@measured("rows", "write and read predictions")
def _(size: int, folder: Path) -> Act:
    from ftcheck import examples

    predictions, references = labels(size, 2)
    records = [
        {"index": index, "prediction": a, "reference": b, "scores": [0.25, 0.75], "input": "the old cat", "hash": "0"}
        for index, (a, b) in enumerate(zip(predictions, references, strict=True))
    ]

    def act() -> Any:
        examples.write(records, folder / examples.FILE)
        return examples.read((folder / examples.FILE).read_bytes())

    return act


# --- length: 64 texts of so many words


def longer(words: int) -> Any:
    return table(64, words)


@measured("length", "tokenize")
def _(size: int, folder: Path) -> Act:
    return encoding(longer(size), folder, 10_000)


@measured("length", "collate")
def _(size: int, folder: Path) -> Act:
    return collating(longer(size), folder, 10_000)


@measured("length", "windows of a language model")
def _(size: int, folder: Path) -> Act:
    import datasets

    from ftcheck import tasks
    from tests import tiny

    task = tasks.get("text-generation")
    options = task.options(max_length=128).model_dump()
    dataset, tokenizer = datasets.Dataset(longer(size).select(["text"])), tiny.byte_tokenizer(folder / "bytes")
    return lambda: task.encode(dataset, tokenizer, {}, options, training=False)


@measured("length", "best answers, 128 tokens a window")
def _(size: int, folder: Path) -> Act:
    from ftcheck.tasks import spans

    count, width = 64 * size, min(128, size)
    starts, rng = np.arange(0, count + 1, width), np.random.default_rng(0)
    first = np.ones(len(starts) - 1, dtype=np.int64)
    place = np.arange(count)
    windows = spans.Windows(
        row=starts[:-1] // size,
        first=first,
        beyond=first * width,
        null=first * 0,
        starts=starts,
        begins=5 * place,
        ends=5 * place + 4,
    )
    logits = [rng.normal(size=count).astype(np.float32) for _ in range(2)]
    return lambda: spans.best_spans(*logits, windows, 64, n_best=20, max_answer_length=30)


measured("length", "F1 of entities")(lambda size, folder: scored("entity_f1", "tags", *sentences(64, size), TAGS))
for metric, shown in TEXTS.items():
    measured("length", shown)(lambda size, folder, metric=metric: anew(scored(metric, "text", *texts(64, size))))
measured("length", "F1 of answers")(lambda size, folder: scored("answer_f1", "answer", *texts(64, size)))


# --- classes: 1,000 examples


@measured("classes", "decode logits")
def _(size: int, folder: Path) -> Act:
    from ftcheck.tasks.problem_types import PROBLEM_TYPES

    logits = np.random.default_rng(0).normal(size=(1000, size)).astype(np.float32)
    return lambda: PROBLEM_TYPES["single_label_classification"].answers(logits, 0.5)


for metric in ("accuracy", "macro_f1"):
    measured("classes", metric)(
        lambda size, folder, metric=metric: scored(metric, "label", *labels(1000, size), classes(size))
    )
for metric in ("log_loss", "brier_score", "ece", "roc_auc"):
    measured("classes", metric)(
        lambda size, folder, metric=metric: scored(metric, "scores", *probabilities(1000, size), classes(size))
    )


@measured("classes", "commonest confusions")
def _(size: int, folder: Path) -> Act:
    from ftcheck.tasks.problem_types import PROBLEM_TYPES

    both = zip(*labels(1000, size), strict=True)
    records = [{"prediction": a, "reference": b} for a, b in both]
    return lambda: PROBLEM_TYPES["single_label_classification"].confusions(records, {"labels": classes(size)})


# --- seeds: runs of 1,000 examples


measured("seeds", "compare with a baseline")(lambda size, folder: comparing(1000, size))
measured("seeds", "paired bootstrap of BLEU, 200 resamples")(lambda size, folder: bootstrapping(1000, size))


@measured("seeds", "value and interval")
def _(size: int, folder: Path) -> Act:
    from ftcheck.metrics import counts
    from ftcheck.statistics import estimate

    runs = sides(1000, size)[0]
    return lambda: estimate(runs, counts.mean, scale="proportion", binary=True, fixed=False)


@measured("seeds", "permutation of seeds")
def _(size: int, folder: Path) -> Act:
    from ftcheck.statistics import seed_permutation

    old, new = (np.random.default_rng(0).normal(size=(2, size))).tolist()
    return lambda: seed_permutation(old, new, greater_is_better=True, seed=0)


@measured("seeds", "which runs collapsed")
def _(size: int, folder: Path) -> Act:
    from ftcheck.statistics import collapsed

    values = np.random.default_rng(0).uniform(0.8, 0.9, size).tolist()
    return lambda: collapsed(values, 0.5, examples=1000)


# --- cases


@measured("cases", "page")
def _(size: int, folder: Path) -> Act:
    from html_report import session

    from ftcheck.report import html

    document = session(size)
    return lambda: html.page(document)


@measured("cases", "results file, written and read")
def _(size: int, folder: Path) -> Act:
    from html_report import session

    from ftcheck.report import jsonfile

    results = session(size).results

    def act() -> Any:
        jsonfile.write(folder / "results.json", results, complete=True)
        return jsonfile.load(folder / "results.json")

    return act


SESSIONS: Mapping[str, Sequence[str]] = {
    "collect": ("--collect-only",),
    "plan": ("--ft-plan",),
    "train (faked), judge and keep": (),
    "find all in the store": ("--ft-json=out.json",),
}
"""Whole processes, in their order; the store is that of the one before."""


def sessions(sizes: Sequence[int]) -> Iterator[Point]:
    from load import CONFTEST, EXAMPLES, pytest_in
    from suite import project

    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="ftcheck-growth-") as name:
            folder = project(Path(name) / "suites", CONFTEST, cases=size, examples=EXAMPLES)
            for what, options in SESSIONS.items():
                sample = pytest_in(folder, Path(name) / "store", *options)
                yield Point("cases", what, size, sample.cpu_seconds, sample.peak_bytes / 1e6)
