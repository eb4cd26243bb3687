"""Where the run store is: the user's choice, else the platform's place for caches."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from ftcheck.errors import UsageError
from ftcheck.store import default_cache_dir


def test_the_variable_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FTCHECK_CACHE_DIR", str(tmp_path))
    assert default_cache_dir() == tmp_path


def test_a_relative_place_and_a_home_are_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    found = []
    for chosen in ("store", "~/store"):
        monkeypatch.setenv("FTCHECK_CACHE_DIR", chosen)
        found.append(default_cache_dir())
    assert found == [tmp_path / "store", Path("/home/someone/store")]


@pytest.mark.parametrize("unset", [True, False], ids=["not set", "empty"])
def test_otherwise_it_is_the_platforms(monkeypatch: pytest.MonkeyPatch, unset: bool) -> None:
    monkeypatch.setenv("FTCHECK_CACHE_DIR", "")
    if unset:
        monkeypatch.delenv("FTCHECK_CACHE_DIR")
    assert default_cache_dir() == platformdirs.user_cache_path("ftcheck", appauthor=False)


@pytest.mark.parametrize("chosen", ["", "~/store"], ids=["platform", "variable"])
def test_a_user_without_a_home_is_told_to_name_a_place(monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
    """As in a container that runs as a number: nothing is made in a folder that is called `~`."""
    without_home(monkeypatch)
    monkeypatch.setenv("FTCHECK_CACHE_DIR", chosen)
    with pytest.raises(UsageError, match=r"there is no place for the run store: .* give --ft-cache-dir"):
        default_cache_dir()


def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make this process's user one that the system doesn't know."""

    def unknown(number: int) -> None:
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME", "HF_HOME", "FTCHECK_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
