"""The files and versions that the hashes of code in runs stand for, so that a refusal can name the file that differs."""

from collections.abc import Mapping
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from whimbrel.domain.code import Code
from whimbrel.mongo.errors import translated


class MongoCodes:
    """See `whimbrel.ports.codes`."""

    def __init__(self, collection: Collection[Any]) -> None:
        self._codes = collection

    def keep(self, pin: str, code: Code) -> None:
        if not code.files:  # not loaded from a file
            return
        row = {"files": _pairs(code.files), "versions": _pairs(code.versions)}
        with translated():
            try:
                self._codes.update_one(
                    {"_id": pin, "files": {"$exists": False}},
                    [{"$set": {**{name: {"$literal": each} for name, each in row.items()}, "at": "$$NOW"}}],
                    upsert=True,
                )
            except DuplicateKeyError:
                return

    def get(self, pin: str) -> Code | None:
        with translated():
            row = self._codes.find_one({"_id": pin})
        return None if row is None else Code(_mapping(row["files"]), _mapping(row["versions"]))


def _pairs(named: Mapping[str, str]) -> list[list[str]]:
    """Names of files hold dots, which names of fields should not."""
    return [[name, value] for name, value in named.items()]


def _mapping(pairs: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in pairs}
