"""Progress of a command outside pytest's terminal, on stderr: a transient row on a terminal, a plain line now and then
elsewhere."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ftcheck.report import pace

if TYPE_CHECKING:
    from rich.status import Status

    from ftcheck.finetune import Progress


class Aside:
    """What a command measures, as it goes."""

    def __init__(self, case_id: str) -> None:
        from rich.console import Console

        self._console = Console(
            stderr=True,
            highlight=False,
            markup=False,
            soft_wrap=True,
            force_jupyter=False,  # else rich shows what is meant for stderr among a notebook's results
        )
        self._case = case_id
        self._doing = ""
        self._status: Status | None = None
        self._pace, self._speed = pace.Pace(pace.ON_TERMINAL if self._console.is_terminal else None), pace.Speed()

    @contextmanager
    def showing(self) -> Generator[Aside]:
        """Progress is shown until the block ends."""
        if not self._console.is_terminal:
            yield self
            return
        with self._console.status("") as self._status:
            yield self

    def of(self, what: str) -> None:
        """What is measured from here on, besides the case itself: `learning_rate put back`."""
        self._doing = f" ({what})" if what else ""

    def progress(self, seed: int, progress: Progress) -> None:
        """Show where a stage stands, if the last word was long enough ago."""
        speed = self._speed.told(seed, progress)
        if self._pace.due():
            width = self._console.width - 3 if self._status is not None else None  # behind the spinner
            self.say(pace.row(f"{self._case}{self._doing}", seed, progress, speed, width=width))

    def waiting(self, message: str) -> None:
        """Another process is making what this one needs."""
        self.say(f"{self._case}{self._doing}: {message}")

    def say(self, text: str) -> None:
        """Show `text` now."""
        from rich.text import Text

        if self._status is not None:
            self._status.update(Text(text))
        else:
            self._console.print(Text(text))
