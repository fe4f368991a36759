"""What people do about freezes: add some, lift some, see them."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from whimbrel.domain.runs.freezes import (
    LONGEST_NOTE,
    MOST,
    Freeze,
    FreezeRefused,
    in_force,
    still_shown,
    thaws_at,
    with_added,
    with_lifted,
)
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.errors import Transient
from whimbrel.ports import Ledger
from whimbrel.ports.freezes import FreezeLook

TRIES = 20  # of a change while others change freezes too


def new_freeze_id() -> str:
    return secrets.token_hex(4)


def add_freezes(
    ledger: Ledger, made: Callable[[FreezeLook], Sequence[Freeze]], *, who: str
) -> Sequence[Freeze]:
    """Adds freezes, all or none, and returns those that are new. Audited. Raises FreezeRefused.

    `made`: returns them, with the server's time where none was given.
    """

    def change(look: FreezeLook) -> tuple[Sequence[Freeze], Sequence[Freeze]]:
        freezes = with_added(look.freezes, _checked(made(look)), look.now)
        known = {freeze.id for freeze in look.freezes}
        return freezes, [freeze for freeze in freezes if freeze.id not in known]

    added = _change(ledger, change)
    for freeze in added:
        until = "until it is lifted" if freeze.ends is None else f"until {iso_time(freeze.ends)}"
        what = f"freeze {freeze.id} from {iso_time(freeze.begins)} {until}"
        ledger.leases.audit(what, run="", who=who, why=freeze.note)
    return added


def lift_freezes(ledger: Ledger, ids: Sequence[str] | None, *, who: str) -> Sequence[Freeze]:
    """Lifts freezes, and returns them; `ids` None: all that are in force. Audited. Raises FreezeUnknown."""
    lifted = _change(ledger, lambda look: with_lifted(look.freezes, ids, look.now, who))
    for freeze in lifted:
        ledger.leases.audit(f"freeze {freeze.id} lifted", run="", who=who, why=freeze.note)
    return lifted


def _checked(freezes: Sequence[Freeze]) -> Sequence[Freeze]:
    for freeze in freezes:
        if len(freeze.note) > LONGEST_NOTE:
            raise FreezeRefused(
                f"A note of a freeze has up to {LONGEST_NOTE} characters, not {len(freeze.note):,}."
            )
    if len(freezes) > MOST:
        raise FreezeRefused(f"{MOST} freezes are kept at most, not {len(freezes):,}.")
    return freezes


def _change(
    ledger: Ledger, change: Callable[[FreezeLook], tuple[Sequence[Freeze], Sequence[Freeze]]]
) -> Sequence[Freeze]:
    """Applies a change to the freezes as they are now; again where somebody else was faster. Returns those that were changed."""
    for _ in range(TRIES):
        look = ledger.freezes.look()
        after, changed = change(look)
        if not changed or ledger.freezes.replace(after, seen=look.revision):
            return changed
    raise Transient("Others change the freezes at the same time: try again.")


def freezes_object(look: FreezeLook) -> dict[str, Any]:
    """Returns the freezes as JSON has them: the same over HTTP and with `--json`."""
    active = in_force(look.freezes, look.now)
    return {
        "frozen": active is not None,
        "until": iso_time(thaws_at(look.freezes, look.now)) if active is not None else None,
        "note": "" if active is None else active.note,
        "freezes": [freeze_object(freeze, look) for freeze in still_shown(look.freezes, look.now)],
    }


def freeze_object(freeze: Freeze, look: FreezeLook) -> dict[str, Any]:
    over, active = freeze.is_over(look.now), freeze.is_in_force(look.now)
    return {
        "id": freeze.id, "from": iso_time(freeze.begins), "until": iso_time(freeze.ends), "note": freeze.note,
        "state": "over" if over else "in force" if active else "planned", "by": freeze.by, "liftedBy": freeze.lifted_by or None,
    }  # fmt: skip
