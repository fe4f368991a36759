"""A process's one seeding: in the caller's thread or behind it, watched, and stopped between two blocks."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import structlog

from whimbrel.errors import StateForbids, WhimbrelError

log = structlog.get_logger("whimbrel.samples")

ENDING = 60.0  # seconds that a seeding may take to stop: the blocks that are on their way


class SeedingBusy(StateForbids):
    """This process seeds already."""

    code: ClassVar[str] = "seeding_runs"


@dataclass(frozen=True, slots=True)
class Seed:
    """What to do. `insert` yields how many documents are in, and ends early once its argument says so."""

    requested: int
    seed: int
    insert: Callable[[Callable[[], bool]], Iterator[int]]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a seeding is."""

    state: Literal["running", "done", "stopped", "failed"]
    requested: int
    seed: int
    inserted: int = 0  # acknowledged; of one that failed, a block more may be in
    seconds: float = 0.0
    error: str | None = None


class Seeding:
    """At most one seeding at a time."""

    def __init__(self) -> None:
        self._slot = threading.Lock()
        self._over = threading.Event()
        self._closed = False
        self._began = 0.0
        self._progress: Progress | None = None

    @property
    def progress(self) -> Progress | None:
        """Of the present seeding, or the last one."""
        found = self._progress
        if found is not None and found.state == "running":
            return replace(found, seconds=time.monotonic() - self._began)
        return found

    def run(self, seed: Seed) -> Progress:
        """Seed, and return when it is done. Raises SeedingBusy, and what the inserts raise."""
        self._take(seed)
        return self._work(seed)

    def start(self, seed: Seed) -> Progress:
        """Seed behind the caller. Raises SeedingBusy; what the inserts raise is in `progress`."""
        begun = self._take(seed)
        threading.Thread(target=self._quietly, args=(seed,), name="seeding", daemon=True).start()
        return begun

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop what goes on, and let nothing begin in here. Raises SeedingBusy where it does not stop in time."""
        if not self._halted():
            raise SeedingBusy(
                "The seeding that goes on does not stop: MongoDB does not answer it. Try again later."
            )
        try:
            yield
        finally:
            self._slot.release()

    def close(self) -> None:
        """Stop for good: returns when what is on its way has arrived, or its time is over."""
        self._closed = True
        if self._halted():
            self._slot.release()

    def _halted(self) -> bool:
        """Take the slot, from a seeding if there is one, also from one that begins at this moment."""
        end = time.monotonic() + ENDING
        while time.monotonic() < end:
            self._over.set()
            if self._slot.acquire(timeout=0.2):
                return True
        return False

    def _take(self, seed: Seed) -> Progress:
        if self._closed or not self._slot.acquire(blocking=False):
            raise SeedingBusy(
                "This process seeds already. GET /seed/stats shows how far it is; DELETE /seed/clear stops it."
            )
        self._over = threading.Event()
        self._began = time.monotonic()
        self._progress = Progress("running", seed.requested, seed.seed)
        return self._progress

    def _quietly(self, seed: Seed) -> None:
        try:
            self._work(seed)
        except WhimbrelError as error:
            log.warning("seeding failed", error=str(error))
        except Exception:  # a thread must not end in silence
            log.exception("seeding failed")

    def _work(self, seed: Seed) -> Progress:
        over, found = self._over, Progress("running", seed.requested, seed.seed)
        try:
            for inserted in seed.insert(over.is_set):
                self._progress = found = replace(found, inserted=inserted)
            found = replace(found, state="done" if found.inserted >= seed.requested else "stopped")
        except WhimbrelError as error:
            found = replace(found, state="failed", error=str(error))
            raise
        except BaseException as error:
            found = replace(found, state="failed", error=f"Whimbrel itself failed: {type(error).__name__}.")
            raise
        finally:
            self._progress = replace(found, seconds=time.monotonic() - self._began)
            self._slot.release()
        return self._progress
