"""What several tabs ask for at nearly the same time is worked out once. It is read again when it is old: nothing is kept that matters."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class Recently(Generic[T]):
    """A value for each owner, such as a deployment, worked out again after so many seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._known: WeakKeyDictionary[object, tuple[float, T]] = WeakKeyDictionary()

    def of(self, owner: object, make: Callable[[], T]) -> T:
        """Returns the value that belongs to `owner`, which `make` makes where it is too old. Raises what `make` raises."""
        with self._lock:
            known = self._known.get(owner)
            if known is None or time.monotonic() >= known[0]:
                value = make()  # which may take long: its age counts from its end
                known = self._known[owner] = (time.monotonic() + self._seconds, value)
            return known[1]
