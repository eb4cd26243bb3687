"""A case whose inputs all lie in a temporary folder, small enough to be changed one at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ftcheck.keys import Identifier, Key, predict_key, train_key
from ftcheck.spec import Case, Checkpoint, Data, Gate


def checkpoint_folder(folder: Path) -> Path:
    """The files of a checkpoint with its tokenizer; their content is nothing that loads."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    return folder


def case(root: Path, **changes: Any) -> Case:
    """A text classification on three csv files, with something in every field that a key may or may not have."""
    files = {}
    for split in ("train", "validation", "test"):
        path = root / "data" / f"{split}.csv"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"text,label\n{split} one,a\n{split} two,b\n")
        files[split] = (str(path),)
    if not (root / "model").exists():
        checkpoint_folder(root / "model")
    made = Case(
        id="intents",
        suite=root / "suite.ft.yaml",
        line=1,
        checkpoint=Checkpoint(path=str(root / "model"), local=True),
        task="text-classification",
        task_options={"problem_type": "single_label_classification", "max_length": 128},
        data=Data(kind="reader", path="csv", files=files, columns={"text": "text"}),
        training={"learning_rate": 5e-5, "num_train_epochs": 3, "output_dir": "somewhere"},
        metrics=("accuracy",),
        gates=(Gate(metric="accuracy", min=0.9),),
    )
    return replace(made, **changes)


def keys(
    made: Case,
    memo: Path,
    *,
    seed: int = 42,
    device_type: str = "cpu",
    precision: str = "fp32",
    limit: int | None = None,
    predict_on: str | None = None,
) -> tuple[Key, Key]:
    """The train and predict key of a case, as a fresh session makes them."""
    identifier = Identifier(memo)
    train = train_key(made, seed, device_type=device_type, precision=precision, identifier=identifier, limit=limit)
    predict = predict_key(
        train,
        made,
        device_type=predict_on or device_type,
        precision=precision,
        identifier=identifier,
        limit=limit,
    )
    return train, predict


def around_edit(made: Case, memo: Path, source: Path) -> tuple[tuple[Key, Key], tuple[Key, Key]]:
    """The train and predict key of a case before and after a line is added to a Python file."""
    old = keys(made, memo)
    with source.open("a") as file:
        file.write("\n# changed\n")
    return old, keys(made, memo)


def changed(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes in a file."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
