"""The program's first lines, from which on Ctrl-C is heard while all else is imported yet; and its last."""

import gc
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # exit code


def main() -> None:
    """Carry out the command line, and end with the exit code that says how it went."""
    at_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if at_default:  # not under nohup, nor within somebody's program
        signal.signal(signal.SIGINT, _end)
    gc.disable()  # nothing that is imported is garbage; it is enabled again when the command begins
    from whimbrel.cli.main import ended  # noqa: PLC0415

    code = ended()
    if at_default:  # the work is done, and its exit code is that of the command
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "whimbrel.bootstrap" in sys.modules:
        from whimbrel.bootstrap import let_go  # noqa: PLC0415

        let_go()
    # Everything is closed and written. The driver's own exit handler would wait for its threads, up to half a second, and Python
    # would take all apart, module by module: a fifth of what a short command costs.
    os._exit(code)


def _end(_number: int, _frame: FrameType | None) -> None:
    """Nothing has begun, or all is done: no exception has to wander through half an import."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"Interrupted.\n")
    os._exit(INTERRUPTED)
