"""Which gates catch what, on real data: MiniLM on BANKING77, accepted, damaged in three ways, and honestly retrained.

`python benchmarks/regressions.py --data DIR --checkpoint DIR`: the folders of docs/real-data.md. 2,000 training rows,
three seeds a side; writes the Markdown table that docs/verdicts.md shows. Results stay in `--work`, so that a second
run with other margins trains nothing.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

SUITE = """
cases:
  intents:
    checkpoint: {checkpoint}
    task: {{name: text-classification, max_length: 64}}
    data: {{path: csv, files: {{train: {train}, test: {test}}}, columns: {{label: category}}}}
    training: {{num_train_epochs: 6, learning_rate: {rate}, per_device_train_batch_size: 32}}
    seeds: {seeds}
    keep_model: none
    gates:
      accuracy: {{max_regression: {margin}}}
      macro_f1: {{max_regression: {margin}}}
"""
RATE = 2e-4
FIRST, AGAIN = [42, 43, 44], [45, 46, 47]
MARGINS = (0.01, 0.02, 0.03, 0.05)


def rows(source: Path, count: int) -> tuple[list[str], list[list[str]]]:
    """The header, and a sample of the rows."""
    with source.open(encoding="utf-8", newline="") as file:
        header, *found = csv.reader(file)
    return header, random.Random(0).sample(found, count)


def write(path: Path, header: list[str], found: list[list[str]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *found])
    return path


def shuffled(found: list[list[str]], part: float) -> list[list[str]]:
    """`part` of the labels dealt out again among their rows."""
    dice = random.Random(1)
    chosen = dice.sample(range(len(found)), round(part * len(found)))
    labels = [found[i][1] for i in chosen]
    dice.shuffle(labels)
    changed = [list(row) for row in found]
    for i, label in zip(chosen, labels, strict=True):
        changed[i][1] = label
    return changed


def measured(work: Path, fields: dict[str, Any], *options: str) -> dict[str, Any]:
    """One pytest run of the suite with these fields."""
    (work / "intents.ft.yaml").write_text(SUITE.format(**fields), encoding="utf-8")
    (work / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    environment = {**os.environ, "FTCHECK_CACHE_DIR": str(work / "store")}
    environment.pop("CI", None)
    command = [sys.executable, "-m", "pytest", "-q", "--ft-json=out.json", *options]
    run = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    if run.returncode not in (0, 1):
        sys.exit(run.stdout + run.stderr)
    found: dict[str, Any] = json.loads((work / "out.json").read_text(encoding="utf-8"))["results"][0]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=2000)
    given = parser.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    header, found = rows(given.data / "banking77/train.csv", given.rows)
    train = write(work / "train.csv", header, found)
    base = {
        "checkpoint": given.checkpoint.resolve(),
        "test": (given.data / "banking77/test.csv").resolve(),
        "train": train,
        "rate": RATE,
        "seeds": FIRST,
        "margin": MARGINS[0],
    }
    measured(work, base, "--ft-update")
    variants = {
        "an honest retrain, new seeds": base | {"seeds": AGAIN},
        "10 % of the labels shuffled": base
        | {"seeds": AGAIN, "train": write(work / "shuffled.csv", header, shuffled(found, 0.1))},
        "learning rate × 20": base | {"seeds": AGAIN, "rate": 20 * RATE},
        "half of the rows": base
        | {"seeds": AGAIN, "train": write(work / "half.csv", header, found[: len(found) // 2])},
    }
    print(f"| {' | '.join(['change', 'accuracy', 'worse by', *map(str, MARGINS), 'detects', 'can prove'])} |")
    print(f"|{'---|' * (len(MARGINS) + 5)}")
    for name, fields in variants.items():
        verdicts, last = [], None
        for margin in MARGINS:
            result = measured(work, fields | {"margin": margin})
            last = next(gate for gate in result["gates"] if gate["metric"] == "accuracy")
            verdicts.append(last["verdict"])
        c = last["comparison"]  # type: ignore[index]
        worse = f"{100 * c['difference']:.1f} [{100 * c['low']:.1f}, {100 * c['high']:.1f}]"
        told = [name, f"{c['value']:.3f}", worse, *verdicts, f"{c['detectable']:.3f}", f"{c['provable']:.3f}"]
        print(f"| {' | '.join(told)} |", flush=True)
        if name.startswith("an honest"):
            for provable in sorted({round(c["provable"] + 0.0005, 3), 0.02, 0.03}):
                result = measured(work, fields | {"margin": provable})
                judged = {gate["metric"]: gate["verdict"] for gate in result["gates"]}
                print(f"<!-- retrain at margin {provable}: {judged} -->", flush=True)


if __name__ == "__main__":
    main()
