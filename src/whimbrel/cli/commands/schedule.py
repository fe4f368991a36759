"""`schedule`: show and change the schedules that start runs by cron; `worker` and `serve` carry them out."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from whimbrel.cli.arguments.completion import migration_names
from whimbrel.cli.arguments.options import Json, Source, Windows, begin, caller, source
from whimbrel.cli.arguments.single_options import Group, SingleOptionCommand
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.fact_tables import FactTable
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.runs.schedules import Plan, Schedule, Tick
from whimbrel.engine.operating import schedules as engine
from whimbrel.engine.operating.default_schedule import prepare_default
from whimbrel.engine.operating.scheduled_runs import run_now
from whimbrel.errors import SettingsInvalid
from whimbrel.ports import Ledger
from whimbrel.settings import Settings
from whimbrel.workers import definition_catalog

SHOWN = 10  # ticks that `status` shows
FACTS = ("schedule", "migration", "cron", "zone", "state", "next", "last tick", "run")

Name = Annotated[str, typer.Argument(metavar="NAME", help="name of the schedule")]


@contextmanager
def _ledger(*, json: bool, create: bool = False) -> Iterator[tuple[Ledger, Screen, Settings]]:
    settings, screen = begin(json=json)
    with Interrupts(), open_database(settings, screen, create=create, answers=True) as system:
        yield system.store.ledger, screen, settings


def list_(json: Json = False) -> int:
    """Show the schedules."""
    with _ledger(json=json) as (ledger, screen, settings):
        status = engine.scheduler_status(ledger, settings.first_schedule)
        if json:
            screen.answer([engine.schedule_object(schedule, on=status.on) for schedule in status.schedules])
        else:
            screen.show(*_overview(status))
        return 0


def set_(
    name: Name,
    migration: Annotated[
        str | None,
        typer.Option(metavar="NAME", autocompletion=migration_names, help="the migration that it runs"),
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option(metavar="CRON", help="minute hour day month weekday; or six, with the second first"),
    ] = None,
    zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="time zone, such as Europe/Berlin (a new one: UTC)")
    ] = None,
    enable: Annotated[
        bool | None, typer.Option("--enable/--disable", help="whether its ticks start runs (a new one: yes)")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=100_000, help="documents in a batch")
    ] = None,
    filter_: Annotated[
        str | None, typer.Option("--filter", metavar="EJSON", help="only documents that match too; {}: all")
    ] = None,
    priority: Annotated[
        int | None,
        typer.Option(metavar="0-10", min=0, max=10, help="above 5 its runs go before others"),
    ] = None,
    migrations: Source = None,
    window: Windows = None,
    no_windows: Annotated[
        bool, typer.Option("--no-windows", help="its runs work at any time of the day")
    ] = False,
    nice: Annotated[
        int | None,
        typer.Option(
            "--nice", metavar="0-100", min=0, max=100, help="N: its runs rest N times as long as they work"
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Make a schedule, or change what is given of one."""
    with _ledger(json=json, create=True) as (ledger, screen, settings):
        # This takes a second or more, in which others may change the schedule, so it comes before reading it.
        loaded = definition_catalog.describe(source(migrations, settings))
        plan = engine.plan_of(ledger, name, settings.first_schedule) or _new_plan(name, migration, cron)
        options_given = {
            "migration": migration, "cron": cron, "zone": zone, "enabled": enable, "batch_size": batch_size,
            "priority": priority, "nice": nice, "windows": _windows(window, none=no_windows),
        }  # fmt: skip
        changes: dict[str, Any] = {
            field: value for field, value in options_given.items() if value is not None
        }
        if filter_ is not None:
            changes["filters"] = engine.stored_filters(filter_)
        plan = replace(plan, **changes)
        choose(loaded, plan.migration)
        engine.check_schedule(name, plan)
        prepare_default(ledger, settings.first_schedule)
        saved = engine.save_schedule(ledger, name, plan, who=caller())
        on = ledger.schedules.is_on()
        if json:
            screen.answer(engine.schedule_object(saved, on=on))
        else:
            screen.show(_schedules_table([saved], on=on), *_hints(on=on))
        return 0


def _windows(given: list[str] | None, *, none: bool) -> tuple[str, ...] | None:
    """Returns the windows that were asked for; None: those that the schedule has."""
    if given and none:
        raise SettingsInvalid("--window and --no-windows exclude one another: give one of them.")
    return tuple(given) if given else () if none else None


def _new_plan(name: str, migration: str | None, cron: str | None) -> Plan:
    if migration is None or cron is None:
        raise SettingsInvalid(
            f"There is no schedule {name!r} yet. To make it, give --migration NAME and --cron '*/5 * * * *'."
        )
    return Plan(migration=migration, cron=cron)


def remove(name: Name, json: Json = False) -> int:
    """Remove a schedule. The runs that it started stay, and go on."""
    with _ledger(json=json) as (ledger, screen, settings):
        if engine.plan_of(ledger, name, settings.first_schedule) is not None:
            # A default that is removed before it is made must stay away.
            prepare_default(ledger, settings.first_schedule)
        removed = engine.remove_schedule(ledger, name, who=caller())
        if json:
            screen.answer(engine.schedule_object(removed, on=ledger.schedules.is_on()))
        else:
            screen.show(f"Schedule {removed.name} is removed. The runs that it started stay, and go on.")
        return 0


def run(name: Name, migrations: Source = None, json: Json = False) -> int:
    """Start the run of a schedule now, also of a disabled one. Its ticks stay as they are."""
    settings, screen = begin(json=json)
    with Interrupts(), open_database(settings, screen, create=False, answers=True) as system:
        ledger = system.store.ledger
        loaded = definition_catalog.describe(source(migrations, settings))
        if engine.plan_of(ledger, name, settings.first_schedule) is not None:
            prepare_default(ledger, settings.first_schedule)
        schedule = engine.find_schedule(ledger, name)
        definition = choose(loaded, schedule.plan.migration)
        started = run_now(system.store, schedule, definition, defaults=settings.defaults, who=caller())
        if json:
            screen.answer({"migrationId": started.id if started else None})
        elif started is None:
            screen.show("Nothing matches: no run was started.")
        else:
            screen.show(
                f"Run {started.id} is started by schedule {name}. Watch it: whimbrel status {started.id}"
            )
        return 0


def start(json: Json = False) -> int:
    """Turn the scheduler on, for all processes and for good. Where no schedule is enabled, `default` is."""
    with _ledger(json=json) as (ledger, screen, settings):
        prepare_default(ledger, settings.first_schedule)
        changed = engine.switch_on(ledger, who=caller())
        return _show_status(ledger, screen, f"The scheduler {'is' if changed else 'was'} on.")


def stop(json: Json = False) -> int:
    """Turn the scheduler off, for all processes and for good. Runs go on."""
    with _ledger(json=json) as (ledger, screen, settings):
        prepare_default(ledger, settings.first_schedule)
        changed = engine.switch_off(ledger, who=caller())
        return _show_status(ledger, screen, f"The scheduler {'is' if changed else 'was'} off. Runs go on.")


def _show_status(ledger: Ledger, screen: Screen, text: str) -> int:
    current = engine.scheduler_status(ledger)
    if screen.json:
        screen.answer(engine.scheduler_object(current))
    else:
        screen.show(text, *_overview(current))
    return 0


def status(json: Json = False) -> int:
    """Show whether the scheduler is on, who it is, its schedules and its last ticks."""
    with _ledger(json=json) as (ledger, screen, settings):
        current = engine.scheduler_status(ledger, settings.first_schedule)
        if json:
            screen.answer(engine.scheduler_object(current))
            return 0
        screen.show(*_overview(current))
        if current.note:
            screen.note(current.note)
        if ticks := engine.ticks_of(current)[:SHOWN]:
            screen.show(_ticks_table(ticks))
        screen.show(
            f"It is {current.holder}."
            if current.holder
            else "No process is the scheduler now. Start one: whimbrel worker, or whimbrel serve."
        )
        return 0


def _overview(current: engine.SchedulerStatus) -> Iterator[RenderableType]:
    if current.schedules:
        yield _schedules_table(current.schedules, on=current.on)
    else:
        yield "There are no schedules. Make one: whimbrel schedule set NAME --migration NAME --cron '*/5 * * * *'"
    yield from _hints(on=current.on)
    for schedule in current.schedules:
        if schedule.trouble:
            yield f"Schedule {schedule.name} stands still. {schedule.trouble}"


def _hints(*, on: bool) -> Iterator[str]:
    if not on:
        yield "The scheduler is off. Turn it on: whimbrel schedule start"


def _schedules_table(schedules: list[Schedule], *, on: bool) -> FactTable:
    table = FactTable(FACTS, whole=("cron",))
    for schedule in schedules:
        plan = schedule.plan
        state = "enabled" if plan.enabled else "disabled"
        next_at = _time(schedule.next_at) if on else ""
        table.add(
            schedule.name, plan.migration, plan.cron, plan.zone, state, next_at, _time(schedule.last_at),
            schedule.last_run or "",
        )  # fmt: skip
    return table


def _ticks_table(ticks: list[tuple[str, Tick]]) -> FactTable:
    table = FactTable(("tick", "schedule", "outcome", "run", "reason"), title="Last ticks")
    for name, tick in ticks:
        table.add(_time(tick.due_at), name, tick.outcome, tick.run or "", tick.reason)
    return table


def _time(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if moment else ""


EXAMPLES: dict[str, tuple[Callable[..., int], list[str]]] = {
    "list": (list_, ["list", "list --json"]),
    "set": (
        set_,
        [
            "set nightly --migration some-model --cron '0 3 * * *'",
            "set nightly --zone Europe/Berlin",
            "set nightly --disable",
            'set nightly --window "22:00-06:00 Europe/Berlin"',
            """set nightly --filter '{"country": "NL"}' --batch-size 500""",
            "set often --migration some-model --cron '*/30 * * * * *'",
        ],
    ),
    "remove": (remove, ["remove nightly"]),
    "run": (run, ["run nightly"]),
    "start": (start, ["start"]),
    "stop": (stop, ["stop"]),
    "status": (status, ["status", "status --json"]),
}
app = typer.Typer(
    cls=Group,
    help="Start runs by cron. `whimbrel worker` and `whimbrel serve` carry schedules out.",
    invoke_without_command=True,
    rich_markup_mode="rich",
)
for _name, (_command, _examples) in EXAMPLES.items():
    _lines = "\n\n".join(f"whimbrel schedule {example}" for example in _examples)
    app.command(_name, cls=SingleOptionCommand, epilog=f"[bold]Examples:[/bold]\n\n{_lines}")(_command)


@app.callback()
def _group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
