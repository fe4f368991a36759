"""Accepts causes of failures: a run may go on in spite of them. What was accepted can be withdrawn."""

from collections.abc import Callable, Sequence

from whimbrel.domain.failures.known_causes import LONGEST_NOTE
from whimbrel.domain.text.safe_text import storable
from whimbrel.engine.operating.control import find_run, group_of
from whimbrel.errors import StateForbids
from whimbrel.ports import Ledger


def accept_causes(
    ledger: Ledger, run_id: str, names: Sequence[str], *, who: str, note: str = ""
) -> list[str]:
    """Accepts causes of a run, by the short names or signatures of their groups. Returns the short names.

    Nothing is changed where one of them is unknown. Raises RunUnknown, GroupUnknown.
    """
    groups = _groups(ledger, run_id, names)
    ledger.known_causes.accept(run_id, groups, who=who, note=storable(note, LONGEST_NOTE))
    return groups


def withdraw_causes(
    ledger: Ledger, run_id: str, names: Sequence[str], *, who: str, note: str = ""
) -> list[str]:
    """Withdraws that causes are accepted: their failures count again. Returns the short names.

    Raises RunUnknown, GroupUnknown; StateForbids where one is not accepted.
    """
    groups = _groups(ledger, run_id, names)
    known = ledger.known_causes.of(run_id)
    others = [group for group in groups if group not in known or not known[group].accepted]
    if others:
        raise StateForbids(
            f"Run {run_id} has not accepted {', '.join(others)}: there is nothing to withdraw. whimbrel failures {run_id} shows what is accepted."
        )
    ledger.known_causes.withdraw(run_id, groups, who=who, note=storable(note, LONGEST_NOTE))
    return groups


def _groups(ledger: Ledger, run_id: str, names: Sequence[str]) -> list[str]:
    run = find_run(ledger, run_id)
    find: Callable[[str], str] = lambda name: group_of(ledger, run.id, name)  # noqa: E731
    return list(dict.fromkeys(map(find, names)))
