"""`migrations`: what is loaded, and what is broken."""

from whimbrel.cli.arguments.options import Json, Source, begin, source
from whimbrel.cli.output.tables import (
    broken_object,
    broken_table,
    definition_object,
    migrations_table,
)


def migrations(migrations: Source = None, json: Json = False) -> int:
    """Show the migrations that are loaded, and those that are broken."""
    from whimbrel.workers import definition_catalog  # noqa: PLC0415  the other commands here load none

    settings, screen = begin(json=json, own_database=True)
    found = definition_catalog.describe(source(migrations, settings))
    for each in found.empty:
        screen.note(each)
    if json:
        broken = [broken_object(each) for each in found.broken]
        screen.answer([definition_object(each) for each in found.values()] + broken)
        return 0
    screen.show(migrations_table(found))
    if found.broken:
        screen.show(broken_table(found.broken))
    return 0
