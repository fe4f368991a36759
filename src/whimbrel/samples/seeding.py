"""Runs a process's one seeding, in the caller's thread or in the background, with progress, and stops it between two blocks."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import structlog

from whimbrel.errors import StateForbids, WhimbrelError

log = structlog.get_logger("whimbrel.samples")

ENDING = 60.0  # seconds that a seeding may take to stop, for the blocks under way


class SeedingBusy(StateForbids):
    """This process seeds already."""

    code: ClassVar[str] = "seeding_runs"


@dataclass(frozen=True, slots=True)
class Seed:
    """A seeding to do. `insert` yields how many documents are in, and ends early once its argument says so."""

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
        """The progress of the present seeding, or the last one."""
        latest = self._progress
        if latest is not None and latest.state == "running":
            return replace(latest, seconds=time.monotonic() - self._began)
        return latest

    def run(self, seed: Seed) -> Progress:
        """Seeds, and returns when it is done. Raises SeedingBusy, and what the inserts raise."""
        self._take(seed)
        return self._work(seed)

    def start(self, seed: Seed) -> Progress:
        """Seeds in the background. Raises SeedingBusy; errors of the inserts are in `progress`."""
        started = self._take(seed)
        threading.Thread(target=self._work_and_log_errors, args=(seed,), name="seeding", daemon=True).start()
        return started

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stops a seeding, and keeps others from beginning while entered. Raises SeedingBusy where it does not stop in time."""
        if not self._take_from_seeding():
            raise SeedingBusy(
                "The seeding that goes on does not stop: MongoDB does not answer it. Try again later."
            )
        try:
            yield
        finally:
            self._slot.release()

    def close(self) -> None:
        """Stops for good. Returns when inserts under way have ended, or their time is over."""
        self._closed = True
        if self._take_from_seeding():
            self._slot.release()

    def _take_from_seeding(self) -> bool:
        """Takes the slot, also from a seeding that runs or is just beginning; returns whether it did in time."""
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

    def _work_and_log_errors(self, seed: Seed) -> None:
        try:
            self._work(seed)
        except WhimbrelError as error:
            log.warning("seeding failed", error=str(error))
        except Exception:  # a thread must not end in silence
            log.exception("seeding failed")

    def _work(self, seed: Seed) -> Progress:
        stopped, progress = self._over, Progress("running", seed.requested, seed.seed)
        try:
            for inserted in seed.insert(stopped.is_set):
                self._progress = progress = replace(progress, inserted=inserted)
            progress = replace(progress, state="done" if progress.inserted >= seed.requested else "stopped")
        except WhimbrelError as error:
            progress = replace(progress, state="failed", error=str(error))
            raise
        except BaseException as error:
            progress = replace(
                progress, state="failed", error=f"Whimbrel itself failed: {type(error).__name__}."
            )
            raise
        finally:
            self._progress = replace(progress, seconds=time.monotonic() - self._began)
            self._slot.release()
        return self._progress
