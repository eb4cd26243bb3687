"""How far a training comes to the same again: trains once with one thread, then lets --ft-verify make it once more with
one and with two, each in a process of its own.

    python benchmarks/determinism.py

Prints for each precision and number of threads how many of the predictions (their scores included) are other than
stored, to the last bit, and by how much each metric differs. Small encoder with dropout, 2 seeds, text classification.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SUITE = """
cases:
  {precision}:
    checkpoint: {root}/fixtures/encoder
    task: {{name: text-classification, max_length: 64}}
    data:
      path: csv
      files: {{train: {data}/train.csv, test: {data}/test.csv}}
      columns: {{label: intent}}
    training: {{max_steps: 30, learning_rate: 5e-4, per_device_train_batch_size: 32}}
    precision: {precision}
    seeds: 2
"""


def pytest(folder: Path, threads: int, *options: str) -> dict[str, Any]:
    """The result of the case in a session with so many threads."""
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "a.ft.yaml", "--ft-json=out.json", *options],
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "passive",
            "FTCHECK_CACHE_DIR": str(folder / "store"),
        },
        check=False,
        stdout=sys.stderr,
    )
    found: dict[str, Any] = json.loads((folder / "out.json").read_text())["results"][0]
    return found


def main() -> None:
    for precision in ("fp32", "bf16"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "a.ft.yaml").write_text(
                SUITE.format(root=ROOT, data=ROOT / "fixtures/data/messages", precision=precision)
            )
            pytest(folder, 1)
            for threads in (1, 2):
                result = pytest(folder, threads, "--ft-verify=all")
                for index, run in enumerate(result["runs"]):
                    found = run["verified"]
                    stored = {metric["name"]: metric["per_seed"][index] for metric in result["metrics"]}
                    apart = {name: abs(value - stored[name]) for name, value in found["metrics"].items()}
                    told = ", ".join(f"{name} {value:.2g}" for name, value in apart.items())
                    print(
                        f"{precision}, 1 and {threads} threads, seed {run['seed']}: {found['outcome']}, "
                        f"{found['rows']} of {result['examples']} rows differ; {told}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
