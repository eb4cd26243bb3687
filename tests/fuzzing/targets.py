"""What is read that somebody else may have written, each kind as a function of a file's bytes that either returns or
raises an error of ftcheck's own; and whole documents to begin with.

`test_fuzzing.py` feeds them mutations for seconds, `benchmarks/fuzz.py` for as long as one likes, guided by coverage.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing, redirect_stdout, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from blake3 import blake3

from ftcheck import (
    baselines,
    bisecting,
    catalogue,
    comparing,
    keys,
    operands,
    putback,
    ranking,
    recipes,
    references,
    suitefile,
)
from ftcheck.cli.history import history as show_history
from ftcheck.errors import FtcheckError, HistoryError
from ftcheck.finetune import Job
from ftcheck.history import History, Judged, Session, database
from ftcheck.keys.canonical import canonical
from ftcheck.report import comparison, html, jsonfile, markdown, rows, terminal
from ftcheck.spec import Case, Checkpoint, Data, EarlyStopping, expand
from ftcheck.store import Store, cases
from ftcheck.store.entry import checked_manifest
from tests.report import results
from tests.report.charts.test_figures import whole

PLACE = Path(__file__).parents[2] / "suites" / "quick" / "a.ft.yaml"
SEPARATOR = b"\n\0npz\0"
"""Between a baseline's JSON and its statistics, which are two files."""


@dataclass(frozen=True)
class Target:
    """A reader, and documents that it reads without an error."""

    read: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]

    def __call__(self, content: bytes) -> None:
        """Read; an error of ftcheck's own is an answer."""
        with suppress(FtcheckError):
            self.read(content)


@cache
def installed() -> catalogue.Installed:
    return catalogue.Installed()


def read_suite(content: bytes) -> object:
    return list(expand(suitefile.parse(content, PLACE), installed()))


EVERYTHING = f"""
defaults: {{task: text-classification, seeds: 3, precision: fp32, timeout: 30min, keep_model: first}}
cases:
  together:
    checkpoint: {{path: org/model, revision: main, tokenizer: org/words, trust_remote_code: {{revision: {"0f" * 20}}}}}
    data: {{path: org/data, streaming: true, shuffle_buffer: 100, columns: {{text: sentence}}, limit: {{eval: 10}}}}
    training: {{max_steps: 100, learning_rate: 1.0e-4}}
    resources: {{gpus: 4, nodes: 2, memory: 8GB, cpus: 2}}
    dropout: fast
    attention: eager
    vs: git:main
    cluster: customer
    gates: {{accuracy: {{min: 0.5, max_regression: 2%, max_drift: 0.1, fail: proven, slices: {{by: length}}}}}}
  alone:
    checkpoint: org/model
    data: {{path: org/data, splits: {{tune: "train[:10%]"}}, holdout: {{eval: 0.2}}}}
    training: {{num_train_epochs: 2, eval_strategy: epoch, save_strategy: epoch, load_best_model_at_end: true}}
    early_stopping: {{patience: 2}}
    on_oom: halve_batch
    peft: {{method: lora, r: 4}}
    max_seeds: 9
    matrix: {{training.learning_rate: [1e-5, 1e-4], exclude: [{{training.learning_rate: 1e-5}}]}}
    gates: {{train_seconds: {{max: 60}}}}
"""
"""What the suites that ship don't say, so that nothing has to be guessed."""


def suites() -> list[bytes]:
    """The suites that ship, and one that says what they don't."""
    found = sorted((Path(__file__).parents[2] / "suites").rglob(f"*{suitefile.SUFFIX}"))
    return [EVERYTHING.encode(), *(path.read_bytes() for path in found)]


@dataclass(frozen=True)
class Memory:
    """A baseline's two files, whatever they are called."""

    document: bytes
    statistics: bytes

    def read(self, path: Path) -> bytes | None:
        return self.document if path.suffix == ".json" else self.statistics

    def shown(self, path: Path) -> str:
        return path.name


def read_baseline(content: bytes) -> object:
    """Both files, and what a comparison takes of them."""
    with suppress(FtcheckError):
        baselines.read(Path("a.json"), Memory(*content.partition(SEPARATOR)[::2]))
    found = baseline_of(content)
    for entry in found.entries.values():
        with suppress(FtcheckError):
            references.of_entry(found, entry, "the baseline")
        baselines.successor(entry, entry)
    return baselines.dumped(found.entries, "a")


def baseline_of(content: bytes) -> baselines.Baseline:
    """The baseline in both files, with the checksums and the digest of its statistics that would be right: fuzzing
    finds neither."""
    document, _, statistics = content.partition(SEPARATOR)
    place = Path("suites", baselines.FOLDER, "a.ft", "a.json")
    found = baselines.read(place, Memory(unsealed(document), statistics))
    digest = blake3(statistics).hexdigest()
    return replace(found, entries={name: replace(entry, digest=digest) for name, entry in found.entries.items()})


def unsealed(document: bytes) -> bytes:
    """A baseline's JSON without the checksums of its entries, which are read like any. As it is where it is none."""
    try:
        found = json.loads(document)
        for entry in found["entries"].values():
            entry.pop("checksum", None)
        return json.dumps(found).encode()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return document


def accepted_case() -> Case:
    """What was accepted."""
    return Case(
        id="a",
        suite=PLACE,
        line=1,
        checkpoint=Checkpoint(path=str(PLACE.parent / "model"), local=True, tokenizer="org/words"),
        task="text-classification",
        task_options={"max_length": 128},
        data=Data(
            kind="reader",
            path="csv",
            files={"train": (str(PLACE.parent / "train.csv"),)},
            columns={"text": "sentence"},
            splits={"eval": "test"},
            holdout={"eval": 0.2},
            limit={"train": 50},
            options={"delimiter": ";"},
        ),
        training={"learning_rate": 1e-4},
        early_stopping=EarlyStopping(patience=2),
        techniques={"freeze": {"patterns": "base"}},
        precision="fp32",
    )


COMPONENTS: Mapping[str, Any] = {
    "train": {
        "task": {"name": "text-classification", "options": {"max_length": 128}},
        "seed": 42,
        "training": {"learning_rate": 1e-4},
        "precision": "fp32",
        "early_stopping": {"patience": 2, "threshold": 0.0},
        "techniques": {"freeze": {"patterns": "base"}},
        "checkpoint": {"files": {"model.safetensors": "a" * 64}},
        "tokenizer": {"files": {"tokenizer.json": "a" * 64}},
        "data": {
            "rows": {"train": [{"blake3": "b" * 64, "suffix": ".csv"}]},
            "files": {"a.csv": "c" * 64},
            "limit": 50,
        },
    },
    "predict": {"limit": None, "data": {"rows": {"test": [{"blake3": "d" * 64}]}}, "evaluation": {}},
}
"""Of the keys, where `ftcheck bisect` looks."""


def committed() -> list[bytes]:
    """A baseline as --ft-update writes it, with all that may be in one."""
    statistics = baselines.Statistics(
        ids=np.arange(64, dtype=np.uint8).reshape(4, 16),
        metrics={"accuracy": np.array([[[1.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]]])},
        rows=np.arange(8, dtype=np.uint8).reshape(2, 4),
    ).dump()
    accepted = baselines.Accepted(date="2026-11-02T10:00:00+00:00", author="Ada", commit="a1b2c3d", reason="first")
    power = baselines.Power(runs=1, provable=0.1, detectable=0.2, value=0.75, s2=0.1, d=0.1, prior_sd=0.01, by="label")
    entry = baselines.Entry(
        device="cpu",
        accepted=accepted,
        metrics={
            "accuracy": baselines.MetricRecord(
                value=0.75, per_seed=(0.75,), signature="accuracy|1", greater_is_better=True, interval=(0.5, 0.9)
            )
        },
        seeds=(42,),
        examples=4,
        fixed=False,
        components=COMPONENTS,
        keys={"train": ("a" * 64,), "predict": ("b" * 64,)},
        statistics="a.cpu.npz",
        digest=blake3(statistics).hexdigest(),
        labels=("lost", "stolen"),
        environment={"torch": "2.13.0", "threads": 1},
        trace=((0.7, 0.6),),
        calibration={"accuracy": baselines.Noise(runs=5, s2=0.001, d=0.002, examples="c" * 64, signature="accuracy|1")},
        power={"accuracy": power},
        weakest={"accuracy": power},
        recipe=recipes.recorded(Job(case=accepted_case(), seed=42, device="cpu", precision="fp32")),
    )
    past = {"accepted": asdict(accepted), "metrics": {"accuracy": 0.7}}
    whole = replace(entry, anchor=replace(entry, calibration={}), history=(past,))
    return [baselines.dumped({"cpu": found}, "a") + SEPARATOR + statistics for found in (entry, whole)]


def read_results(content: bytes) -> object:
    """A results file, and what `ftcheck report` makes of it."""
    found = jsonfile.parse(content, Path("results.json"))
    lines = terminal.table(found.results, width=100, details=True)
    page = markdown.page(found.results, complete=found.complete, missing=found.missing)
    html.page(found)
    return lines, page, list(rows.rows(found.results)), [jsonfile.line(result) for result in found.results]


def results_files() -> list[bytes]:
    """Files of --ft-json: of one case, and of two."""
    one = jsonfile.line(whole())
    head = {"schema": 2, "ftcheck": "1", "created": "2026-11-02T10:00:00+00:00", "complete": True, "missing": []}
    return [
        json.dumps({**head, "results": [json.loads(line) for line in lines]}).encode()
        for lines in (
            [one],
            [one, jsonfile.line(results.case(case_id="other", verdict="error", error="no such column", metrics=()))],
        )
    ]


def read_manifest(content: bytes) -> object:
    """A manifest as it is, and again with the checksum and the key that would be right: fuzzing finds neither. What
    else of the store is JSON is read, too."""
    with suppress(FtcheckError):
        checked_manifest(content, "runs", "0" * 64)
    cases.parse(content)
    return checked_manifest(*forged(content))


def forged(content: bytes) -> tuple[bytes, Any, str]:
    """`content` with the checksum that it should have; its stage and its key. As it is where it is no such JSON."""
    try:
        found = json.loads(content)
        digest = hashlib.sha256(canonical(found["components"])).hexdigest()
        body = {name: value for name, value in found.items() if name != "checksum"} | {"key": digest}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
        whole = {**body, "checksum": blake3(text.encode("ascii")).hexdigest()}
        return json.dumps(whole).encode(), body.get("stage"), digest
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, FtcheckError):
        return content, "runs", "0" * 64


def manifests() -> list[bytes]:
    body: dict[str, Any] = {
        "format": 1,
        "stage": "runs",
        "components": {"stage": "train", "seed": 42, "task": {"name": "text-classification", "options": {}}},
        "created": "2026-11-02T10:00:00+00:00",
        "files": {
            "model/model.safetensors": {"size": 700, "blake3": "a" * 64},
            "train_rows.npz": {"size": 12, "blake3": "b" * 64},
        },
        "content": {"costs": {"train_seconds": 41.0}, "notes": ["12 rows were cut"], "first_losses": [0.7, 0.6]},
    }
    history = {"format": 1, "suite": "a.ft.yaml", "case": "a", "runs": [{"created": "x", "keys": {"train": {"a": 1}}}]}
    pruned = {**body, "pruned": ["model/"]}
    return [forged(json.dumps(found).encode())[0] for found in (body, pruned, {**body, **history})]


def read_history(content: bytes) -> object:
    """A history's file, or a document of its tables; all that `ftcheck history` shows of it, and a session that goes on
    with it."""
    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()) as out:
        path = Path(folder, "history.sqlite")
        if content.startswith(b"SQLite"):
            path.write_bytes(content)
        elif not filled(path, content):
            return None
        found = History(path)
        with suppress(FtcheckError):
            show_history(file=path)
        with suppress(FtcheckError):
            for known in found.known()[:3]:
                for as_json, csv in ((False, False), (True, False), (False, True)):
                    with suppress(FtcheckError):
                        show_history(str(known), file=path, limit=20, as_json=as_json, csv=csv)
        return found.append(SESSION, [Judged(suite="a.ft.yaml", result=whole())], 5), out.getvalue()


def filled(path: Path, content: bytes) -> bool:
    """Whether a history could be made of a document: table -> rows. SQLite takes any kind of value in most columns."""
    try:
        tables = json.loads(content)
        with database.opened(path, writes=True) as connection:
            for name in ("sessions", "cases", "environments", "results", "metrics"):
                for row in tables[name]:
                    connection.execute(f"INSERT INTO {name} VALUES ({', '.join('?' * len(row))})", row)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError, HistoryError):
        return False
    return True


def histories() -> list[bytes]:
    """A history as a file, and as a document of its tables."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "history.sqlite")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA page_size = 512")  # a small file
            connection.execute("VACUUM")
        for value in (0.8, 0.9):
            judged = results.case(metrics=(results.metric("accuracy", value),), gates=(), runs=(results.run(),))
            History(path).append(SESSION, [Judged(suite="a.ft.yaml", result=judged)], 5)
        tables = {}
        with database.opened(path, writes=False) as connection:
            for name in ("sessions", "cases", "environments", "results", "metrics"):
                tables[name] = connection.execute(f"SELECT * FROM {name}").fetchall()
        return [path.read_bytes(), json.dumps(tables).encode()]


SESSION = Session(time=datetime(2026, 11, 2, tzinfo=UTC), ftcheck="0.1.0", commit="a1b2c3d", branch="main")


def compare_with(content: bytes) -> object:
    """A results file, or a baseline with its statistics, before and after one that is whole; and the three of them."""
    other = operand_of((committed() if SEPARATOR in content else results_files())[0])
    given = operand_of(content)
    for pair in ((given, other), (other, given)):
        with suppress(FtcheckError):
            compared = comparing.compare(*operands.aligned(pair), tests=True)
            compared.failed(strict=True)
            for form in FORMS:
                comparison.of_two(compared, form)
        with suppress(FtcheckError):
            comparing.compare(*operands.aligned(pair), fail_on=[comparing.FailOn.parse("accuracy:-2%")])
    found = operands.aligned((given, other, given))
    ranked = ranking.rank(found, only=())
    return [comparison.of_many(found, ranked, form) for form in FORMS]


FORMS: tuple[comparison.Format, ...] = ("text", "markdown", "json", "csv")


def operand_of(content: bytes) -> operands.Operand:
    """As `ftcheck compare` has it."""
    if SEPARATOR in content:
        return operands.Operand(name="a", described="", sides=tuple(operands._of_baseline(baseline_of(content))))
    with TemporaryDirectory() as folder:
        path = Path(folder, "results.json")
        path.write_bytes(content)
        return operands.read(str(path), Store(Path(folder, "store")), Path(folder))


def to_compare() -> list[bytes]:
    return [*results_files(), *committed()]


def put_back(content: bytes) -> object:
    """A baseline, with all that `ftcheck bisect` would put back of it into a case that is another."""
    now = replace(accepted_case(), training={"num_train_epochs": 2.0}, techniques={}, early_stopping=None)
    made = []
    with TemporaryDirectory() as folder:
        past = putback.Past(commit="", suite=Path(folder, "a.ft.yaml"), folder=Path(folder, "scratch"))
        for entry in baseline_of(content).entries.values():
            pairs = zip(bisecting._whole(entry.components), bisecting._whole(COMPONENTS), strict=True)
            changes = [change for old, new in pairs for change in keys.diff(old, new)]
            for name in dict.fromkeys([*(putback.cause_of(change.path) for change in changes), *CAUSES]):
                with suppress(FtcheckError):
                    case = putback.put_back(name, entry, past)(now)
                    made.append(recipes.recorded(Job(case=case, seed=42, device="cpu", precision="fp32")))
    return made


CAUSES = (
    *("checkpoint", "precision", "early_stopping", "training", "training.learning_rate", "techniques.freeze"),
    *("task.max_length", "data.rows.train", "data.limit", "data.columns", "data.commit", "data.files"),
)


TARGETS: Mapping[str, Target] = {
    "suites": Target(read_suite, suites),
    "baselines": Target(read_baseline, committed),
    "results": Target(read_results, results_files),
    "manifests": Target(read_manifest, manifests),
    "history": Target(read_history, histories),
    "compare": Target(compare_with, to_compare),
    "bisect": Target(put_back, committed),
}
