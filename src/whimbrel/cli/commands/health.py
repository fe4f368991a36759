"""`health`: show the signals of the database's health, or change how one of them counts."""

import contextlib
import time
from typing import Annotated

import typer
from rich.console import Group

from whimbrel.cli.arguments.options import Json, begin, caller, storable_note
from whimbrel.cli.arguments.points_in_time import duration
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.freeze_tables import frozen_sentence
from whimbrel.cli.output.health_tables import health_lines
from whimbrel.cli.output.progress_bar import live_display
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.health.signals import SIGNALS, Signal
from whimbrel.domain.runs.freezes import in_force
from whimbrel.domain.runs.workers import ALIVE
from whimbrel.engine.operating.health_settings import (
    change_thresholds,
    heed_signal,
    ignore_signal,
    known_signal,
)
from whimbrel.engine.operating.health_view import health_object
from whimbrel.engine.sampling.sampler import sample_once
from whimbrel.errors import SettingsInvalid
from whimbrel.ports import Ledger, Store

FORGOTTEN = 60.0  # seconds after which a verdict says nothing any more: this command looks itself


def health(
    signal: Annotated[
        str | None,
        typer.Argument(metavar="SIGNAL", autocompletion=lambda: list(SIGNALS), help="the signal to change"),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="go on showing, until Ctrl-C")] = False,
    slow: Annotated[
        float | None, typer.Option("--slow", help="from which value on runs go slower", min=0)
    ] = None,
    stop: Annotated[float | None, typer.Option("--stop", help="from which value on runs wait", min=0)] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="make its thresholds those of the table again")
    ] = False,
    ignore: Annotated[
        str | None,
        typer.Option("--ignore", metavar="TIME", help="ignore it for so long: 90s, 30m, 2h, 1d; 7d at most"),
    ] = None,
    heed: Annotated[bool, typer.Option("--heed", help="heed it again")] = False,
    note: Annotated[
        str, typer.Option("--note", callback=storable_note, help="why it is ignored, for the audit")
    ] = "",
    json: Json = False,
) -> int:
    """Show the signals of the database's health, and what they ask of runs; or change one.

    docs/health.md has all signals, with their thresholds.
    """
    settings, screen = begin(json=json)
    changes = [slow is not None or stop is not None, reset, ignore is not None, heed]
    if any(changes) and (signal is None or sum(changes) > 1 or watch):
        raise SettingsInvalid(
            "Name one SIGNAL, and give either --slow and --stop, or --reset, or --ignore, or --heed."
        )
    if signal is not None and not any(changes):
        raise SettingsInvalid("SIGNAL is the one to change: add --slow, --stop, --reset, --ignore or --heed.")
    seconds = duration("--ignore", ignore) if ignore is not None else None
    with Interrupts(), open_database(settings, screen, answers=True) as system:
        store, who = system.store, caller()
        ledger, own = store.ledger, store.watching.signals if store.watching is not None else ()
        if signal is None:
            _show(store, screen, watch=watch, json=json)
            return 0
        store.prepare()
        said = _change(
            ledger, known_signal(ledger, signal, own), slow=slow, stop=stop, reset=reset, seconds=seconds, who=who, why=note
        )  # fmt: skip
        if json:
            screen.answer(health_object(ledger.health.verdict(), ledger.health.settings(), own))
        else:
            screen.show(said)
        return 0


def _change(
    ledger: Ledger,
    signal: Signal,
    *,
    slow: float | None,
    stop: float | None,
    reset: bool,
    seconds: float | None,
    who: str,
    why: str,
) -> str:
    """Changes what was asked for. Returns a sentence about it."""
    name, own = signal.name, (signal,) if signal.name not in SIGNALS else ()
    if reset:
        change_thresholds(ledger, name, slow=None, stop=None, who=who, reset=True, own=own)
        return f"The thresholds of {name} are those of the table again."
    if slow is not None or stop is not None:
        levels = change_thresholds(ledger, name, slow=slow, stop=stop, who=who, own=own).of(signal)
        parts = [
            f"{level} {value:g}"
            for level, value in zip(("slow", "stop"), levels, strict=True)
            if value is not None
        ]
        return f"The thresholds of {name} are {', '.join(parts)} from the next second on."
    if seconds is not None:
        until = ignore_signal(ledger, name, seconds=seconds, who=who, why=why, own=own)
        return f"{name} is ignored until {until.astimezone():%Y-%m-%d %H:%M:%S}. Heed it again: whimbrel health {name} --heed"
    heed_signal(ledger, name, who=who, own=own)
    return f"{name} is heeded again."


def _show(store: Store, screen: Screen, *, watch: bool, json: bool) -> None:
    records, own = store.ledger.health, store.watching.signals if store.watching is not None else ()
    if watch and screen.live and not json:
        with contextlib.suppress(KeyboardInterrupt), live_display(screen.out) as live:
            while True:
                live.update(Group(*health_lines(records.verdict(), records.settings(), own)), refresh=True)
                time.sleep(1)
        return
    verdict = records.verdict()
    if verdict.age is None or (verdict.age > FORGOTTEN and not store.ledger.leases.workers(ALIVE)):
        verdict = sample_once(store)
    if json:
        screen.answer(health_object(verdict, records.settings(), own))
    else:
        screen.show(*health_lines(verdict, records.settings(), own))
        look = store.ledger.freezes.look()
        if in_force(look.freezes, look.now) is not None:
            screen.show(f"{frozen_sentence(look)} Runs wait, whatever the signals say.")
