"""What is tried again, how often, after which delay, what is recorded, and what pauses the run: one table, which all code asks.

An error's class says what a run does about it (`errors.Remedy`); which answer of MongoDB is of which class, the adapters say (`mongo/driver_errors.py`).
What went wrong with one document has a kind (`domain.failures.failure.FailureKind`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from whimbrel.errors import Remedy

HOUR = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """A row. `times`: how often in a row, without any progress, before `then`; `first` to `longest`: the seconds of the delay, which doubles, times a random factor of `spread`."""

    errors: str
    times: float
    first: float = 0.0
    longest: float = 0.0
    spread: tuple[float, float] = (1.0, 1.0)
    recorded: str = "nothing"
    then: str = "the run pauses"
    alone: bool = False  # a document that is tried again in a batch of its own kind, alone in its process

    def delay(self, attempt: int, chance: float) -> float:
        """Returns the seconds until the attempt after this one, the first being 1. `chance`: a random number from 0 to 1."""
        return self.delay_from(self.first, attempt, chance)

    def delay_from(self, first: float, attempt: int, chance: float) -> float:
        """Returns the same where the first delay is the run's own."""
        low, high = self.spread
        return float(min(first * 2 ** (attempt - 1), self.longest)) * (low + (high - low) * chance)


# Errors of statements, of the ledger and of the broker: no attempt of a document is used up.
ERRORS: Mapping[Remedy, RetryPolicy] = {
    # At least half a minute of attempts: several times what a failover takes.
    Remedy.AGAIN: RetryPolicy(
        errors="network, failover, shutdown, lock, a cursor that is gone, no majority",
        times=40, first=0.2, longest=0.2, spread=(1.0, 5.0),
    ),
    # Each attempt waits for the time limit of a statement.
    Remedy.SMALLER: RetryPolicy(
        errors="the time limit of a statement, which is then tried with fewer documents", times=10, first=0.2, longest=0.2, spread=(1.0, 5.0),
    ),
    Remedy.WAIT: RetryPolicy(
        errors="RabbitMQ is away, full, or has an alarm: it is asked again at each look", times=inf, then="the run waits, and says so",
    ),
    # It concerns no single document, so a second attempt would fail the same way.
    Remedy.RECORD: RetryPolicy(errors="MongoDB refuses a statement that is about no single document", times=1),
    Remedy.PAUSE: RetryPolicy(errors="rights, full disk, configuration, a view, a replaced collection", times=1),
    # Somebody else continues: if nobody does, a person must look.
    Remedy.STOP: RetryPolicy(errors="the batch was taken over, or is asked back", times=40, then="it is left to its new owner"),
}  # fmt: skip

IN_A_TICK = RetryPolicy(
    errors="any of these while a run is planned, added up or ended: as often as its class says",
    times=inf,
    first=0.5,
    longest=0.5,
    recorded="the message of the run",
    then="the other runs go on meanwhile",
)
ONE_STATEMENT = RetryPolicy(
    errors="the time limit of a statement that cannot be made smaller",
    times=8,
    first=0.2,
    longest=0.2,
    spread=(1.0, 5.0),
)
KEYS = RetryPolicy(
    errors="the keys of an index do not come in time",
    times=3,
    then="the phase is planned by ranges of `_id`",
)
OWN_FAULT = RetryPolicy(
    errors="an error of Whimbrel itself",
    times=5,
    first=0.1,
    longest=30.0,
    recorded="the log, with its place",
    then="the run pauses when nothing else of it is left",
)
CHANGED_MEANWHILE = RetryPolicy(
    errors="the application changed the document between our read and our write",
    times=4,
    first=0.01,
    longest=0.08,
    spread=(0.5, 1.5),
    recorded="a failure of kind conflict",
    then="it is tried again as a conflict",
)

ATTEMPTS = -1  # as many as the run's `max_attempts`, the first included
_FAILED = "a failure of the document, open until its next attempt"

# What went wrong with one document, by the kind of its failure. The first delay is the run's own (RETRY_DELAY).
DOCUMENTS: Mapping[str, RetryPolicy] = {
    "data": RetryPolicy(
        errors="MongoDB refuses the document, or it cannot be decoded", times=1, recorded="a dead failure", then="it waits for a person"
    ),
    "code": RetryPolicy(
        errors="the function raised, or returned what cannot be used", times=ATTEMPTS, first=5.0, longest=HOUR, spread=(1.0, 1.25),
        recorded=_FAILED, then="it is dead, and waits for a person",
    ),
    "hang": RetryPolicy(
        errors="the function did not return in time", times=ATTEMPTS, first=5.0, longest=HOUR, spread=(1.0, 1.25), alone=True,
        recorded=_FAILED, then="it is dead, and waits for a person",
    ),
    "death": RetryPolicy(
        errors="the process died with the document in hand", times=ATTEMPTS, first=5.0, longest=HOUR, spread=(1.0, 1.25), alone=True,
        recorded=_FAILED, then="it is dead, and waits for a person",
    ),
    "conflict": RetryPolicy(
        errors="the application kept changing the document", times=ATTEMPTS, first=5.0, longest=HOUR, spread=(1.0, 1.25),
        recorded=_FAILED, then="it is dead, and waits for a person",
    ),
}  # fmt: skip


def attempts_of(kind: str, max_attempts: int, *, final: bool) -> int:
    """Returns how often a document is tried in all. `final`: the mistake is the author's, and the same code would make it again."""
    times = DOCUMENTS[kind].times
    return 1 if final else max_attempts if times == ATTEMPTS else int(times)
