"""What is said of runs whose workers still import the migrations."""

from whimbrel.domain.workers import ALIVE
from whimbrel.ports import Ledger


def loading(ledger: Ledger) -> str:
    """Which workers load the migrations, and since when; nothing where none does."""
    found = [each for each in ledger.leases.workers(ALIVE) if each.loading]
    if not found:
        return ""
    since = min(each.started_at for each in found)
    return f"Waits: worker processes still load the migrations, since {since:%H:%M:%S} UTC."
