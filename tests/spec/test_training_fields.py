"""The installed TrainingArguments, read from source: the library's own fields, and one clear error per mistake."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftcheck import training_fields
from ftcheck.errors import UsageError
from ftcheck.training_fields import TrainingFields
from ftcheck.training_rules import OWNED, RANGES, SUCCESSORS


@pytest.fixture(scope="module")
def fields() -> TrainingFields:
    return training_fields.installed()


def only(fields: TrainingFields, given: dict[str, Any]) -> str:
    """The one thing that is wrong."""
    ((name, message),) = fields.problems(given)
    return f"{name}: {message}"


def test_the_source_tells_what_the_library_tells(fields: TrainingFields) -> None:
    """Names and literal defaults are those of the imported class: nothing is lost by not importing it."""
    from transformers import TrainingArguments

    real = {known.name: known for known in dataclasses.fields(TrainingArguments) if known.init}
    assert set(fields.fields) == set(real)
    for name, known in fields.fields.items():
        if known.default is not None:
            expected = real[name].default
            assert known.default == getattr(expected, "value", expected), name


def test_the_version_is_that_of_the_package(fields: TrainingFields) -> None:
    from importlib.metadata import version

    assert fields.version == version("transformers")


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("learning_rate", {"float"}),
        ("per_device_train_batch_size", {"int"}),
        ("use_cache", {"bool"}),
        ("optim", {"str"}),
        ("eval_steps", {"float", "none"}),
        ("report_to", {"none", "str", "list"}),
        ("lr_scheduler_kwargs", {"dict", "none"}),
        ("trackio_static_space_id", {"none", "str", "bool"}),
        ("debug", {"str", "list"}),
    ],
)
def test_annotations_tell_what_a_field_takes(fields: TrainingFields, name: str, kinds: set[str]) -> None:
    assert fields.fields[name].kinds == kinds


def test_enums_are_followed_to_their_modules(fields: TrainingFields) -> None:
    assert fields.fields["eval_strategy"].choices == ("no", "steps", "epoch")
    assert fields.fields["save_strategy"].choices == ("no", "steps", "epoch", "best")
    assert {"adamw_torch", "sgd"} < set(fields.fields["optim"].choices)
    assert {"linear", "cosine"} < set(fields.fields["lr_scheduler_type"].choices)


def test_rules_speak_of_fields_that_exist(fields: TrainingFields) -> None:
    """A range of a field that the library renamed would never be checked again."""
    assert set(RANGES) <= set(fields.fields)
    assert not SUCCESSORS.keys() & OWNED.keys()


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"learning_rate": 1, "num_train_epochs": 2, "weight_decay": 0}, id="whole-numbers-for-floats"),
        pytest.param({"max_steps": -1}, id="epochs-decide"),
        pytest.param({"warmup_steps": 0.1}, id="warmup-ratio"),
        pytest.param({"optim": "sgd", "report_to": ["tensorboard"], "eval_strategy": "no"}, id="texts"),
        pytest.param({"eval_steps": None, "lr_scheduler_kwargs": {"num_cycles": 2}}, id="null-and-mapping"),
        pytest.param(
            {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "epoch"}, id="best-by-epoch"
        ),
        pytest.param(
            {
                "load_best_model_at_end": True,
                "eval_strategy": "steps",
                "save_strategy": "steps",
                "eval_steps": 50,
                "save_steps": 100,
            },
            id="best-by-steps",
        ),
        pytest.param(
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 0.1, "save_steps": 0.3},
            id="best-by-parts",
        ),
        pytest.param(
            {"load_best_model_at_end": True, "eval_strategy": "epoch", "save_strategy": "best"}, id="best-saves-best"
        ),
    ],
)
def test_what_the_trainer_takes_is_taken(fields: TrainingFields, given: dict[str, Any], tmp_path: Path) -> None:
    from transformers import TrainingArguments

    assert fields.problems(given) == []
    assert TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            {"learning_rate": "abc"}, "learning_rate: expected a number, got 'abc' (text)", id="text-for-number"
        ),
        pytest.param(
            {"learning_rate": "1e-4"},
            "learning_rate: expected a number, got '1e-4' (text): leave out the quotes",
            id="quoted-number",
        ),
        pytest.param(
            {"use_cache": "true"},
            "use_cache: expected true or false, got 'true' (text): leave out the quotes",
            id="quoted-bool",
        ),
        pytest.param({"use_cache": 1}, "use_cache: expected true or false, got 1", id="number-for-bool"),
        pytest.param({"learning_rate": True}, "learning_rate: expected a number, got true", id="bool-for-number"),
        pytest.param({"learning_rate": None}, "learning_rate: expected a number, got null", id="null-for-number"),
        pytest.param({"learning_rate": float("nan")}, "learning_rate: expected a finite number, got nan", id="nan"),
        pytest.param(
            {"per_device_train_batch_size": 8.0},
            "per_device_train_batch_size: expected a whole number, got 8.0",
            id="float-for-int",
        ),
        pytest.param({"eval_steps": "x"}, "eval_steps: expected a number or null, got 'x' (text)", id="optional"),
        pytest.param({"optim": "adamv"}, "optim: expected one of adamw_torch, ", id="unknown-optimizer"),
        pytest.param(
            {"eval_strategy": "epochs"},
            "eval_strategy: expected one of no, steps, epoch, got 'epochs' (text); did you mean epoch?",
            id="unknown-strategy",
        ),
        pytest.param(
            {"eval_strategy": False}, "eval_strategy: expected one of no, steps, epoch, got false", id="yaml-1.1-no"
        ),
        pytest.param(
            {"report_to": [1]}, "report_to: expected text or a list of texts or null, got a list", id="list-of-numbers"
        ),
        pytest.param(
            {"deepspeed": "ds.json"},
            "deepspeed: expected a mapping or null, got 'ds.json' (text)",
            id="file-of-settings",
        ),
        pytest.param({"learning_rate": 0}, "learning_rate: expected a number above 0, got 0", id="rate-zero"),
        pytest.param(
            {"num_train_epochs": -1}, "num_train_epochs: expected a number above 0, got -1", id="epochs-negative"
        ),
        pytest.param(
            {"per_device_eval_batch_size": 0}, "per_device_eval_batch_size: expected at least 1, got 0", id="batch-zero"
        ),
        pytest.param(
            {"label_smoothing_factor": 1.0},
            "label_smoothing_factor: expected a number of at least 0 and below 1, got 1.0",
            id="smoothing",
        ),
        pytest.param(
            {"max_steps": 0},
            "max_steps: expected a number of steps above 0, or -1 to train num_train_epochs, got 0",
            id="no-steps",
        ),
        pytest.param(
            {"lerning_rate": 1},
            "lerning_rate: no such TrainingArguments field; did you mean learning_rate?",
            id="near-name",
        ),
        pytest.param({"qqqqqqqq": 1}, "qqqqqqqq: no such TrainingArguments field", id="no-near-name"),
        pytest.param(
            {"eval_strategy": "steps"},
            "eval_strategy: steps needs eval_steps: after how many steps to evaluate",
            id="steps-without-number",
        ),
        pytest.param(
            {"eval_steps": 10},
            "eval_steps: has no effect while eval_strategy is no; write eval_strategy: steps, or leave it out",
            id="number-without-steps",
        ),
        pytest.param(
            {"save_steps": 2.5},
            "save_steps: expected a whole number of steps, or a part of the training below 1, got 2.5",
            id="half-steps",
        ),
        pytest.param(
            {"max_steps": 5, "num_train_epochs": 1},
            "max_steps: overrides num_train_epochs: 1; give one of them",
            id="steps-and-epochs",
        ),
        pytest.param(
            {"load_best_model_at_end": True},
            "load_best_model_at_end: needs eval_strategy: epoch or steps, to know which model is best",
            id="best-without-evaluation",
        ),
        pytest.param(
            {"load_best_model_at_end": True, "eval_strategy": "epoch"},
            "load_best_model_at_end: needs a checkpoint of each evaluation: save_strategy: epoch or best (it is steps)",
            id="best-with-other-saves",
        ),
        pytest.param(
            {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 30, "save_steps": 100},
            "load_best_model_at_end: needs save_steps (100) to be a multiple of eval_steps (30)",
            id="best-with-odd-steps",
        ),
        pytest.param(
            {"save_strategy": "best", "metric_for_best_model": "loss"},
            "save_strategy: best needs eval_strategy: epoch or steps, to know which model is best",
            id="save-best-without-evaluation",
        ),
        pytest.param(
            {"save_strategy": "best", "eval_strategy": "epoch"},
            "save_strategy: best needs metric_for_best_model",
            id="save-best-by-nothing",
        ),
        pytest.param(
            {"lr_scheduler_type": "reduce_lr_on_plateau"},
            "lr_scheduler_type: reduce_lr_on_plateau needs eval_strategy: it looks at evaluations",
            id="plateau-without-evaluation",
        ),
        pytest.param(
            {"dataloader_prefetch_factor": 2},
            "dataloader_prefetch_factor: needs dataloader_num_workers of at least 1",
            id="prefetch-without-workers",
        ),
    ],
)
def test_each_mistake_is_one_clear_error(fields: TrainingFields, given: dict[str, Any], expected: str) -> None:
    assert only(fields, given).startswith(expected)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("evaluation_strategy", "write eval_strategy"),
        ("warmup_ratio", "write warmup_steps; a number below 1 is a ratio"),
        ("group_by_length", "write train_sampling_strategy: group_by_length"),
        ("logging_dir", "leave it out"),
        ("overwrite_output_dir", "leave it out"),
        ("save_safetensors", "leave it out"),
        ("per_gpu_train_batch_size", "write per_device_train_batch_size"),
        ("lr", "write learning_rate"),
    ],
)
def test_names_of_older_versions_are_told_their_successors(fields: TrainingFields, given: str, expected: str) -> None:
    assert given not in fields.fields
    assert only(fields, {given: 1}).startswith(f"{given}: not in transformers {fields.version}: {expected}")


def test_a_name_that_the_installed_version_has_is_not_called_old() -> None:
    """Which names are old is decided by what is installed, not by a list."""
    older = TrainingFields(
        fields={"warmup_ratio": training_fields.TrainingField(name="warmup_ratio", kinds=frozenset({"float"}))},
        version="4.0",
    )
    assert older.problems({"warmup_ratio": 0.1}) == []
    assert older.problems({"eval_strategy": "no"})[0][1].startswith("no such TrainingArguments field")


@pytest.mark.parametrize("name", sorted(OWNED))
def test_what_ftcheck_sets_itself_is_refused_with_the_reason(fields: TrainingFields, name: str) -> None:
    assert only(fields, {name: 1}) == f"{name}: {OWNED[name]}"
    assert name not in fields.schema()


def test_all_mistakes_come_at_once(fields: TrainingFields) -> None:
    given = {"learning_rate": 0, "seed": 1, "epochs": 3, "optim": "x", "save_steps": 10, "max_steps": 1}
    assert [name for name, _ in fields.problems(given)] == ["learning_rate", "seed", "epochs", "optim"]
    related = {"learning_rate": 0, "max_steps": 1, "num_train_epochs": 1}
    assert [name for name, _ in fields.problems(related)] == ["learning_rate", "max_steps"]


def test_the_tasks_defaults_are_in_force_where_the_suite_is_silent(fields: TrainingFields) -> None:
    defaults = {"eval_strategy": "epoch", "save_strategy": "epoch"}
    given = {"load_best_model_at_end": True}
    assert fields.problems(given)
    assert fields.problems(given, defaults) == []


SOURCE = '''
from typing import List, Literal, Optional, Union
from .others import Kind, Unknown

class Own(str):
    A = "a"
    B = "b"

class TrainingArguments:
    plain: int = 3
    quoted: "Optional[float]" = field(default=None)
    union: Union[Kind, str] = field(default="x", metadata={"help": "50%% of it", "choices": ["x", "y"]})
    own: Own = field(default=Own.A)
    mode: Literal["p", "q", 1] = "p"
    texts: List[str] = field(default_factory=list)
    object: Unknown = None
    hidden: int = field(init=False)
    _private: int = 0
    CONSTANT = 4
'''  # fmt: skip


def test_every_style_of_annotation_is_read(tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text('__version__ = "9.8"\n')
    (tmp_path / "training_args.py").write_text(SOURCE)
    (tmp_path / "others.py").write_text('class Kind(str):\n    K = "k"\n')
    found = training_fields.read(tmp_path)
    assert found.version == "9.8"
    assert {name: (set(known.kinds), known.choices) for name, known in found.fields.items()} == {
        "plain": ({"int"}, ()),
        "quoted": ({"float", "none"}, ()),
        "union": ({"str"}, ("x", "y")),
        "own": ({"str"}, ("a", "b")),
        "mode": ({"str", "int"}, ("p", "q")),
        "texts": ({"list"}, ()),
        "object": (set(), ()),
    }
    assert found.fields["union"].help == "50% of it"
    assert found.fields["plain"].default == 3
    assert found.problems({"object": 1}) == [("object", "takes a Python object, which a suite can't give")]


@pytest.mark.parametrize(
    "between",
    [
        pytest.param("    def read(\n        self,\n    ) -> int:\n\n        return 1\n", id="a-method"),
        pytest.param("    @property\n    def device(self): return self\n", id="a-property"),
        pytest.param('    def said(self):\n        return """\nno end yet\n"""\n', id="a-text-that-looks-like-the-end"),
        pytest.param("    if True:\n        def one(self): ...\n", id="within-a-condition"),
    ],
)
def test_functions_hide_no_fields(tmp_path: Path, between: str) -> None:
    """They aren't parsed, since most of the source is within them."""
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "training_args.py").write_text(
        "def first():\n    return 0\n\n\nclass TrainingArguments:\n    a: int = 1\n"
        f"{between}    b: float = 2.0\n\n\nasync def last():\n    c: int = 3\n"
    )
    found = training_fields.read(tmp_path).fields
    assert {name: known.default for name, known in found.items()} == {"a": 1, "b": 2.0}


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(None, id="no-file"),
        pytest.param("class (", id="no-python"),
        pytest.param("x = 1", id="no-class"),
        pytest.param(b"# \xff", id="no-utf-8"),
    ],
)
def test_a_source_that_cannot_be_read_is_a_usage_error(tmp_path: Path, source: str | bytes | None) -> None:
    (tmp_path / "__init__.py").write_text("")
    if source is not None:
        (tmp_path / "training_args.py").write_bytes(source if isinstance(source, bytes) else source.encode())
    with pytest.raises(UsageError, match="the source of transformers' TrainingArguments can't be read"):
        training_fields.read(tmp_path)


def test_without_transformers_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_fields, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="transformers is not installed"):
        training_fields.installed.__wrapped__()


def test_reading_suites_imports_nothing_heavy() -> None:
    """Collection and planning stay fast: no torch, transformers, datasets, NumPy or pytest."""
    code = (
        "import sys; from pathlib import Path; from ftcheck import catalogue, devices, spec, suitefile\n"
        "from ftcheck.spec import schema\n"
        "text = b'cases: {a: {checkpoint: o/m, task: text-classification, data: o/d, training: {max_steps: 1},'\n"
        "text += b' gates: {accuracy: {min: 0}}}}'\n"
        "spec.expand(suitefile.parse(text, Path('a.ft.yaml')), catalogue.installed())\n"
        "schema.json_schema(catalogue.installed()); devices.resolve('auto')\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'pytest', 'pyarrow', 'scipy'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
