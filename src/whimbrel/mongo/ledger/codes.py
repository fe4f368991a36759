"""Stores the files and versions behind the code hashes of runs, so that a refusal can name the file that differs."""

import contextlib
from collections.abc import Collection as Some
from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from whimbrel.domain.migrations.code import CodeFiles
from whimbrel.errors import Transient
from whimbrel.mongo.driver_errors import translated


class MongoCodes:
    """Implements `whimbrel.ports.codes`."""

    def __init__(self, collection: Collection[Any]) -> None:
        self._codes = collection

    def keep(self, pin: str, code: CodeFiles) -> None:
        if not code.files:  # not loaded from a file
            return
        row = {"files": _pairs(code.files), "versions": _pairs(code.versions)}
        with translated():
            try:
                self._codes.update_one(
                    {"_id": pin, "files": {"$exists": False}},
                    [{"$set": {**{name: {"$literal": value} for name, value in row.items()}, "at": "$$NOW"}}],
                    upsert=True,
                )
            except DuplicateKeyError:
                return

    def get(self, pin: str) -> CodeFiles | None:
        with translated():
            row = self._codes.find_one({"_id": pin})
        return None if row is None else CodeFiles(_mapping(row["files"]), _mapping(row["versions"]))

    def agree(self, run: str, files: Mapping[str, str], *, new: Some[str]) -> Mapping[str, str]:
        pinned = self._stored_hashes(run, files)
        missing = [name for name in files if name in new and name not in pinned]
        for name in missing:
            with translated(), contextlib.suppress(DuplicateKeyError):  # another process was first
                self._codes.insert_one({"_id": f"{run}/{name}", "hash": files[name]})
        pinned = self._stored_hashes(run, files) if missing else pinned
        if any(name not in pinned for name in missing):
            raise Transient("What another process has just pinned cannot be read yet.")
        return pinned

    def _stored_hashes(self, run: str, names: Some[str]) -> dict[str, str]:
        with translated():
            rows = self._codes.find({"_id": {"$in": [f"{run}/{name}" for name in names]}})
            return {row["_id"].partition("/")[2]: row["hash"] for row in rows}

    def forget(self, run: str) -> Sequence[str]:
        with translated():
            names = [row["_id"].partition("/")[2] for row in self._codes.find(later_of(run), {"_id": 1})]
            if names:
                self._codes.delete_many(later_of(run))
        return names


def later_of(run: str) -> dict[str, Any]:
    """Selects the rows of files that calls of a run's function have loaded. Rows of code have hashes as ids, without a slash."""
    return {"_id": {"$gte": f"{run}/", "$lt": f"{run}0"}}  # 0 comes next after the slash


def _pairs(mapping: Mapping[str, str]) -> list[list[str]]:
    """Returns pairs: names of files have dots, which names of fields should not."""
    return [[name, value] for name, value in mapping.items()]


def _mapping(pairs: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in pairs}
