"""What `ftcheck compare` and `--ft-compare` take: a results file, baselines on the disk or at a git ref, a run of the
store."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck import baselines, references, restoring, statistics
from ftcheck.errors import FtcheckError, StoreError, UsageError, shown
from ftcheck.evidence import Missing
from ftcheck.git import Commit
from ftcheck.named import Named, RunOfStore, find, in_folder, runs_text
from ftcheck.results import Interval, MetricResult

if TYPE_CHECKING:
    from ftcheck.baselines import Baseline
    from ftcheck.metrics import Metric
    from ftcheck.references import Other
    from ftcheck.results import CaseResult
    from ftcheck.spec import Case
    from ftcheck.store import Store


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
    """All that `text` names. Raises UsageError where it names nothing, or two things."""
    found = find(text, store, here)
    if found.run is not None:
        return _of_runs(text, found.run, store)
    if found.kind == "commit":
        return _at_ref(text, found.ref, here)
    if found.kind == "folder":
        sides = tuple(side for file in in_folder(found) for side in _of_baseline(baselines.read(file)))
        return Operand(name=text, described="baselines", sides=sides)
    if found.kind == "baseline":
        sides = tuple(_of_baseline(baselines.read(found.path.absolute())))
        return Operand(name=text, described="a baseline", sides=sides, one_case=True)
    return Operand(name=text, described="a results file", sides=tuple(results_sides(found.path, store)))


def other(text: str, case: Case, device: str, store: Store, here: Path) -> Other | Missing:
    """What `text` names as what the margins of `case` compare with: its own result there; of what is one case's, a
    baseline or a run, that one whatever the case is called.

    Raises UsageError where it names nothing, or two things; BaselineError and StoreError for what can't be read.
    """
    found = find(text, store, here, case.suite.parent)
    if found.run is not None:
        return _other_run(text, found.run, case, device, store)
    if found.kind == "commit":
        return references.at_commit(case, device, found.ref)
    if found.kind == "baseline":
        return references.at_path(found.path.absolute(), device, f"the baseline {shown(text, 60)}")
    if found.kind == "folder":
        return _other_in_folder(found, case, device)
    return _other_in_results(found.path, case, device, store)


def _other_run(text: str, found: RunOfStore, case: Case, device: str, store: Store) -> Other | Missing:
    against = f"the run {shown(text, 60)}"
    if found.device != device:
        return Missing(verdict="incomparable", why=f"{against} was made on {found.device}, this one on {device}")
    names = [gate.metric for gate in case.gates]
    try:
        restored = restoring.restored(store, found.runs, names, against=against, folder=case.suite.parent)
    except StoreError as error:
        raise StoreError(f"compared with {against}, which can't be: {error}") from None
    return replace(restored.other, described=found.described)


def _other_in_folder(found: Named, case: Case, device: str) -> Other | Missing:
    files = [path for path in in_folder(found) if (path.parent.name, path.stem) == (case.suite.stem, case.id)]
    if len(files) > 1:  # suites of one name, told apart by the folder they lie in
        files = [path for path in files if path.parent.parent.parent.name == case.suite.parent.name]
    if len(files) > 1:
        raise UsageError(f"{shown(found.text)} has several baselines of {case.id}: {', '.join(map(str, files))}")
    against = f"the baseline in {shown(found.text, 60)}"
    missing = found.path / case.suite.stem / f"{case.id}.json"
    return references.at_path(files[0] if files else missing, device, against)


def _other_in_results(path: Path, case: Case, device: str, store: Store) -> Other | Missing:
    from ftcheck.report import jsonfile

    against = f"the results file {shown(path.name, 60)}"
    for result in jsonfile.read(path):
        same = (Path(result.suite).stem, result.case_id) == (case.suite.stem, case.id)
        if same and result.device.partition(":")[0] == device and result.runs:
            try:
                return replace(of_result(result, store, against).other, described=runs_text(len(result.seeds)))
            except StoreError as error:
                raise StoreError(f"compared with {against}, which can't be: {error}") from None
    return Missing(verdict="new", why=f"{against} has no result of this case on {device}")


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
        described=runs_text(len(result.seeds)),
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


def of_result(result: CaseResult, store: Store, against: str) -> restoring.Restored:
    """A result with its statistics out of the store. Raises StoreError where they aren't there."""
    keys = {run.seed: run.predict.key for run in result.runs}
    runs = [restoring.run(store, keys[seed]) for seed in result.seeds]  # a collapsed run may have been dropped
    names = [metric.name for metric in result.metrics]
    return restoring.restored(store, runs, names, against=against, folder=Path(result.suite).parent)


def _at_ref(text: str, ref: str, here: Path) -> Operand:
    source = Commit(ref=ref, folder=here)
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


def _of_runs(text: str, made: RunOfStore, store: Store) -> Operand:
    folder, runs = made.suite.parent if made.suite else None, made.runs
    found = restoring.restored(
        store, runs, restoring.metric_names(store, runs[0]), against=f"the run {shown(text, 60)}", folder=folder
    )
    values = {}
    for metric_name, metric in found.metrics.items():
        each = tuple(statistics.value(rows, metric.aggregate) for rows in found.other.arm.metrics[metric_name])
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
        name=(made.suite.stem if made.suite else "", made.name),
        folder=folder.name if folder else "",
        device=made.device,
        described=made.described,
        values=values,
        other=found.other,
        metrics=found.metrics,
    )
    return Operand(name=text, described=made.described, sides=(side,), one_case=True)


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
