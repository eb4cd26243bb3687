"""What a certificate says, to and from JSON. Whatever is read here may be forged: sizes are capped, names are checked,
and nothing that stands in it is ever opened."""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ftcheck import plainfiles
from ftcheck.errors import UsageError, shown

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "urn:ftcheck:certificate:v1"
LARGEST: Final = 16 * 1024 * 1024
"""Bytes of a certificate that is read. A model of a thousand shards needs 200 kB."""


def _relative(name: str) -> str:
    parts = name.split("/")
    if "\\" in name or "\0" in name or re.match("[A-Za-z]:", name) or any(part in ("", ".", "..") for part in parts):
        raise ValueError("is no path within a folder")
    return name


FileName = Annotated[str, Field(max_length=4096), AfterValidator(_relative)]
"""Relative to the model's folder, with `/`."""


class _Part(BaseModel):
    """Fields that a later version adds are passed over, as in-toto asks of whoever reads statements."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Digest(_Part):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class File(_Part):
    """A file by name and content."""

    name: FileName
    digest: Digest


class Suite(_Part):
    """What judged the model."""

    name: str = Field(description="The suite file, relative to pytest's root directory.")
    digest: Digest
    case: str
    task: str


class Model(_Part):
    """The run whose files the subject lists."""

    seed: int
    form: Literal["model", "adapter", "checkpoint"] = Field(
        description="A fine-tuned model, an adapter beside its checkpoint, or a checkpoint that was judged as it is."
    )
    checkpoint: str = Field(description="What was fine-tuned: a Hub id, or a local folder's name.")
    answered_through: dict[str, Any] = Field(
        default_factory=dict,
        description="Techniques that made of these files what answered (merging, quantization, an export).",
    )


class Run(_Part):
    """The keys of one run: the SHA-256 of everything that its model, and its predictions, depend on."""

    seed: int
    train: str
    predict: str


class Rows(_Part):
    count: int
    digest: str = Field(description="Of the rows' own hashes, in order.")


class Metric(_Part):
    name: str
    value: float | None = Field(description="The mean over the runs; null where it is not finite.")
    per_seed: list[float | None]
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    about: Literal["recipe", "model"] | None = Field(default=None, description="What the interval speaks of.")
    greater_is_better: bool
    signature: str = Field(description="The metric's definition.")


class Gate(_Part):
    metric: str
    part: str = Field(description="The part of the rows that it is about; empty: all of them.")
    bound: str
    limit: float
    value: float | None
    verdict: str
    message: str


class Baseline(_Part):
    """What margins compared with."""

    described: list[str]
    digest: Digest | None = Field(default=None, description="Of the committed baseline, where that is what it was.")


class Environment(_Part):
    device: str
    precision: str
    libraries: dict[str, str]
    machine: dict[str, Any] = Field(default_factory=dict, description="Where the model was trained.")


class Predicate(_Part):
    """How the subject was judged."""

    ftcheck: str = Field(description="The version that issued the certificate.")
    created: str = Field(description="UTC, ISO 8601.")
    verdict: str
    allowed: bool = Field(description="Whether it was issued in spite of its verdict (--allow-verdict).")
    suite: Suite
    model: Model
    runs: list[Run] = Field(description="All that the verdict rests on.")
    rows: dict[str, Rows] = Field(description="Role (train, tune, eval) -> its rows.")
    inputs: dict[str, Any] = Field(description="The named components of the certified run's keys.")
    baseline: Baseline | None = None
    environment: Environment
    metrics: list[Metric]
    gates: list[Gate]
    notes: list[str] = Field(default_factory=list)


class Statement(_Part):
    """An in-toto Statement about the files of one model."""

    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: list[File] = Field(min_length=1, max_length=100_000)
    predicate_type: Literal["urn:ftcheck:certificate:v1"] = Field(alias="predicateType")
    predicate: Predicate

    def to_bytes(self) -> bytes:
        """As JSON with sorted keys."""
        document = self.model_dump(mode="json", by_alias=True)
        return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def parse(content: bytes, where: str) -> Statement:
    """The statement in `content`. Raises UsageError for what is none, or names a file outside of its folder."""
    found = document(content, where)
    try:
        statement = Statement.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UsageError(f"{where} is no certificate: {shown(place)}: {shown(first['msg'])}") from None
    names = [file.name for file in statement.subject]
    if len(set(names)) < len(names):
        raise UsageError(f"{where} is no certificate: its subject names a file twice")
    return statement


def document(content: bytes, where: str) -> dict[str, Any]:
    """JSON that means one thing only: no key twice, no NaN. Raises UsageError."""
    try:
        found = json.loads(content, object_pairs_hook=_unique, parse_constant=_refused)
    except RecursionError:
        raise UsageError(f"{where} is no certificate: nested too deep") from None
    except ValueError as error:
        raise UsageError(f"{where} is no certificate: {shown(error)}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{where} is no certificate: expected a JSON object")
    return found


def read(path: Path) -> bytes:
    """The bytes of a certificate. Raises UsageError where it can't be read or is too large to be one."""
    try:
        return plainfiles.read(path, limit=LARGEST)
    except OSError as error:
        what = "is no certificate" if error.errno == errno.EFBIG else "can't be read"
        raise UsageError(f"{shown(path)} {what}: {error.strerror or error}") from None


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a certificate before it is signed."""
    found = Statement.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": f"ftcheck certificate, {PREDICATE}",
    }


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")
