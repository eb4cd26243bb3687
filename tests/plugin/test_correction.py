"""`--ft-correction=holm`: final verdicts, in one process and in several, and nothing made twice."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.plugin.conftest import Project

pytest.importorskip("xdist")

CASES = 5
DAMAGED = "c3"
GATES = "gates: {accuracy: {max_regression: 0.03}}"


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in CI, whatever these tests run in."""
    monkeypatch.delenv("CI", raising=False)


def cases(damaged: float, **extra: str) -> str:
    """Five cases, of which one has a rate of its own: 0.86 fails alone, and not as one of five."""
    rates = {f"c{place}": damaged if f"c{place}" == DAMAGED else 0.9 for place in range(CASES)}
    return "".join(
        f"  {name}:\n    training: {{learning_rate: {rate}, weight_decay: 0.{place:03d}}}\n    seeds: 3\n    {GATES}\n"
        + extra.get(name, "")
        for place, (name, rate) in enumerate(rates.items())
    )


def outcome(project: Project) -> dict[str, tuple[object, object]]:
    return {name: (found["verdict"], found["gates"]) for name, found in project.results().items()}


@pytest.mark.parametrize(
    ("rate", "verdict"),
    [
        pytest.param(0.86, "inconclusive", id="by-chance-among-so-many"),
        pytest.param(0.6, "fail", id="beyond-that"),
    ],
)
def test_several_processes_correct_as_one_does(project: Project, rate: float, verdict: str) -> None:
    project.suite(cases(0.9))
    assert project.run("--ft-correction=holm", "--ft-update").ret == pytest.ExitCode.OK
    project.suite(cases(rate))
    one = project.run("--ft-correction=holm", "--ft-json=out.json")
    expected = outcome(project)
    alone: Any = project.results()[DAMAGED]["gates"]
    assert alone[0]["comparison"]["low"] > 0
    assert alone[0]["comparison"]["difference"] > 0.03, "it would fail by itself"
    assert expected[DAMAGED][0] == verdict
    project.stages()
    several = project.run(
        "-n2", "--ft-correction=holm", "--ft-json=out.json", "--ft-cache=refresh", "--junitxml=junit.xml"
    )
    failed = verdict == "fail"
    assert several.ret == one.ret == int(failed)
    assert outcome(project) == expected
    assert sorted(project.stages()) == sorted(
        f"{stage} c{place} {seed}" for stage in ("train", "predict") for place in range(CASES) for seed in (42, 43, 44)
    ), "everything once, though both processes need all of it"
    several.assert_outcomes(failed=int(failed), passed=CASES - 1)
    junit = {case.get("name"): case for case in ET.parse(project.path / "junit.xml").getroot().iter("testcase")}
    assert (junit[DAMAGED].find("failure") is not None) == failed
    said = " ".join(several.stdout.str().split())
    assert ("one of 5 margins may look so bad by chance (Holm" in said) != failed
    assert "from the store" not in said, "whichever process trained it, its case says so"


def test_what_cannot_be_measured_is_its_own_case_s_error(project: Project) -> None:
    """In whichever process it came up, and the others are judged."""
    skipped = "  off:\n    training: {learning_rate: 0.5}\n    marks: [{skip: off}]\n"
    project.suite(cases(0.9, c2="    vs: case:nobody\n") + skipped)
    for arguments in ((), ("-n2",)):
        result = project.run(*arguments, "--ft-correction=holm")
        outcomes = result.parseoutcomes()
        assert (outcomes["new"], outcomes["errors"], outcomes["skipped"]) == (CASES - 1, 1, 1)
        result.stdout.fnmatch_lines(["*c2: vs: no case of suite.ft.yaml is called nobody*"])
    assert not [line for line in project.stages() if " off " in line], "a skipped case is not measured"


def test_what_workers_make_is_theirs_together(project: Project) -> None:
    """A store of the session's own serves all of them; a model that is not kept goes, whoever made it."""
    project.suite(cases(0.9, **{f"c{place}": "    keep_model: none\n" for place in range(CASES)}))
    project.run("-n2", "--ft-correction=holm", "--ft-cache=off")
    assert len(project.stages()) == CASES * 3 * 2
    store = project.path / "store"
    project.run("-n2", "--ft-correction=holm", f"--ft-cache-dir={store}")
    assert list(store.rglob("manifest.json"))
    assert not list(store.rglob("model.safetensors"))
