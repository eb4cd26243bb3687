"""ftcheck against what people would use instead, on real data: whole processes, in turn, training and judging.

`python benchmarks/versus.py banking77 [--rows 1000] [--judged 500] [--epochs 3] [--runs 3] [--against good guide:128]`,
with FTCHECK_REAL_DATA and FTCHECK_REAL_CHECKPOINT set (docs/real-data.md). Data: `banking77`, `wnut17`, `squad`.

`good` and `guide:LENGTH` are the scripts in benchmarks/scripts. They get the same rows, epochs, batch size and learning
rate. Of each pair the ratio of seconds is taken: how many times faster ftcheck is.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Sample, machine, median_and_range, run

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Subject:
    """A data set, and how both sides are told of it."""

    train: str
    test: str
    """Below FTCHECK_REAL_DATA."""
    script: str
    cut: Callable[[Path, Path, int], None]
    """(source, target, rows): writes a file with so many of the source's rows."""
    suite: Callable[[str, str], Mapping[str, Any]]
    """(train, test): what a case says of task and data."""
    max_length: int
    training: Mapping[str, Any]
    metrics: Mapping[str, str]
    """ftcheck's metric -> the script's."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=SUBJECTS)
    parser.add_argument("--rows", type=int, help="training rows, default all")
    parser.add_argument("--judged", type=int, help="judged rows, default all")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--padding", choices=["batch", "parts"], default="batch", help="what ftcheck's case says")
    parser.add_argument("--dropout", choices=["torch", "fast"], default="torch", help="the same")
    parser.add_argument("--sampling", choices=["random", "group_by_length"], default="random", help="the same")
    parser.add_argument("--against", nargs="+", default=["good", "guide:128"])
    options = parser.parse_args()
    subject = SUBJECTS[options.data]
    print(machine(), f"- {options.data}, rows {options.rows or 'all'}, judged {options.judged or 'all'},", end=" ")
    print(
        f"{options.epochs:g} epochs, {options.precision}, padding: {options.padding}, dropout: {options.dropout}",
        end=", ",
    )
    print(f"train_sampling_strategy: {options.sampling}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = []
        for part, rows in (("train", options.rows), ("test", options.judged)):
            source = Path(os.environ["FTCHECK_REAL_DATA"]) / getattr(subject, part)
            files.append(folder / f"{part}{source.suffix}")
            subject.cut(source, files[-1], rows or sys.maxsize)
        env = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "hf")}
        for against in options.against:
            ours = _ours(subject, options, *files)
            theirs = _theirs(subject, options, *files, against)
            pairs = [(run(ours, env=env), run(theirs, env=env)) for _ in range(options.runs)]
            _report(against, pairs, subject)


def _ours(subject: Subject, options: argparse.Namespace, train: Path, test: Path) -> list[str]:
    case = {
        "checkpoint": os.environ["FTCHECK_REAL_CHECKPOINT"],
        **subject.suite(str(train), str(test)),
        "training": {
            "num_train_epochs": options.epochs,
            "train_sampling_strategy": options.sampling,
            **subject.training,
        },
        "precision": options.precision,
        "padding": options.padding,
        "dropout": options.dropout,
    }
    suite = train.with_name("versus.ft.yaml")
    suite.write_text(json.dumps({"cases": {"versus": case}}))
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite)]
    return [*pytest, "--ft-device=cpu", "--ft-cache=off", f"--ft-json={train.with_name('results.json')}"]


def _theirs(subject: Subject, options: argparse.Namespace, train: Path, test: Path, against: str) -> list[str]:
    recipe, _, length = against.partition(":")
    training = subject.training
    return [
        *(sys.executable, str(HERE / "scripts" / f"{subject.script}.py"), recipe),
        *(os.environ["FTCHECK_REAL_CHECKPOINT"], str(train), str(test), str(train.with_name("out"))),
        *("--epochs", str(options.epochs), "--batch", str(training["per_device_train_batch_size"])),
        *("--rate", str(training["learning_rate"]), "--max-length", length or str(subject.max_length)),
        *("--precision", options.precision),
    ]


def _report(against: str, pairs: list[tuple[Sample, Sample]], subject: Subject) -> None:
    for title, pick, unit in (
        ("seconds", lambda s: s.seconds, "s"),
        ("peak memory", lambda s: s.peak_bytes / 1e6, "MB"),
    ):
        ours, theirs = [pick(one) for one, _ in pairs], [pick(other) for _, other in pairs]
        ratios = [other / one for one, other in zip(ours, theirs, strict=True)]
        print(f"{against}, {title}: ftcheck {median_and_range(ours, unit)}; script {median_and_range(theirs, unit)}")
        print(f"  script / ftcheck: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    theirs = json.loads(pairs[-1][1].output.strip().splitlines()[-1])
    shown = (f"{name} {theirs[name]:.4f}" for name in subject.metrics.values())
    print(f"  the script's metrics: {', '.join(shown)}; ftcheck's last table:")
    print("   ", "\n    ".join(line for line in pairs[-1][0].output.splitlines() if "versus" in line))


def _cut_csv(source: Path, target: Path, rows: int) -> None:
    """Every n-th row, since the file is sorted by class."""
    with source.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    count = min(rows, len(found))
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "category"])
        writer.writeheader()
        writer.writerows(found[index * len(found) // count] for index in range(count))


def _cut_conll(source: Path, target: Path, rows: int) -> None:
    blocks = source.read_text(encoding="utf-8").replace("\t\n", "\n").split("\n\n")
    target.write_text("\n\n".join(itertools.islice(filter(str.strip, blocks), rows)) + "\n", encoding="utf-8")


def _cut_squad(source: Path, target: Path, rows: int) -> None:
    """Whole paragraphs, until there are `rows` questions."""
    left, articles = rows, []
    for article in json.loads(source.read_text(encoding="utf-8"))["data"]:
        paragraphs = []
        for paragraph in article["paragraphs"]:
            if left > 0:
                paragraphs.append({**paragraph, "qas": paragraph["qas"][:left]})
                left -= len(paragraph["qas"])
        articles += [{**article, "paragraphs": paragraphs}] if paragraphs else []
    target.write_text(json.dumps({"version": "1.1", "data": articles}), encoding="utf-8")


SUBJECTS = {
    "banking77": Subject(
        train="banking77/train.csv",
        test="banking77/test.csv",
        script="text_classification",
        cut=_cut_csv,
        suite=lambda train, test: {
            "task": {"name": "text-classification", "max_length": 128},
            "data": {"path": "csv", "files": {"train": train, "test": test}, "columns": {"label": "category"}},
        },
        max_length=128,
        training={"learning_rate": 2e-4, "per_device_train_batch_size": 32},
        metrics={"accuracy": "accuracy", "macro_f1": "macro_f1"},
    ),
    "wnut17": Subject(
        train="wnut17/wnut17train.conll",
        test="wnut17/emerging.test.annotated",
        script="token_classification",
        cut=_cut_conll,
        suite=lambda train, test: {
            "task": {"name": "token-classification", "max_length": 128, "scheme": "IOB2"},
            "data": {"path": "conll", "files": {"train": train, "test": test}},
        },
        max_length=128,
        training={"learning_rate": 3e-4, "per_device_train_batch_size": 16},
        metrics={"entity_f1": "entity_f1"},
    ),
    "squad": Subject(
        train="squad/train-v1.1.json",
        test="squad/validation-v1.1.json",
        script="question_answering",
        cut=_cut_squad,
        suite=lambda train, test: {
            "task": {"name": "question-answering", "max_length": 384, "doc_stride": 128},
            "data": {"path": "squad", "files": {"train": train, "test": test}},
        },
        max_length=384,
        training={"learning_rate": 2e-4, "per_device_train_batch_size": 16},
        metrics={"exact_match": "exact_match", "answer_f1": "answer_f1"},
    ),
}


if __name__ == "__main__":
    main()
