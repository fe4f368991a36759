"""A run: one execution of a migration, its scope, its legs, and its results."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.raw_bson import decoded
from whimbrel.domain.bson.uuids import UNSPECIFIED, stored, writing
from whimbrel.domain.migrations import marks
from whimbrel.domain.migrations.before_images import UndoStages, image_field
from whimbrel.domain.migrations.definition import Definition, UndoMode
from whimbrel.domain.migrations.filters import all_of
from whimbrel.domain.migrations.marks import Mark, mark_of, marker_field
from whimbrel.domain.migrations.updates import Update
from whimbrel.domain.runs.allowance import FULL, Allowance
from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.failure_budget import BrokenRule, FailureBudget, Standing
from whimbrel.domain.runs.following import Following
from whimbrel.domain.runs.forecast import ProgressSample
from whimbrel.domain.runs.leg_counts import LegCounts
from whimbrel.domain.runs.preflight_findings import Finding
from whimbrel.domain.runs.requests import Request
from whimbrel.domain.runs.run_cursor import RunPlace
from whimbrel.domain.runs.sizing import Sizing
from whimbrel.domain.runs.stages import GateLook, Stages
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.tiling import Tiling
from whimbrel.domain.runs.verification import Proof

Phase = Literal["pending", "processing", "failed", "sweep", "follow"]
LEGS_OF_STAGE = 2
RunKind = Literal["migration", "rollback", "cleanup", "verification"]
UNRANGED = ("failed", "follow")  # phases that take documents by name: they look at no range


@dataclass(frozen=True, slots=True)
class Counts:
    """Documents by outcome. Failures and conflicts are not included: they have rows of their own."""

    changed: int = 0
    unchanged: int = 0
    skipped: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.changed + other.changed, self.unchanged + other.unchanged, self.skipped + other.skipped
        )

    @property
    def total(self) -> int:
        return self.changed + self.unchanged + self.skipped


@dataclass(frozen=True, slots=True)
class Scope:
    """Which documents a run is about: all, the first N in `_id` order, or exactly some ids."""

    kind: Literal["all", "first", "ids"] = "all"
    limit: int | None = None

    @property
    def swept(self) -> bool:
        """Whether the run ends with a sweep, and may say that nothing is left."""
        return self.kind == "all"


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A row of the ledger. Times are the server's."""

    id: str
    migration: str
    version: int
    database: str
    collection: str
    filter: bytes  # BSON, without a clause on the status field
    mark: Literal["marker", "status", "filter"]
    status_field: str
    declarative: bool
    claim: bool
    adopt: Literal["ours", "all"]
    scope: Scope
    asked: Phase | None = None  # the phase that a filter on the status field asked for
    request: Request | None = None  # what somebody asked for; None: an earlier version did not store it
    abridged: bool = False  # in a list: the filter was too long for it, and is missing
    legs: tuple[Phase, ...]
    leg: int = 0
    status: RunStatus = RunStatus.QUEUED
    batch_size: int  # documents in a batch: the next ones to be planned
    sizing: Sizing = field(default_factory=Sizing)
    document_bytes: int = 0  # the mean of its collection's documents when it began; 0: not known
    priority: int = 0  # 0 to 10; above 5 its batches go before those of others
    rate: int | None = None  # documents a second that all its slots together may evaluate
    max_attempts: int
    retry_delay: float
    timeout: float
    code_hash: str
    # Of a declarative migration, as it was evaluated at the start: BSON {"update": ...}.
    update: bytes | None = None
    reads: tuple[str, ...] | None = None
    concurrency: int = 16
    kind: RunKind = "migration"
    of: str | None = None  # the run that this one rolls back, cleans up or verifies
    undo: UndoMode = False
    collection_uuid: bytes | None = None  # of the collection that it is bound to; None: an earlier version
    collated: bool = False  # whether its collection compares text by a collation of its own
    uuids: str = UNSPECIFIED  # how values of `uuid.UUID` are stored: one of `domain.bson.uuids.UUIDS`
    undone_by: str | None = None  # the run that rolled this run back, or is doing so
    sample: int | None = 0  # in a verification: documents that are transformed again; None: all
    report: tuple[Proof, ...] = ()  # in a verification: what it proved
    counts: Counts = field(default_factory=Counts)
    folded_through: int = 0
    rows: bytes | None = None  # the UUID of the collection that holds its batches
    planned: int = 0  # the last batch that was ever stored, as far as is known
    tiling: Tiling = field(default_factory=Tiling)  # of its batches, as far as they were checked at its end
    # In a verification: of the batches of the run it verifies.
    checked: Tiling = field(default_factory=Tiling)
    inferred: bool = False
    taken_over: bool = False  # whether a worker was lost that held a batch of it
    estimated: int = 0
    retried: int = 0  # how often a person reopened its dead failures
    message: str = ""
    error: str | None = None
    failing: bool = False  # while it pauses: it has failed, and holds its collection until nobody works on it
    warnings: tuple[Finding, ...] = ()  # what preflight found before it was added
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    working_since: datetime | None = None  # None while it is paused, waits, or has ended
    worked: float = 0.0  # seconds, in earlier periods of work
    samples: tuple[ProgressSample, ...] = ()  # of its progress, while it is at work
    ended_at: datetime | None = None
    start_key: str | None = None  # no two runs have the same: what several want to start at once, one starts
    windows: tuple[str, ...] = ()  # as `domain.runs.windows` reads them; none: it may work at any time
    nice: int = 0  # 0 to 100: its share of its speed is at most 1/(1 + nice)
    allowance: Allowance = FULL  # while it is at work: what a coordinator saw last that it may have, and why
    # Of its settled batches, as far as they are folded.
    chunk_times: ChunkTimes = field(default_factory=ChunkTimes)
    budget: FailureBudget = field(default_factory=FailureBudget)  # how many failures have it pause
    # What had failed when a person last had it go on in spite of that: it counts no more.
    forgiven: Standing | None = None
    over_budget: tuple[BrokenRule, ...] = ()  # why its budget has had it pause
    follow: Following | None = None  # it goes on with what changes after its sweep; None: it does not
    stages: Stages | None = None  # None: all at once
    by_leg: Mapping[int, LegCounts] = field(default_factory=dict)  # what was added up of each leg
    changes: int = 0  # how often somebody has changed its settings
    changed_at: datetime | None = None
    options: Mapping[str, Any] | None = (
        None  # that it was started with; None: an earlier version did not store them
    )

    @property
    def phase(self) -> Phase:
        return self.legs[min(self.leg, len(self.legs) - 1)]

    @property
    def main_leg(self) -> int:
        """The first leg that is not one of a stage: each stage but the last has a leg of its own, and one for its retries."""
        return 0 if self.stages is None else LEGS_OF_STAGE * self.stages.gates

    @property
    def stage(self) -> int | None:
        """The position of the stage that it is in; None where it goes in none."""
        return None if self.stages is None else min(self.leg // LEGS_OF_STAGE, self.stages.gates)

    @property
    def looks(self) -> list[int]:
        """The legs in which the run looks at everything, the last first."""
        return [leg for leg, phase in reversed(list(enumerate(self.legs))) if phase not in UNRANGED]

    @property
    def ns(self) -> str:
        return f"{self.database}.{self.collection}"

    @property
    def query(self) -> dict[str, Any]:
        """The run's filter as a query."""
        return _query(self.filter)

    @property
    def selecting(self) -> dict[str, Any]:
        """The query with the status that was asked for: as a filter, it selects the same again."""
        return self.query if self.asked is None else {self.status_field: self.asked, **self.query}

    @property
    def place(self) -> RunPlace:
        """Its place in the list of all runs."""
        return RunPlace(self.created_at, self.id)

    @property
    def declared(self) -> Update | None:
        """The update of a declarative migration, as it was evaluated at the start."""
        return None if self.update is None else decoded(self.update)["update"]

    @property
    def urgent(self) -> bool:
        return _urgent(self.priority)

    @property
    def said_otherwise(self) -> bool:
        """Whether its message tells something else than what holds it back."""
        return bool(self.message) and self.message != self.allowance.explain()

    @property
    def has_user_code(self) -> bool:
        """Whether its batches need the code of its migration: an update is stored in the run."""
        asked = self.kind == "migration" or (self.kind == "verification" and self.sample != 0)
        return asked and self.update is None

    @property
    def takes_failed(self) -> bool:
        """Whether this leg works on documents that somebody else left as failed, before its own failures."""
        wanted = self.asked == "failed" or (self.asked is None and self.scope.swept)
        return self.mark == "status" and wanted and self.leg == self.legs.index("failed", self.main_leg)

    @property
    def undoing(self) -> UndoStages | None:
        """How this run keeps before-images, if it does."""
        if not self.undo:
            return None
        return UndoStages(image_field(self.migration, self.version), self.id, whole=self.undo == "document")

    @property
    def marking(self) -> Mark:
        return mark_of(
            self.mark, marker_field(self.migration, self.version), self.status_field, collated=self.collated
        )


def stage_refusal(run: Run, looked: GateLook) -> str:
    """Returns why a run pauses at the gate of its stage, and what to do."""
    return f"{stage_name(run)} did not pass its gate: {looked.why_not} Mend it, or approve the stage as it is: whimbrel approve {run.id}"


def stage_name(run: Run) -> str:
    """Returns which stage a run is in, for people."""
    if run.stages is None or run.stage is None:
        return "The run"
    return f"Stage {run.stage + 1} of {len(run.stages.stages)} ({run.stages.stages[run.stage].asked})"


def code_fields(definition: Definition, uuids: str) -> dict[str, Any]:
    """Returns the fields of a run that a migration's code determines, as they are evaluated now."""
    update = (
        None if definition.update is None else encoded({"update": stored(definition.update, writing(uuids))})
    )
    return {
        "code_hash": definition.code_hash, "update": update, "reads": definition.reads, "concurrency": definition.concurrency, "timeout": definition.timeout,
    }  # fmt: skip


def definition_of(run: Run) -> Definition:
    """Returns a run's migration, without its function, as it was evaluated when the run was started."""
    return Definition(
        name=run.migration, version=run.version, collection=run.collection, database=run.database, filter=run.query,
        mark=run.mark, status_field=run.status_field, batch_size=run.batch_size, max_attempts=run.max_attempts,
        timeout=run.timeout, reads=run.reads, claim=run.claim, adopt=run.adopt, concurrency=run.concurrency, undo=run.undo,
        update=run.declared, code_hash=run.code_hash, uuids=run.uuids,
    )  # fmt: skip


def for_run(definition: Definition, run: Run) -> Definition:
    """Returns a definition as a run carries it out: with what was evaluated at the run's start, whatever it would be now."""
    pinned = replace(definition_of(run), code=definition.code, summary=definition.summary)
    if run.update is None and definition.update is not None:  # an earlier version did not store it in the run
        return replace(pinned, update=stored(definition.update, writing(run.uuids)))
    return pinned


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAtWork:
    """What many processes query of every run that is at work, several times a second: no more than they need."""

    id: str
    ns: str
    migration: str
    has_user_code: bool
    code_hash: str
    status: RunStatus
    leg: int
    priority: int
    windows: tuple[str, ...] = ()
    nice: int = 0
    changes: int = 0

    @property
    def urgent(self) -> bool:
        return _urgent(self.priority)


def _urgent(priority: int) -> bool:
    return priority > 5  # noqa: PLR2004  from here on runs have a lane of their own


def first_phases(run: Run) -> list[Phase]:
    """Returns the phases that find documents by themselves, not by what an earlier phase of the run left."""
    if run.mark != "status":
        return ["pending"]
    failed: list[Phase] = (
        ["failed"] if run.asked == "failed" or (run.asked is None and run.scope.swept) else []
    )
    return [phase for phase in run.legs[run.main_leg :] if phase in ("pending", "processing")] + failed


def work_of(run: Run) -> str:
    """Returns the phase that a run is about, or `all`: that does not change during the run."""
    phases = first_phases(run)
    return phases[0] if len(phases) == 1 else "all"


def query_of_first_phases(run: Run) -> dict[str, Any]:
    """Returns the query for what a run finds by itself, in any of its phases."""
    queries = [eligible(run, phase) for phase in first_phases(run)]
    return queries[0] if len(queries) == 1 else {"$or": queries}


def in_status(run: Run, *statuses: str) -> dict[str, Any]:
    """Returns the query for documents of a run's collection whose status is one of these."""
    return marks.in_status(run.status_field, statuses, collated=run.collated)


def eligible(run: Run, phase: Phase, *, retry: bool = False) -> dict[str, Any]:
    """Returns `E`: the run's filter AND not yet marked. Evaluated when a document is reached, never at planning.

    `retry`: for documents that have a failure row of the run.
    """
    return all_of(run.query, run.marking.unmarked(phase, retry=retry))


@lru_cache(maxsize=64)
def _query(filter_: bytes) -> dict[str, Any]:
    return decoded(filter_)


def legs_of(
    *, mark: str, scope: Scope, first: Phase | None, follow: bool = False, stages: Stages | None = None
) -> tuple[Phase, ...]:
    """Returns the phases of a run in order; before those of the whole the phases of its stages.

    `first` is the phase that a filter on the status field asked for; then only that phase is processed,
    followed by the retries of its own failures. `follow`: what changes after the sweep is processed too, until a person ends that; then
    another sweep comes.
    """
    before: tuple[Phase, ...] = ("pending", "failed") * (stages.gates if stages else 0)
    legs: list[Phase] = ["pending"]
    if mark == "status" and scope.kind == "all" and first is None:
        legs.append("processing")
    if first in ("processing", "failed"):
        legs = [first]
    if "failed" not in legs:
        legs.append("failed")
    if scope.swept and "pending" in legs:
        legs += ["sweep", "follow"] if follow else []
        legs += ["sweep", "failed"]
    return (*before, *legs)
