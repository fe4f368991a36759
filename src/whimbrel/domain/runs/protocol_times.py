"""The protocol's times, in seconds, together, because they must fit one another."""

from dataclasses import dataclass

CHUNK_DOCUMENTS = 1000
CHUNK_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """Seconds, except `notes`.

    A statement must end before the grace after its lease does (`statement < grace`): then nothing of a
    lost claim can still run when the batch is taken over (hole H12).
    """

    lease: float = 15.0
    grace: float = 5.0
    statement: float = 4.0
    chunk: float = 2.0
    tick: float = 0.2  # between two ticks of the coordinator
    sweep: float = 5.0
    idle_poll: float = 1.0  # the longest pause between two attempts to claim
    notes: float = 0.01  # the share of a batch's time that noting its progress may take
    delay: float = 0.0  # between two chunks, to go easy on the database
    broker: float = 5.0  # between two checks whether the broker still holds and delivers pointers
    control: float = 0.2  # between two checks of a worker whether a run was paused or cancelled

    def __post_init__(self) -> None:
        if not self.statement < self.grace:
            raise ValueError("the time limit of a statement must be shorter than the grace")
        if not self.grace < self.lease:
            raise ValueError("the grace must be shorter than the lease")
