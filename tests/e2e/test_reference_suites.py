"""The reference suites as they are, from a Hub that has our own checkpoint and rows under the names they ask for."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ftcheck import catalogue, suitefile
from ftcheck.spec import expand
from tests import tiny
from tests.e2e.project import INTERNAL, Done, Project
from tests.hub_server import Hub, serve

REFERENCE = Path(__file__).resolve().parents[2] / "suites" / "reference"
MRPC, NER = REFERENCE / "glue.ft.yaml", REFERENCE / "conll2003.ft.yaml"
BERT = "google-bert/bert-base-cased"
TRAIN = "train-00000-of-00001.parquet"

GLUE_CARD = """---
configs:
- config_name: cola
  data_files:
  - {split: train, path: cola/train-*}
- config_name: mrpc
  data_files:
  - {split: train, path: mrpc/train-*}
  - {split: validation, path: mrpc/validation-*}
  - {split: test, path: mrpc/test-*}
---
"""
SAME = ("the cat sees the dog .", "the dog sees the cat .")
OTHER = ("the cat sees the dog .", "ann sleeps in paris .")


def parquet(columns: Mapping[str, Sequence[Any]], **features: Any) -> bytes:
    """A file as `datasets` writes it, the classes of `features` in its schema."""
    from datasets import Dataset

    rows = Dataset.from_dict(dict(columns))
    for name, feature in features.items():
        rows = rows.cast_column(name, feature)
    buffer = io.BytesIO()
    rows.to_parquet(buffer)
    return buffer.getvalue()


def pairs(count: int, *, hidden: bool = False) -> bytes:
    """A split of GLUE's MRPC; the labels of `test` are hidden."""
    from datasets import ClassLabel

    rows = [(*(SAME if place % 2 else OTHER), -1 if hidden else place % 2, place) for place in range(count)]
    columns = dict(zip(("sentence1", "sentence2", "label", "idx"), zip(*rows, strict=True), strict=True))
    return parquet(columns, label=ClassLabel(names=["not_equivalent", "equivalent"]))


def sentences(count: int) -> bytes:
    """A split of CoNLL-2003."""
    from datasets import ClassLabel, List

    names = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
    columns: dict[str, Sequence[Any]] = {
        "id": [str(place) for place in range(count)],
        "tokens": [["ann", "sees", "paris", "."]] * count,
        "pos_tags": [[0, 1, 0, 2]] * count,
        "ner_tags": [[1, 0, 5, 0]] * count,
    }
    return parquet(columns, ner_tags=List(ClassLabel(names=names)))


def glue(rows: int = 40) -> dict[str, bytes]:
    """GLUE's repository, with two of its configurations."""
    return {
        "README.md": GLUE_CARD.encode(),
        f"cola/{TRAIN}": b"nobody asked for it",
        f"mrpc/{TRAIN}": pairs(rows),
        "mrpc/validation-00000-of-00001.parquet": pairs(16),
        "mrpc/test-00000-of-00001.parquet": pairs(16, hidden=True),
    }


def conll() -> dict[str, bytes]:
    """CoNLL-2003's repository, without a card: its files say which splits they are."""
    return {f"data/{split}-00000-of-00001.parquet": sentences(24) for split in ("train", "validation", "test")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Somebody who runs reference suites against a Hub, with a cache and a run store of their own."""

    hub: Hub
    project: Project
    cache: Path

    def run(self, *arguments: object, store: Path | None = None, offline: str = "") -> Done:
        """pytest with the cases that are marked `hub`, one seed of each, on 32 rows."""
        small = ("-m", "hub", "--ft-seeds=1", "--ft-limit=32")
        return self.project.run(*small, *(str(argument) for argument in arguments), store=store, HF_HUB_OFFLINE=offline)

    def plan(self, *arguments: object) -> dict[str, str]:
        """Case id -> what is to be done."""
        done = self.run("--ft-plan", *arguments)
        return dict(re.findall(r"^([\w.-]+): ((?:train|evaluate|no training|\d+ found).*)$", done.text, re.M))


@pytest.fixture(scope="module")
def bert_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT that takes the 128 tokens of the recipes."""
    return tiny.bert(tmp_path_factory.mktemp("bert-base"), max_position_embeddings=128)


@pytest.fixture
def hub(bert_base: Path) -> Iterator[Hub]:
    """A Hub that has what two reference cases load."""
    with serve() as running:
        running.put("models", BERT, bert_base)
        running.put("datasets", "nyu-mll/glue", glue())
        running.put("datasets", "tomaarsen/conll2003", conll())
        yield running


@pytest.fixture
def reader(hub: Hub, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    for name in ("TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    # For the processes that it starts: here the libraries read theirs when the checkpoint was made.
    for name, value in hub.environment(tmp_path / "hf").items():
        monkeypatch.setenv(name, value)
    return Reader(hub=hub, project=project, cache=tmp_path / "hf")


def scores(done: Done) -> dict[str, dict[str, float]]:
    """Case id -> metric -> value, of the metrics that don't measure time or memory."""
    return {
        case_id: {m["name"]: m["value"] for m in metrics if re.search("accuracy|f1", m["name"])}
        for case_id, metrics in done.metrics.items()
    }


def test_every_reference_suite_is_right_and_can_be_planned(reader: Reader) -> None:
    """Planning resolves what the Hub names stand for, and loads nothing."""
    wanted = {}
    files = sorted(REFERENCE.glob("*.ft.yaml"))
    for path in files:
        for case in expand(suitefile.read(path), catalogue.installed()):
            assert "hub" in [mark.name for mark in case.marks], f"{path.name}::{case.id} has no mark `hub`"
            assert case.gates, f"{path.name}::{case.id} has no gate"
            reader.hub.put("models", case.checkpoint.path, {"config.json": b"{}"})
            reader.hub.put("datasets", case.data.path, {}, revision=case.data.revision or "main")
            wanted[case.id] = "no training, evaluate 1" if case.training is None else "train 1 seed, evaluate 1"
    assert reader.plan(*files) == wanted
    assert not [request for request in reader.hub.requests if "/resolve/" in request]


def test_two_reference_suites_come_from_the_hub_then_from_the_store_then_from_the_cache(reader: Reader) -> None:
    first = reader.run(MRPC, NER, "-k", "mrpc or ner")
    assert first.code == 0, first.text
    assert [result["verdict"] for result in first.results.values()] == ["smoke", "smoke"]
    assert scores(first)["mrpc"].keys() >= {"accuracy", "f1"}
    assert scores(first)["ner"].keys() >= {"entity_f1"}
    assert not [request for request in reader.hub.requests if "cola" in request and "/resolve/" in request]

    asked = len(reader.hub.requests)
    kept = reader.project.kept()
    for arguments, variable in ((["--ft-offline"], ""), ([], "1")):
        again = reader.run(MRPC, NER, "-k", "mrpc or ner", *arguments, offline=variable)
        assert (again.code, scores(again)) == (0, scores(first)), again.text
    assert reader.project.kept() == kept

    elsewhere = reader.run(MRPC, NER, "-k", "mrpc or ner", "--ft-offline", store=reader.project.path / "another")
    assert (elsewhere.code, scores(elsewhere)) == (0, scores(first)), elsewhere.text
    assert len(reader.hub.requests) == asked, "offline, and yet the Hub was asked"


def test_a_revision_that_moves_is_trained_anew(reader: Reader, bert_base: Path) -> None:
    cases = (MRPC, NER, "-k", "mrpc or ner")
    assert reader.run(*cases).code == 0
    found = {"mrpc": "1 found in the store", "ner": "1 found in the store"}
    assert reader.plan(*cases) == found
    reader.hub.put("datasets", "nyu-mll/glue", glue(rows=38))
    assert reader.plan(*cases) == {**found, "mrpc": "train 1 seed, evaluate 1"}
    assert reader.plan(*cases, "--ft-offline") == found, "offline, the commit in the cache is what a name means"
    config = {path.name: path.read_bytes() for path in bert_base.iterdir()}
    reader.hub.put("models", BERT, {**config, "README.md": b"A new card"})
    assert reader.plan(*cases) == dict.fromkeys(found, "train 1 seed, evaluate 1")


def test_what_the_hub_does_not_have_or_give_is_one_sentence(reader: Reader, bert_base: Path) -> None:
    reader.hub.put("models", "distilbert/distilbert-base-uncased", bert_base, gated=True)
    reader.hub.put("datasets", "tomaarsen/conll2003", conll(), gated=True)
    done = reader.run(REFERENCE / "mrpc.ft.yaml", NER, MRPC, "-k", "distilbert or roberta or ner")
    assert done.code == 1
    expected = {
        "roberta": "the checkpoint FacebookAI/roberta-base is not on the Hub: check the spelling, log in with "
        "`hf auth login` if it is private, or give the path of a local folder",
        "distilbert": r"checkpoint distilbert/distilbert-base-uncased@\w{12}: access to it is restricted: accept its "
        r"terms on its page and log in \(`hf auth login`\)",
        "ner": r"data.path: tomaarsen/conll2003 at \w{40} is gated: accept its terms on its page and give a token "
        r"\(hf auth login, or HF_TOKEN\)",
    }
    for case_id, sentence in expected.items():
        assert re.fullmatch(sentence, done.errors(case_id)), done.errors(case_id)
    assert not INTERNAL.search(done.text)


def test_a_download_that_breaks_off_leaves_nothing_behind_that_is_used(reader: Reader) -> None:
    cases = (MRPC, NER, "-k", "mrpc or ner")
    reader.hub.cut = {f"mrpc/{TRAIN}", "model.safetensors"}
    broken = reader.run(*cases)
    beginnings = {
        "mrpc": r"data.path: nyu-mll/glue at \w{40} can't be fetched: ",
        "ner": rf"checkpoint {BERT}@\w{{12}}: its download broke off ",
    }
    for case_id, beginning in beginnings.items():
        error = str(broken.results[case_id]["error"])
        assert re.fullmatch(beginning + r"[^\n]+", error), error
        assert f"\n{case_id}: {error}\n" in broken.text
    assert not INTERNAL.search(broken.text)
    assert reader.project.kept() == []
    assert "is not in the local Hub cache" in reader.run(NER, "--ft-offline").errors("ner")
    reader.hub.cut = set()
    whole = reader.run(*cases)
    assert whole.code == 0, whole.text
    weights = reader.cache.glob("hub/models--*/snapshots/*/model.safetensors")
    served = next(iter(reader.hub.repositories["models", BERT].commits.values()))["model.safetensors"]
    assert [path.read_bytes() for path in weights] == [served]
