"""Every error that a user can see. `str(error)` is the whole message: where, what was expected, what came, what to
do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ftcheck import privacy

_LONGEST_SECRET = 1000
_CI_COMMAND = re.compile(
    r":(?=:(?:error|warning|notice|debug|group|endgroup|echo|stop-commands|[a-z]+-(?:mask|matcher|output|env|state|path))"
    r"(?:[\s:]|$))|#(?=#(?:vso|teamcity)?\[)"
)
"""The first character of what a CI server takes for a command where a job prints it: GitHub's `::error::` at the start
of a line (any wrapped line may start with it) and `##[...]`, Azure's and TeamCity's."""


class FtcheckError(Exception):
    """Base of all errors that ftcheck raises on purpose; shown without a traceback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """A place in a suite file. `path` is shown as given; `line` counts from 1, 0 where it is unknown."""

    path: str
    line: int = 0
    key: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place} {self.key}" if self.key else place


class UsageError(FtcheckError):
    """A command-line option or a setting that can't be followed, e.g. a device that isn't there."""


class SuiteError(FtcheckError):
    """One mistake in a suite file."""

    def __init__(self, location: Location, message: str) -> None:
        self.location = location
        self.message = message
        super().__init__(f"{location}: {message}")


class SuiteErrors(FtcheckError):  # noqa: N818  several errors, not one
    """All mistakes of one suite file at once."""

    def __init__(self, errors: Sequence[SuiteError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(str(error) for error in self.errors))


class TaskError(FtcheckError):
    """A task that isn't known, or a class of the user's that can't be one."""


class DataError(FtcheckError):
    """The data can't be read, or isn't what the task needs (column, split, label, alignment)."""


class CheckpointError(FtcheckError):
    """The checkpoint or its tokenizer can't be found, read or used for the task."""


class TrainingError(FtcheckError):
    """The training was refused or stopped: bad arguments, NaN loss, out of memory."""


class OutOfMemoryError(TrainingError):
    """Memory ran out in the steps of a training, which smaller batches may help."""


class TechniqueError(FtcheckError):
    """A technique that isn't known, or that can't do what a case asks of it with this model or these rows."""


class MetricError(FtcheckError):
    """A metric that can't be computed from what the model predicted."""


class StoreError(FtcheckError):
    """The run store can't be read or written, or a wanted result isn't in it."""


class BaselineError(FtcheckError):
    """A baseline that can't be read, written or compared with."""


class CertificateError(FtcheckError):
    """A model that can't be certified, or isn't what a certificate says."""


class HistoryError(FtcheckError):
    """The history of results can't be read or written. Never costs a verdict."""


class IdentityError(FtcheckError):
    """An input whose identity can't be established, so no key can be made (never a guess)."""


class MissingExtraError(FtcheckError):
    """An optional library is missing; the message names the extra that brings it."""

    def __init__(self, what: str, library: str, extra: str) -> None:
        super().__init__(f"{what} needs {library}: pip install 'ftcheck[{extra}]'")


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, and so on; each once, whatever was raised from what."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def one_of(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, else what is known, at most 50 names of it."""
    from difflib import get_close_matches

    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    more = f", and {len(names) - 50} more" if len(names) > 50 else ""
    return f"known: {', '.join(names[:50])}{more}"


def shown(text: object, limit: int = 120) -> str:
    """`text` as it may be printed anywhere: secrets hidden, control, bidirectional and undecodable characters and what
    a CI server would obey escaped, cut to `limit`."""
    # No more is shown of a megabyte; a little more is looked at, so that no secret is cut in two.
    beginning = privacy.hidden(str(text)[: limit + 1 + _LONGEST_SECRET])[: limit + 1]
    escaped = beginning
    if not beginning.isprintable():  # nor are surrogates; most text is
        escaped = "".join(
            char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in beginning
        )
    escaped = _CI_COMMAND.sub(lambda found: f"\\x{ord(found[0]):02x}", escaped)
    return escaped if len(escaped) <= limit else escaped[: limit - 1] + "…"
