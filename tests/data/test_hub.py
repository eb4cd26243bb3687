"""Data sets on the Hub: exactly the wanted commit, online and offline, and one sentence for what can't be had."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftcheck.errors import DataError
from ftcheck.finetune.data import load
from ftcheck.keys.hub import resolve
from ftcheck.spec import Data
from tests.data.jobs import job
from tests.hub_server import Hub, attach, serve

OLD = {"train.csv": b"text,label\nold,NA\nolder,007\n", "test.csv": b"text,label\ntest,NA\n"}
NEW = {"train.csv": b"text,label\nnew,NA\n", "test.csv": b"text,label\ntest,NA\n"}
CONFIGURED = {
    "README.md": b"""---
configs:
- config_name: small
  data_files:
  - {split: train, path: small/train-*}
  - {split: test, path: small/test-*}
- config_name: large
  data_files:
  - {split: train, path: large/train-*}
  - {split: test, path: large/test-*}
dataset_info:
- config_name: small
  features:
  - {name: text, dtype: string}
  - name: label
    dtype:
      class_label:
        names: {'0': zebra, '1': ant}
  splits:
  - {name: train, num_examples: 2, num_bytes: 1}
  - {name: test, num_examples: 1, num_bytes: 1}
---
# A card
""",
    "small/train-00000-of-00002.csv": b"text,label\na,ant\n",
    "small/train-00001-of-00002.csv": b"text,label\nb,zebra\n",
    "small/test-00000-of-00001.csv": b"text,label\nc,ant\n",
    "large/train-00000-of-00001.csv": b"text,label\nd,x\n",
    "large/test-00000-of-00001.csv": b"text,label\ne,x\n",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as running:
        attach(running, tmp_path / "cache", monkeypatch)
        yield running


def texts(revision: str, *, offline: bool = False, repo: str = "org/data", name: str | None = None) -> list[str]:
    loaded = load(job(Data(kind="hub", path=repo, name=name), data_revision=revision, offline=offline))
    assert loaded.train is not None
    return list(loaded.train["text"])


def test_a_commit_is_loaded_and_loaded_again_without_a_network(hub: Hub) -> None:
    commit = hub.put("datasets", "org/data", OLD)
    assert texts(commit) == ["old", "older"]
    asked = len(hub.requests)
    assert texts(commit) == ["old", "older"]
    assert len(hub.requests) == asked, "a commit never changes, so there is nothing to ask again"
    assert texts(commit, offline=True) == ["old", "older"]
    assert len(hub.requests) == asked


def test_values_are_what_the_files_say(hub: Hub) -> None:
    """pandas, which reads CSV for `datasets`, would say None and 7.0."""
    loaded = load(job(Data(kind="hub", path="org/data"), data_revision=hub.put("datasets", "org/data", OLD)))
    assert loaded.train is not None
    assert loaded.train["label"][:] == ["NA", "007"]


def test_offline_the_wanted_commit_is_read_not_the_newest(hub: Hub) -> None:
    """`load_dataset(id, revision=...)` offline serves the newest copy, whatever the revision."""
    old = hub.put("datasets", "org/data", OLD)
    new = hub.put("datasets", "org/data", NEW)
    assert texts(old) == ["old", "older"]
    assert texts(new) == ["new"]
    assert texts(old, offline=True) == ["old", "older"]


def test_a_branch_that_moved_does_not_move_a_resolved_commit(hub: Hub) -> None:
    old = hub.put("datasets", "org/data", OLD)
    hub.put("datasets", "org/data", NEW)
    assert texts(old) == ["old", "older"]


def test_what_a_branch_stood_for_is_known_offline_once_its_files_are_there(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are fetched by commit, for which huggingface_hub notes no branch."""
    commit = hub.put("datasets", "org/data", OLD)
    hub.cut = {"train.csv"}
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's retries
    with pytest.raises(DataError):
        texts(commit)
    with pytest.raises(DataError, match="is not in the local Hub cache"):
        resolve("org/data", "dataset", None, offline=True)
    hub.cut = set()
    texts(commit)
    assert resolve("org/data", "dataset", None, offline=True) == commit


def test_a_configuration_fetches_its_own_files_only(hub: Hub) -> None:
    commit = hub.put("datasets", "org/data", CONFIGURED)
    assert texts(commit, name="small") == ["a", "b"]
    assert not [request for request in hub.requests if "large/" in request and "/resolve/" in request]
    assert texts(commit, name="small", offline=True) == ["a", "b"]


def test_class_names_of_the_card_are_kept_in_their_order(hub: Hub) -> None:
    commit = hub.put("datasets", "org/data", CONFIGURED)
    loaded = load(job(Data(kind="hub", path="org/data", name="small"), data_revision=commit))
    assert loaded.train is not None
    assert loaded.train.features["label"].names == ["zebra", "ant"]
    assert loaded.train["label"][:] == [1, 0]
    assert loaded.roles["train"].place(1).endswith("small/train-00001-of-00002.csv:2")


def test_class_names_of_the_card_are_kept_in_a_sum_of_splits(hub: Hub) -> None:
    commit = hub.put("datasets", "org/data", CONFIGURED)
    data = Data(kind="hub", path="org/data", name="small", splits={"train": "train+test"})
    loaded = load(job(data, data_revision=commit))
    assert loaded.train is not None
    assert loaded.train.features["label"].names == ["zebra", "ant"]
    assert loaded.train["label"][:] == [1, 0, 1]
    assert loaded.roles["train"].place(2).endswith("small/test-00000-of-00001.csv:2")


def test_parquet_keeps_class_names(hub: Hub) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    buffer = io.BytesIO()
    Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features).to_parquet(buffer)
    files = {f"data/{split}-00000-of-00001.parquet": buffer.getvalue() for split in ("train", "test")}
    loaded = load(job(Data(kind="hub", path="org/data"), data_revision=hub.put("datasets", "org/data", files)))
    assert loaded.train is not None
    assert loaded.train.features["label"].names == ["no", "yes"]


def test_a_format_of_which_there_is_no_reader_goes_through_datasets(hub: Hub, tmp_path: Path) -> None:
    from datasets import Features, Value
    from datasets.arrow_writer import ArrowWriter

    features = Features({"text": Value("string"), "label": Value("string")})
    with ArrowWriter(path=str(tmp_path / "rows.arrow"), features=features) as writer:
        writer.write({"text": "a", "label": "x"})
        writer.finalize()
    content = (tmp_path / "rows.arrow").read_bytes()
    files = {"train.arrow": content, "test.arrow": content}
    assert texts(hub.put("datasets", "org/data", files)) == ["a"]


def snapshot(tmp_path: Path, commit: str) -> Path:
    return tmp_path / "cache" / "hub" / "datasets--org--data" / "snapshots" / commit


def test_offline_a_file_that_was_never_fetched_is_missed(hub: Hub, tmp_path: Path) -> None:
    """Half a data set would be trained on under the key of the whole."""
    commit = hub.put("datasets", "org/data", CONFIGURED)
    texts(commit, name="small")
    with pytest.raises(DataError, match=r"large/te?.*isn't in the local cache; run once online"):
        texts(commit, name="large", offline=True)
    (snapshot(tmp_path, commit) / "small" / "train-00001-of-00002.csv").unlink()
    with pytest.raises(DataError, match=r"train-00001-of-00002.csv isn't in the local cache"):
        texts(commit, name="small", offline=True)


def test_without_the_hubs_listing_a_missing_part_is_told_by_the_others(hub: Hub, tmp_path: Path) -> None:
    """What was fetched file by file (by `load_dataset`, say) leaves no listing behind."""
    from huggingface_hub import _tree_cache

    commit = hub.put("datasets", "org/data", CONFIGURED)
    texts(commit, name="small")
    shutil.rmtree(snapshot(tmp_path, commit).parents[1] / "trees")
    _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    assert texts(commit, name="small", offline=True) == ["a", "b"]
    (snapshot(tmp_path, commit) / "small" / "train-00001-of-00002.csv").unlink()
    with pytest.raises(DataError, match=r"only 1 of 2 parts of small/train.csv are in the local cache"):
        texts(commit, name="small", offline=True)


def test_fewer_rows_than_the_card_declares_are_refused(hub: Hub) -> None:
    files = {**CONFIGURED, "small/test-00000-of-00001.csv": b"text,label\nc,ant\nd,ant\n"}
    with pytest.raises(DataError, match="test has 2 rows, but the data set's card declares 1"):
        texts(hub.put("datasets", "org/data", files), name="small")


def test_a_label_that_the_card_does_not_declare_is_refused(hub: Hub) -> None:
    files = {**CONFIGURED, "small/test-00000-of-00001.csv": b"text,label\nc,bee\n"}
    with pytest.raises(DataError, match=r"aren't what the data set's card declares: .*bee"):
        texts(hub.put("datasets", "org/data", files), name="small")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        pytest.param("smal", r"data.name: org/data@\w{8} has no configuration 'smal'; did you mean small\?", id="typo"),
        pytest.param(None, r"has several configurations: name one in data.name \(known: small, large\)", id="none"),
    ],
)
def test_configurations_are_named(hub: Hub, name: str | None, message: str) -> None:
    card = CONFIGURED["README.md"].partition(b"dataset_info")[0] + b"---\n"
    with pytest.raises(DataError, match=message):
        texts(hub.put("datasets", "org/data", {**CONFIGURED, "README.md": card}), name=name)


def test_what_is_not_there_is_said_in_a_sentence(hub: Hub) -> None:
    commit = hub.put("datasets", "org/data", OLD)
    with pytest.raises(DataError, match=r"data.path: org/absent at .* isn't on the Hub, or is private"):
        texts(commit, repo="org/absent")
    with pytest.raises(DataError, match="isn't there: the data set has no such revision"):
        texts("0" * 40)
    with pytest.raises(DataError, match="isn't in the local cache, and this run is offline"):
        texts(commit, offline=True)


def test_a_gated_data_set_says_how_to_get_in(hub: Hub) -> None:
    commit = hub.put("datasets", "org/data", OLD, gated=True)
    with pytest.raises(DataError, match="is gated: accept its terms on its page and give a token"):
        texts(commit)


def test_a_repository_without_data_says_so(hub: Hub) -> None:
    with pytest.raises(DataError, match="holds no data files that `datasets` can read"):
        texts(hub.put("datasets", "org/data", {"README.md": b"nothing"}))


def test_a_loading_script_is_never_run(hub: Hub, tmp_path: Path) -> None:
    script = f"open({str(tmp_path / 'ran')!r}, 'w')".encode()
    with pytest.raises(DataError, match=r"made by a Python script \(data\.py\), which is never run: take its rows as"):
        texts(hub.put("datasets", "org/data", {"README.md": b"nothing", "data.py": script}))
    assert not (tmp_path / "ran").exists()


def test_a_hub_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as gone:
        attach(gone, tmp_path / "cache", monkeypatch)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's retries
    with pytest.raises(DataError, match="can't be fetched: the Hub doesn't answer"):
        texts("0" * 40)


def test_a_card_that_is_broken(hub: Hub) -> None:
    commit = hub.put("datasets", "org/data", {**OLD, "README.md": b"---\nconfigs: [\n---\n"})
    with pytest.raises(DataError, match=r"org/data@\w{8} can't be read"):
        texts(commit)


def test_a_damaged_file_of_a_foreign_format(hub: Hub) -> None:
    with pytest.raises(DataError, match=r"org/data@\w{8} can't be read: ArrowInvalid"):
        texts(hub.put("datasets", "org/data", {"train.arrow": b"junk", "test.arrow": b"junk"}))


def test_an_id_that_is_none(hub: Hub) -> None:
    with pytest.raises(DataError, match=r"data.path: org/da--ta at .* is no Hub id"):
        texts("0" * 40, repo="org/da--ta")


def test_a_listing_that_points_outside_is_refused(hub: Hub) -> None:
    commit = hub.put("datasets", "org/data", {**OLD, "../../outside.csv": b"x"})
    with pytest.raises(DataError, match="lists a file outside its repository"):
        texts(commit)


def test_a_hub_that_is_broken(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.put("datasets", "org/data", OLD)
    hub.failing = True
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's retries
    with pytest.raises(DataError, match=r"org/data at \w+ can't be fetched: .*500"):
        texts(commit)


def test_a_card_with_a_configuration_that_has_no_name(hub: Hub) -> None:
    card = b"---\nconfigs:\n- {config_name: 'a*b', data_files: train.csv}\n---\n"
    with pytest.raises(DataError, match=r"org/data@\w{8} can't be read: InvalidConfigName"):
        texts(hub.put("datasets", "org/data", {**OLD, "README.md": card}))


def test_pickles_are_refused(hub: Hub) -> None:
    with pytest.raises(DataError, match="no data files"):
        texts(hub.put("datasets", "org/data", {"train.pkl": b"\x80\x04N.", "test.pkl": b"\x80\x04N."}))
