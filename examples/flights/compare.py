"""Compare the flights as they are stored, byte for byte, with what `load.py` makes of the file."""

from collections import Counter

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient

from load import document, flights
from whimbrel.bootstrap import database
from whimbrel.settings import read_settings

BODY = 21  # bytes before the first field after _id: 4 of length, 1 of type, 4 of "_id" and its end, 12 of an ObjectId


def main() -> None:
    rows = [document(row) for row in flights()]
    loaded = Counter(bson.encode(row)[4:] for row in rows)
    equal, others = 0, []
    settings = read_settings()
    with (
        database(settings) as uri,
        MongoClient[RawBSONDocument](uri, document_class=RawBSONDocument) as client,
    ):
        for flight in client[settings.database]["flights"].find():
            body = flight.raw[BODY:]
            if loaded[body]:
                loaded[body] -= 1
                equal += 1
            else:
                others.append(flight)
    print(f"{equal:>8,}  as loaded, byte for byte")
    print(f"{len(others):>8,}  not as loaded")
    print(f"{loaded.total() - len(others):>8,}  gone")
    for flight in others[:10]:
        more = [name for name in flight if name != "_id" and name not in rows[0]]
        print(f"          {flight['carrier']} {flight['flight']}, which has also: {', '.join(more)}")


if __name__ == "__main__":
    main()
