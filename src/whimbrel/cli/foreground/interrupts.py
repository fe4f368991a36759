"""Handles Ctrl-C and SIGTERM: an orderly end, which a command that works on a run decides itself."""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import ClassVar, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130  # exit code
AGAIN = 0.01  # seconds after which a lost Ctrl-C is sent again
PATIENCE = 3  # signals after which the process ends at once


class Interrupts:
    """While entered, the first signal unwinds the program; once armed, signals are only counted. The third always ends it."""

    unwound: ClassVar[bool] = False  # whether Ctrl-C has unwound a command of this process

    def __init__(self) -> None:
        self.count = 0
        self.last: signal.Signals | None = None  # the last signal
        self.before_exit: Callable[[], None] = lambda: None  # called before the third one ends the process
        self._armed = False
        self._before: dict[signal.Signals, object] = {}
        self._unraisable = sys.unraisablehook

    def __enter__(self) -> Self:
        sys.unraisablehook = self._repeat_lost_interrupt
        for number in SIGNALS:
            if (
                signal.getsignal(number) is not signal.SIG_IGN
            ):  # nohup, or a job in the background of a script
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._unraisable
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # signal() accepts what it returned

    def arm(self) -> None:
        self._armed = True

    def _handle(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        self.last = signal.Signals(number)
        if self.count >= PATIENCE:
            self.before_exit()
            os._exit(INTERRUPTED)
        if self._armed or self.count > 1:  # code that is being unwound must be able to clean up
            return
        if number == signal.SIGINT:
            Interrupts.unwound = True
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _repeat_lost_interrupt(self, lost: "sys.UnraisableHookArgs") -> None:
        """Sends a Ctrl-C again that came within a destructor or a callback, where Python reports it and goes on."""
        if lost.exc_type is KeyboardInterrupt and not self._armed:
            self.count = 0
            _thread.start_new_thread(_send_interrupt, ())  # not here: it would come within this call
        else:
            self._unraisable(lost)


def _send_interrupt() -> None:
    time.sleep(AGAIN)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # also wakes a waiting main thread
