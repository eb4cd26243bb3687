"""ftcheck's own source in keys: what takes part in a training, whole, and nothing else."""

from __future__ import annotations

import ast
import shutil
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

import ftcheck
from ftcheck import tasks
from ftcheck.keys import code, diff
from tests.keys.inputs import around_edit, case, keys


@pytest.fixture
def own_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ftcheck's own source, taken for the installed one."""
    root = tmp_path / "source"
    shutil.copytree(Path(ftcheck.__file__).parent, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code, "_root", lambda: root)
    return root


@pytest.mark.parametrize(
    ("source", "misses"),
    [
        pytest.param("finetune/__init__.py", True, id="training"),
        pytest.param("finetune/data/splits.py", True, id="choice of rows"),
        pytest.param("metrics/classification.py", False, id="metrics"),
        pytest.param("tasks/text_classification.py", True, id="the task"),
        pytest.param("tasks/labels.py", True, id="what tasks share"),
        pytest.param("tasks/token_classification.py", False, id="another task"),
        pytest.param("gates.py", False, id="gates"),
        pytest.param("report/terminal.py", False, id="reports"),
    ],
)
def test_ftchecks_own_source_counts_where_it_trains(
    tmp_path: Path, own_source: Path, source: str, misses: bool
) -> None:
    (old, _), (new, _) = around_edit(case(tmp_path), tmp_path / "memo", own_source / source)
    assert [change.path for change in diff(old.components, new.components)] == ([f"code.{source}"] if misses else [])


def test_metrics_count_where_they_may_pick_the_best_checkpoint(tmp_path: Path, own_source: Path) -> None:
    made = case(tmp_path)
    made = replace(made, data=replace(made.data, splits={"tune": "validation"}))
    old = keys(made, tmp_path / "memo")[0]
    with (own_source / "metrics" / "classification.py").open("a") as file:
        file.write("\n# changed\n")
    new = keys(made, tmp_path / "memo")[0]
    assert [change.path for change in diff(old.components, new.components)] == ["code.metrics/classification.py"]


def test_training_code_uses_nothing_of_ftcheck_that_the_key_leaves_out() -> None:
    """`training_code` hashes whole folders. What else they import must be plain contracts, without any behaviour."""
    root = Path(ftcheck.__file__).parent
    others = {target.partition(":")[0] for target in tasks.BUILT_IN.values()}
    contracts = {"ftcheck.errors", "ftcheck.results", "ftcheck.spec"}
    # What these find and fingerprint is in the key by itself.
    contracts |= {"ftcheck.importpath", "ftcheck.keys", "ftcheck.training_fields"}
    contracts |= {"ftcheck.timing", "ftcheck.privacy"}  # which look on, and hide secrets in what is said
    for folder in ("finetune", "tasks", "metrics"):
        for path in (root / folder).rglob("*.py"):
            own = ".".join(["ftcheck", *path.relative_to(root).with_suffix("").parts])
            for name in _imported(path):
                parts = name.split(".")
                assert parts[1] in ("finetune", "tasks", "metrics") or ".".join(parts[:2]) in contracts, (
                    f"{own} imports {name}: its behaviour must be part of the key (ftcheck.keys.code)"
                )
                if folder == "tasks":
                    assert ".".join(parts[:3]) not in others - {own}, f"{own} uses another task: {name}"


def _imported(path: Path) -> set[str]:
    """What a file imports of ftcheck when it runs (not for types alone)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for node in ast.walk(branch)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node not in typing and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("ftcheck.")}


def test_versions_are_those_that_importlib_tells() -> None:
    names = ("numpy", "pydantic", "pytest", "torch", "no-such-distribution")
    found = code.versions({}, names)
    assert found.pop("no-such-distribution") == "not installed"
    assert {name: found[name] for name in names[:-1]} == {name: metadata.version(name) for name in names[:-1]}
