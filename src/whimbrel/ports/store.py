"""One MongoDB deployment."""

from typing import Protocol

from whimbrel.domain.migration import Definition
from whimbrel.domain.runs import Run
from whimbrel.ports.documents import Documents, Query
from whimbrel.ports.ledger import Ledger


class Session(Protocol):
    """What one slot does on users' collections. Another process can end it by its id (hole H13)."""

    @property
    def lsid(self) -> bytes: ...

    def documents(self, run: Run) -> Documents: ...


class Store(Protocol):
    """One MongoDB deployment: the ledger and the users' collections in it."""

    @property
    def ledger(self) -> Ledger: ...

    @property
    def database(self) -> str:
        """Where migrations without a database of their own work, and where the ledger is."""
        ...

    def session(self) -> Session: ...

    def ping(self) -> None:
        """Ask the server whether it answers. Raises Transient, Systemic."""
        ...

    def check(self, database: str, definition: Definition, query: Query) -> None:
        """Raise where a run could not keep its promises on this collection, with the reason and what to do."""
        ...
