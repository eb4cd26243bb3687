"""The documentation says what is so: its suites are valid, its links lead somewhere, and it names all that there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from ftcheck import catalogue, metrics, options, suitefile, tasks
from ftcheck.finetune.data import readers
from ftcheck.finetune.data.readers import for_suffix
from ftcheck.spec import READERS, Case, expand
from ftcheck.spec.fields import CaseFields, CheckpointFields, DataFields
from ftcheck.spec.schema import json_schema
from ftcheck.tasks.generation import Generation

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md")))
TEXT = {page.name: page.read_text("utf-8") for page in PAGES}
ALL = "\n".join(TEXT.values())
TASKS = TEXT["tasks.md"]
WORDS = set(re.findall(r"[\w-]+", " ".join(re.findall(r"`([^`\n]+)`", ALL))))
"""Every word that stands in code somewhere."""


def suites() -> list[Any]:
    """The YAML of every block that is a suite."""
    found = []
    for name, text in TEXT.items():
        for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL), start=1):
            if re.search(r"^cases:", block, re.MULTILINE):
                found.append(pytest.param(block, id=f"{name}-{number}"))
    return found


def modules() -> dict[str, str]:
    """The Python of every block that begins with a file's name, by that name."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", ALL, re.DOTALL)
    assert len(dict(blocks)) == len(blocks), "two documented modules have one name"
    return dict(blocks)


def texts(value: Any) -> Iterator[str]:
    """Every text in what a YAML file holds."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts(part)


def written(block: str, folder: Path) -> tuple[Case, ...]:
    """The cases of a block, written to a file beside an empty file or folder for every local path that it names."""
    path = folder / "suites" / "documented.ft.yaml"
    path.parent.mkdir()
    path.write_text(block, "utf-8")
    for text in texts(yaml.safe_load(block)):
        if for_suffix(text):
            (path.parent / text).touch()
        elif text.startswith("."):
            (path.parent / text).mkdir(parents=True, exist_ok=True)
    return tuple(expand(suitefile.read(path), catalogue.installed()))


@pytest.mark.parametrize("block", suites())
def test_every_documented_suite_is_valid(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, source in modules().items():
        (tmp_path / name).write_text(source, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert written(block, tmp_path)


def test_there_are_documented_suites() -> None:
    assert len(suites()) >= 6


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", TEXT[page.name])
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_every_flag_that_is_mentioned_exists_and_every_one_is_mentioned() -> None:
    mentioned = set(re.findall(r"--ft-[a-z-]+", ALL))
    assert mentioned == {option.flag for option in options.OPTIONS}


def test_every_choice_of_a_flag_is_mentioned() -> None:
    assert {choice for option in options.OPTIONS for choice in option.choices} <= WORDS


def test_every_command_is_mentioned() -> None:
    from ftcheck.cli import app, cache
    from ftcheck.cli.baseline import app as baseline

    names = [
        command.name or command.callback.__name__
        for group in (app, baseline, cache)
        for command in group.registered_commands
        if command.callback
    ]
    assert set(names) <= WORDS
    assert len(names) == 21


@pytest.mark.parametrize("model", [CaseFields, CheckpointFields, DataFields], ids=lambda model: model.__name__)
def test_every_field_of_a_suite_is_mentioned(model: type[BaseModel]) -> None:
    assert set(model.model_fields) <= WORDS


def section(title: str) -> str:
    """A page's part under the heading `## title`."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TASKS, re.DOTALL | re.MULTILINE)
    assert found is not None, f"docs/tasks.md has no part ## {title}"
    return found[1]


def rows(text: str, header: str) -> dict[str, list[str]]:
    """A table's cells by its first one, without backticks; `header` is the first cell of its head."""
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith(f"| {header} |"):
            break
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {first.strip("`"): rest for first, *rest in cells}


@pytest.mark.parametrize("name", tasks.BUILT_IN)
def test_the_columns_of_a_task_are_those_that_it_reads(name: str) -> None:
    table = {
        column: cells[-1] == "yes" for column, cells in rows(section(name).partition("| option")[0], "column").items()
    }
    assert table == dict(tasks.get(name).columns)


def given(group: BaseModel) -> dict[str, Any]:
    """What a group of options (`generation`) holds besides its own defaults."""
    return group.model_dump(exclude_defaults=True)


@pytest.mark.parametrize("name", tasks.BUILT_IN)
def test_the_options_of_a_task_are_those_that_it_has_with_their_defaults(name: str) -> None:
    table = {option: cells[0].strip("`") for option, cells in rows(section(name), "option").items()}
    fields = tasks.get(name).options.model_fields
    assert table == {
        option: field.default if isinstance(field.default, str) else json.dumps(field.default, default=given)
        for option, field in fields.items()
    }


def test_the_options_of_generation_are_those_that_there_are_with_their_defaults() -> None:
    table = {
        option: cells[0].strip("`")
        for option, cells in rows(section("How texts are generated"), "`generation`").items()
    }
    assert table == {option: json.dumps(field.default) for option, field in Generation.model_fields.items()}


@pytest.mark.parametrize("name", tasks.BUILT_IN)
def test_the_default_metrics_and_the_model_class_of_a_task_are_named(name: str) -> None:
    code = re.findall(r"`([^`]+)`", section(name).partition("| column")[0])
    assert {
        tasks.get(name).auto_class,
        *tasks.get(name).default_metrics(tasks.get(name).options().model_dump()),
    } <= set(code)


@pytest.mark.parametrize("name", READERS)
def test_the_options_of_a_reader_are_those_that_it_has_with_their_defaults(name: str) -> None:
    assert set(READERS) == set(readers.MODULES)
    text = rows(section("Data"), "reader")[name][-1]
    model = import_module(f"{readers.__name__}.{readers.MODULES[name]}").Options
    if text.startswith("the same"):
        preset = readers.options(name, {})
        changed = {option for option in model.model_fields if getattr(preset, option) != model().model_dump()[option]}
        assert set(re.findall(r"`(\w+)", text)) == changed
        return
    documented = {
        option: yaml.safe_load(value)
        for option, value in re.findall(r"`(\w+): ([^`]+)`", text)
        if option in model.model_fields
    }
    assert documented == model().model_dump()


@pytest.mark.parametrize("name", sorted({known.name for known in metrics.every()}))
def test_every_metric_is_mentioned(name: str) -> None:
    assert f"`{name}`" in TEXT["metrics.md"]


def test_the_shipped_schema_is_the_one_that_the_command_prints() -> None:
    """Apart from TrainingArguments, which are those of the installed transformers."""
    shipped = json.loads((ROOT / "docs" / "suite.schema.json").read_text("utf-8"))
    printed = json_schema(catalogue.installed())
    for schema in (shipped, printed):
        schema["$defs"]["CaseFields"]["properties"]["training"]["anyOf"][0].pop("properties")
    assert shipped == printed, "run: ftcheck schema > docs/suite.schema.json"


def test_the_shipped_schema_of_results_is_the_one_that_the_command_prints() -> None:
    from ftcheck.report import jsonfile

    shipped = json.loads((ROOT / "docs" / "results.schema.json").read_text("utf-8"))
    assert shipped == jsonfile.schema(), "run: ftcheck schema results > docs/results.schema.json"
