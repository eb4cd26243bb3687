"""`ftcheck cache`: what a person types, what is printed, and the exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ftcheck.cli import main
from ftcheck.keys import Key
from ftcheck.store import Store, listed
from tests.store.entries import FILES, publish

SUITE = "suites/intents.ft.yaml"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def ftcheck(store: Store, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `ftcheck cache ARGUMENTS` on the store: exit code, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["cache", *arguments, "--cache-dir", str(store.root)])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def run_key(**components: object) -> Key:
    return Key.of({"stage": "train", "task": {"name": "text-classification"}, "seed": 42, **components})


def prediction_key(train: Key) -> Key:
    return Key.of({"stage": "predict", "train": train.digest, "limit": None})


def recorded(store: Store, train: Key, case: str = "banking77") -> None:
    store.record_case(SUITE, case, {"train": train, "predict": prediction_key(train)})


def test_ls_shows_each_entry_by_its_case_where_it_is_known(store: Store, ftcheck: Command) -> None:
    known, unknown = run_key(), run_key(seed=43)
    publish(store, known)
    publish(store, unknown)
    publish(store, prediction_key(unknown), stage="predictions", files={"statistics.npz": b"x"})
    recorded(store, known)
    code, out, err = ftcheck("ls")
    assert (code, err) == (0, "")
    lines = {line.split()[1]: line for line in out.splitlines() if line.strip().startswith(("runs", "predictions"))}
    assert f"{SUITE}::banking77" in lines[known.digest[:12]]
    assert "text-classification, seed 43" in lines[unknown.digest[:12]]
    assert f"of {unknown.digest[:12]}" in lines[prediction_key(unknown).digest[:12]]
    assert f"3 entries, 2.1 kB in {store.root}" in out


def test_ls_of_no_store_is_empty_not_an_error(store: Store, ftcheck: Command) -> None:
    assert ftcheck("ls") == (0, f"0 entries, 0 B in {store.root}\n", "")
    assert not store.root.exists()


@pytest.mark.parametrize("wanted", ["banking77", f"{SUITE}::banking77", "intents.ft.yaml::banking77"])
def test_why_names_what_changed_between_the_last_two_runs(store: Store, ftcheck: Command, wanted: str) -> None:
    old = {"training": {"learning_rate": 5e-5}, "versions": {"transformers": "5.17.0", "torch": "2.13.0"}}
    new = {"training": {"learning_rate": 1e-4}, "versions": {"transformers": "5.23.0", "torch": "2.13.0"}}
    recorded(store, run_key(**old))
    recorded(store, run_key(**new))
    code, out, _ = ftcheck("why", wanted)
    assert code == 0
    assert out.splitlines()[1:] == ["  training.learning_rate 5e-05 → 0.0001", "  transformers 5.17.0 → 5.23.0"]


def test_why_of_a_case_that_never_changed_says_so(store: Store, ftcheck: Command) -> None:
    recorded(store, run_key())
    recorded(store, run_key())
    code, out, _ = ftcheck("why", "banking77")
    assert code == 0
    assert "only one set of inputs was seen so far" in out


def test_why_compares_any_two_keys_by_their_beginnings(store: Store, ftcheck: Command) -> None:
    one, other = run_key(), run_key(seed=43)
    publish(store, one)
    publish(store, other)
    code, out, _ = ftcheck("why", one.digest[:8], other.digest[:8])
    assert (code, out.splitlines()[1:]) == (0, ["  seed 42 → 43"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["why", "banking78"], "did you mean banking77?", id="unknown case"),
        pytest.param(["why", "twice"], "several suites have a case twice: name one of a::twice, b::twice", id="two"),
        pytest.param(["why", "", ""], "2 keys begin with", id="a beginning of several keys"),
        pytest.param(["why", "xyz", "abc"], "no key begins with xyz", id="a beginning of none"),
        pytest.param(["why"], "Missing argument", id="no case"),
        pytest.param(["prune"], "say what to take out", id="nothing to prune"),
        pytest.param(["prune", "--max-size", "much"], "expected a size, such as 500MB", id="no size"),
        pytest.param(["prune", "--older-than", "30"], "'30' is no age", id="no age"),
        pytest.param(["mend"], "No such command", id="unknown command"),
        pytest.param(["ls", "--all"], "No such option", id="unknown option"),
    ],
)
def test_what_cannot_be_followed_is_a_usage_error(
    store: Store, ftcheck: Command, arguments: list[str], message: str
) -> None:
    for seed in (1, 2):
        publish(store, run_key(seed=seed))
    recorded(store, run_key())
    for suite in ("a", "b"):
        store.record_case(suite, "twice", {"train": run_key()})
    code, out, err = ftcheck(*arguments)
    assert (code, out) == (4, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_verify_is_quiet_about_a_sound_store(store: Store, ftcheck: Command) -> None:
    publish(store, run_key())
    assert ftcheck("verify") == (0, f"1 entries checked in {store.root}, 0 damaged\n", "")


@pytest.mark.parametrize("name", FILES)
def test_verify_finds_one_flipped_bit_and_sets_the_entry_aside(store: Store, ftcheck: Command, name: str) -> None:
    path = publish(store, run_key()).path / name
    publish(store, run_key(seed=43))
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    code, out, err = ftcheck("verify")
    assert (code, out) == (1, f"2 entries checked in {store.root}, 1 damaged\n")
    assert f"{name} fails its checksum" in err
    assert ftcheck("verify")[:2] == (0, f"1 entries checked in {store.root}, 0 damaged\n")


@pytest.mark.parametrize(
    ("arguments", "said", "entries", "models"),
    [
        pytest.param(["--models"], "0 entries and 1 models", 1, 0, id="models"),
        pytest.param(["--max-size", "1kB"], "1 entries and 0 models", 0, 0, id="size"),
        pytest.param(["--max-size", "1 GB", "--older-than", "2w"], "0 entries and 0 models", 1, 1, id="nothing"),
    ],
)
def test_prune_takes_out_what_it_is_told_to(
    store: Store, ftcheck: Command, arguments: list[str], said: str, entries: int, models: int
) -> None:
    publish(store, run_key())
    code, out, _ = ftcheck("prune", *arguments)
    assert code == 0
    assert said in out
    left = [item.entry for item in listed(store)]
    assert (len(left), sum(entry.model_size > 0 for entry in left)) == (entries, models)


def test_a_place_that_is_no_store_is_one_sentence(store: Store, ftcheck: Command) -> None:
    store.root.write_text("a file")
    code, out, err = ftcheck("prune", "--models")
    assert (code, out) == (1, "")
    assert err.startswith(f"ftcheck: the run store {store.root} can't be written")
    assert len(err.splitlines()) == 1


def test_the_place_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(tmp_path / "chosen"))
    done = subprocess.run(
        [sys.executable, "-c", "from ftcheck.cli import main; main(['cache', 'ls'])"], capture_output=True, text=True
    )
    assert done.stdout == f"0 entries, 0 B in {tmp_path / 'chosen'}\n"
