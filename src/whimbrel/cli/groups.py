"""Groups of failures by the short names that a person can type."""

from whimbrel.cli.tables import group_id
from whimbrel.errors import GroupUnknown
from whimbrel.ports import Ledger

MOST = 1000  # groups that are looked through


def signature_of(ledger: Ledger, run_id: str, group: str) -> str:
    """The signature of a group, given by its short name or itself. Raises GroupUnknown."""
    found = ledger.failures.groups(run_id, limit=MOST)
    for each in found:
        if group in (each.signature, group_id(each.signature)):
            return each.signature
    names = ", ".join(group_id(each.signature) for each in found[:5])
    hint = f"There are: {names}." if names else "It has no failures."
    raise GroupUnknown(f"Run {run_id} has no group of failures {group!r}. {hint}")
