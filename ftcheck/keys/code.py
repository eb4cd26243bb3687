"""Which versions of which code a result depends on: libraries, ftcheck's own training code, and the user's task."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Collection, Mapping
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ftcheck.keys import modules

if TYPE_CHECKING:
    from ftcheck.keys.data import Digest

LIBRARIES: Final = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "pyarrow", "pandas")
"""Besides the obvious: tokenizers encodes the text, pyarrow and (within datasets) pandas read the files."""

_OPTIONAL: Final = {"bitsandbytes": ("bnb", "8bit", "4bit", "paged"), "torchao": ("torchao", "4bit")}
"""Library -> what in the name of an optimizer brings it in."""

_VERSION: Final = re.compile(r"^Version: *(?P<version>\S+)$", re.MULTILINE)


def versions(training: Mapping[str, Any], libraries: Collection[str] = ()) -> dict[str, str]:
    """Installed versions of what takes part, read from package metadata: nothing is imported.

    Python's own counts up to its minor version (Unicode tables and the `csv` and `json` modules change between those).
    """
    optimizer = str(training.get("optim", ""))
    optional = [name for name, hints in _OPTIONAL.items() if any(hint in optimizer for hint in hints)]
    if training.get("use_liger_kernel"):
        optional.append("liger-kernel")
    if training.get("deepspeed"):
        optional.append("deepspeed")
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python} | {name: _version(name) for name in dict.fromkeys((*LIBRARIES, *optional, *libraries))}


def _version(library: str) -> str:
    """As `importlib.metadata.version` says, without parsing the README that follows the headers."""
    try:
        text = metadata.distribution(library).read_text("METADATA") or ""
    except metadata.PackageNotFoundError:
        return "not installed"
    found = _VERSION.search(text.partition("\n\n")[0])
    return found["version"] if found else metadata.version(library)


def training_code(task: object, digest: Digest, *, scored: bool, techniques: Collection[str] = ()) -> dict[str, str]:
    """blake3 of each source that can change a trained model or its predictions.

    Of ftcheck, by relative path, that is all of `finetune/` but the techniques that aren't used; the metrics where
    scores are looked at while training (`scored`: they pick the best checkpoint, or a threshold); and of `tasks/` what
    `task` is made of: its own module and those that belong to no other task. A task of the user's may use any of them;
    it adds, by name, the modules that its classes stand in and those of the user's that they import, with the versions
    of the libraries that they import.
    Raises IdentityError where one of these has no source.
    """
    from ftcheck import tasks
    from ftcheck.finetune.techniques import BUILT_IN as TECHNIQUES

    root = _root()
    classes = {type_.__module__ for type_ in type(task).__mro__} - {"builtins", "abc"}
    own = {name for name in classes if name.partition(".")[0] != "ftcheck"}
    others = {target.partition(":")[0] for target in tasks.BUILT_IN.values()} - classes if not own else set()
    others |= {target.partition(":")[0] for name, target in TECHNIQUES.items() if name not in techniques} - {
        TECHNIQUES[name].partition(":")[0] for name in techniques
    }
    excluded = {root.joinpath(*name.split(".")[1:]).with_suffix(".py") for name in others}
    parts = ("finetune", "tasks", *(["metrics"] if scored or own else []))
    sources = [path for part in parts for path in (root / part).rglob("*.py")]
    ours = {path.relative_to(root).as_posix(): digest(path) for path in sorted(sources) if path not in excluded}
    return ours | modules.identity(sorted(own - set(sys.stdlib_module_names)), digest)


@cache
def _root() -> Path:
    return Path(str(resources.files("ftcheck")))
