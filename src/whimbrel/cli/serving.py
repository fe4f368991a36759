"""`worker`: worker processes that serve every run, until they are told to stop."""

import contextlib
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer

from whimbrel.bootstrap import Opened, lane_names
from whimbrel.cli.asking import asked
from whimbrel.cli.interrupts import Interrupts
from whimbrel.cli.observer import Observer
from whimbrel.cli.options import Json, MaxMemory, Slots, Source, Workers, begin, memory
from whimbrel.cli.running import introduce
from whimbrel.cli.screen import Screen
from whimbrel.domain.runs import Run
from whimbrel.domain.states import ENDED, RunStatus
from whimbrel.engine.view import run_object, view
from whimbrel.errors import SettingsInvalid, Transient
from whimbrel.ports import Ledger
from whimbrel.settings import Settings
from whimbrel.workers import catalog
from whimbrel.workers.parent import Parent
from whimbrel.workers.team import Team, cores

DRAINING = 30.0  # seconds that workers have to finish their chunks
FRAME = 0.1
NEWEST = 100  # runs that are watched, beside those that are at work
AT_REST = ENDED | {RunStatus.QUEUED, RunStatus.PAUSED}


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
    settings, screen = begin(json=json)
    team = Team(
        workers=workers, slots=concurrency, source=migrations or settings.whimbrel_migrations,
        lanes=_lanes(queues, settings), memory=memory(max_memory, settings),
    )  # fmt: skip
    found = catalog.describe(team.source)
    team = team.without(found.unloadable)
    longest = max(each.timeout for each in found.values())
    with Interrupts() as interrupts, asked(settings, screen, create=True) as at:
        introduce(screen, at)
        screen.say(
            f"Serves {', '.join(found)}. Worker processes: {team.workers or cores()}, slots in each: {team.slots}. Ctrl-C drains and ends."
        )
        for each in found.broken:
            screen.note(f"{each.name or each.source} is broken, and not served. {each.reason}")
        fleet = team.fleet(at, settings, run=None, longest_call=longest, stderr=None)
        interrupts.arm()
        with contextlib.ExitStack() as stack:
            parent = stack.enter_context(
                Parent(
                    at.store,
                    settings,
                    fleet,
                    scheduling=partial(catalog.evaluate, team.source, left_out=team.left_out),
                )
            )
            stack.callback(fleet.kill)
            _serve(at, screen, interrupts, parent)
            screen.say("Draining: the workers finish their chunks and give their batches back.")
            fleet.leave(DRAINING, lambda: interrupts.count > 1)
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


def _serve(at: Opened, screen: Screen, interrupts: Interrupts, parent: Parent) -> None:
    ledger, known = at.store.ledger, dict[str, RunStatus]()
    with Observer(lambda: _worth_a_line(ledger, list(known.items())), pause=0.5) as seen:
        known |= {run.id: run.status for run in seen.latest if run.status in ENDED}
        while not interrupts.count:
            if parent.broken is not None:
                raise parent.broken
            latest = seen.latest
            for run in reversed(latest):
                before, known[run.id] = known.get(run.id), run.status
                if before is not run.status:
                    _report(at, screen, run)
            for gone in known.keys() - {run.id for run in latest}:
                del known[gone]
            time.sleep(FRAME)


def _worth_a_line(ledger: Ledger, known: Sequence[tuple[str, RunStatus]]) -> list[Run]:
    """The newest runs, and whatever is at work, or was at the last look, however many newer ones wait."""
    newest = ledger.runs.list(limit=NEWEST)
    begun = {name for name, status in known if status not in AT_REST}
    older = (begun | {run.id for run in ledger.runs.at_work()}) - {run.id for run in newest}
    return newest + [
        run for name in sorted(older, reverse=True) if (run := ledger.runs.get(name)) is not None
    ]


def _report(at: Opened, screen: Screen, run: Run) -> None:
    if screen.json:
        with contextlib.suppress(Transient):
            screen.answer(run_object(view(at.store.ledger, run)), indent=None)
    why = f": {run.error or run.message}" if run.error or run.message else ""
    screen.say(f"{time.strftime('%H:%M:%S')} run {run.id} of {run.migration} is {run.status}{why}")
