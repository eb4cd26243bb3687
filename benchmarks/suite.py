"""A project with a suite of many text classifiers, for benchmarks in which tests/fake.py fakes the training."""

from __future__ import annotations

from pathlib import Path

HEADER = """defaults:
  checkpoint: ./checkpoint
  task: text-classification
  data: {{path: csv, files: {{train: train.csv, test: test.csv}}}}
  gates: {{accuracy: {{min: 0.5{more}}}, macro_f1: {{min: 0.5{more}}}}}
  precision: fp32
cases:
"""


def project(folder: Path, conftest: str, *, cases: int, examples: int) -> Path:
    """Write it to `folder`, with so many cases and rows of each split."""
    (folder / "checkpoint").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / "checkpoint" / name).write_text("{}")
    for split in ("train", "test"):
        rows = "".join(f"row {i},{'ab'[i % 2]}\n" for i in range(examples))
        (folder / f"{split}.csv").write_text("text,label\n" + rows)
    (folder / "conftest.py").write_text(conftest)
    suite(folder, cases)
    return folder


def suite(folder: Path, cases: int, *, rate: float = 0.8, max_regression: float | None = None) -> None:
    """Write the suite: cases that differ in their learning rate from `rate` on, which is tests/fake.py's accuracy."""
    more = "" if max_regression is None else f", max_regression: {max_regression}"
    listing = "".join(f"  case{i}:\n    training: {{learning_rate: {rate + i / 100_000:.6f}}}\n" for i in range(cases))
    (folder / "suite.ft.yaml").write_text(HEADER.format(more=more) + listing)
