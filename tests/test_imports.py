"""Who may import whom: what a run out of the store must not pay for, and the one way that imports point."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "ftcheck"
HEAVY = {
    "accelerate",
    "bitsandbytes",
    "datasets",
    "evaluate",
    "huggingface_hub",
    "matplotlib",
    "mlflow",
    "nltk",
    "onnx",
    "onnxruntime",
    "optuna",
    "pandas",
    "peft",
    "pyarrow",
    "ray",
    "rouge_score",
    "sacrebleu",
    "safetensors",
    "seqeval",
    "sklearn",
    "tensorboard",
    "torch",
    "torchao",
    "transformers",
}
PYTEST_SIDE = {"plugin", "reporting", "session", "collect", "declare", "shared", "terminating", "validate"}

MAY_IMPORT: dict[str, set[str]] = {
    "privacy": set(),
    "errors": {"privacy"},
    "spec": {"durations", "errors", "sizes"},
    "durations": {"errors"},
    "sizes": {"errors"},
    "machine": set(),
    "history": {"baselines", "errors", "git", "plainfiles", "results"},
    "results": {"breakdown", "profile"},
    "breakdown": set(),
    "profile": set(),
    "timing": set(),
    "statistics": {"results", "metrics"},
    "gates": {"errors", "evidence", "report", "results", "spec", "statistics"},
    "accepted": {"errors", "plainfiles", "results"},
    "baselines": {"accepted", "arrays", "errors", "plainfiles", "results", "writing"},
    "plainfiles": set(),
    "writing": set(),
    "store": {"errors", "keys", "plainfiles", "results", "sizes", "timing"},
    "evidence": {"baselines", "metrics", "results", "spec", "statistics"},
    "importpath": {"errors"},
    "metrics": {"errors", "importpath", "keys", "results"},
}
"""Room -> the only rooms it may know."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def imported(path: Path, *, top_level_only: bool) -> set[str]:
    """Dotted names that a file imports; those under `if TYPE_CHECKING` are left out."""
    found: set[str] = set()

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if not (inside and top_level_only))
        if isinstance(node, ast.ImportFrom) and node.module and not (inside and top_level_only):
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        deeper = inside or isinstance(node, ast.FunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, deeper)

    visit(ast.parse(path.read_text(encoding="utf-8")), False)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_a_heavy_library_at_its_top(path: Path) -> None:
    assert not {name.partition(".")[0] for name in imported(path, top_level_only=True)} & HEAVY


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_knows_only_those_it_may(room: str) -> None:
    files = [path for path in modules() if path.relative_to(ROOT).parts[0].removesuffix(".py") == room]
    assert files, f"there is no room {room} any more: mend this table"
    known = {
        name.split(".")[1]
        for path in files
        for name in imported(path, top_level_only=False)
        if name.startswith("ftcheck.") and name.split(".")[1] not in (room, "__version__")
    }
    assert known <= MAY_IMPORT[room]


def test_only_the_side_that_faces_pytest_imports_it() -> None:
    users = {
        path.relative_to(ROOT).parts[0].removesuffix(".py")
        for path in modules()
        if any(name.partition(".")[0] in ("pytest", "_pytest") for name in imported(path, top_level_only=False))
    }
    assert users <= PYTEST_SIDE | {"report", "cli"}


@pytest.mark.parametrize(
    "module",
    [
        "ftcheck",
        "ftcheck.certificate.issuing",
        "ftcheck.collect",
        "ftcheck.evaluating",
        "ftcheck.pipeline",
        "ftcheck.production",
        "ftcheck.session",
        "ftcheck.finetune",
        "ftcheck.tasks",
        "ftcheck.cli",
    ],
)
def test_importing_a_light_room_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {sorted(HEAVY)} if name in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_metrics_and_tasks_are_known_by_name_without_numpy() -> None:
    code = (
        "import sys; from ftcheck import metrics, tasks; metrics.every(); [tasks.get(name) for name in tasks.BUILT_IN];"
        "print('numpy' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )
