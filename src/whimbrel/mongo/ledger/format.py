"""The format of the ledger: a number that says how its rows are to be read.

A newer program upgrades an older ledger, in steps that may each be done twice, under a lease, when no worker of an older format is
alive. An older program refuses a newer ledger. The number is written with the first run: what only looks writes nothing.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from pymongo.collection import Collection
from pymongo.database import Database

from whimbrel.domain.runs.states import ENDED
from whimbrel.errors import LedgerFormat
from whimbrel.mongo.collection_identity import identity_of
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger import upgrade_to_format_3
from whimbrel.mongo.ledger.leases import MongoLeases
from whimbrel.mongo.ledger.rows import FORMAT

ROW = "format"
LOOK = 1.0  # seconds between two looks of a process at the number
UPGRADING = 30.0  # seconds that the lease of an upgrade lasts
WAITING = 60.0  # seconds that another process's upgrade is waited for
ALIVE = 10.0  # seconds within which a worker must have said that it lives
PAGE = 100  # runs


class MongoFormat:
    """The number of one database's ledger."""

    def __init__(
        self, database: Database[Any], rows: Collection[Any], runs: Collection[Any], leases: MongoLeases
    ) -> None:
        self._database, self._rows, self._runs, self._leases = database, rows, runs, leases
        self._noted, self._looked = False, float("-inf")

    def found(self) -> int | None:
        """The number of what is there; None where there is no ledger yet. The first format did not say its number."""
        with translated():
            row = self._rows.find_one({"_id": ROW})
            if row is not None:
                return int(row["format"])
            return 1 if self._runs.find_one({}, {"_id": 1}) else None

    def note(self) -> None:
        """Write the number, before the first row that is in this format."""
        if self._noted:
            return
        with translated():
            self._rows.update_one({"_id": ROW}, {"$setOnInsert": {"format": FORMAT}}, upsert=True)
        self._noted = True

    def check(self) -> None:
        """Raise LedgerFormat where the ledger is of a newer format than this program: at most once a second it is asked."""
        if time.monotonic() - self._looked < LOOK:
            return
        found = self.found()
        if found is not None and found > FORMAT:
            raise LedgerFormat(
                f"The ledger in the database {self._database.name!r} has format {found}; this Whimbrel knows formats up to {FORMAT}. "
                "Use the newer Whimbrel, as all other processes here must."
            )
        self._looked = time.monotonic()

    def upgrade(self, name: str, prepare: Callable[[], None]) -> None:
        """Bring an older ledger to this format. Raises LedgerFormat where it is newer, or workers of an older one are alive.

        `prepare` makes the indexes that rows of this format are asked by.
        """
        self.check()
        found = self.found()
        if found is None or found == FORMAT:
            return
        end = time.monotonic() + WAITING
        while not self._leases.lead("upgrade", name, UPGRADING):
            if time.monotonic() > end:
                raise LedgerFormat(
                    "Another process has been upgrading the ledger for a minute. Wait for it, and try again."
                )
            time.sleep(0.2)
        try:
            self._carry_out(name, prepare)
        finally:
            self._leases.step_down(name, role="upgrade")

    def _carry_out(self, name: str, prepare: Callable[[], None]) -> None:
        while (found := self.found()) is not None and found < FORMAT:
            older = self._leases.older_than(found + 1, ALIVE)
            if older:
                raise LedgerFormat(
                    f"Workers of an earlier Whimbrel are at work ({', '.join(older[:5])}): the ledger cannot be upgraded to format {found + 1} "
                    "meanwhile. Stop them first; their batches are given back, and nothing is lost."
                )
            prepare()
            STEPS[found](self._database, self._runs)
            with translated():
                self._rows.update_one({"_id": ROW}, {"$set": {"format": found + 1}}, upsert=True)
            self._leases.audit(f"ledger upgraded from format {found} to {found + 1}", run="", who=name)


def _to_2(database: Database[Any], runs: Collection[Any]) -> None:
    """Runs know whether they need their migration's code, and unfinished ones the collection that they are about."""
    kind = {"$ifNull": ["$kind", "migration"]}
    verifying = {"$and": [{"$eq": [kind, "verification"]}, {"$ne": [{"$ifNull": ["$sample", 0]}, 0]}]}
    needs = {"$or": [{"$eq": [kind, "migration"]}, verifying]}
    with translated():
        runs.update_many({"needsCode": {"$exists": False}}, [{"$set": {"needsCode": needs}}])
        unbound: Mapping[str, Any] = {
            "status": {"$nin": sorted(map(str, ENDED))},
            "collectionUuid": {"$exists": False},
        }
        while rows := list(runs.find(unbound, {"database": 1, "collection": 1}).limit(PAGE)):
            for row in rows:
                now = identity_of(database.client[row["database"]], row["collection"])
                bound = {"collectionUuid": now.uuid, "collated": now.collated}
                runs.update_one({"_id": row["_id"]}, {"$set": bound})


STEPS: Mapping[int, Callable[[Database[Any], Collection[Any]], None]] = {
    1: _to_2,
    2: upgrade_to_format_3.group,
}
"""What brings a ledger of a format to the next one."""
