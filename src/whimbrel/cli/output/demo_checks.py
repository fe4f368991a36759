"""Checks the demonstration from the documents themselves, not from Whimbrel's own counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from whimbrel.cli.output.fact_tables import FactTable
from whimbrel.cli.output.terminal_text import Text
from whimbrel.engine.operating.run_view import RunView


class Census(Protocol):
    """Counts of the sample documents, by MongoDB after the run."""

    @property
    def statuses(self) -> Mapping[str, int]: ...

    @property
    def total(self) -> int: ...

    @property
    def migrated(self) -> int: ...

    @property
    def refused(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Check:
    """A claim, and what was found."""

    claim: str
    found: str
    ok: bool


def verify(census: Census, run_view: RunView, *, seeded: int, planted: int) -> list[Check]:
    """Compares the documents with what was seeded, and the ledger with the documents."""
    counts = {name: census.statuses.get(name, 0) for name in ("pending", "processing", "success", "failed")}
    success, failed = counts["success"], counts["failed"]
    unfinished = counts["pending"] + counts["processing"]
    ledger = (
        run_view.counts.changed,
        run_view.counts.unchanged + run_view.counts.skipped,
        run_view.failures["failed"],
    )
    others = failed - census.refused
    return [
        Check("Nothing is left pending or processing", f"{unfinished:,} left", unfinished == 0),
        Check("Success + failed are all that were seeded", f"{success:,} + {failed:,} of {seeded:,}",
              success + failed == census.total == seeded),
        Check("Each success has its mark and its change", f"{census.migrated:,} of {success:,}",
              census.migrated == success),
        Check("Failed are exactly the planted ones", f"{census.refused:,} of {planted:,}, {others:,} others",
              failed == census.refused == planted),
        Check("The ledger counts what the documents say", f"{ledger[0]:,} changed, {ledger[2]:,} failed",
              ledger == (success, 0, failed)),
    ]  # fmt: skip


def checks_table(checks: Sequence[Check]) -> FactTable:
    table = FactTable(("check", "found", ""), title="Verified from the documents")
    for check in checks:
        table.add(check.claim, check.found, Text("ok", "green") if check.ok else Text("FAILED", "bold red"))
    return table


def check_object(check: Check) -> dict[str, object]:
    return {"check": check.claim, "found": check.found, "ok": check.ok}
