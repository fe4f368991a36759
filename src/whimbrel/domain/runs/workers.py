"""A worker process as it describes itself with each sign of life."""

from dataclasses import dataclass
from datetime import datetime

WORKERS_SEEN = 10.0  # seconds within which a worker must have given a sign of life to be planned for
ALIVE = 5.0  # seconds within which a live worker gives a sign of life
LOST_FOR = 3600.0  # seconds for which a worker that ended without a word is shown
LOST_SHOWN = 50  # of them at most
NOT_LOADED = "not loaded here"


@dataclass(frozen=True, slots=True)
class InHand:
    """A batch that a worker has claimed."""

    batch: str
    since: datetime | None
    changes: int = 0  # of the run's settings, that the slot knows of
    stops: bool = False  # it was told to give the batch back after its chunk


@dataclass(frozen=True, slots=True)
class Refusal:
    """A run that a worker does not serve, because its code of that migration is not the run's."""

    run: str
    pinned: str
    here: str  # which files differ, or the hash of its code, or NOT_LOADED, or why it is broken


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """A row of the registry. Times are the server's."""

    name: str
    host: str
    pid: int
    version: str  # of Whimbrel
    slots: int
    only: str | None  # the only run that it works on, if not all
    code: dict[str, str]  # migration -> hash of its code
    done: int  # batches settled since it started
    in_hand: tuple[InHand, ...]
    refuses: tuple[Refusal, ...]
    started_at: datetime
    seen_at: datetime
    loading: bool = False  # it is importing the migrations, and has no slots yet
