"""`migrations`: show what is loaded, and what is broken."""

from whimbrel.cli.arguments.options import Json, Source, begin, source
from whimbrel.cli.output.migration_tables import (
    broken_object,
    broken_table,
    definition_object,
    migrations_table,
)


def migrations(migrations: Source = None, json: Json = False) -> int:
    """Show the migrations that are loaded, and those that are broken."""
    from whimbrel.workers import definition_catalog  # noqa: PLC0415  the other commands here load none

    settings, screen = begin(json=json, own_database=True)
    catalog = definition_catalog.describe(source(migrations, settings))
    for place in catalog.empty:
        screen.note(place)
    if json:
        broken = [broken_object(broken_migration) for broken_migration in catalog.broken]
        usable = [
            definition_object(definition, catalog.sources[name]) for name, definition in catalog.items()
        ]
        screen.answer(usable + broken)
        return 0
    screen.show(migrations_table(catalog))
    if catalog.broken:
        screen.show(broken_table(catalog.broken))
    return 0
