"""Baselines looked after outside of a pytest session: what changed, results accepted from a file, unused ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ftcheck import baselines, gates, metrics, proposals, updating
from ftcheck.errors import BaselineError, FtcheckError, UsageError, shown
from ftcheck.git import Commit
from ftcheck.report import numbers
from ftcheck.results import CaseResult, Interval, MetricResult

if TYPE_CHECKING:
    from ftcheck.baselines import Entry, MetricRecord
    from ftcheck.spec import Case
    from ftcheck.store import Store

_MARGINS = ("max_regression", "max_gain", "max_drift")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """One case's baseline on one kind of device, at a commit and in the working tree."""

    path: Path
    device: str
    old: Entry | None
    new: Entry | None

    def lines(self, here: Path) -> Iterator[str]:
        """What a reviewer reads: each metric's old and new value, who accepted it and why."""
        known = self.new or self.old
        assert known is not None
        what = "" if self.old and self.new else ": new" if self.new else ": removed"
        yield f"{os.path.relpath(self.path, here)} ({self.device}){what}"
        before, after = (side.metrics if side else {} for side in (self.old, self.new))
        for name in sorted({*before, *after}):
            old, new = before.get(name), after.get(name)
            if old == new:
                continue
            values = [numbers.value(_metric(name, side)) if side else "none" for side in (old, new)]
            said = f"  {shown(name, 60)} {values[0]} → {values[1]}"
            if old and new:
                delta = new.value - old.value
                worse = delta < 0 if new.greater_is_better else delta > 0
                said += f" ({numbers.difference(_metric(name, new), delta)}{', worse' if worse else ''})"
                if old.signature != new.signature:
                    said += f", defined otherwise ({shown(old.signature)} → {shown(new.signature)})"
            yield said
        yield f"  {known.accepted}"


def _metric(name: str, record: MetricRecord) -> MetricResult:
    """An accepted value as reports show one."""
    interval = None
    if record.interval is not None:
        low, high = record.interval
        interval = Interval(low=low, high=high, confidence=0.95, method="", about="recipe")
    known = next((known for known in metrics.every() if known.name == metrics.parse(name)[0]), None)
    return MetricResult(
        name=name,
        value=record.value,
        per_seed=record.per_seed,
        greater_is_better=record.greater_is_better,
        signature=record.signature,
        interval=interval,
        scale="proportion" if known is not None and known.bounds == (0.0, 1.0) else "unbounded",
    )


def changed(paths: Sequence[Path], ref: str, here: Path) -> list[Changed]:
    """The baselines below `paths` that differ between the commit `ref` and the working tree. Raises UsageError for no
    such commit, BaselineError for a file that is no baseline."""
    source = Commit(ref=ref, folder=here)
    try:
        source.check()
    except BaselineError as error:
        raise UsageError(str(error)) from None
    then = {path for path in source.names() if _kept_below(path, paths)}
    now = {path for place in paths for path in _files(place)}
    found = []
    for path in sorted(then | now):
        old = baselines.read(path, source).entries if path in then else {}
        new = baselines.read(path).entries if path in now else {}
        for device in sorted({*old, *new}):
            if old.get(device) != new.get(device):
                found.append(Changed(path=path, device=device, old=old.get(device), new=new.get(device)))
    return found


def _kept_below(path: Path, places: Sequence[Path]) -> bool:
    is_one = path.suffix == ".json" and path.parent.parent.name == baselines.FOLDER
    return is_one and any(path.is_relative_to(place) for place in places)


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    for folder in _folders(place):
        yield from folder.glob("*/*.json")


def named(places: Sequence[Path]) -> frozenset[str]:
    """The digests of all keys that baselines at or below `places` name, the first accepted results' too. Raises
    BaselineError for a file that is no baseline: who knows what it names."""
    found: set[str] = set()
    for path in {path for place in places for path in _files(place)}:
        for entry in baselines.read(path).entries.values():
            for accepted in (entry, entry.first):
                found.update(digest for digests in accepted.keys.values() for digest in digests)
    return frozenset(found)


def _folders(place: Path) -> Iterator[Path]:
    """The folders of baselines at or below a place, or around it."""
    if baselines.FOLDER in (place.name, place.parent.name):
        yield place if place.name == baselines.FOLDER else place.parent
    else:
        yield from place.rglob(baselines.FOLDER)


def accept(results: Sequence[CaseResult], store: Store, *, reason: str, here: Path) -> list[CaseResult]:
    """Make results the baselines of their cases, by the rules of --ft-update; `update` of each returned one says what
    became of it. Statistics come from the store. Raises BaselineError where one can't be written."""
    settled = []
    for result in results:
        try:
            done, proposal = _settled(result, store, reason=reason, here=here)
        except BaselineError:
            raise
        except FtcheckError as error:
            done, proposal = replace(result, update=f"not written: {error}"), None
        if proposal is not None:
            baselines.write(proposal.path, proposal.entry, proposal.statistics)
        settled.append(done)
    return settled


def _settled(
    result: CaseResult, store: Store, *, reason: str, here: Path
) -> tuple[CaseResult, proposals.Proposal | None]:
    from ftcheck import operands

    if result.error or result.verdict in ("error", "skipped", "smoke"):
        what = "a smoke run" if result.verdict == "smoke" else "it was not judged"
        return replace(result, update=f"not written: {what}"), None
    if result.verdict == "fail" and gates.verdict(result.gates) != "fail":
        return replace(result, update="not written: the test failed"), None
    suite = _suite(result, here)
    found = operands.of_result(result, store, "the results file")
    values = {metric.name: metric for metric in result.metrics}
    for metric in result.metrics:
        now = found.other.arm.signatures.get(metric.name, metric.name)
        if now != metric.signature:  # a cost's is its name
            raise UsageError(f"{shown(metric.name)} is not defined here as it was then: run the suite again")
    proposal = proposals.propose(
        suite, result.case_id, result.device.partition(":")[0], found.other, values, reason=reason
    )
    rules = proposals.Rules(
        gated={gate.metric for gate in result.gates if gate.bound in _MARGINS},
        against_baseline=any(other.against == "the baseline" for other in result.references),
        ask="give --reason",
    )
    return proposals.settled(result, proposal, rules)


def _suite(result: CaseResult, here: Path) -> Path:
    """The suite file: as the node id says it from `here`, so that a file from another working tree or machine is
    accepted into this one; else where it was."""
    for path in (here / result.nodeid.partition("::")[0], Path(result.suite)):
        if path.is_file():
            return path
    raise UsageError(f"its suite {shown(result.suite, 300)} isn't here")


def unused(cases: Mapping[tuple[Path, str], Case], paths: Sequence[Path], here: Path) -> list[Path]:
    """Baselines below `paths` that no collected case has, absolute."""
    folders = {folder for path in paths for folder in _folders(path)}
    return sorted(here / name for name in updating.unused(cases, here, besides=folders))
