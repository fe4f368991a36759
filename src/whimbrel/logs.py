"""Logs to standard error: JSON lines in a service, colour on a terminal.

With the format `json` every line that a process writes there is JSON with its time: also other libraries' logs, warnings,
tracebacks, what user code prints, and what commands say to people.
"""

import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, TextIO

from whimbrel.domain.text.printable import visible
from whimbrel.masking import masked

OF_LINES = ("exception", "stack")  # values of several lines
SILENCED = ("aio_pika", "aiormq")  # the adapter logs their errors once, translated
NOT_AT_DEBUG = ("pymongo", "pamqp")  # at debug they log commands and frames, with contents of documents


class _State:
    """How this process logs; before it is configured, as the environment says."""

    # Whether JSON was requested, not just chosen where there is no terminal.
    json_requested = os.environ.get("LOG_FORMAT") == "json"
    console = False
    handler: logging.Handler | None = None


def configure_logs(style: str, level: str, stream: TextIO | None = None) -> None:
    """Configures logs. `style` is auto, json or console; auto is console on a terminal. `stream` replaces standard error."""
    import structlog  # noqa: PLC0415  many commands log nothing

    stream = stream or sys.stderr
    _State.json_requested = style == "json"
    _State.console = style == "console" or (style == "auto" and stream.isatty())
    added: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        if _State.console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    rendered: list[Any] = [structlog.processors.format_exc_info, presentable, renderer]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *added, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)  # other libraries' logs look the same
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *added],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    root = logging.getLogger()
    if _State.handler is not None:
        root.removeHandler(_State.handler)
    root.addHandler(handler)
    root.setLevel(level.upper())
    _State.handler = handler
    for library in SILENCED:
        logging.getLogger(library).setLevel(logging.CRITICAL)
    for library in NOT_AT_DEBUG:
        logging.getLogger(library).setLevel(logging.INFO)


def json_requested() -> bool:
    """Whether every line must be JSON."""
    return _State.json_requested


def on_console() -> bool:
    """Whether logs are for a person at a terminal."""
    return _State.console


DRIVER = f"{os.sep}pymongo{os.sep}"


def json_line(event: str, *, level: str = "info", **facts: Any) -> str:
    """Returns a line in the format of the logs, whatever their level."""
    timestamp = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    row = {**facts, "level": level, "timestamp": timestamp, "event": event}
    return json.dumps(_presentable(row), ensure_ascii=False)


def presentable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Processor: masks passwords of addresses in all values, and escapes what acts on a terminal."""
    return {name: _presentable(value, "\n\t" if name in OF_LINES else "") for name, value in event.items()}


def _presentable(value: Any, kept: str = "") -> Any:
    if isinstance(value, str):
        return visible(masked(value), kept)
    if isinstance(value, dict):
        return {_presentable(name): _presentable(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_presentable(member) for member in value]
    return value if value is None or isinstance(value, int | float) else _presentable(str(value))


def log_unhandled_errors() -> None:
    """Logs as JSON, if requested, what Python itself would write to standard error."""
    sys.excepthook = _json_or(_log_process_error, sys.excepthook)
    threading.excepthook = _json_or(_log_thread_error, threading.excepthook)
    sys.unraisablehook = _json_or(_log_ignored_error, sys.unraisablehook)
    warnings.showwarning = _json_or(_log_warning, _driver_warnings_shown(warnings.showwarning))


def _json_or(as_json: Callable[..., object], original: Callable[..., object]) -> Callable[..., None]:
    def hook(*given: Any, **named: Any) -> None:
        (as_json if _State.json_requested else original)(*given, **named)

    return hook


def _log(level: str, event: str, **facts: Any) -> None:
    import structlog  # noqa: PLC0415

    getattr(structlog.get_logger("python"), level)(event, **facts)


def _log_process_error(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    _log("critical", "an error that nobody expected ends the process", exc_info=(kind, error, trace))


def _log_thread_error(arguments: threading.ExceptHookArgs) -> None:
    name = arguments.thread.name if arguments.thread else ""
    _log(
        "error",
        "an error ended a thread",
        thread=name,
        exc_info=(arguments.exc_type, arguments.exc_value, arguments.exc_traceback),
    )


def _log_ignored_error(arguments: Any) -> None:
    event = arguments.err_msg or "an error was ignored"
    _log(
        "error",
        event,
        of=repr(arguments.object),
        exc_info=(arguments.exc_type, arguments.exc_value, arguments.exc_traceback),
    )


def _driver_warnings_shown(original: Callable[..., object]) -> Callable[..., object]:
    """Shows warnings of MongoDB's driver, such as about options of an address, to the user; all others are for developers."""

    def show(
        message: Warning | str, category: type[Warning], filename: str, *positional: Any, **named: Any
    ) -> None:
        if DRIVER not in filename:
            original(message, category, filename, *positional, **named)
            return
        warning = str(message).removesuffix(" Refer to docstring.")
        sys.stderr.write(f"note: MongoDB's driver says: {visible(masked(warning), '')}\n")

    return show


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    _log("warning", str(message), category=category.__name__, file=filename, line=lineno)
