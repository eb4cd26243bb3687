"""Draws what a terminal shows while a command runs: `python docs/terminal_picture.py OUT.svg COMMAND ...`.

The command runs in a pseudo-terminal of 100 columns, so that it colours and draws as for a person; what it wrote
is drawn by rich as an SVG.
"""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100
ROWS = re.compile(r"\r?\n(?:\r\x1b\[2K[^\r\n]*)+\r\x1b\[2K\x1b\[A(?:\x1b\[\d+C)?")
"""The live row of a case, drawn and erased."""


def main() -> None:
    target, *command = sys.argv[1:]
    os.environ.update(COLUMNS=str(COLUMNS), LINES="60", TERM="xterm-256color")
    seen = bytearray()

    def read(descriptor: int) -> bytes:
        data = os.read(descriptor, 65536)
        seen.extend(data)
        return data

    pty.spawn(command, read)
    shown = " ".join(shlex.quote(part) for part in ["pytest", *command[1:]])
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"$ {shown}", style="bold"))
    for line in ROWS.sub("", seen.decode("utf-8", "replace")).replace("\r\n", "\n").split("\n"):
        console.print(Text.from_ansi(line))
    Path(target).write_text(console.export_svg(title="ftcheck"), encoding="utf-8")


if __name__ == "__main__":
    main()
