"""The program's entry point: handles Ctrl-C while the rest is still being imported, and ends the process."""

import gc
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # exit code


def main() -> None:
    """Runs the command line, and ends with its exit code."""
    at_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if at_default:  # not under nohup, nor within another program
        signal.signal(signal.SIGINT, _end)
    gc.disable()  # imports create no garbage; enabled again when the command begins
    from whimbrel.cli.main import run_and_flush  # noqa: PLC0415

    code = run_and_flush()
    if at_default:  # the work is done, and its exit code is that of the command
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "whimbrel.bootstrap" in sys.modules:
        from whimbrel.bootstrap import leave_embedded  # noqa: PLC0415

        leave_embedded()
    # Everything is closed and written. The driver's own exit handler would wait up to half a second for its threads, and Python
    # would tear down every module: a fifth of a short command's time.
    os._exit(code)


def _end(_number: int, _frame: FrameType | None) -> None:
    """Ends at once: nothing has begun, or all is done, so no exception need pass through an unfinished import."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"Interrupted.\n")
    os._exit(INTERRUPTED)
