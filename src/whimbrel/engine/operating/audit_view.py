"""Entries of the audit as JSON has them, for the REST API."""

from typing import Any

from whimbrel.domain.runs.audit import AuditEntry, name_of
from whimbrel.engine.operating.run_view import iso_time


def entry_object(entry: AuditEntry) -> dict[str, Any]:
    return {
        "id": entry.id, "at": iso_time(entry.at), "action": entry.action, "what": entry.what, "actor": name_of(entry.who), "who": entry.who,
        "why": entry.why, "migrationId": entry.run,
    }  # fmt: skip
