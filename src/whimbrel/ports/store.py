"""One MongoDB deployment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # typing only: it uses few of these, and describes many
    from contextlib import AbstractContextManager

    from whimbrel.domain.migrations.definition import Definition
    from whimbrel.domain.runs.preflight_findings import Finding
    from whimbrel.domain.runs.run import Run
    from whimbrel.ports.changes import Changes
    from whimbrel.ports.documents import Documents
    from whimbrel.ports.health import HealthReader, Watching
    from whimbrel.ports.ledger import Ledger
    from whimbrel.ports.rehearsal import Rehearsal
    from whimbrel.ports.survey import Survey


class Session(Protocol):
    """What one slot does on users' collections. Another process can end it by its id (hole H13)."""

    @property
    def lsid(self) -> bytes: ...

    def documents(self, run: Run) -> Documents: ...


@dataclass(frozen=True, slots=True)
class Server:
    """What answers at the connected address."""

    host: str
    port: int
    replica_set: str | None  # None: a stand-alone server
    primary: str | None
    version: str


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How the driver is configured."""

    app_name: str | None
    read_preference: str
    write_concern: dict[str, Any]
    retry_writes: bool
    direct: bool | None
    pool_size: int | None  # None: without a limit
    connect_seconds: float | None
    selection_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ahead:
    """What is expected of a run before it starts."""

    documents: int | None  # that it will change, about; None: unknown
    touched: frozenset[str] | None  # dotted paths that it changes; None: unknown
    growth: int | None = None  # bytes that a document gains at most, a before-image included; None: unknown
    mean_growth: float | None = None  # the same on average
    oplog: int | None = None  # bytes of oplog that it will write; None: unknown
    naive: tuple[str, ...] = ()  # fields to which the function gives times without a zone
    differing_values: tuple[str, ...] = ()  # what the function uses that differs between processes
    unusable: str = ""  # what is wrong with its answer to every document that it was tried on


@dataclass(frozen=True, slots=True)
class Identity:
    """A collection. `uuid`: None where it does not exist, or has none. `collated`: it compares text by a collation of its own."""

    uuid: bytes | None
    collated: bool
    view: bool = False


class Store(Protocol):
    """One MongoDB deployment: the ledger and the users' collections in it."""

    @property
    def ledger(self) -> Ledger: ...

    @property
    def database(self) -> str:
        """The database of migrations that name none, and of the ledger."""
        ...

    @property
    def uuids(self) -> str:
        """How values of `uuid.UUID` are stored in users' documents, according to the address: one of `domain.bson.uuids.UUIDS`."""
        ...

    def prepare(self) -> None:
        """Creates the ledger's indexes where they are missing: the first write ever to a database.

        Called before a run is added or continued. Raises DatabaseRefused where the ledger cannot be stored there.
        """
        ...

    def session(self) -> Session: ...

    @property
    def watching(self) -> Watching | None:
        """How this process watches the deployment's health. None: it does not, and neither does preflight."""
        ...

    def health_reader(self) -> HealthReader:
        """Returns what reads the signals of the deployment's health. It remembers what it read last."""
        ...

    def changes(self, run: Run, position: bytes | None = None) -> Changes:
        """Returns what changes in the run's collection from this position on, or from now on.

        Raises ChangesLost where MongoDB does not know that position any more; Systemic where this user, or this server, has no changes to tell.
        """
        ...

    def rehearsal(self, run: Run) -> Rehearsal:
        """Returns access to the run's collection for a dry run."""
        ...

    def ping(self) -> None:
        """Checks that the server answers. Raises Transient, Systemic."""
        ...

    def server(self, seconds: float) -> Server:
        """Returns what answers now, within these seconds. Raises Transient, Systemic."""
        ...

    def within(self, seconds: float) -> AbstractContextManager[None]:
        """Returns a context, of this thread or task, whose statements have so many seconds together, whatever limit each has. Then they raise Transient or TooSlow."""
        ...

    @property
    def options(self) -> ClientOptions: ...

    def ledger_collections(self) -> list[str]:
        """Returns names of the ledger's collections that exist."""
        ...

    def survey(self, run: Run) -> Survey:
        """Returns what answers questions about the whole of the run's collection."""
        ...

    def identity(self, database: str, collection: str) -> Identity:
        """Returns which collection a name means now."""
        ...

    def survey_of(self, database: str, collection: str) -> Survey:
        """Returns the same for any collection. A collection that does not exist has no documents."""
        ...

    def estimate(self, database: str, collection: str) -> int:
        """Returns about how many documents there are, from the collection's metadata."""
        ...

    def document_bytes(self, database: str, collection: str) -> int:
        """Returns the mean size of the collection's documents, from its metadata; 0 where that cannot be told."""
        ...

    def errors(self, run: Run, definition: Definition) -> list[Finding]:
        """Returns why a run could not keep its promises on its collection, each with the reason and what to do. Nothing is written."""
        ...

    def warnings(self, run: Run, definition: Definition, ahead: Ahead) -> list[Finding]:
        """Returns what a person should know before a run starts, and what could not be checked.

        For a run without errors. Nothing is written; each check ends after two seconds at most.
        """
        ...
