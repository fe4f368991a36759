"""`worker`: start worker processes that serve every run until they are told to stop."""

import contextlib
import time
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from whimbrel.bootstrap import Opened, check_reporting, lane_names
from whimbrel.cli.arguments.options import Json, MaxMemory, Slots, Source, Workers, begin
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.begin_and_end import note_stand_alone, pool_of
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.ledger_observer import LedgerObserver
from whimbrel.cli.output.run_log import EVERY, RunLog
from whimbrel.cli.output.screen import Screen
from whimbrel.errors import SettingsInvalid
from whimbrel.settings import Settings
from whimbrel.workers import definition_catalog
from whimbrel.workers.parent_process import ParentProcess

DRAINING = 30.0  # seconds that workers have to finish their chunks
FRAME = 0.1


def worker(
    migrations: Source = None,
    workers: Workers = None,
    concurrency: Slots = 2,
    max_memory: MaxMemory = None,
    queues: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME", help="with RabbitMQ: take only from these of priority, retry, processing"
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Serve all runs, until Ctrl-C or SIGTERM."""
    settings, screen = begin(json=json, service=True)
    check_reporting(settings)
    pool = pool_of(settings, workers=workers, slots=concurrency, migrations=migrations, max_memory=max_memory)
    pool = replace(pool, lanes=_lanes(queues, settings))
    catalog = definition_catalog.describe(pool.source)
    pool = pool.without(catalog.unloadable)
    longest = max(definition.timeout for definition in catalog.values())
    with Interrupts() as interrupts, open_database(settings, screen, create=True) as system:
        note_stand_alone(screen, system)
        screen.say(
            f"Serves {', '.join(catalog)}. Worker processes: {pool.processes}, slots in each: {pool.slots}. Ctrl-C drains and ends."
        )
        for notice in catalog.empty:
            screen.note(notice)
        for broken in catalog.broken:
            screen.note(f"{broken.name or broken.source} is broken, and not served. {broken.reason}")
        supervisor = pool.supervisor(system, settings, run=None, longest_call=longest, stderr=None)
        interrupts.arm()
        with contextlib.ExitStack() as stack:
            parent = stack.enter_context(
                ParentProcess(
                    system.store,
                    settings,
                    supervisor,
                    scheduling=partial(definition_catalog.evaluate, pool.source, left_out=pool.left_out),
                )
            )
            stack.callback(supervisor.kill)
            _serve(system, screen, interrupts, parent)
            screen.say("Draining: the workers finish their chunks and give their batches back.")
            supervisor.leave(DRAINING, lambda: interrupts.count > 1)
        return 0


def _lanes(queues: str | None, settings: Settings) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (queues or "").split(",") if name.strip())
    unknown = [name for name in names if name not in lane_names()]
    if unknown or (queues is not None and not names):
        raise SettingsInvalid(
            f"--queues {queues}: there is no queue {', '.join(unknown) or 'in it'}. Name some of {', '.join(lane_names())}."
        )
    if names and not settings.rabbitmq_url:
        raise SettingsInvalid("--queues needs RabbitMQ: set RABBITMQ_URL, or leave --queues out.")
    return names


def _serve(system: Opened, screen: Screen, interrupts: Interrupts, parent: ParentProcess) -> None:
    run_log = RunLog(screen, system.store.ledger)
    with LedgerObserver(run_log.look, pause=EVERY) as observer:
        while not interrupts.count:
            if parent.broken is not None:
                raise parent.broken
            run_log.tell(observer.latest)
            time.sleep(FRAME)
