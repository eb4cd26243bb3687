"""Collecting and planning 1,000 YAML cases: `python benchmarks/collect_1000.py [--runs 5]`.

Writes ten suite files of 100 cases each on the shipped fixtures, then times `pytest --collect-only` and `pytest
--ft-plan`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measure import machine, median_and_range, run

ROOT = Path(__file__).resolve().parent.parent
HEADER = """defaults:
  checkpoint: {root}/fixtures/encoder
  task: text-classification
  data: {{path: csv, files: {{train: {folder}/train.csv, test: {folder}/test.csv}}}}
  gates: {{accuracy: {{min: 0.5}}}}
cases:
"""
CASE = """  case{number}:
    training: {{num_train_epochs: 2, learning_rate: {rate}, per_device_train_batch_size: 32, weight_decay: 0.01}}
    seeds: 3
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split in ("train", "test"):
            (folder / f"{split}.csv").write_text(
                "text,label\n" + "".join(f"row {i},{'ab'[i % 2]}\n" for i in range(200))
            )
        for file in range(10):
            cases = (CASE.format(number=f"{file}_{i}", rate=f"{1 + i}e-5") for i in range(100))
            (folder / f"s{file}.ft.yaml").write_text(HEADER.format(root=ROOT, folder=folder) + "".join(cases))
        env = {"FTCHECK_CACHE_DIR": str(folder / "store")}
        base = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
        print(machine())
        for title, more in (("--collect-only", ["--collect-only"]), ("--ft-plan", ["--ft-plan"])):
            run([*base, *more], env=env)
            print(f"{title}:", median_and_range([run([*base, *more], env=env).seconds for _ in range(runs)], "s"))


if __name__ == "__main__":
    main()
