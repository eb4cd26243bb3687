"""ftcheck against what people would use instead, on real data: whole processes, in turn, training and judging.

`python benchmarks/versus.py banking77 [--rows 1000] [--judged 500] [--epochs 3] [--runs 3] [--against good guide:128]`,
with FTCHECK_REAL_DATA and FTCHECK_REAL_CHECKPOINT set (docs/real-data.md). Data: `banking77`, `wnut17`, `squad`.

`good` and `guide:LENGTH` are the scripts in benchmarks/scripts; `example` is transformers' own script for the task, as
it is, out of a checkout that `--transformers` names, with a metric that `evaluate` can load without the network. All
get the same rows, epochs, batch size and learning rate. Of each pair the ratio of seconds is taken: how many times
faster ftcheck is.
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
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Sample, machine, median_and_range, run

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Example:
    """transformers' own script for a task."""

    script: str
    """Below examples/pytorch."""
    arguments: Sequence[str]
    """Besides those that all of them take."""
    metrics: Mapping[str, str]
    """ftcheck's metric -> the script's."""
    convert: Callable[[Path, Path], None] | None = None
    """(source, target): writes the JSON that it reads; None: it reads the file itself."""


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
    example: Example


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=SUBJECTS)
    parser.add_argument("--rows", type=int, help="training rows, default all")
    parser.add_argument("--judged", type=int, help="judged rows, default all")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument(
        "--padding", choices=["batch", "parts", "groups"], default="batch", help="what ftcheck's case says"
    )
    parser.add_argument("--dropout", choices=["torch", "fast"], default="torch", help="the same")
    parser.add_argument("--attention", choices=["auto", "eager"], default="auto", help="the same")
    parser.add_argument("--against", nargs="+", default=["good", "guide:128"])
    parser.add_argument("--transformers", type=Path, help="a checkout, for --against example")
    options = parser.parse_args()
    if "example" in options.against and options.transformers is None:
        parser.error("--against example needs --transformers CHECKOUT")
    subject = SUBJECTS[options.data]
    print(machine(), f"- {options.data}, rows {options.rows or 'all'}, judged {options.judged or 'all'},", end=" ")
    print(f"{options.epochs:g} epochs, {options.precision},", end=" ")
    print(f"padding: {options.padding}, dropout: {options.dropout}, attention: {options.attention}")
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
            theirs = (_example if against == "example" else _script)(subject, options, *files, against)
            pairs = [(run(ours, env=env), run(theirs, env=env)) for _ in range(options.runs)]
            _report(against, pairs)
            _report_metrics(against, pairs[-1][1], subject, folder)


def _ours(subject: Subject, options: argparse.Namespace, train: Path, test: Path) -> list[str]:
    case = {
        "checkpoint": os.environ["FTCHECK_REAL_CHECKPOINT"],
        **subject.suite(str(train), str(test)),
        "training": {"num_train_epochs": options.epochs, **subject.training},
        "precision": options.precision,
        "padding": options.padding,
        "dropout": options.dropout,
        "attention": options.attention,
    }
    suite = train.with_name("versus.ft.yaml")
    suite.write_text(json.dumps({"cases": {"versus": case}}))
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(suite)]
    return [*pytest, "--ft-device=cpu", "--ft-cache=off", f"--ft-json={train.with_name('results.json')}"]


def _script(subject: Subject, options: argparse.Namespace, train: Path, test: Path, against: str) -> list[str]:
    recipe, _, length = against.partition(":")
    training = subject.training
    return [
        *(sys.executable, str(HERE / "scripts" / f"{subject.script}.py"), recipe),
        *(os.environ["FTCHECK_REAL_CHECKPOINT"], str(train), str(test), str(train.with_name("out"))),
        *("--epochs", str(options.epochs), "--batch", str(training["per_device_train_batch_size"])),
        *("--rate", str(training["learning_rate"]), "--max-length", length or str(subject.max_length)),
        *("--precision", options.precision),
    ]


def _example(subject: Subject, options: argparse.Namespace, train: Path, test: Path, against: str) -> list[str]:
    example, training = subject.example, subject.training
    files = [train, test]
    if example.convert is not None:
        files = [path.with_name(f"{path.stem}.rows.json") for path in files]
        for source, target in zip((train, test), files, strict=True):
            example.convert(source, target)
    return [
        *(sys.executable, str(options.transformers / "examples/pytorch" / example.script)),
        *("--model_name_or_path", os.environ["FTCHECK_REAL_CHECKPOINT"], *example.arguments),
        *(
            "--train_file",
            str(files[0]),
            "--validation_file",
            str(files[1]),
            "--output_dir",
            str(train.with_name("out")),
        ),
        *("--do_train", "--do_eval", "--use_cpu", "--num_train_epochs", str(options.epochs)),
        *("--per_device_train_batch_size", str(training["per_device_train_batch_size"])),
        *("--learning_rate", str(training["learning_rate"]), "--max_seq_length", str(subject.max_length)),
    ]


def _report(against: str, pairs: list[tuple[Sample, Sample]]) -> None:
    for title, pick, unit in (
        ("seconds", lambda s: s.seconds, "s"),
        ("peak memory", lambda s: s.peak_bytes / 1e6, "MB"),
    ):
        ours, theirs = [pick(one) for one, _ in pairs], [pick(other) for _, other in pairs]
        ratios = [other / one for one, other in zip(ours, theirs, strict=True)]
        print(f"{against}, {title}: ftcheck {median_and_range(ours, unit)}; script {median_and_range(theirs, unit)}")
        print(f"  script / ftcheck: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def _report_metrics(against: str, theirs: Sample, subject: Subject, folder: Path) -> None:
    (result,) = json.loads((folder / "results.json").read_text())["results"]
    ours = {metric["name"]: metric["value"] for metric in result["metrics"]}
    if against == "example":
        found, names = json.loads((folder / "out/eval_results.json").read_text()), subject.example.metrics
    else:
        found, names = json.loads(theirs.output.strip().splitlines()[-1]), subject.metrics
    for mine, name in names.items():
        print(f"  {mine} of the last pair: ftcheck {ours[mine]:.4f}; script {found[name]:.4f}")


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


def _numbered(source: Path, target: Path) -> None:
    """JSON lines whose classes are numbers: of names, `datasets` 5 makes texts of the script's numbers."""
    with source.open(encoding="utf-8", newline="") as file:
        rows = [{**row, "category": zlib.crc32(row["category"].encode())} for row in csv.DictReader(file)]
    target.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _tagged(source: Path, target: Path) -> None:
    """JSON lines of `tokens` and `ner_tags`."""
    blocks = source.read_text(encoding="utf-8").split("\n\n")
    sentences = ([line.split("\t") for line in block.splitlines()] for block in blocks if block.strip())
    rows = ({"tokens": [line[0] for line in lines], "ner_tags": [line[1] for line in lines]} for lines in sentences)
    target.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _asked(source: Path, target: Path) -> None:
    """A row for each question, under `data`."""
    rows = [
        {
            **{"id": asked["id"], "context": paragraph["context"], "question": asked["question"]},
            "answers": {key: [answer[key] for answer in asked["answers"]] for key in ("text", "answer_start")},
        }
        for article in json.loads(source.read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]
    target.write_text(json.dumps({"data": rows}), encoding="utf-8")


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
        example=Example(
            script="text-classification/run_classification.py",
            arguments=("--text_column_names", "text", "--label_column_name", "category"),
            metrics={"accuracy": "eval_accuracy"},
            convert=_numbered,
        ),
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
        example=Example(
            script="token-classification/run_ner.py", arguments=(), metrics={"entity_f1": "eval_f1"}, convert=_tagged
        ),
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
        example=Example(
            script="question-answering/run_qa.py",
            arguments=("--doc_stride", "128"),
            metrics={"exact_match": "eval_exact_match", "answer_f1": "eval_f1"},
            convert=_asked,
        ),
    ),
}


if __name__ == "__main__":
    main()
