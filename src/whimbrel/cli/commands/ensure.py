"""`ensure`: tell a deploy pipeline whether a migration is complete and verified, or make it so."""

import contextlib
from collections.abc import Mapping
from typing import Annotated

import typer

from whimbrel.bootstrap import Opened, check_broker
from whimbrel.cli.arguments.completion import migration_names
from whimbrel.cli.arguments.options import Json, MaxMemory, Slots, Source, Workers, begin
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.begin_and_end import pool_of
from whimbrel.cli.foreground.finishing import Finishing
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.migrations.catalog import Catalog, choose
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.sequence import read_reference
from whimbrel.domain.runs.standing import Standing, State
from whimbrel.engine.operating.ensure import ensure_object
from whimbrel.engine.operating.sequence import standing
from whimbrel.engine.rehearsing.finish_step import to_finish
from whimbrel.errors import MigrationUnknown, SettingsInvalid
from whimbrel.workers import definition_catalog
from whimbrel.workers.function_caller import FunctionCaller

CODES: Mapping[State, int] = {
    State.VERIFIED: 0,
    State.NOT_STARTED: 10,
    State.RUNNING: 11,
    State.PAUSED: 12,
    State.FAILED: 12,
    State.COMPLETE: 13,
}
ADVICE: Mapping[State, str] = {
    State.NOT_STARTED: "not started",
    State.RUNNING: "at work",
    State.PAUSED: "paused",
    State.FAILED: "failed",
    State.COMPLETE: "complete, but not verified",
    State.VERIFIED: "complete and verified",
}


def ensure(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@VERSION]", autocompletion=migration_names,
            help="name of the migration; its version, where that is not the one that is loaded",
        ),
    ],
    check: Annotated[bool, typer.Option("--check", help="only ask, which is the default: nothing is written")] = False,
    finish: Annotated[
        bool,
        typer.Option("--finish", help="do what is missing now: what it depends on, its run, and its verification"),
    ] = False,
    migrations: Source = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="with --finish: go on without asking where preflight warns")
    ] = False,
    json: Json = False,
) -> int:  # fmt: skip
    """Tell whether a migration is complete and verified, for deploy pipelines; or make it so."""
    if check and finish:
        raise SettingsInvalid("--check only asks, --finish works: give one of them.")
    reference = read_reference(name)
    if reference is None:
        raise SettingsInvalid(
            f"{name!r} cannot be a migration: give its name, such as split-name, or with a version split-name@2."
        )
    settings, screen = begin(json=json)
    pool = pool_of(settings, workers=workers, slots=concurrency, migrations=migrations, max_memory=max_memory)
    loaded = definition_catalog.describe(pool.source)
    pool, definition = pool.without(loaded.unloadable), choose(loaded, reference[0])
    version = reference[1] or definition.version
    if finish and version != definition.version:
        raise MigrationUnknown(
            f"Version {version} of {definition.name!r} cannot be run: version {definition.version} is loaded. Leave --finish out to ask about it."
        )
    if not finish:
        with Interrupts(), open_database(settings, screen) as system:
            found = _standing(system, definition, version)
            return _tell(screen, system, definition, version, found, advice=_missing(definition, version))
    calls = FunctionCaller(pool.source, pool.left_out)
    with Interrupts() as interrupts, contextlib.closing(calls), open_database(settings, screen) as system:
        check_broker(settings)
        finishing = Finishing(system, settings, screen, interrupts, pool, calls, yes=yes)
        code = _finish_in_sequence(system, loaded, definition, finishing)
        told = _tell(screen, system, definition, version, _standing(system, definition, version))
        return code or told


def _standing(system: Opened, definition: Definition, version: int) -> Standing:
    return standing(system.store, definition.name, version, definition.database, definition.collection)


def _finish_in_sequence(
    system: Opened, loaded: Catalog[Definition], definition: Definition, finishing: Finishing
) -> int:
    """Finishes what the migration depends on, then the migration. Returns the exit code of what did not end well."""
    for needed in to_finish(system.store, loaded, definition):
        if code := finishing.finish(needed):
            return code
    return 0


def _tell(
    screen: Screen, system: Opened, definition: Definition, version: int, found: Standing, *, advice: str = ""
) -> int:
    if screen.json:
        screen.answer(ensure_object(system.store, definition, version, found))
    else:
        screen.show(f"Version {version} of {definition.name} is {ADVICE[found.state]}. {found.why}")
        if advice and found.state is not State.VERIFIED:
            screen.say(advice)
    return CODES[found.state]


def _missing(definition: Definition, version: int) -> str:
    name = definition.name
    if version == definition.version:
        return f"Do what is missing: whimbrel ensure {name} --finish"
    return f"Version {definition.version} is loaded: with version {version} loaded, whimbrel ensure {name}@{version} --finish does what is missing."
