"""A run whose every stage is in the store:
`python benchmarks/warm_store.py [--cases 50] [--examples 1000] [--runs 5] [--json]`.

Fills a store with CASES cases of EXAMPLES judged examples each (the training is faked by tests/fake.py; statistics,
store, keys and gates are real), then times whole `pytest` processes that find everything, and lists heavy modules they
imported. With `--json` each is timed beside one that writes a results file, with all that charts are made of.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import machine, median_and_range, run

ROOT = Path(__file__).resolve().parent.parent
HEADER = """defaults:
  checkpoint: ./checkpoint
  task: text-classification
  data: {path: csv, files: {train: train.csv, test: test.csv}}
  gates: {accuracy: {min: 0.5}, macro_f1: {min: 0.5}}
  precision: fp32
cases:
"""
HEAVY = ("torch", "transformers", "datasets", "pyarrow", "sklearn", "pandas", "huggingface_hub")
CONFTEST = f"""
import os, sys
if os.environ.get("FILL"):
    from tests import fake
    fake.EXAMPLES = int(os.environ["FILL"])
    fake.install()
def pytest_unconfigure(config):
    print("HEAVY", [name for name in {HEAVY} if name in sys.modules])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "checkpoint").mkdir()
        for file in ("config.json", "model.safetensors", "tokenizer.json"):
            (folder / "checkpoint" / file).write_text("{}")
        for split in ("train", "test"):
            rows = "".join(f"row {i},{'ab'[i % 2]}\n" for i in range(options.examples))
            (folder / f"{split}.csv").write_text("text,label\n" + rows)
        cases = "".join(
            f"  case{i}:\n    training: {{learning_rate: {0.8 + i / 1000}}}\n" for i in range(options.cases)
        )
        (folder / "warm.ft.yaml").write_text(HEADER + cases)
        (folder / "conftest.py").write_text(CONFTEST)
        env = {"FTCHECK_CACHE_DIR": str(folder / "store"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
        run(command, env={**env, "FILL": str(options.examples)})
        seen = subprocess.run(
            [*command, "-s"], env={**os.environ, **env}, capture_output=True, text=True, check=True
        ).stdout
        both = [command, [*command, f"--ft-json={folder / 'results.json'}"]] if options.json else [command]
        samples = [[run(each, env=env) for each in both] for _ in range(options.runs)]
    print(machine(), f"- {options.cases} cases of {options.examples} examples, all in the store")
    print("whole process:", median_and_range([pair[0].seconds for pair in samples], "s"))
    if options.json:
        ratios = [pair[1].cpu_seconds / pair[0].cpu_seconds for pair in samples]
        print("processor time with a results file, as a multiple:", median_and_range(ratios, "times"))
    print(next(line for line in seen.splitlines() if line.startswith("HEAVY")))


if __name__ == "__main__":
    main()
