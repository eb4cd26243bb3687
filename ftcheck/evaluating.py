"""`ftcheck.evaluate`: one case measured and judged without pytest, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from types import FunctionType
from typing import TYPE_CHECKING, Any
from weakref import finalize

from ftcheck import options
from ftcheck.errors import FtcheckError, UsageError, one_of, shown
from ftcheck.finetuned import Finetuned
from ftcheck.spec import Case, Declaration, expand, link

if TYPE_CHECKING:
    import os

    import pandas

    from ftcheck.devices import Device
    from ftcheck.pipeline import Pipeline
    from ftcheck.results import Verdict
    from ftcheck.settings import CacheMode, Settings
    from ftcheck.store import Store

NOTEBOOK = "notebook"
"""The suite of what is declared in no file, in the working directory."""


class Evaluation(Finetuned):
    """A judged case: what the `finetuned` fixture is to a test, and a report of itself where it is displayed."""

    @property
    def verdict(self) -> Verdict:
        """`pass`, `fail`, `inconclusive`, `new`, `incomparable`; `smoke` with a limit."""
        return self.result.verdict

    def dataframe(self) -> pandas.DataFrame:
        """A row per metric, with the columns of `ftcheck.load_results`."""
        from ftcheck.report.rows import frame

        return frame([self.result])

    def __repr__(self) -> str:
        from ftcheck.report.terminal import summary

        return f"<Evaluation {summary(self.result)}>"

    def _repr_html_(self) -> str:
        from ftcheck.report import notebook

        return notebook.html(self.result)

    def _repr_markdown_(self) -> str:
        from ftcheck.report import notebook

        return notebook.markdown(self.result)


def evaluate(
    case: str | Case | Mapping[str, Any] | Callable[..., Any],
    *,
    name: str = "case",
    device: str | None = None,
    cache: CacheMode | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    seeds: int | None = None,
    limit: int | None = None,
    offline: bool | None = None,
    allow_remote_code: bool = False,
    compare: str | None = None,
    remote: str | None = None,
    vendor: str | os.PathLike[str] | None = None,
) -> Evaluation:
    """Measure and judge one case: train what isn't in the run store, exactly as pytest would. Progress goes to stderr.

    `case` is `"suites/intents.ft.yaml::banking77"`, a function under `@ftcheck.case`, the same fields as a mapping
    (called `name`; local paths and baselines are relative to the working directory), or a Case. The others are the
    options `--ft-device`, `--ft-cache`, ...; what is None is taken from the environment (`FTCHECK_DEVICE`, ...).

    A verdict is returned, never raised. Raises FtcheckError for whatever keeps the case from being measured:
    SuiteErrors with all that is wrong with it, UsageError, DataError, CheckpointError, TrainingError and others.
    """
    given = {
        **{"device": device, "cache": cache, "cache_dir": cache_dir, "seeds": seeds, "limit": limit},
        **{"offline": offline, "allow_remote_code": allow_remote_code, "compare": compare},
        **{"remote": remote, "remote_readonly": None, "remote_patience": None, "vendor": vendor},
    }
    try:
        settings = options.of_call(given)
        chosen, others = _declared(case, name)
        return _evaluated(chosen, others, settings)
    except FtcheckError as error:
        raise error.with_traceback(None) from None


def pipeline_in(root: Path, settings: Settings, device: Device, share: Path | None = None) -> Pipeline:
    """The pipeline whose store is at `root`, with the remote and the vendored folder of the settings. `share` is a
    folder of all processes that are to mean the same commits by names on the Hub. Raises UsageError and DataError for
    a folder that isn't what `ftcheck vendor` wrote, MissingExtraError."""
    from ftcheck import executors, privacy
    from ftcheck.keys import Identifier
    from ftcheck.pipeline import Pipeline

    privacy.begin()
    if settings.vendor is not None:
        from ftcheck import vendoring

        vendoring.use(Path(settings.vendor), root / "memo")
        settings = replace(settings, offline=True)
    return Pipeline(
        settings=settings,
        store=_store(root, settings),
        identifier=Identifier(root / "memo", offline=settings.offline, share=share),
        device=device,
        executor=executors.of(settings, device, root),
    )


def _store(root: Path, settings: Settings) -> Store:
    from ftcheck.store import Store

    if settings.remote is None or settings.cache == "off":
        return Store(root)
    from ftcheck.store import MirroredStore, Remote

    return MirroredStore(
        root,
        Remote(settings.remote, patience=settings.remote_patience),
        readonly=settings.remote_readonly,
        replace=settings.cache == "refresh",
    )


def _evaluated(case: Case, others: Mapping[str, Case], settings: Settings) -> Evaluation:
    from ftcheck.devices import resolve
    from ftcheck.report.aside import Aside
    from ftcheck.store import default_cache_dir

    device = resolve(settings.device)
    temporary = mkdtemp(prefix="ftcheck-") if settings.cache == "off" else None
    pipeline = pipeline_in(Path(temporary or settings.cache_dir or default_cache_dir()), settings, device)
    if temporary:  # lasts as long as the evaluation: its entries know their store
        finalize(pipeline.store, rmtree, temporary, ignore_errors=True)
    try:
        pipeline.begin(case)
        with Aside(case.id).showing() as aside:
            measured = pipeline.measure(
                case, f"{case.suite.name}::{case.id}", aside.progress, aside.waiting, peers=others.get
            )
    finally:
        pipeline.executor.close()
    if case.keep_model != "all":
        pipeline.drop_models(measured, case)
        found = (run.trained and pipeline.store.get("runs", run.run.train.digest) for run in measured.runs)
        runs = tuple(replace(run, trained=trained) for run, trained in zip(measured.runs, found, strict=True))
        measured = replace(measured, runs=runs)
    pipeline.store.close()
    result = replace(measured.result, notes=(*measured.result.notes, *pipeline.warnings()))
    return Evaluation(replace(measured, result=result), pipeline.store)


def _declared(case: object, name: str) -> tuple[Case, Mapping[str, Case]]:
    """(the case, those of its file by id). Raises SuiteErrors, UsageError."""
    if isinstance(case, Case):
        return case, {}
    if isinstance(case, str):
        return _of_file(case)
    declared = getattr(case, "__ftcheck__", None)
    if isinstance(case, FunctionType) and declared is not None:
        written = Path(case.__code__.co_filename)
        path = written if written.is_file() else Path.cwd() / NOTEBOOK
        cases = _expanded([Declaration.of_function(case.__name__, path, declared[1], declared[0])])
    elif isinstance(case, Mapping):
        cases = _expanded([Declaration.of_function(name, Path.cwd() / NOTEBOOK, 0, case)])
    else:
        raise UsageError(
            f"evaluate takes 'SUITE.ft.yaml::CASE', a function under @ftcheck.case, a mapping of a case's fields or a "
            f"Case, not {shown(repr(case))}"
        )
    return _only(cases, "its matrix"), {found.id: found for found in cases}


def _of_file(node: str) -> tuple[Case, Mapping[str, Case]]:
    """The case that `SUITE.ft.yaml::CASE` names, by its id or, as pytest writes it, `NAME[PARAMETERS]`."""
    from ftcheck import suitefile

    path, _, wanted = node.partition("::")
    if not path.endswith(suitefile.SUFFIX):
        raise UsageError(
            f"{shown(path)} is no *{suitefile.SUFFIX} file; of a Python suite, import the function and hand it over"
        )
    cases = _expanded(suitefile.read(Path(path).absolute()))
    names = {case.id: case for case in cases}
    if wanted in names:
        return names[wanted], names
    found = [case for case in cases if wanted in ("", case.name, f"{case.name}[{'-'.join(case.parameters)}]")]
    if not found:
        raise UsageError(f"{shown(path)} has no case {shown(wanted)}; {one_of(wanted, names)}")
    return _only(found, shown(node)), names


def _only(cases: Sequence[Case], what: str) -> Case:
    if len(cases) > 1:
        ids = ", ".join(case.id for case in cases[:10])
        raise UsageError(f"{what} stands for {len(cases)} cases, and evaluate takes one: {ids}")
    return cases[0]


def _expanded(declarations: Sequence[Declaration]) -> Sequence[Case]:
    from ftcheck import catalogue

    return link(expand(declarations, catalogue.installed()), catalogue.installed())
