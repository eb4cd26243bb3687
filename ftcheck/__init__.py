"""Fine-tune, then assert: an evaluation and regression harness for fine-tuned models, as a pytest plugin.

The public names are loaded when they are first used: `import ftcheck` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftcheck.declare import case
    from ftcheck.evaluating import evaluate
    from ftcheck.finetune.techniques.loop import Training
    from ftcheck.metrics import Metric
    from ftcheck.metrics.own import metric
    from ftcheck.report.rows import load_results
    from ftcheck.spec import Case, Data, Gate
    from ftcheck.tasks import Task

__version__ = "0.1.0"
__all__ = [
    "Case",
    "Data",
    "Gate",
    "Metric",
    "Task",
    "Training",
    "__version__",
    "case",
    "evaluate",
    "load_results",
    "metric",
]

_HOMES = {
    "case": "ftcheck.declare",
    "Case": "ftcheck.spec",
    "Data": "ftcheck.spec",
    "evaluate": "ftcheck.evaluating",
    "Gate": "ftcheck.spec",
    "Metric": "ftcheck.metrics",
    "load_results": "ftcheck.report.rows",
    "metric": "ftcheck.metrics.own",
    "Task": "ftcheck.tasks",
    "Training": "ftcheck.finetune.techniques.loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ftcheck' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
