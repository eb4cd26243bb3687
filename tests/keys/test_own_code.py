"""The source of a user's task is part of its keys: editing what it is made of is a miss, editing anything else not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from ftcheck import tasks
from ftcheck.errors import IdentityError
from ftcheck.keys import code, diff, modules
from ftcheck.keys.files import file_digest
from ftcheck.tasks.text_classification import TextClassification
from tests.keys.inputs import around_edit, case, keys

FILES = {
    "__init__.py": "",
    "base.py": """
from ftcheck.tasks.text_classification import TextClassification

class Base(TextClassification):
    name = "base"
""",
    "tasks.py": """
import yaml

from . import words
from .base import Base

class Headlines(Base):
    name = "headlines"

    def default_metrics(self, options):
        from PACKAGE.late import metrics
        return metrics()

class Same(Base):
    name = "headlines"
""",
    "words.py": "import PACKAGE.deep.rules\n",
    "deep/__init__.py": "",
    "deep/rules.py": "RULES = 1\n",
    "late.py": "def metrics():\n    return ('accuracy',)\n",
    "unrelated.py": "X = 1\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package with a task in `tasks`."""
    name = f"package_{tmp_path.name}"
    for path, source in FILES.items():
        file = tmp_path / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source.replace("PACKAGE", name), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize(
    ("file", "misses"),
    [
        pytest.param("tasks.py", True, id="its module"),
        pytest.param("base.py", True, id="the module of a class that it extends"),
        pytest.param("__init__.py", True, id="its package"),
        pytest.param("words.py", True, id="a module that it imports"),
        pytest.param("deep/rules.py", True, id="a module that this one imports"),
        pytest.param("late.py", True, id="a module that it imports when it is used"),
        pytest.param("unrelated.py", False, id="another module of the package"),
    ],
)
def test_editing_what_a_task_is_made_of_is_a_miss(tmp_path: Path, package: str, file: str, misses: bool) -> None:
    made = replace(case(tmp_path), task=f"{package}.tasks:Headlines")
    old, new = around_edit(made, tmp_path / "memo", tmp_path / package / file)
    changed = ".".join([package, *Path(file).with_suffix("").parts]).removesuffix(".__init__")
    assert [change.path for change in diff(old[0].components, new[0].components)] == (
        [f"code.module {changed}"] if misses else []
    )
    assert (old[1].digest != new[1].digest) == misses


def test_the_versions_of_libraries_that_it_imports_count(package: str) -> None:
    found = code.training_code(tasks.get(f"{package}.tasks:Headlines"), file_digest, scored=False)
    assert "library yaml" in found
    assert not any(name.startswith(("library ftcheck", "module ftcheck")) for name in found)


def test_two_classes_of_one_name_have_keys_of_their_own(tmp_path: Path, package: str) -> None:
    one, two = (
        keys(replace(case(tmp_path), task=f"{package}.tasks:{name}"), tmp_path / "memo")[0]
        for name in ("Headlines", "Same")
    )
    assert [change.path for change in diff(one.components, two.components)] == ["task.class"]


def test_a_task_whose_source_cannot_be_read_is_an_error_not_a_hit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"made_{tmp_path.name}"
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    vars(module)["Headlines"] = type("Headlines", (TextClassification,), {"name": "headlines", "__module__": name})
    with pytest.raises(IdentityError, match=f"the module {name} has no file, so that it can't be fingerprinted"):
        keys(replace(case(tmp_path), task=f"{name}:Headlines"), tmp_path / "memo")


@pytest.mark.parametrize(
    ("name", "own"),
    [
        pytest.param("tests.keys.inputs", True, id="a module of the project"),
        pytest.param("json.decoder", False, id="Python's"),
        pytest.param("yaml", False, id="a library's"),
        pytest.param("ftcheck.tasks", False, id="ftcheck's"),
        pytest.param("no_such_module", False, id="absent"),
    ],
)
def test_own_are_modules_that_are_not_installed(name: str, own: bool) -> None:
    assert modules.is_own(name) is own


METRIC = "def mine(predictions, references):\n    return [1.0 for _ in references]\n"


def test_a_metric_of_ones_own_counts_for_training_only_where_it_chooses_the_best_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    names = f"one_{tmp_path.name}", f"two_{tmp_path.name}"
    for name, value in zip(names, ("1.0", "0.5"), strict=True):
        (tmp_path / f"{name}.py").write_text(METRIC.replace("1.0", value), "utf-8")
    shown, chosen = (
        [
            keys(
                replace(case(tmp_path), metrics=(f"{name}:mine",), training=training(f"{name}:mine")),
                tmp_path / "memo",
            )[0]
            for name in names
        ]
        for training in TRAININGS
    )
    assert shown[0] == shown[1]
    assert "best_metric" in [change.path for change in diff(chosen[0].components, chosen[1].components)]


TRAININGS: tuple[Callable[[str], dict[str, object]], ...] = (
    lambda name: {},
    lambda name: {"metric_for_best_model": name, "load_best_model_at_end": True},
)
