"""Logs on standard error: JSON lines in a service, colour on a terminal."""

import logging
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

from whimbrel.domain.printable import visible
from whimbrel.masking import masked

OF_LINES = ("exception", "stack")  # what has lines of its own


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
            presentable,
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
            if console
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Presentable("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for chatty in ("aio_pika", "aiormq"):  # what they meet is logged once, by the adapter, as what it means
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


def presentable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Processor: no password of an address in any value, and nothing that acts on a terminal."""
    return {name: _presentable(value, "\n\t" if name in OF_LINES else "") for name, value in event.items()}


def _presentable(value: Any, kept: str = "") -> Any:
    if isinstance(value, str):
        return visible(masked(value), kept)
    if isinstance(value, dict):
        return {_presentable(name): _presentable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_presentable(each) for each in value]
    return value if value is None or isinstance(value, int | float) else _presentable(str(value))


class Presentable(logging.Formatter):
    """The same for what the standard library's loggers write."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  as the library calls it
        return visible(masked(super().formatMessage(record)), "")

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return visible(masked(super().formatException(ei)))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return visible(masked(super().formatStack(stack_info)))
