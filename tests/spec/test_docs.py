"""docs/suites.md says what is so: its YAML examples expand, its tables name every field."""

from __future__ import annotations

import re
from pathlib import Path

from ftcheck import catalogue
from ftcheck.spec import EVAL_SPLITS, READERS, expand
from ftcheck.spec.fields import CaseFields, DataFields
from ftcheck.suitefile import parse

PAGE = (Path(__file__).parents[2] / "docs" / "suites.md").read_text("utf-8")


def test_the_first_example_is_a_suite() -> None:
    text = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
    (case,) = expand(parse(text.encode(), Path("a.ft.yaml")), catalogue.installed())
    assert (case.id, case.seeds) == ("banking77", (42, 43, 44))


def test_the_matrix_example_makes_the_cases_it_speaks_of() -> None:
    matrix = re.findall(r"```yaml\n(matrix:.*?)```", PAGE, re.DOTALL)[0].replace("\n", "\n    ")
    text = f"cases:\n  banking77:\n    checkpoint: o/m\n    task: text-classification\n    data: o/d\n    {matrix}"
    ids = [case.id for case in expand(parse(text.encode(), Path("a.ft.yaml")), catalogue.installed())]
    assert len(ids) == 4
    assert "banking77-distilbert-distilbert-base-uncased-5e-5" in ids


def test_the_tables_name_every_field() -> None:
    named = set(re.findall(r"`(\w+)`", "".join(line for line in PAGE.splitlines() if line.startswith("| `"))))
    assert set(CaseFields.model_fields) | set(DataFields.model_fields) | {"matrix"} | set(READERS) <= named


def test_the_default_splits_are_those_that_are_used() -> None:
    assert ", ".join(f"`{name}`" for name in EVAL_SPLITS) in PAGE.replace("\n", " ")
