"""Databases of the tests: a new one for each test, or one that a test before has left as it found it."""

import secrets
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from pymongo import MongoClient

_OWN = "whimbrel_"  # how the names of the ledger's collections begin
POOL = 6  # databases: what a thread of an earlier test may still write is far from the tests that follow


class Databases:
    """Of one server. Making the ledger's collections and dropping them takes longer than most tests."""

    def __init__(self, client: MongoClient[dict[str, Any]]) -> None:
        self._client = client
        self._prepared = deque[str]()
        self._ledger: dict[
            str, int
        ] = {}  # the ledger's collections as `MongoStore.prepare` makes them, and how many indexes
        self._dropping = ThreadPoolExecutor(1, "drops databases")
        self._dropped = list[Future[None]]()

    def new(self) -> str:
        return f"test_{secrets.token_hex(4)}"

    def take(self) -> str:
        """The name of a database that is prepared already, or of none yet."""
        return self._prepared.popleft() if len(self._prepared) >= POOL else self.new()

    def learn(self, name: str) -> None:
        """Notes how a database looks that has just been prepared."""
        if not self._ledger:
            self._ledger = self._collections(name)

    def give_back(self, name: str, threads: set[threading.Thread]) -> None:
        """Empties a prepared database for another test, or drops it where a test has made more of it. `threads`: those before the test."""
        started = {each for each in threading.enumerate() if not each.name.startswith("pymongo")} - threads
        if started or not self._ledger or not self._cleared(name):
            self.drop(name)
        else:
            self._prepared.append(name)

    def drop(self, name: str) -> None:
        """Behind the next test: the server waits while it drops."""
        self._dropped.append(self._dropping.submit(self._client.drop_database, name))

    def close(self) -> None:
        self._dropping.shutdown()
        for dropped in self._dropped:
            dropped.result()

    def _cleared(self, name: str) -> bool:
        database = self._client[name]
        listed = {each["name"]: each for each in database.list_collections()}
        plain = all(each["type"] == "collection" for each in listed.values())
        special = [each for each in listed if each.startswith("system.") and each != "system.profile"]
        if special or not plain or not self._ledger.keys() <= listed.keys():
            return False
        if any(listed[each]["options"] for each in self._ledger) or database.command("profile", -1)["was"]:
            return False
        own = {each for each in listed if each.startswith(_OWN) and not listed[each]["options"]}
        for collection in listed.keys() - own:
            database.drop_collection(collection)
        found = database.command("dbStats")
        # Those that the ledger makes when it writes to them have the index of their ids alone.
        if found["indexes"] != sum(self._ledger.get(each, 1) for each in own):
            return False
        if found["objects"]:
            for collection in self._filled(name, own):
                database[collection].delete_many({})
        return True

    def _filled(self, name: str, collections: Iterable[str]) -> list[str]:
        """Those that have a row, by one statement."""
        first, *others = collections
        stages: list[dict[str, Any]] = [{"$limit": 1}, {"$project": {"_id": first}}]
        for other in others:
            one: list[dict[str, Any]] = [{"$limit": 1}, {"$project": {"_id": other}}]
            stages.append({"$unionWith": {"coll": other, "pipeline": one}})
        return [each["_id"] for each in self._client[name][first].aggregate(stages)]

    def _collections(self, name: str) -> dict[str, int]:
        database = self._client[name]
        indexes = {each: len(database[each].index_information()) for each in database.list_collection_names()}
        return {each: count for each, count in indexes.items() if count > 1}
