"""Reads the changes of one run's collection in a thread, beside the coordinator's ticks: MongoDB may have to look through much before it answers.

What a reader has in memory may be lost: the next one begins where the ledger says.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.errors import WhimbrelError
from whimbrel.ports import Change, Changes

HELD = 20_000  # changes in memory at most; then it waits until some are taken
HELD_BYTES = 16 * 1024 * 1024  # of their keys
UNASKED_SECONDS = (
    30.0  # after which a reader that nobody asks ends: another process coordinates, or the run is paused
)


@dataclass(frozen=True, slots=True)
class Taken:
    """Documents that have changed, each once.

    `position`: behind all of these changes. `at`: when the last of them was written; None: nothing had come behind them, `ago` seconds ago.
    """

    keys: tuple[Key, ...]
    position: bytes
    at: datetime | None
    ago: float = 0.0


class ChangeReader:
    """Begins at once."""

    def __init__(self, begin: Callable[[], Changes], name: str) -> None:
        self._begin = begin
        self._news = threading.Condition()
        self._held: list[Change] = []
        self._bytes = 0
        self._idle: tuple[bytes, float] | None = None  # the position behind which nothing had come, and when
        self._error: Exception | None = None
        self._ended = False
        self._asked = time.monotonic()
        self._thread = threading.Thread(target=self._read, name=f"changes for {name}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether it has stopped without an error, and another must begin."""
        return self._ended and self._error is None

    @property
    def waiting(self) -> int:
        """How many changes are held."""
        return len(self._held)

    def take(self, most: int) -> Taken | None:
        """Takes the first changes, of at most so many documents; None where nothing is known that was not known before.

        Raises what reading has raised, when all that was read before was taken.
        """
        with self._news:
            self._asked = time.monotonic()
            keys, count = dict[Key, None](), 0
            while count < len(self._held) and (len(keys) < most or self._held[count].key in keys):
                keys[self._held[count].key] = None
                count += 1
            taken, self._held = self._held[:count], self._held[count:]
            self._bytes -= sum(len(change.key.raw) for change in taken)
            self._news.notify_all()
            if not self._held and self._idle is not None:
                position, moment = self._idle
                return Taken(tuple(keys), position, None, time.monotonic() - moment)
            if taken:
                return Taken(tuple(keys), taken[-1].position, taken[-1].at)
            if self._error is not None:
                raise self._error
            return None

    def attend(self) -> None:
        """Tells that what it holds will be taken, though not yet."""
        self._asked = time.monotonic()

    def stop(self) -> None:
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _read(self) -> None:
        try:
            changes = self._begin()
            try:
                while not self._ended:
                    asked = time.monotonic()
                    change = changes.next()
                    self._hold(change, None if change else (changes.position, asked))
            finally:
                with contextlib.suppress(WhimbrelError):
                    changes.close()
        except Exception as error:  # noqa: BLE001  raised in `take`
            with self._news:
                self._idle, self._error = None, error
        with self._news:
            self._ended = True

    def _hold(self, change: Change | None, idle: tuple[bytes, float] | None) -> None:
        with self._news:
            self._idle = idle
            if change is not None:
                self._held.append(change)
                self._bytes += len(change.key.raw)
            while not self._ended and (len(self._held) >= HELD or self._bytes >= HELD_BYTES):
                self._news.wait(1.0)
                self._end_unasked()
            self._end_unasked()

    def _end_unasked(self) -> None:
        if time.monotonic() - self._asked > UNASKED_SECONDS:
            self._ended = True
