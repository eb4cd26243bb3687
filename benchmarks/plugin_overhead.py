"""What the plugin adds to a pytest run without suite files: `python benchmarks/plugin_overhead.py [--runs 15]`.

Times `pytest` on one trivial test with ftcheck loaded and with `-p no:ftcheck`, in turn, and prints the difference
pair by
pair. Also lists the modules that the plugin brought.
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
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_one.py").write_text("def test_one(): pass\n")
        base = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder]
        run(base)
        pairs = [(run(base).seconds, run([*base, "-p", "no:ftcheck"]).seconds) for _ in range(runs)]
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
    added = [1000 * (with_it - without) for with_it, without in pairs]
    print(machine())
    print("with ftcheck:   ", median_and_range([1000 * a for a, _ in pairs], "ms", 0))
    print("without:        ", median_and_range([1000 * b for _, b in pairs], "ms", 0))
    low, middle, high = statistics.quantiles(added)
    print(f"added, pairwise: {middle:.1f} ms (quartiles {low:.1f} to {high:.1f})")
    print("modules added:  ", *sorted(loaded[0] - loaded[1]))


if __name__ == "__main__":
    main()
