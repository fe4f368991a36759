"""Looking at the ledger from a thread of its own, so that a database that hangs does not hang the display."""

import threading
import time
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from whimbrel.errors import Systemic, Transient, WhimbrelError

T = TypeVar("T")

FIRST = 0.02  # seconds, the first pause
NOTICED = 2.0  # seconds without an answer from MongoDB that are worth a word
PATIENCE = 600.0  # seconds without an answer from MongoDB after which a command gives up


class LedgerObserver(Generic[T]):
    """What was seen last: a first look is taken at once. Enter it to go on looking; leaving it stops that."""

    def __init__(self, look: Callable[[], T], pause: float = 0.2) -> None:
        self._look, self._pause = look, pause
        self.latest = look()
        self._trouble: WhimbrelError | None = None
        self._answered = time.monotonic()
        self._over, self._new = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="observer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(1)

    @property
    def silent(self) -> float:
        """Seconds since MongoDB answered last; 0 while it does."""
        waited = time.monotonic() - self._answered
        return waited if waited > NOTICED else 0.0

    def check(self) -> None:
        """Raise what will not pass by itself, and what has not passed for too long."""
        if self._trouble is not None and not isinstance(self._trouble, Transient):
            raise self._trouble
        if self.silent > PATIENCE:
            raise self._trouble or Transient(f"MongoDB has not answered for {PATIENCE:.0f} seconds.")

    def wait(self, seconds: float) -> None:
        """Until something newer is seen than at the last call, or so many seconds."""
        self._new.wait(seconds)
        self._new.clear()

    def _repeat(self) -> None:
        began = time.monotonic()
        while not self._over.is_set():
            try:
                self.latest = self._look()
                self._trouble, self._answered = None, time.monotonic()
            except WhimbrelError as error:
                self._trouble = error
            except Exception as error:  # noqa: BLE001  it is logged there
                # Else the thread would end, and MongoDB be blamed for its silence.
                self._trouble = failed("a look at the ledger broke", error, self._trouble)
            self._new.set()
            # What has just begun may be over soon.
            self._over.wait(min(self._pause, FIRST + (time.monotonic() - began) / 10))


def failed(what: str, error: Exception, before: WhimbrelError | None) -> WhimbrelError:
    """What is said of a fault of Whimbrel itself. The log has its traceback, unless it is the same as `before`."""
    found = Systemic(f"Whimbrel itself failed: {type(error).__name__}: {error}")
    if str(before) != str(found):
        import structlog  # noqa: PLC0415  what only looks logs nothing

        structlog.get_logger("whimbrel").error(what, exc_info=error)
    return found
