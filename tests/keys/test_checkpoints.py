"""What loading a checkpoint can read is its identity, what it can't read isn't; what is no checkpoint is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ftcheck.errors import CheckpointError
from ftcheck.keys import Identifier, files, train_key
from ftcheck.spec import Checkpoint
from tests.keys.inputs import case, changed, checkpoint_folder


def identities(folder: Path, tokenizer: Path | None = None) -> tuple[dict[str, object], dict[str, object]]:
    """The model's and the tokenizer's identity, for a fresh session."""
    identifier = Identifier(folder.parent / "memo")
    checkpoint = Checkpoint(path=str(folder), local=True, tokenizer=str(tokenizer) if tokenizer else None)
    return identifier.checkpoint(checkpoint), identifier.tokenizer(checkpoint)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoint_folder(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("config.json", b'{"model_type": "roberta"}', id="config"),
        pytest.param("generation_config.json", b"{}", id="generation config"),
        pytest.param("model-00001-of-00001.safetensors", b"x", id="another shard"),
        pytest.param("adapter_config.json", b"{}", id="adapter"),
        pytest.param("modeling_own.py", b"x = 1", id="the checkpoint's own code"),
        pytest.param("something_new.json", b"{}", id="a file that nobody knows"),
    ],
)
def test_a_file_that_the_model_may_read_changes_the_model_only(folder: Path, name: str, content: bytes) -> None:
    before = identities(folder)
    (folder / name).write_bytes(content)
    after = identities(folder)
    assert after[0] != before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.txt",
            "vocab.json",
            "merges.txt",
            "special_tokens_map.json",
        ),
        *("added_tokens.json", "spiece.model", "sentencepiece.bpe.model", "source.spm", "tekken.json"),
        *("chat_template.jinja", "chat_template.json", "additional_chat_templates/tools.jinja"),
    ],
)
def test_a_tokenizer_file_changes_the_tokenizer_only(folder: Path, name: str) -> None:
    before = identities(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"changed")
    after = identities(folder)
    assert after[0] == before[0]
    assert after[1] != before[1]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "optimizer.pt",
            "scheduler.pt",
            "rng_state.pth",
            "rng_state_0.pth",
            "trainer_state.json",
            "training_args.bin",
        ),
        *(
            "README.md",
            "LICENSE",
            ".gitattributes",
            ".git/HEAD",
            "runs/today/events",
            "checkpoint-500/model.safetensors",
        ),
        *("onnx/model.onnx", "pytorch_model.bin", "tf_model.h5", "__pycache__/x.pyc", "eval_results.json"),
    ],
)
def test_what_a_training_leaves_behind_changes_nothing(folder: Path, name: str) -> None:
    before = identities(folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x")
    assert identities(folder) == before


def test_one_bit_of_a_weight_changes_the_model(folder: Path) -> None:
    before = identities(folder)
    changed(folder / "model.safetensors", b"\x07", b"\x06")
    assert identities(folder)[0] != before[0]


def test_a_checkpoint_is_the_same_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, copy)
    assert identities(copy) == identities(folder)


def test_a_snapshot_of_links_is_the_same_as_its_files(folder: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for file in folder.iterdir():
        (linked / file.name).symlink_to(file)
    assert identities(linked) == identities(folder)


def test_a_tokenizer_of_its_own_depends_on_the_config_beside_it(folder: Path, tmp_path: Path) -> None:
    tokenizer = checkpoint_folder(tmp_path / "tokenizer")
    before = identities(folder, tokenizer)
    changed(tokenizer / "config.json", b"bert", b"gpt2")
    after = identities(folder, tokenizer)
    assert after[0] == before[0]
    assert after[1] != before[1]


def _is_missing(folder: Path) -> None:
    shutil.rmtree(folder)


def _is_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("x")


def _has_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _is_an_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def _has_a_pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _has_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _lacks_a_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _has_a_broken_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{")


def _has_no_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(_is_missing, "doesn't exist", id="missing"),
        pytest.param(_is_a_file, "is a file", id="a file"),
        pytest.param(_has_no_config, "no config.json", id="no checkpoint"),
        pytest.param(_is_an_adapter, "adapter without its model", id="adapter"),
        pytest.param(_has_a_pickle_only, "save_pretrained(DIR)", id="pickle only"),
        pytest.param(_has_no_weights, "no weights", id="no weights"),
        pytest.param(_lacks_a_shard, "model-00002-of-00002.safetensors, which isn't there", id="shard missing"),
        pytest.param(_has_a_broken_index, "is no index", id="broken index"),
        pytest.param(_has_no_tokenizer, "no tokenizer", id="no tokenizer"),
    ],
)
def test_what_is_no_usable_checkpoint_is_refused_in_one_line(
    folder: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(folder)
    with pytest.raises(CheckpointError) as raised:
        identities(folder)
    assert message in str(raised.value)
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_is_looked_at_once_is_looked_at_anew_by_another_thread(folder: Path) -> None:
    """One makes keys while another asks whether an input was changed meanwhile."""
    identifier = Identifier(folder.parent / "memo")
    checkpoint = Checkpoint(path=str(folder), local=True)
    with identifier.at_once(), ThreadPoolExecutor(1) as other:
        before = identifier.checkpoint(checkpoint)
        (folder / "config.json").write_text('{"model_type": "roberta"}')
        assert identifier.checkpoint(checkpoint) == before
        assert other.submit(identifier.checkpoint, checkpoint).result() != before


def test_however_many_cases_name_a_checkpoint_its_files_are_read_once_and_never_by_a_later_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[Path]
) -> None:
    monkeypatch.setattr(files, "RACY_NS", -(10**18))  # these files were written just now
    cases = [case(tmp_path, id=f"case{number}") for number in range(3)]
    made = []
    for _ in range(2):
        session = Identifier(tmp_path / "memo")
        for one in cases:
            for seed in (1, 2):
                made.append(train_key(one, seed, device_type="cpu", precision="fp32", identifier=session).digest)
        weights = [path.name for path in hashed if path.name in ("model.safetensors", "vocab.txt", "train.csv")]
        assert sorted(weights) == ["model.safetensors", "train.csv", "vocab.txt"]
    assert len(set(made)) == 2
    assert len(hashed) == len(set(hashed))
