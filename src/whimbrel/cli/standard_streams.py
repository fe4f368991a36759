"""Makes the standard streams safe where they are closed, or pipes that are no longer read."""

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
    """Replaces closed streams by the null device, and makes standard error ignore a vanished reader.

    The next connection would get a free descriptor's number, and output would go there. Notes and progress that
    are not read must not end the work; an answer on standard output that is not read is still an error.
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
    """Writes the traceback of an unexpected error, masked: its exceptions may quote documents and servers."""
    if error is not None and not issubclass(kind, SystemExit):
        text = "".join(traceback.format_exception(kind, error, trace))
        sys.stderr.write(visible(masked(text)))
