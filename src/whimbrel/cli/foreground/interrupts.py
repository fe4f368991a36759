"""Ctrl-C and SIGTERM: an orderly end always, and in a command that works on a run one that it decides itself."""

import _thread
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import ClassVar, Self

HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130  # exit code
AGAIN = 0.01  # seconds after which a Ctrl-C that was lost comes once more
PATIENCE = 3  # signals after which the process ends without another word


class Interrupts:
    """While entered, the first signal unwinds the program; once armed, they are counted instead. The third ends it in any case."""

    unwound: ClassVar[bool] = False  # whether Ctrl-C has unwound a command of this process

    def __init__(self) -> None:
        self.count = 0
        self._armed = False
        self._before: dict[signal.Signals, object] = {}
        self._unraisable = sys.unraisablehook

    def __enter__(self) -> Self:
        sys.unraisablehook = self._swallowed
        for each in HEARD:
            if signal.getsignal(each) is not signal.SIG_IGN:  # nohup, or a job in the background of a script
                self._before[each] = signal.signal(each, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._unraisable
        for each, handler in self._before.items():
            signal.signal(each, handler)  # type: ignore[arg-type]  # what signal() gave, it takes

    def arm(self) -> None:
        self._armed = True

    def _hear(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        if self.count >= PATIENCE:
            os._exit(INTERRUPTED)
        if self._armed or self.count > 1:  # what is unwound puts in order what it leaves
            return
        if number == signal.SIGINT:
            Interrupts.unwound = True
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _swallowed(self, lost: "sys.UnraisableHookArgs") -> None:
        """A Ctrl-C that came within a destructor or a callback, where Python tells of it and goes on, comes once more."""
        if lost.exc_type is KeyboardInterrupt and not self._armed:
            self.count = 0
            _thread.start_new_thread(_press, ())  # not from here: it would come within this call
        else:
            self._unraisable(lost)


def _press() -> None:
    time.sleep(AGAIN)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # wakes it where it waits, too
