"""Options: command line before environment before ini file; a value that isn't one is a usage error (exit code 4)."""

from __future__ import annotations

from pathlib import Path

import pytest

SHOW = """
from ftcheck import options

def pytest_collection_finish(session):
    settings = options.read(session.config)
    print(f"SETTINGS device={settings.device} cache={settings.cache} seeds={settings.seeds}", end=" ")
    print(f"plan={settings.plan} json={settings.json}")
"""


@pytest.fixture(autouse=True)
def show(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(SHOW)
    pytester.makepyfile("def test_nothing(): pass")


def test_every_option_has_a_flag_with_help(pytester: pytest.Pytester) -> None:
    from ftcheck.options import OPTIONS

    text = pytester.runpytest_inprocess("--help").stdout.str()
    for option in OPTIONS:
        assert option.flag in text
        assert (option.ini in text) != option.command_line_only


def test_an_ini_key_is_used(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nft_seeds = 3\nft_cache = off\nft_json = out.json\n")
    result = pytester.runpytest_inprocess("-s")
    result.stdout.fnmatch_lines(
        [f"SETTINGS device=auto cache=off seeds=3 plan=False json={pytester.path / 'out.json'}"]
    )


def test_the_environment_comes_before_the_ini_file(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeini("[pytest]\nft_seeds = 3\nft_cache = off\n")
    monkeypatch.setenv("FTCHECK_SEEDS", "5")
    pytester.runpytest_inprocess("-s").stdout.fnmatch_lines(["SETTINGS device=auto cache=off seeds=5 *"])


def test_the_command_line_comes_before_the_environment(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTCHECK_SEEDS", "5")
    pytester.runpytest_inprocess("-s", "--ft-seeds=7").stdout.fnmatch_lines(
        ["SETTINGS device=auto cache=use seeds=7 *"]
    )


def test_a_path_is_relative_to_where_it_was_written(pytester: pytest.Pytester) -> None:
    (pytester.path / "sub").mkdir()
    pytester.makeini("[pytest]\nft_json = from_ini.json\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(pytester.path / "sub")
        result = pytester.runpytest_inprocess("-s", "..")
    result.stdout.fnmatch_lines([f"SETTINGS * json={pytester.path / 'from_ini.json'}"])


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        pytest.param(["--ft-seeds=0"], {}, "*--ft-seeds: expected a whole number from 1, got '0'*", id="zero"),
        pytest.param(["--ft-seeds=many"], {}, "*--ft-seeds: expected a whole number from 1, got 'many'*", id="word"),
        pytest.param(["--ft-cache=maybe"], {}, "*invalid choice: 'maybe'*", id="choice"),
        pytest.param(
            ["--ft-limit=5"], {"FTCHECK_CACHE": "maybe"}, "*FTCHECK_CACHE: 'maybe' is none of*", id="variable"
        ),
        pytest.param(
            ["--ft-limit=5"], {"FTCHECK_PLAN": "maybe"}, "*FTCHECK_PLAN: expected true or false*", id="switch"
        ),
        pytest.param(["--ft-device=cuda:99"], {}, "*no CUDA device*available: cpu*", id="absent-device"),
        pytest.param(["--ft-device=gpu"], {}, "*gpu*", id="unknown-device"),
    ],
)
def test_what_cant_be_followed_is_a_usage_error(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    environment: dict[str, str],
    message: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = pytester.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "Traceback" not in result.stderr.str()


def test_it_can_be_switched_off(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("")
    Path(pytester.path / "x.ft.yaml").write_text("cases: {}\n")
    result = pytester.runpytest_subprocess("-p", "no:ftcheck")
    result.assert_outcomes(passed=1)
    assert "ftcheck" not in result.stdout.str()
