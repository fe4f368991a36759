"""The program's first lines: Ctrl-C is heard from here on, while all else is imported yet."""

import gc
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # exit code


def main() -> None:
    """Carry out the command line, and end with the exit code that says how it went."""
    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # not under nohup, nor within somebody's program
        signal.signal(signal.SIGINT, _end)
    gc.disable()  # nothing that is imported is garbage; it is enabled again when the command begins
    from whimbrel.cli.main import main as carry_out  # noqa: PLC0415

    try:
        carry_out()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
        if (
            signal.getsignal(signal.SIGINT) is _end
        ):  # the work is done: Python's own end has no word to say on Ctrl-C
            signal.signal(signal.SIGINT, lambda *_: os._exit(code))
        raise


def _end(_number: int, _frame: FrameType | None) -> None:
    """Nothing has begun, or all is done: no exception has to wander through half an import, or through what Python does at its end."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"Interrupted.\n")
    os._exit(INTERRUPTED)
