"""`ftcheck compare`: what it takes, what it says of two results and of more, and the exit code."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from ftcheck import baselines
from ftcheck.comparing import FailOn
from ftcheck.errors import UsageError
from ftcheck.statistics import mcnemar
from ftcheck.store import Store
from tests.cli.conftest import Command, session, shell


def compared(command: Command, *arguments: str) -> dict[str, Any]:
    """What a comparison says as JSON."""
    _, out, _ = command("compare", *arguments, "--format", "json")
    found: dict[str, Any] = json.loads(out)
    return found


def row(found: dict[str, Any], case: str = "intents", metric: str = "accuracy") -> dict[str, Any]:
    rows: list[dict[str, Any]] = found["rows"]
    return next(one for one in rows if one["case"].endswith(case) and one["metric"] == metric)


def predict_key(project: Path, name: str = "before.json") -> str:
    results = json.loads((project / name).read_text())["results"]
    run = next(result for result in results if result["case_id"] == "intents")["runs"][0]
    return str(run["predict"]["key"])


@pytest.mark.parametrize(
    "before",
    [
        pytest.param("before.json", id="results-file"),
        pytest.param("__baselines__", id="folder"),
        pytest.param("__baselines__/suite.ft/intents.json", id="one-baseline"),
        pytest.param("HEAD", id="ref"),
        pytest.param("git:HEAD", id="said-to-be-a-ref"),
    ],
)
def test_all_ways_to_name_a_result_give_the_same_comparison(project: Path, command: Command, before: str) -> None:
    found = row(compared(command, before, "worse.json"))
    assert (found["a"], found["b"], found["delta"]) == pytest.approx((0.9, 0.7, -0.2))
    assert (found["low"], found["high"]) == pytest.approx((-0.2803, -0.1197), abs=1e-4)
    assert found["p_value"] == pytest.approx(3.54e-5, rel=1e-2)
    assert (found["status"], found["broken"], found["fixed"], found["runs_a"], found["runs_b"]) == (
        "worse",
        20,
        0,
        3,
        3,
    )
    assert found["detectable"] == pytest.approx(0.1, abs=0.01)


def test_a_case_of_the_store_is_its_last_run_with_all_of_its_seeds(project: Path, command: Command) -> None:
    found = row(compared(command, "before.json", "intents"))
    assert (found["delta"], found["runs_b"]) == (pytest.approx(-0.2), 3)
    assert row(compared(command, "run:intents", "worse.json"))["status"] == "same"


def test_a_predict_key_is_one_run(project: Path, command: Command) -> None:
    found = row(compared(command, predict_key(project)[:8], "worse.json"))
    assert (found["runs_a"], found["runs_b"], found["delta"]) == (1, 3, pytest.approx(-0.19))


def test_the_same_result_is_the_same_for_certain(project: Path, command: Command) -> None:
    code, out, _ = command("compare", "HEAD", "before.json", "--fail-on", "accuracy:-0.01")
    assert code == 0
    assert row(compared(command, "HEAD", "before.json"))["status"] == "same"
    assert "pass at -0.01" in out


def test_without_the_predictions_values_alone_are_compared_and_that_is_said(
    project: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(project / "another"))
    found = compared(command, "before.json", "near.json")
    assert (row(found)["status"], row(found)["delta"], row(found)["low"]) == ("value", pytest.approx(-0.01), None)
    assert any("predictions aren't in this store" in note for note in found["notes"])
    code, out, _ = command("compare", "before.json", "near.json", "--fail-on", "accuracy:-1pt")
    assert (code, "~ inconclusive at -1pt" in out) == (0, True)


def test_baselines_need_no_store(project: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    command("baseline", "accept", "worse.json", "--reason", "cheaper")
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(project / "another"))
    found = compared(command, "HEAD", "__baselines__")
    assert row(found)["status"] == "worse"
    assert row(found, metric="macro_f1")["status"] == "worse"


def test_a_vanished_case_fails_and_a_new_one_is_said(project: Path, command: Command) -> None:
    code, out, _ = command("compare", "before.json", "worse.json")
    assert code == 1
    assert "vanished: suite.ft::frozen" in out
    assert "new: suite.ft::fresh" in out
    assert command("compare", "worse.json", "__baselines__/suite.ft/intents.json")[0] == 0, "one case misses no others"


def test_a_case_that_could_not_be_measured_vanished(project: Path, command: Command) -> None:
    document = json.loads((project / "near.json").read_text())
    document["results"][0] |= {"verdict": "error", "error": "no such column", "metrics": [], "gates": [], "runs": []}
    (project / "broken.json").write_text(json.dumps(document))
    code, out, _ = command("compare", "before.json", "broken.json")
    assert (code, "vanished: suite.ft::frozen (no such column)" in out) == (1, True)


@pytest.mark.parametrize(
    ("margin", "after", "decision", "code"),
    [
        pytest.param("accuracy:-1pt", "worse.json", "fail", 1, id="points"),
        pytest.param("accuracy:-0.15", "worse.json", "fail", 1, id="absolute"),
        pytest.param("accuracy:-0.3", "worse.json", "pass", 1, id="wide-enough"),
        pytest.param("accuracy:-10%", "worse.json", "fail", 1, id="relative"),
        pytest.param("accuracy:-40%", "worse.json", "pass", 1, id="relative-wide-enough"),
        pytest.param("accuracy:-0.001", "near.json", "inconclusive", 0, id="undecided"),
        pytest.param("accuracy:-5pt", "near.json", "pass", 0, id="shown-to-be-no-worse"),
    ],
)
def test_fail_on_fails_what_is_worse_by_more_and_not_by_chance(
    project: Path, command: Command, margin: str, after: str, decision: str, code: int
) -> None:
    """worse.json lacks a case, which fails whatever the margin."""
    assert row(compared(command, "before.json", after, "--fail-on", margin))["decision"] == decision
    assert command("compare", "before.json", after, "--fail-on", margin)[0] == code
    only = ("__baselines__/suite.ft/intents.json", after, "--fail-on", margin)
    assert command("compare", *only)[0] == (decision == "fail")
    assert command("compare", *only, "--strict")[0] == (decision != "pass")


def test_a_better_result_fails_nothing(project: Path, command: Command) -> None:
    found = row(compared(command, "worse.json", "__baselines__/suite.ft/intents.json", "--fail-on", "accuracy:-0"))
    assert (found["status"], found["decision"], found["broken"], found["fixed"]) == ("better", "pass", 0, 20)


def test_another_definition_is_incomparable(project: Path, command: Command) -> None:
    document = json.loads((project / "near.json").read_text())
    for result in document["results"]:
        for metric in result["metrics"]:
            if metric["name"] == "accuracy":
                metric["signature"] = "accuracy|2"
    (project / "other.json").write_text(json.dumps(document))
    code, out, _ = command("compare", "before.json", "other.json")
    assert code == 1
    assert "accuracy is defined otherwise (accuracy|1 → accuracy|2)" in out


def test_other_examples_are_incomparable(project: Path, command: Command) -> None:
    path = project / "__baselines__" / "suite.ft" / "intents.json"
    known = baselines.read(path)
    entry = known.entries["cpu"]
    old = known.statistics(entry)
    moved = baselines.Statistics(ids=old.ids ^ np.uint8(255), metrics=old.metrics).dump()
    baselines.write(
        path, replace(entry, digest=blake3(moved).hexdigest(), keys={**entry.keys, "predict": ("x",)}), moved
    )
    code, out, _ = command("compare", "before.json", str(path))
    assert code == 1
    assert "only 0 of its 100 judged examples are among the 100 that are judged now" in out


def test_a_baseline_that_was_edited_by_hand_is_refused(project: Path, command: Command) -> None:
    path = project / "__baselines__" / "suite.ft" / "intents.json"
    path.write_text(path.read_text().replace('"value": 0.9}', '"value": 0.99}'))
    code, _, err = command("compare", "__baselines__", "near.json")
    assert (code, "edited by hand" in err, len(err.splitlines())) == (1, True, 1)


def test_several_results_are_ranked(project: Path, command: Command) -> None:
    code, out, _ = command("compare", "before.json", "near.json", "worse.json", "--metric", "accuracy")
    assert code == 0
    line = next(line.split() for line in out.splitlines() if "intents" in line)
    assert line[-5:] == ["0.900", "best", "0.890", "tied", "0.700"]
    found = compared(command, "before.json", "near.json", "worse.json")
    frozen = next(one for one in found["rows"] if "frozen" in one["case"] and one["metric"] == "accuracy")
    assert frozen["places"] == ["best", "tied", ""]
    assert frozen["values"][2] is None


def test_the_tests_of_reports_are_those_of_statistics_and_the_same_each_time(project: Path, command: Command) -> None:
    found = row(compared(command, "before.json", "worse.json", "--tests"))
    names = [test["name"] for test in found["tests"]]
    assert names == ["approximate randomization", "seed permutation, one-sided", "paired bootstrap"]
    assert found["tests"] == row(compared(command, "before.json", "worse.json", "--tests"))["tests"]
    one = predict_key(project)[:8], predict_key(project, "worse.json")[:8]
    first = row(compared(command, *one, "--tests"), case="")["tests"][0]
    assert (first["name"], first["p_value"]) == ("McNemar, exact", pytest.approx(mcnemar(20, 0)))


def test_formats(project: Path, command: Command) -> None:
    (project / "a|<b>.json").write_bytes((project / "before.json").read_bytes())
    _, markdown, _ = command("compare", "a|<b>.json", "worse.json", "--format", "markdown")
    assert r"a\|&lt;b&gt;.json" in markdown
    assert "| suite.ft::intents (cpu) | accuracy | 0.900 | 0.700 | −20.0 pt |" in markdown
    _, table, _ = command("compare", "before.json", "worse.json", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert float(next(one for one in rows if one["metric"] == "accuracy")["delta"]) == pytest.approx(-0.2)
    assert compared(command, "before.json", "worse.json")["schema"] == 1
    shutil.copy("before.json", "=1+1.json")
    _, matrix, _ = command("compare", "=1+1.json", "near.json", "worse.json", "--format", "csv")
    assert "'=1+1.json" in matrix, "a spreadsheet would take it for a formula"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["before.json"], "two results or more", id="one"),
        pytest.param(["nothing", "before.json"], "nothing is none of: a results file", id="names-nothing"),
        pytest.param(["before.json", "train.csv"], "train.csv can't be read as JSON", id="no-json"),
        pytest.param(["before.json", "checkpoint/config.json"], "is no results file", id="no-results"),
        pytest.param(["before.json", "checkpoint"], "no baselines in checkpoint", id="no-baselines"),
        pytest.param(["before.json", "near.json", "--metric", "bleu"], "no case has the metric bleu", id="no-metric"),
        pytest.param(["before.json", "near.json", "--fail-on", "f1:-1pt"], "no case has the metric f1", id="not-gated"),
        pytest.param(["before.json", "near.json", "--fail-on", "accuracy"], "METRIC:-MARGIN", id="no-margin"),
        pytest.param(["before.json", "near.json", "HEAD", "--tests"], "compare two results", id="tests-of-three"),
        pytest.param(["before.json", "near.json", "--format", "xml"], "'xml' is not one of", id="no-format"),
        pytest.param(["before.json", "git:v99"], "is no commit", id="no-commit"),
        pytest.param(["before.json", "run:v99"], "has no case or predict key v99", id="no-run"),
    ],
)
def test_what_can_not_be_followed_is_a_usage_error(
    project: Path, command: Command, arguments: list[str], said: str
) -> None:
    code, out, err = command("compare", *arguments)
    assert (code, out) == (4, "")
    assert said in " ".join(err.replace("│", " ").split())


def test_a_name_of_a_ref_and_of_a_case_is_not_guessed(project: Path, command: Command) -> None:
    shell(project, "git", "branch", "intents")
    code, _, err = command("compare", "intents", "near.json")
    assert (code, "write git:intents or run:intents" in err) == (4, True)


@pytest.mark.parametrize(
    ("text", "metric", "margin", "relative"),
    [
        pytest.param("accuracy:-1pt", "accuracy", 0.01, False, id="points"),
        pytest.param("perplexity:-2%", "perplexity", 0.02, True, id="percent"),
        pytest.param("my.metrics:score:-.5", "my.metrics:score", 0.5, False, id="import-path"),
        pytest.param("f1[a:b]:-1e-3", "f1[a:b]", 0.001, False, id="argument"),
    ],
)
def test_margins_are_read(text: str, metric: str, margin: float, relative: bool) -> None:
    found = FailOn.parse(text)
    assert (found.metric, found.relative) == (metric, relative)
    assert found.margin == pytest.approx(margin)


@pytest.mark.parametrize("text", ["accuracy", "accuracy:1pt", "accuracy:+1pt", ":-1pt", "accuracy:-", "accuracy:-nan"])
def test_other_margins_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected METRIC:-MARGIN"):
        FailOn.parse(text)


def test_a_session_compares_with_a_results_file(project: Path) -> None:
    session(project, "--ft-json=out.json", "--ft-compare=before.json")
    results = {one["case_id"]: one for one in json.loads((project / "out.json").read_text())["results"]}
    comparison = results["intents"]["gates"][0]["comparison"]
    assert comparison["against"] == "the results file before.json"
    assert (comparison["reference"], comparison["value"]) == pytest.approx((0.9, 0.7))
    assert results["intents"]["references"][0]["changes"] == ["training.learning_rate 0.9 → 0.7"]


def test_nothing_is_kept_of_a_comparison_but_scores(project: Path, command: Command) -> None:
    store = Store(project / "store")
    known = list(store.keys("runs")), list(store.keys("predictions"))
    command("compare", "before.json", "worse.json")
    assert (list(store.keys("runs")), list(store.keys("predictions"))) == known


def test_comparing_loads_no_torch(project: Path) -> None:
    code = (
        "import sys; from ftcheck.cli import main\n"
        "try: main(['compare', 'before.json', 'near.json', '--tests', '--format', 'csv'])\n"
        "except SystemExit: print([n for n in ('torch', 'transformers', 'datasets', 'pytest') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
