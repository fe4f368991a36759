"""What statements on the collection `things` look at, by MongoDB's profiler: `with profiled(database) as looks: ...`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.database import Database

Data = Database[dict[str, Any]]


class Looks:
    """The statements on the collection since the beginning of a `with`."""

    def __init__(self, database: Data) -> None:
        self._database = database

    def rows(self) -> list[dict[str, Any]]:
        found = self._database["system.profile"].find({"ns": f"{self._database.name}.things"})
        return [each for each in found if "explain" not in each["command"]]

    def largest(self) -> dict[str, Any]:
        return max(self.rows(), key=_looked)

    def passes(self, count: int) -> float:
        """Documents looked at to find some, for each that there is; not those that are written by the keys found."""
        return sum(int(each.get("docsExamined", 0)) for each in self.rows() if not _by_keys(each)) / count

    def documents(self) -> int:
        return sum(each.get("docsExamined", 0) for each in self.rows())

    def check(self, batch: int, passes: float, count: int) -> None:
        largest = self.largest()
        assert _looked(largest) <= 3 * batch, largest
        assert self.passes(count) <= passes, self.passes(count)


def _looked(row: dict[str, Any]) -> int:
    return max(int(row.get("docsExamined", 0)), int(row.get("keysExamined", 0)))


def _by_keys(row: dict[str, Any]) -> bool:
    return row["op"] == "update" and "'_id': {'$in': [" in str(row["command"]["q"])


@contextmanager
def profiled(database: Data) -> Iterator[Looks]:
    database.command("profile", 0)
    database["system.profile"].drop()
    database.create_collection("system.profile", capped=True, size=64 * 1024 * 1024)
    database.command("profile", 2)
    try:
        yield Looks(database)
    finally:
        database.command("profile", 0)
