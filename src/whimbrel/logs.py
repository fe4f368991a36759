"""Logs on standard error: JSON lines in a service, colour on a terminal.

With the format `json` every line that a process writes there is JSON with its time: what other libraries log, warnings,
tracebacks, what user code prints, and what commands say to people too.
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

OF_LINES = ("exception", "stack")  # what has lines of its own
CHATTY = ("aio_pika", "aiormq")  # what they meet is logged once, by the adapter, as what it means
TALKATIVE = ("pymongo", "pamqp")  # at debug they write down commands and frames, with what is in documents


class _State:
    """How this process logs; before it is configured, what the environment says."""

    asked = (
        os.environ.get("LOG_FORMAT") == "json"
    )  # for JSON, and it is not only chosen where there is no terminal
    console = False
    handler: logging.Handler | None = None


def configure_logs(style: str, level: str, stream: TextIO | None = None) -> None:
    """`style` is auto, json or console; auto is console on a terminal. `stream` stands in for standard error."""
    import structlog  # noqa: PLC0415  what only tells of commands logs nothing

    stream = stream or sys.stderr
    _State.asked = style == "json"
    _State.console = style == "console" or (style == "auto" and stream.isatty())
    named: list[Any] = [
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
        processors=[structlog.contextvars.merge_contextvars, *named, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)  # what others log looks the same
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *named],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    root = logging.getLogger()
    if _State.handler is not None:
        root.removeHandler(_State.handler)
    root.addHandler(handler)
    root.setLevel(level.upper())
    _State.handler = handler
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    for talkative in TALKATIVE:
        logging.getLogger(talkative).setLevel(logging.INFO)


def json_asked() -> bool:
    """Whether every line is to be JSON."""
    return _State.asked


def on_console() -> bool:
    """Whether logs are for the eyes of somebody at a terminal."""
    return _State.console


DRIVER = f"{os.sep}pymongo{os.sep}"


def json_line(event: str, *, level: str = "info", **facts: Any) -> str:
    """A line as the logs have them, whatever their level."""
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    row = {**facts, "level": level, "timestamp": at, "event": event}
    return json.dumps(_presentable(row), ensure_ascii=False)


def presentable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
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


def own_process() -> None:
    """Log as JSON, where that is asked for, what Python itself would write to standard error."""
    sys.excepthook = _either(_ended, sys.excepthook)
    threading.excepthook = _either(_ended_thread, threading.excepthook)
    sys.unraisablehook = _either(_ignored, sys.unraisablehook)
    warnings.showwarning = _either(_warned, _noted(warnings.showwarning))


def _either(as_json: Callable[..., object], as_ever: Callable[..., object]) -> Callable[..., None]:
    def hook(*given: Any, **named: Any) -> None:
        (as_json if _State.asked else as_ever)(*given, **named)

    return hook


def _log(level: str, event: str, **facts: Any) -> None:
    import structlog  # noqa: PLC0415

    getattr(structlog.get_logger("python"), level)(event, **facts)


def _ended(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    _log("critical", "an error that nobody expected ends the process", exc_info=(kind, error, trace))


def _ended_thread(arguments: threading.ExceptHookArgs) -> None:
    name = arguments.thread.name if arguments.thread else ""
    _log(
        "error",
        "an error ended a thread",
        thread=name,
        exc_info=(arguments.exc_type, arguments.exc_value, arguments.exc_traceback),
    )


def _ignored(it: Any) -> None:
    event = it.err_msg or "an error was ignored"
    _log("error", event, of=repr(it.object), exc_info=(it.exc_type, it.exc_value, it.exc_traceback))


def _noted(as_ever: Callable[..., object]) -> Callable[..., object]:
    """What MongoDB's driver warns of, such as options of an address, is for the user; all else for whoever wrote the code."""

    def show(
        message: Warning | str, category: type[Warning], filename: str, *rest: Any, **named: Any
    ) -> None:
        if DRIVER not in filename:
            as_ever(message, category, filename, *rest, **named)
            return
        said = str(message).removesuffix(" Refer to docstring.")
        sys.stderr.write(f"note: MongoDB's driver says: {visible(masked(said), '')}\n")

    return show


def _warned(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    _log("warning", str(message), category=category.__name__, file=filename, line=lineno)
