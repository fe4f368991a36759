"""Text streams that tolerate a reader that goes away."""

import io
import os
from typing import Any, TextIO


class _ToleratesVanishedReader(io.RawIOBase):
    """A stream that discards what is no longer read."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: Any, /) -> int:
        try:
            return os.write(self._number, data)
        except BrokenPipeError:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self._number)  # also for processes that are started from now on
            os.close(nothing)
            return len(data)


def without_reader(number: int) -> TextIO:
    """Returns a text stream to a file descriptor, line by line, which ignores that its reader goes away."""
    return io.TextIOWrapper(
        io.BufferedWriter(_ToleratesVanishedReader(number)),
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )
