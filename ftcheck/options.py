"""One table of --ft-* options, with their ini twins and environment variables, read into `Settings`.

The command line comes before the environment, the environment before the ini file, and all before the suite.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import pytest

    from ftcheck.settings import Settings


class Option(NamedTuple):
    """One setting: flag `--ft-NAME`, ini key `ft_NAME`, variable `FTCHECK_NAME`.

    A tuple, since every start of pytest pays for the class.
    """

    name: str
    help: str
    kind: Literal["text", "switch", "count", "path", "duration"] = "text"
    choices: tuple[str, ...] = ()
    """All values of a text; of a path, words that stand for no path."""
    default: Any = None
    metavar: str | None = None
    command_line_only: bool = False
    """Whoever writes the ini file (a pull request, say) must not be the one who decides it."""

    @property
    def flag(self) -> str:
        return f"--ft-{self.name.replace('_', '-')}"

    @property
    def ini(self) -> str:
        return f"ft_{self.name}"

    @property
    def variable(self) -> str:
        return f"FTCHECK_{self.name.upper()}"


OPTIONS = (
    Option(
        name="device",
        help="where to train: auto, cpu, cuda[:N] or mps (default: auto)",
        default="auto",
        metavar="DEVICE",
    ),
    Option(
        name="cache",
        help="the run store: use what is there (default), refresh it, off (keep nothing), or only (never train)",
        choices=("use", "refresh", "off", "only"),
        default="use",
    ),
    Option(
        name="cache_dir",
        kind="path",
        help="where the run store is (default: the user's cache directory)",
        metavar="DIR",
    ),
    Option(
        name="executor",
        help="where to train: inline, in this process (default), local, in processes of this machine, or ray, on a Ray "
        "cluster",
        choices=("inline", "local", "ray"),
        default="inline",
    ),
    Option(
        name="jobs",
        kind="count",
        help="the most trainings at once (default: 1; with --ft-executor=local as many as have room on the GPUs, with "
        "ray all that the cluster takes); more than 1 means local where no executor is named",
        metavar="N",
    ),
    Option(
        name="ray_address",
        help="the Ray cluster of --ft-executor=ray: HOST:PORT, auto or ray://HOST:PORT (default: that of RAY_ADDRESS, "
        "else one of its own on this machine)",
        metavar="ADDRESS",
    ),
    Option(
        name="timeout",
        kind="duration",
        help="train no longer than that in this session (90s, 30min, 2h); what is in the store is judged all the same",
        metavar="DURATION",
    ),
    Option(
        name="remote",
        help="a store that other machines share (s3://, gs://, sftp://, file://): what is missing here is looked for "
        "there, what is made here is published there",
        metavar="URL",
    ),
    Option(name="remote_readonly", kind="switch", help="publish nothing in the --ft-remote", default=False),
    Option(
        name="remote_patience",
        kind="count",
        help="how many seconds a slow or dead --ft-remote may cost the session (default: 30)",
        default=30,
        metavar="SECONDS",
    ),
    Option(
        name="vendor",
        kind="path",
        help="take what comes from the Hub out of a folder that `ftcheck vendor` wrote, and go to no network",
        metavar="DIR",
    ),
    Option(
        name="verify",
        help="make N results of the store once more, chosen at random (or all), and compare; the store stays as it is",
        metavar="N[:SEED]|all",
    ),
    Option(name="seeds", kind="count", help="train every case with N seeds, whatever the suite says", metavar="N"),
    Option(
        name="limit",
        kind="count",
        help="a smoke run: at most N rows of every split; nothing is judged",
        metavar="N",
    ),
    Option(
        name="plan",
        kind="switch",
        help="show what would be trained, evaluated or found in the store, and stop",
        default=False,
    ),
    Option(
        name="offline",
        kind="switch",
        help="never go to the network: Hub names come from the local cache",
        default=False,
    ),
    Option(
        name="allow_remote_code",
        kind="switch",
        help="run a checkpoint's own Python code where the suite pins its commit; on the command line only",
        default=False,
        command_line_only=True,
    ),
    Option(
        name="strict",
        kind="switch",
        help="fail where a gate is inconclusive, or new: without a baseline to compare with",
        default=False,
    ),
    Option(
        name="compare",
        help="compare with a git commit's or folder's baselines, a results file, or a run of the store",
        metavar="REF|PATH|RUN",
    ),
    Option(
        name="correction",
        help="correct the fails of all margins of the session for their number: none (default) or holm",
        choices=("none", "holm"),
        default="none",
    ),
    Option(
        name="update",
        kind="switch",
        help="make the results of the cases that run their baselines; refused in CI",
        default=False,
    ),
    Option(name="update_new", kind="switch", help="the same, for cases that have no baseline here yet", default=False),
    Option(name="reason", help="why a baseline is loosened; kept in its file", metavar="TEXT"),
    Option(
        name="allow_ci_update", kind="switch", help="let --ft-update write baselines where CI is set", default=False
    ),
    Option(name="json", kind="path", help="write all results to PATH as JSON", metavar="PATH"),
    Option(
        name="history",
        kind="path",
        help="the history that results are added to: a file (default: in the cache directory), or none",
        choices=("none",),
        metavar="PATH",
    ),
    Option(name="tensorboard", kind="path", help="write the curves of all trainings below DIR", metavar="DIR"),
    Option(name="mlflow", help="log results to this MLflow tracking server or database", metavar="URI"),
    Option(
        name="html", kind="path", help="write a page of all results to PATH, one self-contained file", metavar="PATH"
    ),
    Option(name="details", kind="switch", help="show every metric, seed and note in the table", default=False),
    Option(name="profile", kind="switch", help="show where each case's time and memory went", default=False),
)


def add_to(parser: pytest.Parser) -> None:
    """Register every option with pytest. Only strings are handed over: nothing is read or resolved here."""
    group = parser.getgroup("ftcheck", "fine-tune, then assert")
    for option in OPTIONS:
        how: dict[str, Any] = (
            {"action": "store_true"} if option.kind == "switch" else {"action": "store", "metavar": option.metavar}
        )
        if option.choices and option.kind != "path":
            how |= {"choices": option.choices, "metavar": None}
        group.addoption(option.flag, dest=f"ft_{option.name}", default=None, help=option.help, **how)
        if not option.command_line_only:
            parser.addini(option.ini, f"{option.help} (as {option.flag})", default=None)


def read(config: pytest.Config) -> Settings:
    """The settings in force. Raises UsageError for a value that isn't one, naming where it came from."""
    from ftcheck.settings import Settings

    return Settings(**{option.name: _value(option, config) for option in OPTIONS})


def of_call(given: Mapping[str, Any]) -> Settings:
    """The settings of a call with these arguments by option name; those that are None are looked up in the environment.

    Raises UsageError for a value that isn't one.
    """
    from ftcheck.settings import Settings

    found: dict[str, Any] = {}
    for option in OPTIONS:
        if option.name not in given:
            continue
        value, source = given[option.name], option.name
        if value is None and not option.command_line_only:
            value, source = os.environ.get(option.variable, ""), option.variable
        found[option.name] = option.default if value in ("", None) else _parsed(option, value, source, Path.cwd())
    return Settings(**found)


def handed_over(config: pytest.Config) -> dict[str, Any]:
    """What pytest-xdist's workers, which have no command line of their own, are told of this one's."""
    return {option.ini: _commanded(option, config) for option in OPTIONS if option.command_line_only}


def _commanded(option: Option, config: pytest.Config) -> bool:
    """A switch of the command line alone. Raises UsageError where it came from elsewhere."""
    from ftcheck.errors import UsageError

    if hasattr(config, "workerinput"):
        return bool(config.workerinput.get(option.ini))
    if not config.getoption(option.ini):
        return False
    if option.flag not in config.invocation_params.args:
        raise UsageError(
            f"{option.flag} counts on the command line only: addopts (in {config.inipath or 'an ini file'}, or "
            "PYTEST_ADDOPTS) can't give it"
        )
    return True


def _value(option: Option, config: pytest.Config) -> Any:
    if option.command_line_only:
        return _commanded(option, config)
    given = config.getoption(f"ft_{option.name}")
    if given is not None:
        return _parsed(option, given, option.flag, config.invocation_params.dir)
    if os.environ.get(option.variable, "") != "":
        return _parsed(option, os.environ[option.variable], option.variable, config.invocation_params.dir)
    ini = config.getini(option.ini)
    if ini not in (None, ""):
        where = config.inipath.parent if config.inipath else config.rootpath
        return _parsed(option, ini, f"{option.ini} in {config.inipath}", where)
    return option.default


def _parsed(option: Option, value: Any, source: str, base: Path) -> Any:
    from ftcheck.errors import UsageError, one_of

    if option.kind == "switch":
        if isinstance(value, bool):
            return value
        known = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        if str(value).lower() not in known:
            raise UsageError(f"{source}: expected true or false, got {value!r}")
        return known[str(value).lower()]
    text = str(value)
    if option.kind == "count":
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            raise UsageError(f"{source}: expected a whole number from 1, got {text!r}")
        return int(text)
    if option.kind == "duration":
        from ftcheck import durations

        try:
            return durations.seconds(text)
        except ValueError as error:
            raise UsageError(f"{source}: {error}") from None
    if option.kind == "path":
        return text if text in option.choices else str(base / Path(text).expanduser())
    if option.choices and text not in option.choices:
        raise UsageError(f"{source}: {text!r} is none of {', '.join(option.choices)}; {one_of(text, option.choices)}")
    return text
