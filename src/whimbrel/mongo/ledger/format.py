"""Checks and upgrades the format of the ledger: a number that says how its rows are to be read.

A newer program upgrades an older ledger in idempotent steps, under a lease, when no worker of an older format is
alive. An older program refuses a newer ledger. The number is written with the first run, so that reading writes nothing.
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
LOOK = 1.0  # seconds between two reads of the number by a process
UPGRADING = 30.0  # seconds that the lease of an upgrade lasts
WAITING = 60.0  # seconds to wait for another process's upgrade
ALIVE = 10.0  # seconds after a live worker's last heartbeat
PAGE = 100  # runs


class MongoFormat:
    """The format number of one database's ledger."""

    def __init__(
        self, database: Database[Any], rows: Collection[Any], runs: Collection[Any], leases: MongoLeases
    ) -> None:
        self._database, self._rows, self._runs, self._leases = database, rows, runs, leases
        self._noted, self._checked_at = False, float("-inf")

    def stored_number(self) -> int | None:
        """Returns the ledger's number; None where there is no ledger yet. The first format has no number stored."""
        with translated():
            row = self._rows.find_one({"_id": ROW})
            if row is not None:
                return int(row["format"])
            return 1 if self._runs.find_one({}, {"_id": 1}) else None

    def note(self) -> None:
        """Writes the number, before the first row in this format."""
        if self._noted:
            return
        with translated():
            self._rows.update_one({"_id": ROW}, {"$setOnInsert": {"format": FORMAT}}, upsert=True)
        self._noted = True

    def check(self) -> None:
        """Raises LedgerFormat where the ledger's format is newer than this program. Reads it at most once a second."""
        if time.monotonic() - self._checked_at < LOOK:
            return
        number = self.stored_number()
        if number is not None and number > FORMAT:
            raise LedgerFormat(
                f"The ledger in the database {self._database.name!r} has format {number}; this Whimbrel knows formats up to {FORMAT}. "
                "Use the newer Whimbrel, as all other processes here must."
            )
        self._checked_at = time.monotonic()

    def upgrade(self, name: str, prepare: Callable[[], None]) -> None:
        """Upgrades an older ledger to this format. Raises LedgerFormat where it is newer, or workers of an older one are alive.

        `prepare` creates the indexes that queries of this format need.
        """
        self.check()
        number = self.stored_number()
        if number is None or number == FORMAT:
            return
        end = time.monotonic() + WAITING
        while not self._leases.lead("upgrade", name, UPGRADING):
            if time.monotonic() > end:
                raise LedgerFormat(
                    "Another process has been upgrading the ledger for a minute. Wait for it, and try again."
                )
            time.sleep(0.2)
        try:
            self._apply_steps(name, prepare)
        finally:
            self._leases.step_down(name, role="upgrade")

    def _apply_steps(self, name: str, prepare: Callable[[], None]) -> None:
        while (number := self.stored_number()) is not None and number < FORMAT:
            older = self._leases.older_than(number + 1, ALIVE)
            if older:
                raise LedgerFormat(
                    f"Workers of an earlier Whimbrel are at work ({', '.join(older[:5])}): the ledger cannot be upgraded to format {number + 1} "
                    "meanwhile. Stop them first; their batches are given back, and nothing is lost."
                )
            prepare()
            STEPS[number](self._database, self._runs)
            with translated():
                self._rows.update_one({"_id": ROW}, {"$set": {"format": number + 1}}, upsert=True)
            self._leases.audit(f"ledger upgraded from format {number} to {number + 1}", run="", who=name)


def _to_2(database: Database[Any], runs: Collection[Any]) -> None:
    """Sets for runs whether they need their migration's code, and for unfinished ones the collection's UUID."""
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


def _to_4(_database: Database[Any], _runs: Collection[Any]) -> None:
    """Changes nothing: rows of format 3 are read as they are. But older programs heed no windows, freezes, stages or budgets, and know no phase follow."""


STEPS: Mapping[int, Callable[[Database[Any], Collection[Any]], None]] = {
    1: _to_2,
    2: upgrade_to_format_3.group_failures,
    3: _to_4,
}
"""The step that upgrades a ledger of each format to the next one."""
