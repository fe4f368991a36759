"""Writes frames to a terminal: of each only the lines that differ from the frame before."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.text import Text as RichText

from whimbrel.cli.output.terminal_text import VisibleConsole


class Size(NamedTuple):
    """Of a terminal."""

    columns: int
    lines: int


# For terminals whose encoding has no more than ASCII.
PLAIN = str.maketrans({
    "█": "#", "░": ".", "─": "-", "━": "=", "│": "|", "·": "-", "…": "~", "▲": "^", "▼": "v", "→": ">", "▶": ">", "✓": "x",
    **dict.fromkeys("▁▂▃▄▅▆▇", "."),
})  # fmt: skip


class Frames:
    """The frames of one terminal."""

    def __init__(self, console: VisibleConsole, write: Callable[[str], None]) -> None:
        self._console, self._write = console, write
        self._ascii = console.options.ascii_only
        self._size = Size(0, 0)
        self._rows: list[str] = []

    def forget(self) -> None:
        """Has the next frame written whole."""
        self._rows = []

    def draw(self, lines: Sequence[RichText], size: Size) -> None:
        """Shows these lines; what has no room is cut."""
        rows = [self._row(line, size.columns) for line in lines[: size.lines]]
        rows += [""] * (size.lines - len(rows))
        whole = size != self._size or not self._rows
        parts = ["\x1b[0m\x1b[2J"] if whole else []
        for number, row in enumerate(rows):
            if whole or row != self._rows[number]:
                # The line is erased before, not after: behind its last column a terminal would erase that.
                parts.append(f"\x1b[{number + 1};1H\x1b[2K{row}")
        self._size, self._rows = size, rows
        if parts:
            self._write("".join(parts))

    def _row(self, line: RichText, width: int) -> str:
        text = line.copy()
        text.truncate(width, overflow="ellipsis")
        with self._console.capture() as captured:
            self._console.print(text, end="", soft_wrap=True)
        row = captured.get()
        return row.translate(PLAIN) if self._ascii else row
