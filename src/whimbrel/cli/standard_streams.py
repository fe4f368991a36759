"""The standard streams of a command, whatever it was started with: closed ones, and pipes that nobody reads any more."""

import os
import sys
import threading
import traceback
from types import TracebackType

from whimbrel.domain.text.printable import visible
from whimbrel.masking import masked
from whimbrel.vanished_readers import without_reader

STREAMS = 3


def open_streams() -> None:
    """Put nothing in the place of streams that are closed, and write to standard error without caring who reads it.

    A number that is free would be given to the next connection, and what is printed would go there. Notes and progress that
    are not read end no work; an answer on standard output that is not read is an error still.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) < STREAMS:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115  as long as the process lives
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = without_reader(2)
    sys.excepthook = _broken
    threading.excepthook = _broken_thread


def _broken_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.thread is not None and arguments.exc_type is not SystemExit:
        sys.stderr.write(f"Exception in thread {visible(arguments.thread.name)}:\n")
    _broken(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)


def _broken(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """The traceback of what nobody expected: its exceptions may tell what documents and servers said."""
    if error is not None and not issubclass(kind, SystemExit):
        text = "".join(traceback.format_exception(kind, error, trace))
        sys.stderr.write(visible(masked(text)))
