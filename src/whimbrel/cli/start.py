"""The program's first lines, from which on Ctrl-C is heard while all else is imported yet; and its last."""

import atexit
import gc
import os
import signal
import sys
import threading
from types import FrameType

INTERRUPTED = 130  # exit code


def main() -> None:
    """Carry out the command line, and end with the exit code that says how it went."""
    at_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if at_default:  # not under nohup, nor within somebody's program
        signal.signal(signal.SIGINT, _end)
    gc.disable()  # nothing that is imported is garbage; it is enabled again when the command begins
    from whimbrel.cli.main import main as carry_out  # noqa: PLC0415

    try:
        carry_out()
    except SystemExit as ended:
        if at_default:  # the work is done, and its exit code is that of the command
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if isinstance(ended.code, int):
            _leave(ended.code)
        raise


def _end(_number: int, _frame: FrameType | None) -> None:
    """Nothing has begun, or all is done: no exception has to wander through half an import."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"Interrupted.\n")
    os._exit(INTERRUPTED)


def _leave(code: int) -> None:
    """Without taking all apart, module by module, as Python does: that is a fifth of what a short command costs."""
    if all(each.daemon or each is threading.main_thread() for each in threading.enumerate()):
        atexit._run_exitfuncs()  # noqa: SLF001  as Python does
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
