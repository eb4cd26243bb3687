"""`ftcheck certify`: only what passed, out of the store, with all that it rests on; and the folder that is deployed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ftcheck import evaluate
from ftcheck.baselines import place
from ftcheck.certificate import issuing, statement
from ftcheck.errors import CertificateError
from ftcheck.results import CaseResult
from ftcheck.spec import Case, Checkpoint, Data
from ftcheck.store import Store
from tests import fake
from tests.certificate.conftest import keys
from tests.cli.faked import Command
from tests.plugin.conftest import Project
from tests.report import results

CASE = "suite.ft.yaml::good"
GOOD = "  good:\n    training: {learning_rate: 0.9}\n    seeds: 2\n    gates: {accuracy: {min: 0.8}}\n"
MARGIN = "  good:\n    training: {learning_rate: 0.9}\n    seeds: 2\n    gates: {accuracy: {max_regression: 0.1}}\n"


def certificate(project: Project, name: str = "cert.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.path / name).read_text())
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def judge(project: Project, case: str = GOOD) -> CaseResult:
    """Write a suite with this case and measure it, so that the store has what `certify` needs."""
    project.suite(case)
    fake.install()
    result = evaluate(CASE).result
    project.stages()
    return result


@pytest.fixture
def judged(faked: Project) -> Project:
    """A project whose case passed."""
    assert judge(faked).verdict == "pass"
    return faked


def test_a_case_that_passed_is_certified_and_its_folder_verified(judged: Project, ftcheck: Command) -> None:
    done = ftcheck("certify", CASE, "-o", "cert.json", "--model-dir", "deploy/model")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "cert.json: 1 file of seed 42, verdict pass; the files are in deploy/model\n"
    assert judged.stages() == [], "nothing is trained or evaluated"
    model = judged.path / "deploy" / "model"
    assert [path.name for path in model.iterdir()] == ["model.safetensors"]
    found = certificate(judged)
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["subject"] == [
        {"name": "model.safetensors", "digest": {"sha256": sha256(model / "model.safetensors")}}
    ]
    assert ftcheck("verify", "deploy/model", "cert.json").returncode == 0
    (model / "model.safetensors").write_bytes(b"weights of seed 43")
    done = ftcheck("verify", "deploy/model", "cert.json")
    assert (done.returncode, "model.safetensors differs" in done.stderr) == (1, True)


def test_a_certificate_says_what_the_verdict_rests_on(judged: Project, ftcheck: Command) -> None:
    assert ftcheck("certify", CASE, "-o", "cert.json").returncode == 0
    Draft202012Validator(statement.schema()).validate(certificate(judged))
    said = certificate(judged)["predicate"]
    result = evaluate(CASE).result
    assert (said["verdict"], said["allowed"]) == ("pass", False)
    assert said["suite"] == {
        "name": "suite.ft.yaml",
        "digest": {"sha256": sha256(judged.path / "suite.ft.yaml")},
        "case": "good",
        "task": "text-classification",
    }
    assert said["runs"] == [
        {"seed": run.seed, "train": run.train.key, "predict": run.predict.key} for run in result.runs
    ]
    assert said["model"] == {"seed": 42, "form": "model", "checkpoint": "checkpoint", "answered_through": {}}
    assert said["rows"]["eval"] == {"count": 100, "digest": "e"}
    assert said["inputs"]["train"]["training"] == {"learning_rate": 0.9}
    assert said["environment"]["device"] == "cpu"
    assert said["environment"]["libraries"]["transformers"]
    (accuracy, *_) = said["metrics"]
    interval = result.metrics[0].interval
    assert interval is not None
    assert (accuracy["value"], accuracy["low"], accuracy["high"]) == (
        result.metrics[0].value,
        interval.low,
        interval.high,
    )
    assert [(gate["bound"], gate["limit"], gate["verdict"]) for gate in said["gates"]] == [("min", 0.8, "pass")]
    assert said["baseline"] is None


def test_a_margin_binds_the_baseline(faked: Project, ftcheck: Command) -> None:
    faked.suite(MARGIN)
    ftcheck.accept()
    assert ftcheck("certify", CASE, "-o", "cert.json").returncode == 0
    baseline = certificate(faked)["predicate"]["baseline"]
    assert baseline["digest"]["sha256"] == sha256(place(faked.path / "suite.ft.yaml", "good"))
    assert baseline["described"][0].startswith("the baseline: cpu, accepted ")


@pytest.mark.parametrize(
    ("cases", "ran", "told"),
    [
        pytest.param(GOOD, False, "has not been trained yet", id="not-judged"),
        pytest.param(GOOD.replace("0.9", "0.5"), True, "its verdict is fail: accuracy 0.49", id="failed"),
        pytest.param(MARGIN, True, "its verdict is new", id="no-baseline-yet"),
        pytest.param(
            GOOD.replace("seeds: 2", "keep_model: none"), True, "was taken out of the store", id="model-not-kept"
        ),
    ],
)
def test_what_did_not_pass_is_refused_in_one_sentence(
    faked: Project, ftcheck: Command, cases: str, ran: bool, told: str
) -> None:
    faked.suite(cases)
    if ran:
        judge(faked, cases)
    done = ftcheck("certify", CASE, "-o", "cert.json", "--model-dir", "model")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("ftcheck: ")
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (faked.path / "cert.json").exists()
    assert not (faked.path / "model").exists()


@pytest.mark.parametrize(
    ("case", "parts", "told"),
    [
        pytest.param({}, (1, 2), "trains a model for each fold", id="folds"),
        pytest.param({"techniques": {"export": {}}}, (), "judges an exported file", id="export"),
        pytest.param({"checkpoint": Checkpoint(path="org/m", local=False)}, (), "org/m of the Hub as it is", id="hub"),
        pytest.param(
            {"checkpoint": Checkpoint(path="/m", local=True, tokenizer="/t")},
            (),
            "tokenizer of another",
            id="tokenizer",
        ),
    ],
)
def test_what_has_no_files_that_were_judged_is_refused(
    tmp_path: Path, case: dict[str, Any], parts: tuple[int, ...], told: str
) -> None:
    bare = Case(
        id="good", suite=tmp_path / "suite.ft.yaml", line=1, checkpoint=Checkpoint(path="/m", local=True),
        task="text-classification", data=Data(kind="hub", path="org/data"), training=None,
    )  # fmt: skip
    run = SimpleNamespace(run=SimpleNamespace(parts=parts, job=SimpleNamespace(seed=42)), trained=None)
    measured: Any = SimpleNamespace(runs=(run,))
    with pytest.raises(CertificateError, match=told):
        issuing.issue(replace(bare, **case), measured, results.case(verdict="pass"), root=tmp_path)


def test_an_undecided_verdict_is_certified_on_request_and_says_so(faked: Project, ftcheck: Command) -> None:
    judge(faked, MARGIN)
    assert ftcheck("certify", CASE, "-o", "c.json", "--allow-verdict", "inconclusive").returncode == 1
    assert ftcheck("certify", CASE, "-o", "c.json", "--allow-verdict", "fail").returncode == 4
    assert ftcheck("certify", CASE, "-o", "c.json", "--model-dir", "m", "--allow-verdict", "new").returncode == 0
    said = certificate(faked, "c.json")["predicate"]
    assert (said["verdict"], said["allowed"]) == ("new", True)
    assert ftcheck("verify", "m", "c.json").returncode == 1
    assert ftcheck("verify", "m", "c.json", "--allow-verdict", "new").returncode == 0


def test_the_seed_is_chosen_among_those_that_were_judged(judged: Project, ftcheck: Command) -> None:
    assert ftcheck("certify", CASE, "-o", "cert.json", "--seed", "43", "--model-dir", "m").returncode == 0
    assert certificate(judged)["predicate"]["model"]["seed"] == 43
    assert (judged.path / "m" / "model.safetensors").read_bytes() == b"weights of seed 43"
    done = ftcheck("certify", CASE, "-o", "cert.json", "--seed", "7")
    assert (done.returncode, "no judged run of seed 7; there are 42, 43" in done.stderr) == (4, True)


def test_fixed_weights_are_certified_where_they_lie(faked: Project, ftcheck: Command) -> None:
    judge(faked, "  good:\n    training: false\n    gates: {accuracy: {min: 0.1}}\n")
    (faked.path / "checkpoint" / "optimizer.pt").write_text("no loading reads it")
    assert ftcheck("certify", CASE, "-o", "cert.json").returncode == 0
    said = certificate(faked)
    assert [file["name"] for file in said["subject"]] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert said["predicate"]["model"]["form"] == "checkpoint"
    assert ftcheck("verify", "checkpoint", "cert.json").returncode == 1
    assert ftcheck("verify", "checkpoint", "cert.json", "--allow-extra", "optimizer.pt").returncode == 0


def test_an_adapter_is_certified_as_one_with_how_it_answered(faked: Project, ftcheck: Command) -> None:
    judge(faked, GOOD.replace("seeds: 2", "peft: {method: lora, parity: merged}"))
    assert ftcheck("certify", CASE, "-o", "cert.json", "--model-dir", "m").returncode == 0
    said = certificate(faked)["predicate"]
    assert (said["model"]["form"], set(said["model"]["answered_through"])) == ("adapter", {"peft"})
    assert set(said["inputs"]["train"]["checkpoint"]["files"]) == {"config.json", "model.safetensors"}
    done = ftcheck("verify", "m", "cert.json")
    assert "m is the adapter (of checkpoint) that passed" in done.stdout
    assert "judged through peft" in done.stdout


def test_a_damaged_model_is_not_certified(judged: Project, ftcheck: Command, own_cache: Path) -> None:
    (weights,) = (path for path in own_cache.glob("runs/*/*/model/*") if path.read_bytes().endswith(b"42"))
    weights.write_bytes(b"weights of seed 66")
    done = ftcheck("certify", CASE, "-o", "cert.json", "--model-dir", "m")
    assert (done.returncode, "damaged" in done.stderr) == (1, True)
    assert not (judged.path / "cert.json").exists()
    assert not (judged.path / "m").exists()
    assert sum(1 for _ in Store(own_cache).keys("runs")) == 1, "it is set aside"


def test_a_folder_that_is_there_is_left_alone(judged: Project, ftcheck: Command) -> None:
    (judged.path / "m").mkdir()
    assert ftcheck("certify", CASE, "-o", "cert.json", "--model-dir", "m").returncode == 0, "an empty one will do"
    before = (judged.path / "m" / "model.safetensors").stat().st_mtime_ns
    done = ftcheck("certify", CASE, "-o", "other.json", "--model-dir", "m")
    assert (done.returncode, "is there already" in done.stderr) == (4, True)
    assert (judged.path / "m" / "model.safetensors").stat().st_mtime_ns == before
    assert not (judged.path / "other.json").exists()


def test_a_signed_certificate_verifies_with_its_public_key(judged: Project, ftcheck: Command) -> None:
    keys(judged.path)
    done = ftcheck("certify", CASE, "-o", "c.json", "--model-dir", "m", "--sign-key", "ed25519.pem")
    assert (done.returncode, done.stderr) == (0, "")
    done = ftcheck("verify", "m", "c.json", "--key", "ed25519.pub.pem")
    assert (done.returncode, "signed by ed25519.pub.pem" in done.stdout) == (0, True)
    done = ftcheck("certify", CASE, "-o", "d.json", "--model-dir", "n", "--sign-key", "none.pem")
    assert (done.returncode, "can't be read" in done.stderr) == (4, True)
    assert not (judged.path / "n").exists()


def body(project: Project, lines: str, mark: str = "") -> None:
    """A case whose test's body says more than its gates."""
    project.path.joinpath("test_body.py").write_text(
        "import ftcheck, pytest\n"
        '@ftcheck.case(checkpoint="./checkpoint", task="text-classification", precision="fp32",\n'
        '              data={"path": "csv", "files": {"train": "train.csv", "test": "test.csv"}},\n'
        '              training={"learning_rate": 0.9}, gates={"accuracy": {"min": 0.8}})\n'
        f"{mark}\ndef test_body(finetuned):\n    {lines}\n"
    )


@pytest.mark.parametrize(
    ("lines", "code", "told"),
    [
        pytest.param("assert finetuned.metrics['accuracy'] > 0.8", 0, "", id="passes"),
        pytest.param("assert finetuned.metrics['accuracy'] > 0.99", 1, "verdict is fail: the test's body", id="fails"),
        pytest.param("pytest.skip('not today')", 1, "Skipped: not today", id="skips"),
    ],
)
def test_what_the_body_says_counts(faked: Project, ftcheck: Command, lines: str, code: int, told: str) -> None:
    judge(faked)
    body(faked, lines)
    done = ftcheck("certify", "test_body.py::test_body", "-o", "cert.json")
    assert done.returncode == code, done.stderr
    assert told in done.stderr


def test_a_test_that_is_not_run_certifies_nothing(faked: Project, ftcheck: Command) -> None:
    body(faked, "...", mark="@pytest.mark.skip")
    done = ftcheck("certify", "test_body.py::test_body", "-o", "cert.json")
    assert (done.returncode, "came to no result" in done.stderr) == (4, True)


def test_certifying_is_no_session_of_its_own(
    judged: Project, ftcheck: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reports, baselines and summaries that the project's settings ask for are left as they are."""
    judged.pytester.makeini(
        "[pytest]\nft_json = out.json\nft_update = true\naddopts = -n2 -p no:cacheprovider --junitxml=junit.xml\n"
    )
    (judged.path / "summary.md").touch()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(judged.path / "summary.md"))
    (judged.path / "out.json").write_text("before")
    assert ftcheck("certify", CASE, "-o", "cert.json").returncode == 0
    assert (judged.path / "out.json").read_text() == "before"
    assert (judged.path / "summary.md").read_bytes() == b""
    assert not (judged.path / "junit.xml").exists()
    assert not (judged.path / "__baselines__").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["none.ft.yaml::x"], id="no-such-file"),
        pytest.param(["suite.ft.yaml::other"], id="no-such-case"),
        pytest.param(["suite.ft.yaml"], id="several"),
    ],
)
def test_what_is_no_case_is_a_usage_error(judged: Project, ftcheck: Command, arguments: list[str]) -> None:
    judged.suite(GOOD + GOOD.replace("good", "second"))
    assert ftcheck("certify", *arguments, "-o", "cert.json").returncode == 4
    assert judged.stages() == []
