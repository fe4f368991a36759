"""`unfreeze`: let what waits for a freeze go on."""

from typing import Annotated

import typer

from whimbrel.cli.arguments.options import Json, begin, caller
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.freeze_tables import frozen_sentence
from whimbrel.domain.text.printable import counted
from whimbrel.engine.operating.freezing import freezes_object, lift_freezes


def unfreeze(
    freezes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FREEZE",
            help="ids of freezes, also of planned ones; without one all that are in force",
        ),
    ] = None,
    json: Json = False,
) -> int:
    """Lift the freezes that are in force, or those that are named: runs go on by themselves."""
    settings, screen = begin(json=json)
    with Interrupts(), open_database(settings, screen, answers=True) as system:
        ledger = system.store.ledger
        lifted = lift_freezes(ledger, freezes or None, who=caller())
        look = ledger.freezes.look()
        if json:
            screen.answer(freezes_object(look))
        elif lifted:
            screen.show(f"{counted(len(lifted), 'freeze')} lifted. {frozen_sentence(look)}")
        else:
            screen.show("Nothing was frozen. Planned freezes, with their ids: whimbrel freeze --list")
        return 0
