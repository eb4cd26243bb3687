"""Every place that reads a file's format is known, and none of them can run what it reads.

A new one makes the first test fail until it stands in READERS, with what shows that it runs nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.untrusted.test_pickles import WALKS

ROOT = Path(__file__).parents[2] / "ftcheck"

CALLS = {
    *(
        "json.load",
        "json.loads",
        "json_of",
        "plainfiles.json_of",
        "plainfiles.opened",
        "plainfiles.read",
        "np.load",
        "load_npz",
    ),
    *("arrays.load_npz", "yaml.compose", "yaml.load", "yaml.parse", "yaml.safe_load", "zipfile.ZipFile"),
    *("tarfile.open", "sqlite3.connect", "csv.reader", "open", "io.FileIO", "os.fdopen", "ast.parse"),
}
METHODS = {
    *("read_bytes", "read_text", "open", "read_table", "ParquetFile", "from_pretrained", "load_dataset"),
    *("load_from_disk", "recv", "load_file", "safe_open", "read_parquet", "frombuffer", "from_dict", "read_pickle"),
    *("load_pem_private_key", "load_pem_public_key", "load_state_dict"),
}
"""What reads: calls by their whole name, and methods by their last."""

OURS = "written and read by the processes of one session"
CODE = "source code of installed libraries or of the user's own modules, parsed and not run"
WRITTEN = "opened to be written"
PLAIN = "text or bytes without a format"

READERS: dict[str, tuple[set[str], str]] = {
    "accepted.py": ({"json_of"}, "baseline"),
    "arrays.py": ({"frombuffer", "open", "zipfile.ZipFile"}, "npz"),
    "baselines.py": ({"load_npz", "plainfiles.read"}, "baseline"),
    "certificate/folder.py": ({"open", "os.fdopen"}, "certificate"),
    "certificate/issuing.py": ({"open"}, WRITTEN),
    "certificate/signing.py": ({"from_dict", "load_pem_private_key", "load_pem_public_key", "open"}, "certificate"),
    "certificate/statement.py": ({"json.loads", "plainfiles.read"}, "certificate"),
    "cli/card.py": ({"read_bytes"}, "card"),
    "correcting.py": ({"json.loads", "read_bytes"}, OURS),
    "devices.py": ({"json.loads", "read_text"}, OURS),
    "examples.py": ({"ParquetFile", "frombuffer", "load_npz", "read_table"}, "store"),
    "executors/estimate.py": ({"open", "plainfiles.json_of", "plainfiles.read"}, "checkpoint"),
    "executors/forkserver.py": ({"json.loads", "open", "recv"}, OURS),
    "executors/killed.py": ({"read_text"}, PLAIN),
    "executors/launched.py": ({"recv"}, OURS),
    "executors/launching.py": ({"open", "recv"}, OURS),
    "executors/leases.py": ({"json.loads", "open"}, OURS),
    "executors/local.py": ({"recv"}, OURS),
    "executors/parcels.py": ({"open", "read_bytes"}, PLAIN),
    "executors/ray_guard.py": ({"open"}, PLAIN),
    "executors/ray_node.py": ({"open", "read_text"}, PLAIN),
    "executors/slot.py": ({"recv"}, OURS),
    "finetune/data/fetching.py": ({"open"}, PLAIN),
    "finetune/data/files.py": ({"open"}, "data"),
    "finetune/data/hub.py": ({"read_bytes"}, "data"),
    "finetune/data/opening.py": ({"load_from_disk"}, "data"),
    "finetune/data/readers/delimited.py": ({"csv.reader"}, "data"),
    "finetune/data/readers/json_rows.py": ({"json.loads"}, "data"),
    "finetune/data/readers/parquet.py": ({"ParquetFile"}, "data"),
    "finetune/data/readers/squad.py": ({"json.loads"}, "data"),
    "finetune/data/rows.py": ({"json.loads"}, "data"),
    "finetune/environment.py": ({"open"}, PLAIN),
    "finetune/model.py": ({"from_pretrained"}, "checkpoint"),
    "finetune/resuming.py": ({"json.loads", "read_bytes"}, OURS),
    "finetune/session.py": ({"json.loads", "read_text"}, "checkpoint"),
    "finetune/spreading.py": ({"load_file", "load_state_dict"}, OURS),
    "finetune/techniques/edits.py": ({"json.loads", "read_text"}, "checkpoint"),
    "finetune/techniques/libraries.py": ({"from_dict"}, OURS),
    "finetune/techniques/peft.py": ({"from_pretrained"}, "checkpoint"),
    "finetune/techniques/ray_search.py": ({"json.loads", "open", "read_bytes"}, OURS),
    "finetune/techniques/search.py": ({"read_bytes"}, PLAIN),
    "finetune/techniques/translating.py": ({"from_dict"}, OURS),
    "finetune/together.py": ({"frombuffer", "json.loads"}, OURS),
    "history/database.py": ({"sqlite3.connect"}, "history"),
    "history/log.py": ({"json_of"}, "history"),
    "keys/checkpoints.py": ({"plainfiles.json_of", "plainfiles.read"}, "checkpoint"),
    "keys/code.py": ({"read_text"}, PLAIN),
    "keys/data.py": ({"plainfiles.json_of", "plainfiles.read"}, "data"),
    "keys/files.py": ({"os.fdopen", "plainfiles.json_of", "plainfiles.opened", "plainfiles.read"}, "memo"),
    "keys/hub.py": ({"read_text"}, PLAIN),
    "keys/modules.py": ({"ast.parse", "read_bytes"}, CODE),
    "keys/source.py": ({"ast.parse"}, CODE),
    "machine.py": ({"read_text"}, PLAIN),
    "named.py": ({"plainfiles.json_of", "read_bytes"}, "results"),
    "plainfiles.py": ({"io.FileIO", "json.loads", "open"}, "results"),
    "proposals.py": ({"read_bytes", "read_text"}, OURS),
    "report/card.py": ({"yaml.compose"}, "card"),
    "report/html/__init__.py": ({"read_text"}, PLAIN),
    "report/jsonfile.py": ({"plainfiles.json_of", "read_bytes"}, "results"),
    "reporting.py": ({"open"}, WRITTEN),
    "scoring.py": ({"arrays.load_npz"}, "store"),
    "shared.py": ({"json.loads", "read_bytes", "read_text"}, OURS),
    "statistics/significance.py": ({"frombuffer"}, OURS),
    "store/cases.py": ({"plainfiles.json_of", "plainfiles.read"}, "memo"),
    "store/entry.py": ({"json.loads", "open", "plainfiles.json_of", "plainfiles.read"}, "store"),
    "store/locking.py": ({"open"}, WRITTEN),
    "store/remote.py": ({"open", "read_bytes"}, "remote"),
    "store/runs.py": ({"open"}, WRITTEN),
    "suitefile.py": ({"plainfiles.read", "yaml.parse"}, "suite"),
    "training_fields.py": ({"ast.parse", "read_text"}, CODE),
    "vendoring.py": ({"json.loads", "plainfiles.json_of", "plainfiles.read"}, "vendored"),
    "verifying.py": ({"json.loads", "read_bytes"}, OURS),
    "writing.py": ({"os.fdopen"}, WRITTEN),
}
"""Module -> what it reads with, and the walk that shows that nothing runs, or why there is none."""

FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle", "copyreg"),
}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all"),
    *("pd.read_pickle", "pandas.read_pickle", "torch.jit.load", "torch.package.PackageImporter", "os.system"),
}
PIPES = {f"executors/{name}.py" for name in ("forkserver", "local", "slot", "launching", "launched")}
"""The two ends of a pipe between a session and the processes that it started, which pickles what it carries."""
WEIGHTS_ONLY = {"finetune/resuming.py": {"pickle", "torch.load"}}
"""Where torch's own files are read, with `weights_only=True`: what `pickle` is imported for is the name of an error."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def calls(tree: ast.Module) -> Iterator[ast.Call]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def reads(tree: ast.Module) -> set[str]:
    """What a module reads with."""
    found = set()
    for call in calls(tree):
        whole, last = ast.unparse(call.func), ast.unparse(call.func).rpartition(".")[2]
        found |= {whole} if whole in CALLS else {last} & METHODS
    return found


def test_every_reader_is_listed() -> None:
    assert {name: found for name, tree in sources() if (found := reads(tree))} == {
        name: names for name, (names, _) in READERS.items()
    }


def test_every_reader_is_walked_or_says_why_not() -> None:
    assert {how for _, how in READERS.values()} == WALKS | {OURS, CODE, WRITTEN, PLAIN}


@pytest.mark.parametrize(("name", "tree"), [pytest.param(*found, id=found[0]) for found in sources()])
def test_no_module_can_run_what_it_reads(name: str, tree: ast.Module) -> None:
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in ([ast.alias(node.module or "")] if isinstance(node, ast.ImportFrom) else node.names)
    }
    excepted = WEIGHTS_ONLY.get(name, {"pickle"} if name in PIPES else set())
    assert not imported & FORBIDDEN_MODULES - excepted
    for call in calls(tree):
        what = ast.unparse(call.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert what not in FORBIDDEN_CALLS - excepted, f"{name}:{call.lineno}"
        assert what != "torch.load" or given["weights_only"] == "True", f"{name}:{call.lineno}"
        assert given.get("allow_pickle", "False") == "False", f"{name}:{call.lineno}"
        if what in ("np.load", "numpy.load"):
            assert "allow_pickle" in given, f"{name}:{call.lineno}"
        assert given.get("weights_only", "True") == "True", f"{name}:{call.lineno}"
        if what.endswith(".recv"):
            assert name in PIPES, f"{name}:{call.lineno}"
