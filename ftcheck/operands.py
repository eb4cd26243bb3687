"""What `ftcheck compare` takes: a results file, committed baselines, baselines at a git ref, a run of the store."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck import baselines, references, restoring
from ftcheck.errors import FtcheckError, StoreError, UsageError, shown
from ftcheck.evidence import Missing
from ftcheck.git import Commit
from ftcheck.results import Interval, MetricResult

if TYPE_CHECKING:
    from ftcheck.baselines import Baseline
    from ftcheck.metrics import Metric
    from ftcheck.references import Other
    from ftcheck.results import CaseResult
    from ftcheck.spec import Case
    from ftcheck.store import Store

GIT, RUN = "git:", "run:"
_KEY = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One case's result in one operand, on one kind of device."""

    name: tuple[str, ...]
    """Suite file (without the suffix) and case id; with the suite's folder before where it takes that to tell two
    apart. What cases are matched by."""
    folder: str
    device: str
    described: str
    values: Mapping[str, MetricResult]
    other: Other | None = None
    """The example statistics; None where there are none here: `why_not`."""
    why_not: str = ""
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    error: str = ""
    """Why the case was not measured."""

    def __str__(self) -> str:
        return "::".join(filter(None, self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """One side of a comparison as it was named on the command line."""

    name: str
    described: str
    sides: tuple[Side, ...]
    one_case: bool = False
    """Whether it was named as one case: others are not missed in it."""


def read(text: str, store: Store, here: Path) -> Operand:
    """What `text` names. Raises UsageError where it names nothing, or two things."""
    if text.startswith(GIT):
        return _at_ref(text, text.removeprefix(GIT), here)
    if text.startswith(RUN):
        found = _run(text, text.removeprefix(RUN), store)
        if found is None:
            raise UsageError(f"the store {store.root} has no case or predict key {shown(text.removeprefix(RUN))}")
        return found
    path = here / text
    if path.is_dir():
        return _folder(text, path)
    if path.is_file():
        return _file(text, path, store)
    run, commit = _run(text, text, store), _is_commit(text, here)
    if run is not None and commit:
        raise UsageError(f"{shown(text)} is a git ref and a run of the store: write {GIT}{text} or {RUN}{text}")
    if run is not None:
        return run
    if commit:
        return _at_ref(text, text, here)
    raise UsageError(
        f"{shown(text)} is none of: a results file (--ft-json), a {baselines.FOLDER} folder, a git ref, a case id or "
        f"the first 8 digits of a predict key in {store.root}"
    )


def results_sides(path: Path, store: Store) -> list[Side]:
    """The cases of a results file. Raises UsageError for a file that is none."""
    from ftcheck.report import jsonfile

    return [_of_result(result, store) for result in jsonfile.read(path)]


def _of_result(result: CaseResult, store: Store) -> Side:
    suite = Path(result.suite)
    side = Side(
        name=(suite.stem, result.case_id),
        folder=suite.parent.name,
        device=result.device.partition(":")[0],
        described=_runs(len(result.seeds)),
        values={metric.name: metric for metric in result.metrics},
        error=result.error,
    )
    if result.error:
        return side
    try:
        found = of_result(result, store, "the results file")
    except FtcheckError as error:
        return replace(side, why_not=str(error))
    return replace(side, other=found.other, metrics=found.metrics)


def in_results(case: Case, device: str, path: Path, store: Store) -> Other | Missing:
    """The result of `case` on this kind of device in a results file, as what its margins compare with. Raises
    UsageError for a file that is none, and StoreError where the result's predictions aren't in the store."""
    from ftcheck.report import jsonfile

    against = f"the results file {shown(path.name, 60)}"
    for result in jsonfile.read(path):
        same = (Path(result.suite).stem, result.case_id) == (case.suite.stem, case.id)
        if same and result.device.partition(":")[0] == device and result.runs:
            try:
                return replace(of_result(result, store, against).other, described=_runs(len(result.seeds)))
            except StoreError as error:
                raise StoreError(f"compared with {against}, which can't be: {error}") from None
    return Missing(verdict="new", why=f"{against} has no result of this case on {device}")


def _runs(count: int) -> str:
    return f"{count} runs" if count > 1 else "1 run"


def of_result(result: CaseResult, store: Store, against: str) -> restoring.Restored:
    """A result with its statistics out of the store. Raises StoreError where they aren't there."""
    keys = {run.seed: run.predict.key for run in result.runs}
    runs = [restoring.run(store, keys[seed]) for seed in result.seeds]  # a collapsed run may have been dropped
    names = [metric.name for metric in result.metrics]
    return restoring.restored(store, runs, names, against=against, folder=Path(result.suite).parent)


def _file(text: str, path: Path, store: Store) -> Operand:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown(text)} can't be read as JSON: {shown(error)}") from None
    if isinstance(found, dict) and "entries" in found:
        sides = tuple(_of_baseline(baselines.read(path.absolute())))
        return Operand(name=text, described="a baseline", sides=sides, one_case=True)
    return Operand(name=text, described="a results file", sides=tuple(results_sides(path, store)))


def _folder(text: str, path: Path) -> Operand:
    own = [path] if path.name == baselines.FOLDER else path.rglob(baselines.FOLDER)
    files = sorted(file.absolute() for folder in own for file in folder.glob("*/*.json"))
    if not files:
        raise UsageError(f"there are no baselines in {shown(text)}: a {baselines.FOLDER} folder was expected")
    sides = [side for file in files for side in _of_baseline(baselines.read(file))]
    return Operand(name=text, described="baselines", sides=tuple(sides))


def _is_commit(ref: str, here: Path) -> bool:
    try:
        Commit(ref=ref, folder=here).check()
    except FtcheckError:
        return False
    return True


def _at_ref(text: str, ref: str, here: Path) -> Operand:
    source = Commit(ref=ref, folder=here)
    try:
        source.check()
    except FtcheckError as error:
        raise UsageError(str(error)) from None
    files = [path for path in source.names() if is_baseline(path)]
    if not files:
        raise UsageError(f"no baselines are committed at {shown(ref)} below {here}")
    sides = [side for file in files for side in _of_baseline(baselines.read(file, source))]
    return Operand(name=text, described=f"baselines at {shown(ref, 60)}", sides=tuple(sides))


def is_baseline(path: Path) -> bool:
    """Whether a file is where baselines are kept."""
    return path.suffix == ".json" and path.parent.parent.name == baselines.FOLDER


def _of_baseline(baseline: Baseline) -> Iterable[Side]:
    path = baseline.path
    suite_folder = path.parent.parent.parent
    for device, entry in sorted(baseline.entries.items()):
        other = references.of_entry(baseline, entry, f"the baseline {baseline.source.shown(path)}")
        yield Side(
            name=(path.parent.name, path.stem),
            folder=suite_folder.name,
            device=device,
            described=str(entry.accepted),
            values={
                name: MetricResult(
                    name=name,
                    value=record.value,
                    per_seed=record.per_seed,
                    greater_is_better=record.greater_is_better,
                    signature=record.signature,
                    interval=None
                    if record.interval is None
                    else Interval(
                        low=record.interval[0],
                        high=record.interval[1],
                        confidence=0.95,
                        method="",
                        about="model" if entry.fixed or len(entry.seeds) == 1 else "recipe",
                    ),
                    examples=entry.examples,
                )
                for name, record in entry.metrics.items()
            },
            other=other,
            metrics=restoring.definitions(other, suite_folder),
        )


def _run(text: str, wanted: str, store: Store) -> Operand | None:
    """A run by its predict key's first digits, or a case's last one with all of its seeds; None where there is none.
    Raises UsageError where several begin so, or several suites have the case."""
    if _KEY.fullmatch(wanted):
        digests = [digest for digest in store.keys("predictions") if digest.startswith(wanted)]
        if len(digests) > 1:
            raise UsageError(f"{len(digests)} predict keys begin with {wanted} in {store.root}: give more digits")
        if digests:
            case = next((c for c in store.cases() for r in c.runs if r.keys["predict"].digest == digests[0]), None)
            name = (Path(case.suite).stem, case.case_id) if case else ("", digests[0][:12])
            run = restoring.run(store, digests[0])
            return _of_runs(text, name, Path(case.suite).parent if case else None, [run], store)
    cases = [case for case in store.cases() if wanted in (case.case_id, str(case)) or str(case).endswith(f"/{wanted}")]
    if len(cases) > 1:
        raise UsageError(f"several suites have a case {shown(wanted)}: name one of {', '.join(map(str, cases))}")
    if not cases:
        return None
    case = cases[0]
    try:
        runs = restoring.siblings(store, restoring.run(store, case.runs[-1].keys["predict"].digest))
    except StoreError as error:
        raise UsageError(f"the last run of {case} can't be compared: {error}") from None
    return _of_runs(text, (Path(case.suite).stem, case.case_id), Path(case.suite).parent, runs, store)


def _of_runs(
    text: str, name: tuple[str, ...], folder: Path | None, runs: list[restoring.StoredRun], store: Store
) -> Operand:
    found = restoring.restored(
        store, runs, restoring.metric_names(store, runs[0]), against=f"the run {shown(text, 60)}", folder=folder
    )
    described = f"{_runs(len(runs))} of the store"
    values = {}
    for metric_name, metric in found.metrics.items():
        each = tuple(float(metric.aggregate(rows.sum(axis=0))) for rows in found.other.arm.metrics[metric_name])
        values[metric_name] = MetricResult(
            name=metric_name,
            value=math.fsum(each) / len(each),
            per_seed=each,
            greater_is_better=metric.greater_is_better,
            signature=metric.signature,
            examples=len(found.other.arm.ids),
            scale=metric.scale,
        )
    side = Side(
        name=name,
        folder=folder.name if folder else "",
        device=str(runs[0].predict.components["device_type"]),
        described=described,
        values=values,
        other=found.other,
        metrics=found.metrics,
    )
    return Operand(name=text, described=described, sides=(side,), one_case=True)


def aligned(operands: Iterable[Operand]) -> list[Operand]:
    """The operands with names that tell all of their cases apart: with the suite's folder where some operand has two
    suite files of one name. Raises UsageError where that isn't enough."""
    found = list(operands)
    if not any(_repeated(operand.sides) for operand in found):
        return found
    longer = [
        replace(operand, sides=tuple(replace(side, name=(side.folder, *side.name)) for side in operand.sides))
        for operand in found
    ]
    for operand in longer:
        if again := _repeated(operand.sides):
            raise UsageError(f"{shown(operand.name)} has several cases {'::'.join(again)}: compare them one by one")
    return longer


def _repeated(sides: Iterable[Side]) -> tuple[str, ...]:
    counts = Counter((side.name, side.device) for side in sides)
    return next((name for (name, _), count in counts.items() if count > 1), ())
