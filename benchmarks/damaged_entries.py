"""Damages files of a run store, a remote, baselines and certified models in ways that a seed chooses, and runs a
session after each: it must come to the same numbers, or say what is wrong.

    python benchmarks/damaged_entries.py --mutations 1000 --seed 0

Prints a row for each kind of file, and whatever came out wrong; then the exit code is 1. Training is made up, all else
is real (tests/store/damage.py).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.store.damage import built, made_up_training, mutations, outcome

COLUMNS = ("the same numbers", "refused", "unchanged")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--messages", action="store_true", help="print what each refusal says")
    arguments = parser.parse_args()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    bad = []
    with tempfile.TemporaryDirectory() as folder, made_up_training():
        world = built(Path(folder) / "world")
        for number, mutation in enumerate(mutations(world, arguments.mutations, arguments.seed)):
            found = outcome(world, Path(folder) / "damaged", mutation, arguments.seed + number)
            counts[mutation.kind][found.what] += 1
            if not found.good:
                bad.append(f"{found.what}: {mutation}: {found.message}")
            if number % 100 == 99:
                print(f"{number + 1} damages", file=sys.stderr)
            if arguments.messages and found.what == "refused":
                print(f"{mutation}: {found.message}")
    print(f"| file | damaged | {' | '.join(COLUMNS)} |\n|---|---|---|---|---|")
    for kind, found_ in sorted(counts.items()):
        print(f"| {kind} | {found_.total()} | {' | '.join(str(found_[column]) for column in COLUMNS)} |")
    print("\n".join(bad) or f"{arguments.mutations} damages, seed {arguments.seed}: none came out wrong")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
