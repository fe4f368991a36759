"""Reads the ledger in a thread of its own, so that a hanging database does not hang the display."""

import threading
import time
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from whimbrel.errors import Systemic, Transient, WhimbrelError

T = TypeVar("T")

FIRST = 0.02  # seconds, the first pause
NOTICED = 2.0  # seconds without an answer from MongoDB after which the display says so
PATIENCE = 600.0  # seconds without an answer from MongoDB after which a command gives up


class LedgerObserver(Generic[T]):
    """Holds the latest result of `look`, which is called at once, and again and again while this is entered."""

    def __init__(
        self, look: Callable[[], T], pause: float = 0.2, told: Callable[[], None] = lambda: None
    ) -> None:
        """`told`: called, in the thread, after each look."""
        self._look, self._pause, self._told = look, pause, told
        self.latest = look()
        self._error: WhimbrelError | None = None
        self._answered = time.monotonic()
        self._over, self._new, self._hurry = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="observer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._hurry.set()
        self._thread.join(1)

    @property
    def silent(self) -> float:
        """Seconds since MongoDB's last answer; 0 while it answers."""
        waited = time.monotonic() - self._answered
        return waited if waited > NOTICED else 0.0

    @property
    def age(self) -> float:
        """Seconds since MongoDB's last answer."""
        return time.monotonic() - self._answered

    def hurry(self) -> None:
        """Has the next look taken at once: something else is to be looked at."""
        self._hurry.set()

    def check(self, *, patience: float = PATIENCE) -> None:
        """Raises errors that will not pass by themselves, or have lasted too long."""
        if self._error is not None and not isinstance(self._error, Transient):
            raise self._error
        if self.silent > patience:
            raise self._error or Transient(f"MongoDB has not answered for {PATIENCE:.0f} seconds.")

    def wait(self, seconds: float) -> None:
        """Waits until there is a newer result than at the last call, or so many seconds."""
        self._new.wait(seconds)
        self._new.clear()

    def _repeat(self) -> None:
        began = time.monotonic()
        while True:
            self._hurry.clear()
            if self._over.is_set():
                return
            try:
                self.latest = self._look()
                self._error, self._answered = None, time.monotonic()
            except WhimbrelError as error:
                self._error = error
            except Exception as error:  # noqa: BLE001  logged below
                # Else the thread would end, and MongoDB would seem not to answer.
                self._error = internal_fault("a look at the ledger broke", error, self._error)
            self._new.set()
            self._told()
            # A run that has just begun may end soon.
            self._hurry.wait(min(self._pause, FIRST + (time.monotonic() - began) / 10))


def internal_fault(what: str, error: Exception, before: WhimbrelError | None) -> WhimbrelError:
    """Returns the error for a fault of Whimbrel itself, and logs its traceback, unless it is the same as `before`."""
    fault = Systemic(f"Whimbrel itself failed: {type(error).__name__}: {error}")
    if str(before) != str(fault):
        import structlog  # noqa: PLC0415  most commands log nothing

        structlog.get_logger("whimbrel").error(what, exc_info=error)
    return fault
