"""Whether trainings in as many processes as there are cores take no longer than one after the other with all cores.

    python benchmarks/two_at_once.py [--pairs 3] [--steps 20] [--layers 4]

A session of four cases (a random BERT, 384 wide; 16 texts of 32 tokens a step), in turn with `--ft-jobs=1`, which
trains in pytest's process, and with two slots. Prints wall and processor seconds of both, and their ratios pair by
pair.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from measure import Sample, machine, median_and_range, run

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SUITE = """
defaults:
  checkpoint: ./checkpoint
  task: {{name: text-classification, max_length: 32}}
  precision: fp32
  data: {{path: csv, files: {{train: train.csv, test: test.csv}}}}
  training: {{max_steps: {steps}, per_device_train_batch_size: 16}}
cases:
  a: {{seeds: [1]}}
  b: {{seeds: [2]}}
  c: {{seeds: [3]}}
  d: {{seeds: [4]}}
"""


def session(folder: Path, jobs: int, number: int) -> Sample:
    """A session with a store of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "suite.ft.yaml", f"--ft-jobs={jobs}"]
    env = {
        "FTCHECK_CACHE_DIR": str(folder / f"store-{number}-{jobs}"),
        "FTCHECK_RUNTIME_DIR": str(folder / "leases"),  # others of the machine are not waited for
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
    }
    return run(command, cwd=folder, env=env)


def main() -> None:
    from tests import tiny
    from tests.e2e.project import ROWS, csv

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    os.environ.pop("OMP_NUM_THREADS", None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny.bert(
            folder / "checkpoint",
            hidden_size=384,
            intermediate_size=1536,
            num_attention_heads=12,
            num_hidden_layers=arguments.layers,
        )
        (folder / "suite.ft.yaml").write_text(SUITE.format(steps=arguments.steps))
        long = [(" ".join([text] * 8), label) for text, label in ROWS]
        for split, rows in (("train", long), ("test", long[:8])):
            (folder / f"{split}.csv").write_text(csv(rows * 4 if split == "train" else rows))
        pairs = [(session(folder, 1, number), session(folder, 2, number)) for number in range(arguments.pairs)]
    print(machine())
    for place, jobs in enumerate(("one process", "two slots")):
        for field in ("seconds", "cpu_seconds"):
            print(f"{jobs}: {field} {median_and_range([getattr(pair[place], field) for pair in pairs], 's')}")
    print("two slots / one process:", median_and_range([two.seconds / one.seconds for one, two in pairs], ""))


if __name__ == "__main__":
    main()
