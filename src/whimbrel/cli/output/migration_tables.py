"""Builds the tables and JSON objects of migrations, and of those that cannot be loaded."""

from collections.abc import Iterable, Mapping
from typing import Any

from whimbrel.cli.output.fact_tables import FactTable
from whimbrel.cli.output.terminal_text import Text
from whimbrel.domain.bson.uuids import UNSPECIFIED, stored, writing
from whimbrel.domain.migrations.catalog import Broken
from whimbrel.domain.migrations.definition import Definition


def migrations_table(definitions: Mapping[str, Definition]) -> FactTable:
    columns = ("name", "version", "collection", "mark", "kind", "summary")
    sequenced = any(definition.depends_on for definition in definitions.values())
    table = FactTable((*columns, "depends on") if sequenced else columns, right=("version",))
    for definition in definitions.values():
        where = (
            f"{definition.database}.{definition.collection}" if definition.database else definition.collection
        )
        table.add(
            definition.name,
            str(definition.version),
            where,
            definition.mark,
            "declarative" if definition.declarative else "function",
            definition.summary,
            *(["\n".join(definition.depends_on)] if sequenced else []),
        )
    return table


def broken_table(broken_ones: Iterable[Broken]) -> FactTable:
    table = FactTable(("broken", "in", "why"), "Broken: not run, nor served")
    for broken in broken_ones:
        table.add(broken.name or "(the whole file)", broken.source, Text(broken.reason, style="red"))
    return table


def broken_object(broken: Broken) -> dict[str, Any]:
    """Returns a broken migration for the list of all; of usable ones `broken` is null."""
    return {"name": broken.name or None, "source": broken.source, "broken": broken.reason}


def definition_object(definition: Definition, source: str = "") -> dict[str, Any]:
    return {
        "name": definition.name, "version": definition.version, "database": definition.database, "collection": definition.collection,
        "mark": definition.mark, "kind": "declarative" if definition.declarative else "function",
        "filter": stored(definition.filter, writing(UNSPECIFIED)),
        "summary": definition.summary, "codeHash": definition.code_hash, "dependsOn": list(definition.depends_on), "broken": None,
        "undo": definition.undo, "batchSize": definition.batch_size, "source": source,
    }  # fmt: skip
