"""The audit of the ledger, for reading."""

from collections.abc import Sequence
from typing import Protocol

from whimbrel.domain.runs.audit import AuditEntry, AuditQuery
from whimbrel.domain.runs.run_cursor import RunPlace


class AuditTrail(Protocol):
    """Who did what. Entries are added by `Leases.audit`, and removed with what they are about."""

    def list(
        self, query: AuditQuery, *, after: RunPlace | None = None, limit: int = 100
    ) -> Sequence[AuditEntry]:
        """Lists entries, newest first. `after`: only what comes after this place. Raises CursorInvalid.

        The cost does not depend on how many others there are.
        """
        ...
