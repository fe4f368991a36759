"""`freeze`: let all runs wait, from now or some time on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from whimbrel.cli.arguments.freeze_files import moment, read_freezes
from whimbrel.cli.arguments.options import Json, begin, caller, storable_note
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.freeze_tables import freezes_lines, frozen_sentence
from whimbrel.domain.runs.freezes import LONGEST_NOTE, Freeze, shown
from whimbrel.domain.text.printable import counted
from whimbrel.engine.operating.freezing import add_freezes, freezes_object, new_freeze_id
from whimbrel.errors import SettingsInvalid
from whimbrel.ports import FreezeLook


def freeze(
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="when it begins: 2026-12-24T18:00+01:00, or 2h from now (default: now)",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="when it ends (default: when somebody lifts it)"),
    ] = None,
    note: Annotated[
        str, typer.Option("--note", callback=storable_note, metavar="TEXT", help="why: runs that wait say it")
    ] = "",
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="JSON",
            help='add those of a file: [{"from": TIME, "until": TIME, "note": TEXT}], all or none',
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="only show the freezes")] = False,
    json: Json = False,
) -> int:
    """Let everything that writes or reads much wait, for the whole cluster: from now on, or in a time to come."""
    settings, screen = begin(json=json)
    given = from_ is not None or until is not None or bool(note)
    if (file is not None and (given or list_)) or (list_ and given):
        raise SettingsInvalid(
            "Give --from, --until and --note for one freeze, or --file alone, or --list alone."
        )
    if len(note) > LONGEST_NOTE:
        raise SettingsInvalid(f"--note has up to {LONGEST_NOTE} characters, not {len(note):,}.")
    with Interrupts(), open_database(settings, screen, answers=True) as system:
        ledger, who = system.store.ledger, caller()

        def made(look: FreezeLook) -> list[Freeze]:
            if file is not None:
                return read_freezes(file, look, who)
            begins = look.now if from_ is None else moment("--from", from_, look.now)
            ends = None if until is None else moment("--until", until, look.now)
            return [Freeze(id=new_freeze_id(), begins=begins, ends=ends, note=note, by=who)]

        if not list_:
            system.store.prepare()
        added = [] if list_ else add_freezes(ledger, made, who=who)
        look = ledger.freezes.look()
        if json:
            screen.answer(freezes_object(look))
        elif list_:
            screen.show(*freezes_lines(look))
        else:
            screen.show(_what_was_added(added, look))
        return 0


def _what_was_added(added: Sequence[Freeze], look: FreezeLook) -> str:
    if not added:
        return f"That was there already. {frozen_sentence(look)}"
    if len(added) > 1:
        return f"{counted(len(added), 'freeze')} added. {frozen_sentence(look)} All of them: whimbrel freeze --list"
    (freeze,) = added
    if freeze.is_in_force(look.now):
        return f"{frozen_sentence(look)} What is at work waits within a few seconds, and goes on by itself afterwards; or end it: whimbrel unfreeze"
    until = "until it is lifted" if freeze.ends is None else f"until {shown(freeze.ends)}"
    return f"A freeze is planned from {shown(freeze.begins)} {until}. Take it back: whimbrel unfreeze {freeze.id}"
