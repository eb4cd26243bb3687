"""`ftcheck baseline diff`, `accept` and `prune`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftcheck import baselines
from tests.cli.conftest import CASES, FROZEN, Command, commit, session
from tests.plugin.conftest import SUITE


def folder(project: Path) -> Path:
    return project / "__baselines__" / "suite.ft"


def value(project: Path) -> float:
    return baselines.read(folder(project) / "intents.json").entries["cpu"].metrics["accuracy"].value


def test_diff_says_old_and_new_values_and_who_accepted_them_why(project: Path, command: Command) -> None:
    assert command("baseline", "diff") == (0, "no baseline differs from HEAD\n", "")
    command("baseline", "accept", "worse.json", "--reason", "half the data")
    baselines.remove(folder(project) / "frozen.json")
    code, out, _ = command("baseline", "diff")
    lines = out.splitlines()
    assert code == 0
    assert "__baselines__/suite.ft/fresh.json (cpu): new" in lines
    assert "__baselines__/suite.ft/frozen.json (cpu): removed" in lines
    assert "__baselines__/suite.ft/intents.json (cpu)" in lines
    assert "  accuracy 0.900 → 0.700 (−20.0 pt, worse)" in lines
    assert any(line.endswith(": half the data") for line in lines)
    commit(project)
    assert command("baseline", "diff", "--against", "HEAD~1") == (code, out, "")


def test_diff_against_no_commit_is_a_usage_error(project: Path, command: Command) -> None:
    code, _, err = command("baseline", "diff", "--against", "v99")
    assert (code, "v99" in err) == (4, True)


def test_an_accepted_file_gives_the_baseline_that_ft_update_would(project: Path, command: Command) -> None:
    path = folder(project) / "intents.json"
    written, statistics = json.loads(path.read_text()), (folder(project) / "intents.cpu.npz").read_bytes()
    for file in folder(project).iterdir():
        file.unlink()
    (project / "suite.ft.yaml").write_text(SUITE + CASES + FROZEN)
    assert command("baseline", "accept", "before.json")[0] == 0
    again = json.loads(path.read_text())
    for document in (written, again):
        for name in ("accepted", "checksum", "power", "recipe"):  # the latter two take the suite
            document["entries"]["cpu"].pop(name, None)
    assert again == written
    assert (folder(project) / "intents.cpu.npz").read_bytes() == statistics
    session(project, "--ft-json=out.json")
    results = json.loads((project / "out.json").read_text())["results"]
    assert {result["verdict"] for result in results} == {"pass"}


def test_loosening_needs_a_reason(project: Path, command: Command) -> None:
    code, out, _ = command("baseline", "accept", "worse.json")
    assert code == 1
    assert "intents: not written: it would be loosened (accuracy 0.9 → 0.7); give --reason" in out
    assert "fresh: written" in out
    assert value(project) == 0.9
    assert command("baseline", "accept", "worse.json", "--reason", "cheaper")[0] == 0
    entry = baselines.read(folder(project) / "intents.json").entries["cpu"]
    assert (entry.metrics["accuracy"].value, entry.accepted.reason, len(entry.history)) == (0.7, "cheaper", 1)


def test_the_same_result_is_left_as_it_is(project: Path, command: Command) -> None:
    before = (folder(project) / "intents.json").read_bytes()
    code, out, _ = command("baseline", "accept", "before.json")
    assert (code, out.count("unchanged")) == (0, 2)
    assert (folder(project) / "intents.json").read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"verdict": "error", "error": "no such column"}, "it was not judged", id="error"),
        pytest.param({"verdict": "smoke", "limited": 5}, "a smoke run", id="smoke"),
        pytest.param({"verdict": "fail", "gates": []}, "the test failed", id="body-failed"),
        pytest.param({"suite": "/nowhere/x.ft.yaml", "nodeid": "x.ft.yaml::intents"}, "isn't here", id="no-suite"),
    ],
)
def test_what_was_not_judged_is_not_accepted(
    project: Path, command: Command, changes: dict[str, object], said: str
) -> None:
    document = json.loads((project / "worse.json").read_text())
    document["results"] = [{**one, **changes} for one in document["results"] if one["case_id"] == "intents"]
    (project / "changed.json").write_text(json.dumps(document))
    code, out, _ = command("baseline", "accept", "changed.json", "--reason", "why not")
    assert (code, said in out, value(project)) == (1, True, 0.9)


def test_a_failed_gate_of_its_own_is_not_accepted(project: Path, command: Command) -> None:
    document = json.loads((project / "worse.json").read_text())
    for result in document["results"]:
        for gate in result["gates"]:
            gate |= {"bound": "min", "limit": 0.8, "verdict": "fail", "comparison": None}
    (project / "failed.json").write_text(json.dumps(document))
    code, out, _ = command("baseline", "accept", "failed.json", "--reason", "why not")
    assert (code, "intents: not written: the case fails" in out) == (1, True)


def test_without_its_predictions_nothing_is_accepted(
    project: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(project / "another"))
    code, out, _ = command("baseline", "accept", "worse.json", "--reason", "cheaper")
    assert (code, out.count("its predictions aren't in this store")) == (1, 2)


def test_ci_is_refused(project: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    code, _, err = command("baseline", "accept", "worse.json", "--reason", "cheaper")
    assert (code, "--allow-ci" in err, value(project)) == (4, True, 0.9)
    assert command("baseline", "accept", "worse.json", "--reason", "cheaper", "--allow-ci")[0] == 0


def test_prune_lists_and_removes_what_no_case_has(project: Path, command: Command) -> None:
    code, out, _ = command("baseline", "prune")
    assert (code, out) == (0, "__baselines__/suite.ft/frozen.json\n1 baseline unused; --yes removes them\n")
    assert (folder(project) / "frozen.json").exists()
    assert command("baseline", "prune", "--yes")[0] == 0
    assert {path.name for path in folder(project).iterdir()} == {"intents.json", "intents.cpu.npz"}


def test_prune_finds_those_of_a_suite_that_is_gone(project: Path, command: Command) -> None:
    (project / "suite.ft.yaml").rename(project / "renamed.ft.yaml")
    _, out, _ = command("baseline", "prune", ".")
    assert "frozen.json" in out
    assert "intents.json" in out


def test_prune_removes_nothing_while_a_suite_has_mistakes(project: Path, command: Command) -> None:
    (project / "suite.ft.yaml").write_text(SUITE + "  intents: {tsk: 1}\n")
    code, out, err = command("baseline", "prune", "--yes")
    assert (code, out, "mend them first" in err) == (4, "", True)
    assert (folder(project) / "intents.json").exists()
    assert command("baseline", "prune", "suite.ft.yaml::intents")[0] == 4
