"""The results file: valid under its published schema, whole or not there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest

from ftcheck.errors import UsageError
from ftcheck.report import jsonfile
from ftcheck.results import SCHEMA_VERSION
from tests.report import results

PUBLISHED = Path(__file__).resolve().parent.parent.parent / "docs" / "results.schema.json"


def test_a_written_file_is_valid_under_the_published_schema(tmp_path: Path) -> None:
    found = results.case(metrics=(results.metric(value=float("nan"), half=None), results.metric("macro_f1")))
    jsonfile.write(tmp_path / "out.json", [found, results.case(verdict="error", error="no such file")], complete=True)
    document = json.loads((tmp_path / "out.json").read_text())
    jsonschema.validate(document, json.loads(PUBLISHED.read_text()))
    assert document["results"][0]["metrics"][0]["value"] is None
    assert document["results"][0]["gates"][0]["limit"] == 0.86


def test_the_published_schema_is_the_one_in_force() -> None:
    assert json.loads(PUBLISHED.read_text()) == jsonfile.schema(), (
        "run: ftcheck schema results > docs/results.schema.json"
    )


def test_a_wrong_verdict_is_not_valid() -> None:
    document = {"schema": SCHEMA_VERSION, "ftcheck": "0", "created": "2026-01-01T00:00:00Z", "complete": True}
    bad = results.case().to_json() | {"verdict": "splendid"}
    with pytest.raises(jsonschema.ValidationError, match="splendid"):
        jsonschema.validate({**document, "results": [bad]}, jsonfile.schema())


def test_a_file_that_cant_be_replaced_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out.json"
    target.write_text("old")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match=r"out.json can't be written: No space left on device"):
        jsonfile.write(target, [results.case()], complete=True)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_of_the_first_schema_is_read(tmp_path: Path) -> None:
    jsonfile.write(tmp_path / "out.json", [results.case()], complete=True)
    document = json.loads((tmp_path / "out.json").read_text())
    document["schema"] = 1
    for result in document["results"]:
        for name in ("references", "update"):  # what the second schema added
            del result[name]
        for gate in result["gates"]:
            for name in ("part", "shown_limit", "comparison"):
                del gate[name]
    (tmp_path / "old.json").write_text(json.dumps(document))
    assert jsonfile.read(tmp_path / "old.json") == [results.case()]


def test_a_file_of_a_later_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text(json.dumps({"schema": SCHEMA_VERSION + 1, "results": []}))
    with pytest.raises(UsageError, match="this version of ftcheck reads 1 to 2"):
        jsonfile.read(tmp_path / "out.json")
