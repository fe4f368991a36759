"""Logs on standard error: JSON lines in a service, colour on a terminal."""

import logging
import sys
from typing import TextIO

import structlog


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
