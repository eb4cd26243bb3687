"""A cold case against a hand-written Trainer script that does the same steps: time and peak memory, in turn.

`python benchmarks/cold.py [--rows 2000] [--runs 5] [--precision bf16]`, with FTCHECK_REAL_DATA and
FTCHECK_REAL_CHECKPOINT set.

Both fine-tune the checkpoint on the first ROWS rows of BANKING77 (one epoch, batches of 32, dynamic padding), save the
model, predict the test split and compute accuracy and macro-F1.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from measure import machine, median_and_range, run

SCRIPT = Path(__file__).with_name("trainer_script.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()
    data, checkpoint = Path(os.environ["FTCHECK_REAL_DATA"]) / "banking77", os.environ["FTCHECK_REAL_CHECKPOINT"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = (
            _subset(data / f"{split}.csv", folder / f"{split}.csv", options.rows) for split in ("train", "test")
        )
        suite = {
            "cases": {
                "banking77": {
                    "checkpoint": checkpoint,
                    "task": "text-classification",
                    "data": {
                        "path": "csv",
                        "files": {"train": str(train), "test": str(test)},
                        "columns": {"label": "category"},
                    },
                    "training": {
                        "num_train_epochs": 1,
                        "learning_rate": 1e-4,
                        "per_device_train_batch_size": 32,
                        "per_device_eval_batch_size": 64,
                    },
                    "precision": options.precision,
                }
            }
        }
        (folder / "cold.ft.yaml").write_text(json.dumps(suite))
        ours = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            str(folder / "cold.ft.yaml"),
            "--ft-device=cpu",
            "--ft-cache=off",
        ]
        theirs = [sys.executable, str(SCRIPT), checkpoint, str(train), str(test), str(folder / "out")]
        theirs += ["--rows", str(options.rows), "--precision", options.precision]
        env = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "hf")}
        run(ours, env=env)
        run(theirs, env=env)
        pairs = [(run(ours, env=env), run(theirs, env=env)) for _ in range(options.runs)]
    print(machine(), f"- {options.rows} rows, {options.precision}")
    for title, pick, unit in (
        ("seconds", lambda s: s.seconds, "s"),
        ("peak memory", lambda s: s.peak_bytes / 1e6, "MB"),
    ):
        a, b = [pick(x) for x, _ in pairs], [pick(y) for _, y in pairs]
        ratios = [x / y for x, y in zip(a, b, strict=True)]
        print(f"{title}: ftcheck {median_and_range(a, unit)}; script {median_and_range(b, unit)}")
        print(f"  ratio, pairwise: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def _subset(source: Path, target: Path, rows: int) -> Path:
    """A file in which both sides find the same rows: the first `rows` that have one of the classes of the training
    rows."""
    import csv

    with source.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    if source.stem == "train":
        found = [found[i * len(found) // rows] for i in range(rows)]  # the file is sorted by class
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "category"])
        writer.writeheader()
        writer.writerows(found)
    return target


if __name__ == "__main__":
    main()
