"""Text streams whose reader may go away."""

import io
import os
from typing import Any, TextIO


class _Heedless(io.RawIOBase):
    """A stream that loses what nobody reads any more."""

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
            os.dup2(nothing, self._number)  # for processes that are started from now on too
            os.close(nothing)
            return len(data)


def without_reader(number: int) -> TextIO:
    """Text to a file number, line by line. Whoever reads it may go away: that is no error."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Heedless(number)), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
