"""Builds the table of freezes."""

from collections.abc import Iterator
from datetime import datetime

from rich.console import RenderableType

from whimbrel.cli.output.fact_tables import FactTable
from whimbrel.cli.output.terminal_text import Text
from whimbrel.domain.runs.freezes import in_force, shown, still_shown, thaws_at
from whimbrel.ports.freezes import FreezeLook


def freezes_lines(look: FreezeLook) -> Iterator[RenderableType]:
    """Yields whether anything is frozen, and the table of planned and ended freezes."""
    yield Text(frozen_sentence(look))
    rows = still_shown(look.freezes, look.now)
    if not rows:
        return
    table = FactTable(("freeze", "state", "from", "until", "by", "note"), whole=("freeze", "state"))
    for freeze in rows:
        state = (
            "over" if freeze.is_over(look.now) else "in force" if freeze.is_in_force(look.now) else "planned"
        )
        until = "it is lifted" if freeze.ends is None else shown(freeze.ends)
        lifted = f"\nlifted by {freeze.lifted_by}" if freeze.lifted_by else ""
        table.add(
            freeze.id, state, shown(freeze.begins), until, Text(f"{freeze.by}{lifted}"), Text(freeze.note)
        )
    yield table


def frozen_sentence(look: FreezeLook) -> str:
    """Returns a sentence about what is in force."""
    freeze = in_force(look.freezes, look.now)
    if freeze is None:
        return "Nothing is frozen."
    ends: datetime | None = thaws_at(look.freezes, look.now)
    until = "somebody lifts it: whimbrel unfreeze" if ends is None else shown(ends)
    return f"Frozen until {until}{f' ({freeze.note})' if freeze.note else ''}."
