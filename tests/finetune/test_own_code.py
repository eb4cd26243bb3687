"""Python code that a checkpoint brings along runs only where the suite pins it and the command line allows it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from ftcheck import tasks
from ftcheck.errors import CheckpointError
from ftcheck.finetune import Job
from ftcheck.finetune import model as models
from ftcheck.finetune import own_code as running
from ftcheck.finetune.session import FineTuning
from ftcheck.keys import Identifier, own_code
from ftcheck.spec import Checkpoint, RemoteCode
from tests import hub_server, tiny
from tests.finetune.jobs import TEXTS, job, loaded

MARKER = "import os\nwith open(os.environ['MARKER'], 'a') as file:\n    file.write(__name__ + '\\n')\n"
CONFIGURATION = """
from transformers import PreTrainedConfig

class OwnConfig(PreTrainedConfig):
    model_type = "nobody_knows"
    vocab_size = 200
    width = 8
"""
MODELING = """
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_own import OwnConfig

class OwnClassifier(PreTrainedModel):
    config_class = OwnConfig
    base_model_prefix = "body"

    def __init__(self, config):
        super().__init__(config)
        self.body = nn.Embedding(config.vocab_size, config.width)
        self.head = nn.Linear(config.width, config.num_labels)
        self.post_init()

    def get_input_embeddings(self):
        return self.body

    def _init_weights(self, module):
        nn.init.normal_(module.weight, std=0.5)

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, labels=None):
        logits = self.head(self.body(input_ids).mean(1))
        loss = nn.functional.cross_entropy(logits, labels) if labels is not None else None
        return SequenceClassifierOutput(loss=loss, logits=logits)
"""
TOKENIZATION = """
from transformers import BertTokenizerFast

class OwnTokenizer(BertTokenizerFast):
    pass
"""
CODE = {
    "configuration_own.py": MARKER + CONFIGURATION,
    "modeling_own.py": MARKER + MODELING,
    "tokenization_own.py": MARKER + TOKENIZATION,
}
AUTO_MAP = {
    "AutoConfig": "configuration_own.OwnConfig",
    "AutoModelForSequenceClassification": "modeling_own.OwnClassifier",
}
TWO = {"problem_type": "single_label_classification", "labels": ["moves", "rests"], "from": "data"}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose config, model and tokenizer are classes of its own."""
    import torch
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("own") / "checkpoint"
    tokenizer = tiny.bert_tokenizer(folder)
    config = {"model_type": "nobody_knows", "vocab_size": len(tokenizer), "width": 8, "auto_map": AUTO_MAP}
    (folder / "config.json").write_text(json.dumps(config))
    written = folder / "tokenizer_config.json"
    settings = json.loads(written.read_text())
    auto_map = {"AutoTokenizer": [None, "tokenization_own.OwnTokenizer"]}
    written.write_text(json.dumps({**settings, "auto_map": auto_map, "tokenizer_class": "OwnTokenizer"}))
    for name, text in CODE.items():
        (folder / name).write_text(text)
    save_file({"body.weight": torch.zeros(len(tokenizer), 8)}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(autouse=True)
def ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The modules of such code that ran in this test."""
    marker = tmp_path / "ran"
    monkeypatch.setenv("MARKER", str(marker))
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)  # a module runs once in a process
    return lambda: [name.rpartition(".")[2] for name in marker.read_text().split()] if marker.exists() else []


def job_of(path: str | Path, code: RemoteCode | None, *, local: bool = True, **fields: Any) -> Job:
    checkpoint = Checkpoint(path=str(path), local=local, remote_code=code)
    given = {"allow_remote_code": True, "training": {"max_steps": 2}, "checkpoint": checkpoint, **fields}
    return job("text-classification", Path(path), **given)


def load(made: Job, directory: Path | None = None) -> Any:
    return models.load(made, tasks.get("text-classification"), dict(TWO), directory, training=directory is None)


def trusted(folder: Path) -> RemoteCode:
    return RemoteCode(revision=own_code.revision(folder))


@pytest.mark.parametrize("allowed", [False, True], ids=["no-flag", "flag"])
def test_without_the_suite_nothing_runs_and_the_error_names_both(
    own: Path, allowed: bool, ran: Callable[[], list[str]]
) -> None:
    with pytest.raises(CheckpointError) as raised:
        load(job_of(own, None, allow_remote_code=allowed))
    assert f"trust_remote_code: {{revision: {own_code.revision(own)}}}" in str(raised.value)
    assert "--ft-allow-remote-code" in str(raised.value)
    assert ran() == []


def test_without_the_command_line_nothing_runs(own: Path, ran: Callable[[], list[str]]) -> None:
    with pytest.raises(CheckpointError, match=r"the suite trusts at .* runs only with --ft-allow-remote-code"):
        load(job_of(own, trusted(own), allow_remote_code=False))
    assert ran() == []


def test_of_a_model_that_a_technique_names_none_runs(own: Path, ran: Callable[[], list[str]]) -> None:
    """And nobody is told to trust it, which a suite can't say."""
    other = models.Source.of_other(Checkpoint(path=str(own), local=True), job_of(own, trusted(own)))
    with pytest.raises(CheckpointError, match="own Python code, which runs for the case's own checkpoint only"):
        models.load_config(other)
    assert ran() == []


def test_code_that_changed_since_it_was_read_does_not_run(
    own: Path, tmp_path: Path, ran: Callable[[], list[str]]
) -> None:
    copy = Path(shutil.copytree(own, tmp_path / "copy"))
    code = trusted(copy)
    (copy / ".hidden.py").write_text("one more")
    with pytest.raises(CheckpointError, match="read them, then write that"):
        load(job_of(copy, code))
    with pytest.raises(CheckpointError, match="read them, then write that"):
        Identifier(tmp_path / "memo").checkpoint(Checkpoint(path=str(copy), local=True, remote_code=code))
    assert ran() == []


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        pytest.param("other/repo--modeling_own.OwnClassifier", "its code is in other/repo", id="another-repository"),
        pytest.param("/tmp/modeling_own.OwnClassifier", r"no module\.Class", id="absolute-path"),
        pytest.param("../modeling_own.OwnClassifier", r"no module\.Class", id="above"),
        pytest.param("modeling_own", r"no module\.Class", id="no-class"),
    ],
)
def test_code_from_anywhere_else_does_not_run(
    reference: str, message: str, own: Path, tmp_path: Path, ran: Callable[[], list[str]]
) -> None:
    copy = Path(shutil.copytree(own, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["auto_map"] = dict.fromkeys(AUTO_MAP, reference)
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load(job_of(copy, trusted(copy)))
    assert ran() == []


def test_a_trusted_checkpoint_is_trained_kept_without_its_code_and_read_again(
    own: Path, tmp_path: Path, ran: Callable[[], list[str]]
) -> None:
    made = job_of(own, trusted(own))
    rows = loaded(train=TEXTS, eval=TEXTS)
    with FineTuning(made, loaded=rows) as tuning:
        tuning.train()
        tuning.save(tmp_path / "kept")
        first = tuning.predict().records
    assert [type(tuning.task).__name__, sorted(set(ran()))] == [
        "TextClassification",
        ["configuration_own", "modeling_own", "tokenization_own"],
    ]
    assert [path.name for path in (tmp_path / "kept").rglob("*") if path.suffix == ".py"] == []
    with FineTuning(made, loaded=rows) as tuning:
        tuning.load(tmp_path / "kept")
        assert (type(tuning.model).__name__, type(tuning.tokenizer).__name__) == ("OwnClassifier", "OwnTokenizer")
        assert tuning.predict().records == first
    with pytest.raises(CheckpointError, match="--ft-allow-remote-code"):
        load(job_of(own, trusted(own), allow_remote_code=False), tmp_path / "kept")


def test_a_model_that_transformers_knows_is_loaded_without_its_own_code(
    tmp_path: Path, ran: Callable[[], list[str]]
) -> None:
    path = tiny.bert(tmp_path / "bert")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "auto_map": AUTO_MAP}))
    for name, text in CODE.items():
        (path / name).write_text(text)
    model, _, _ = load(job_of(path, None))
    assert (type(model).__name__, ran()) == ("BertForSequenceClassification", [])


def test_code_that_cannot_be_imported_is_one_clear_error(own: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(own, tmp_path / "copy"))
    (copy / "configuration_own.py").write_text("def broken(:\n")
    with pytest.raises(CheckpointError, match=r"its code \(configuration_own\.OwnConfig\) can't be run: SyntaxError"):
        load(job_of(copy, trusted(copy)))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with hub_server.serve() as served:
        hub_server.attach(served, tmp_path / "hf", monkeypatch)
        yield served


def files(folder: Path, **changed: str) -> Mapping[str, bytes]:
    found = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    return {**found, **{f"{name}.py": text.encode() for name, text in changed.items()}}


def test_of_the_hub_the_pinned_code_runs_whatever_the_weights_are_at(
    own: Path, hub: hub_server.Hub, ran: Callable[[], list[str]]
) -> None:
    pinned = hub.put("models", "org/own", files(own))
    newest = hub.put("models", "org/own", files(own, modeling_own="raise SystemExit('never read')"))
    model, _, _ = load(job_of("org/own", RemoteCode(revision=pinned), local=False, checkpoint_revision=newest))
    assert type(model).__name__ == "OwnClassifier"
    assert "modeling_own" in ran()
    with pytest.raises(CheckpointError, match=f"revision: {newest}"):
        load(job_of("org/own", None, local=False, checkpoint_revision=newest))


def test_code_of_another_repository_runs_where_the_suite_names_it(
    own: Path, hub: hub_server.Hub, ran: Callable[[], list[str]]
) -> None:
    code = hub.put("models", "org/code", files(own))
    config = json.loads((own / "config.json").read_text())
    config["auto_map"] = {name: f"org/code--{reference}" for name, reference in AUTO_MAP.items()}
    given = {**files(own), "config.json": json.dumps(config).encode(), "modeling_own.py": b"raise SystemExit('no')"}
    settings = json.loads((own / "tokenizer_config.json").read_text())
    del settings["auto_map"]
    given["tokenizer_config.json"] = json.dumps({**settings, "tokenizer_class": "BertTokenizerFast"}).encode()
    weights = hub.put("models", "org/weights", given)
    here: dict[str, Any] = {"local": False, "checkpoint_revision": weights}
    with pytest.raises(CheckpointError, match=r"its code is in org/code .* trusts that of org/weights"):
        load(job_of("org/weights", RemoteCode(revision=weights), **here))
    assert ran() == []
    model, _, _ = load(job_of("org/weights", RemoteCode(revision=code, repository="org/code"), **here))
    assert type(model).__name__ == "OwnClassifier"


def test_the_shared_cache_of_modules_is_not_believed(
    own: Path, hub: hub_server.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import dynamic_module_utils

    commit = hub.put("models", "org/own", files(own))
    poisoned = tmp_path / "modules" / "transformers_modules" / "org" / "own" / commit
    poisoned.mkdir(parents=True)
    for name in CODE:
        (poisoned / name).write_text("raise SystemExit('poisoned')")
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    load(job_of("org/own", RemoteCode(revision=commit), local=False, checkpoint_revision=commit))
    assert str(tmp_path / "modules") not in sys.path


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folders = {name: tmp_path / f"{running.PREFIX}{name}" for name in ("gone", "held", "new")}
    for name, folder in folders.items():
        folder.mkdir()
        (folder / "module.py").touch()
        if name != "new":
            os.utime(folder, (0, 0))
    with FileLock(folders["held"] / running.LOCK):
        os.utime(folders["held"], (0, 0))
        running._sweep()
    assert [name for name, folder in folders.items() if folder.exists()] == ["held", "new"]


def test_the_key_tells_which_code_runs(own: Path, hub: hub_server.Hub, tmp_path: Path) -> None:
    identifier = Identifier(tmp_path / "memo")
    commit = hub.put("models", "org/own", files(own))
    found = [
        identifier.checkpoint(Checkpoint(path="org/own", local=False, remote_code=code))
        for code in (None, RemoteCode(revision=commit), RemoteCode(revision=commit, repository="org/code"))
    ]
    assert all(one != other for place, one in enumerate(found) for other in found[:place])
    assert "modeling_own.py" in identifier.checkpoint(Checkpoint(path=str(own), local=True))["files"]


def test_no_module_of_ours_asks_transformers_to_trust_anything() -> None:
    for path in Path(running.__file__).parents[1].rglob("*.py"):
        assert "trust_remote_code=True," not in path.read_text("utf-8"), path
