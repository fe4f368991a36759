"""Ctrl-C and SIGTERM: an orderly end always, and in a command that works on a run one that it decides itself."""

import os
import signal
from types import FrameType
from typing import Self

HEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130  # exit code
PATIENCE = 3  # signals after which the process ends without another word


class Interrupts:
    """While entered, signals unwind the program; once armed, they are counted instead."""

    def __init__(self) -> None:
        self.count = 0
        self._armed = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for each in HEARD:
            if signal.getsignal(each) is not signal.SIG_IGN:  # nohup, or a job in the background of a script
                self._before[each] = signal.signal(each, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)  # type: ignore[arg-type]  # what signal() gave, it takes

    def arm(self) -> None:
        self._armed = True

    def _hear(self, number: int, _: FrameType | None) -> None:
        self.count += 1
        if self._armed and self.count < PATIENCE:
            return
        if self._armed:
            os._exit(INTERRUPTED)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)
