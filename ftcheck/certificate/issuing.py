"""From a judged case to its certificate, and to the folder that is deployed."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from blake3 import blake3

import ftcheck
from ftcheck import baselines
from ftcheck.certificate import folder as folders
from ftcheck.certificate import statement as st
from ftcheck.errors import CertificateError, StoreError, UsageError, shown
from ftcheck.executors.inline import has_model
from ftcheck.finetune import techniques
from ftcheck.writing import replace_whole

if TYPE_CHECKING:
    from ftcheck.results import CaseResult, GateResult, MetricResult
    from ftcheck.runs import Finished, Measured
    from ftcheck.spec import Case

Form = Literal["model", "adapter", "checkpoint"]


@dataclass(frozen=True, slots=True)
class Weights:
    """The files that are certified: where they lie, and each one's BLAKE3 as it was when they were judged."""

    form: Form
    folder: Path
    blake3: Mapping[str, str]


def issue(
    case: Case,
    measured: Measured,
    result: CaseResult,
    *,
    root: Path,
    seed: int | None = None,
    allow: str | None = None,
    model_dir: Path | None = None,
) -> st.Statement:
    """The statement about the model of one seed (default: the first) of a judged case; its files go to `model_dir`.

    `root` is what the suite's name is relative to. `allow` is a verdict besides `pass` that is certified too. Raises
    CertificateError for what can't be certified, UsageError for a `model_dir` that can't be written.
    """
    if result.verdict not in ("pass", allow):
        raise CertificateError(_refusal(case, result))
    run = _run(case, measured, result, seed)
    weights = _weights(case, run)
    with _placed(model_dir) as target:
        subject = [
            st.File(name=name, digest=st.Digest(sha256=_taken(weights, name, target)))
            for name in sorted(weights.blake3)
        ]
        return st.Statement(
            _type=st.STATEMENT,
            subject=subject,
            predicateType=st.PREDICATE,
            predicate=_predicate(case, run, result, weights.form, root),
        )


def write(path: Path, content: bytes) -> None:
    """Write a certificate, whole or not at all. Raises UsageError where that can't be done."""
    try:
        replace_whole(path, content)
    except OSError as error:
        raise UsageError(f"{shown(path)} can't be written: {error.strerror or error}") from None


def _refusal(case: Case, result: CaseResult) -> str:
    if result.verdict == "smoke":
        return f"{case.id} is not certified: --ft-limit is a smoke run, which judges nothing"
    why = [gate.message for gate in result.gates if gate.verdict == result.verdict] or list(result.notes[-1:])
    return f"{case.id} is not certified: its verdict is {result.verdict}" + (f": {why[0]}" if why else "")


def _run(case: Case, measured: Measured, result: CaseResult, seed: int | None) -> Finished:
    """The run that is certified: one of those that the verdict rests on."""
    judged = [run for run in measured.runs if run.run.job.seed in result.seeds]
    if any(run.run.parts for run in judged):
        raise CertificateError(
            f"{case.id} trains a model for each fold: none of them is the case's model, so there is none to certify"
        )
    found = [run for run in judged if seed is None or run.run.job.seed == seed]
    if not found:
        seeds = ", ".join(map(str, result.seeds))
        raise UsageError(f"{case.id} has no judged run of seed {seed}; there are {seeds}")
    return found[0]


def _weights(case: Case, run: Finished) -> Weights:
    """Raises CertificateError where the files that were judged aren't at hand."""
    if "export" in case.techniques:
        raise CertificateError(
            f"{case.id} judges an exported file, which the run store does not keep: certify the case without `export`"
        )
    if run.trained is None:
        return _checkpoint(case, run)
    if not has_model(run.trained):
        raise CertificateError(
            f"the model of {case.id}, seed {run.run.job.seed}, was taken out of the store (`keep_model` or "
            "`ftcheck cache prune --models`): train it again with --ft-cache=refresh"
        )
    folder = run.trained.verify("model/") / "model"
    files = {
        name.removeprefix("model/"): record["blake3"]
        for name, record in run.trained.manifest["files"].items()
        if name.startswith("model/")
    }
    adapter = any(technique.keeps for technique in techniques.of(case))
    return Weights("adapter" if adapter else "model", folder, files)


def _checkpoint(case: Case, run: Finished) -> Weights:
    """A local checkpoint that was judged as it is: the files that loading it reads."""
    checkpoint = case.checkpoint
    if not checkpoint.local:
        raise CertificateError(
            f"{case.id} judges {shown(checkpoint.path)} of the Hub as it is, and a certificate is about files: "
            "download it and let the case judge the folder"
        )
    if checkpoint.tokenizer is not None:
        raise CertificateError(f"{case.id} judges a checkpoint with the tokenizer of another place: save both in one")
    components = run.run.train.components
    return Weights(
        "checkpoint", Path(checkpoint.path), {**components["checkpoint"]["files"], **components["tokenizer"]["files"]}
    )


def _taken(weights: Weights, name: str, target: Path | None) -> str:
    """The SHA-256 of a file, which is still the one that was judged; copied below `target`. Raises StoreError."""
    hasher = blake3()
    with _copy(target / PurePosixPath(name) if target else None) as also:

        def read(chunk: bytes) -> None:
            hasher.update(chunk)
            also(chunk)

        try:
            found = folders.sha256(weights.folder / name, also=read, links=weights.form == "checkpoint")
        except OSError as error:
            raise StoreError(f"{shown(weights.folder / name)} can't be read: {error.strerror or error}") from None
    if hasher.hexdigest() != weights.blake3[name]:
        raise StoreError(f"{shown(weights.folder / name)} changed while it was read: nothing is certified")
    return found


@contextmanager
def _copy(path: Path | None) -> Iterator[Callable[[bytes], object]]:
    """What a file's bytes are handed to."""
    if path is None:
        yield lambda chunk: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        yield file.write


@contextmanager
def _placed(model_dir: Path | None) -> Iterator[Path | None]:
    """A folder that becomes `model_dir` when the block ends well: all of it or nothing. Raises UsageError."""
    if model_dir is None:
        yield None
        return
    if model_dir.is_symlink() or (model_dir.exists() and not (model_dir.is_dir() and not any(model_dir.iterdir()))):
        raise UsageError(f"--model-dir: {shown(model_dir)} is there already: name a folder that is new or empty")
    try:
        model_dir.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=model_dir.parent, prefix=f".{model_dir.name}."))
        try:
            yield scratch
            scratch.chmod(0o755)
            os.replace(scratch, model_dir)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise UsageError(f"--model-dir: {shown(model_dir)} can't be written: {error.strerror or error}") from None


def _predicate(case: Case, run: Finished, result: CaseResult, form: Form, root: Path) -> st.Predicate:
    train, predict = run.run.train.components, run.run.predict.components
    rows = {**(run.trained.content["rows"] if run.trained else {}), **run.predicted.content["rows"]}
    return st.Predicate(
        ftcheck=ftcheck.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        verdict=result.verdict,
        allowed=result.verdict != "pass",
        suite=st.Suite(
            name=_named(case.suite, root),
            digest=st.Digest(sha256=_digest(case.suite)),
            case=case.id,
            task=case.task,
        ),
        model=st.Model(
            seed=run.run.job.seed,
            form=form,
            checkpoint=Path(case.checkpoint.path).name if case.checkpoint.local else case.checkpoint.path,
            answered_through={t.name: dict(t.given) for t in techniques.of(case) if t.compares},
        ),
        runs=[
            st.Run(seed=one.seed, train=one.train.key, predict=one.predict.key)
            for one in result.runs
            if one.seed in result.seeds
        ],
        rows={role: st.Rows(count=found["count"], digest=found["hashes"]) for role, found in rows.items()},
        inputs=baselines.condensed(train, predict),
        baseline=_baseline(case, result),
        environment=st.Environment(
            device=result.device,
            precision=result.precision,
            libraries=predict.get("versions") or train.get("versions") or {},
            machine=dict(run.trained.content["environment"]) if run.trained else {},
        ),
        metrics=[_metric(metric) for metric in result.metrics],
        gates=[_gate(gate) for gate in result.gates],
        notes=list(result.notes),
    )


def _named(suite: Path, root: Path) -> str:
    return (suite.relative_to(root) if suite.is_relative_to(root) else Path(suite.name)).as_posix()


def _digest(path: Path) -> str:
    try:
        return folders.sha256(path, links=True)
    except OSError as error:
        raise StoreError(f"{shown(path)} can't be read: {error.strerror or error}") from None


def _baseline(case: Case, result: CaseResult) -> st.Baseline | None:
    if not result.references:
        return None
    path = baselines.place(case.suite, case.id)
    committed = any(other.against in ("the baseline", "the first accepted") for other in result.references)
    return st.Baseline(
        described=[f"{other.against}: {other.described}" for other in result.references],
        digest=st.Digest(sha256=_digest(path)) if committed else None,
    )


def _metric(metric: MetricResult) -> st.Metric:
    interval: dict[str, Any] = {}
    if metric.interval is not None:
        low, high = _finite(metric.interval.low), _finite(metric.interval.high)
        interval = {"low": low, "high": high, "confidence": metric.interval.confidence, "about": metric.interval.about}
    return st.Metric(
        name=metric.name,
        value=_finite(metric.value),
        per_seed=[_finite(value) for value in metric.per_seed],
        greater_is_better=metric.greater_is_better,
        signature=metric.signature,
        **interval,
    )


def _gate(gate: GateResult) -> st.Gate:
    return st.Gate(
        metric=gate.metric,
        part=gate.part,
        bound=gate.bound,
        limit=gate.limit,
        value=_finite(gate.value),
        verdict=gate.verdict,
        message=gate.message,
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
