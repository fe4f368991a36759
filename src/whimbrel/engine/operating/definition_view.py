"""Loaded migrations as JSON has them, for the REST API."""

from typing import Any

from whimbrel.domain.bson.document_ids import relaxed
from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.uuids import UNSPECIFIED, stored, writing
from whimbrel.domain.migrations.catalog import Catalog
from whimbrel.domain.migrations.definition import Definition

LONGEST = 2000  # bytes of a filter that is shown


def definitions_object(loaded: Catalog[Definition], database: str) -> dict[str, Any]:
    """Returns what is loaded, and what is broken. `database`: that of migrations that name none."""
    return {
        "migrations": [
            _definition_object(definition, database, loaded.sources.get(name, ""))
            for name, definition in loaded.items()
        ],
        "broken": [
            {"name": broken.name or None, "source": broken.source, "reason": broken.reason}
            for broken in loaded.broken
        ],
    }


def _definition_object(definition: Definition, database: str, source: str) -> dict[str, Any]:
    query = stored(definition.filter, writing(UNSPECIFIED))
    shown = len(encoded(query)) <= LONGEST
    return {
        "name": definition.name, "version": definition.version, "collection": definition.collection, "database": definition.database,
        "ns": f"{definition.database or database}.{definition.collection}", "mark": definition.mark,
        "statusField": definition.status_field if definition.mark == "status" else None, "declarative": definition.declarative,
        "filter": relaxed(query) if shown else None, "abridged": not shown, "undo": definition.undo, "batchSize": definition.batch_size,
        "source": source, "summary": definition.summary, "codeHash": definition.code_hash, "dependsOn": list(definition.depends_on),
    }  # fmt: skip
