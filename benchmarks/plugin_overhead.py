"""What the plugin adds to a pytest run without suite files: `python benchmarks/plugin_overhead.py [--runs 40]`.

Times `pytest` on one trivial test with ftcheck loaded and with `-p no:ftcheck`, in turn, each first as often as the
other, and prints the difference pair by pair: in wall time, and in processor time, which says more where the machine
is noisy. Also lists the modules that the plugin brought.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import machine, median_and_range, run

MODULES = """
import sys
def pytest_unconfigure(config):
    print("MODULES", *sorted(sys.modules))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=40)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_one.py").write_text("def test_one(): pass\n")
        base = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder]
        run(base)
        pairs = []
        for number in range(runs):
            commands = [base, [*base, "-p", "no:ftcheck"]]
            samples = [run(command) for command in (commands if number % 2 else reversed(commands))]
            pairs.append(samples if number % 2 else samples[::-1])
        (Path(folder) / "conftest.py").write_text(MODULES)
        loaded = [
            set(
                subprocess.run([*base, *more], capture_output=True, text=True, check=True)
                .stdout.partition("MODULES ")[2]
                .split("\n")[0]
                .split()
            )
            for more in ([], ["-p", "no:ftcheck"])
        ]
    print(machine())
    for title, attribute in (("wall time", "seconds"), ("processor time", "cpu_seconds")):
        times = [[1000 * getattr(sample, attribute) for sample in pair] for pair in pairs]
        low, middle, high = statistics.quantiles([with_it - without for with_it, without in times])
        print(f"{title}:")
        print("  with ftcheck:   ", median_and_range([with_it for with_it, _ in times], "ms", 0))
        print("  without:        ", median_and_range([without for _, without in times], "ms", 0))
        print(f"  added, pairwise: {middle:.1f} ms (quartiles {low:.1f} to {high:.1f})")
    print("modules added:  ", *sorted(loaded[0] - loaded[1]))


if __name__ == "__main__":
    main()
