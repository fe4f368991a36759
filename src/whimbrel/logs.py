"""Logs on standard error: JSON lines in a service, colour on a terminal."""

import io
import logging
import os
import sys
from typing import Any, TextIO

import structlog


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


def heedless(number: int) -> TextIO:
    """Text to a file number, line by line. Whoever reads it may go away: that is no error."""
    return io.TextIOWrapper(
        io.BufferedWriter(_Heedless(number)), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


def configure_logs(style: str, level: str, stream: TextIO | None = None) -> None:
    """`style` is auto, json or console; auto is console on a terminal. `stream` stands in for standard error."""
    stream = stream or sys.stderr
    console = style == "console" or (style == "auto" and stream.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if console
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(
        level=level.upper(), stream=stream, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for chatty in ("aio_pika", "aiormq"):  # what they meet is logged once, by the adapter, as what it means
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
