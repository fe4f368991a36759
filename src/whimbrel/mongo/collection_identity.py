"""Tells whether a name still means the same collection: a rename keeps its UUID, a new collection has another."""

from typing import Any

from bson.binary import Binary
from pymongo.client_session import ClientSession
from pymongo.database import Database

from whimbrel.errors import CollectionReplaced
from whimbrel.mongo.driver_errors import translated
from whimbrel.ports.store import Identity

UUID_SUBTYPE = 4


def identity_of(database: Database[Any], name: str, session: ClientSession | None = None) -> Identity:
    """Returns the collection or view that has a name now. Raises Transient, Systemic."""
    with translated():
        for collection in database.list_collections(filter={"name": name}, session=session):
            uuid = collection.get("info", {}).get("uuid")
            collated, view = "collation" in collection.get("options", {}), collection.get("type") == "view"
            return Identity(bytes(uuid) if uuid else None, collated, view)
    return Identity(None, collated=False)


def check_identity(
    database: Database[Any], name: str, uuid: bytes | None, session: ClientSession | None = None
) -> None:
    """Raises CollectionReplaced where a name no longer means the collection with this UUID. None: any will do."""
    if uuid is None:
        return
    current = identity_of(database, name, session)
    if current.uuid != uuid:
        raise CollectionReplaced(_what_happened(database, name, uuid, current, session))


def _what_happened(
    database: Database[Any], name: str, uuid: bytes, current: Identity, session: ClientSession | None
) -> str:
    with translated():
        collections = database.list_collections(
            filter={"info.uuid": Binary(uuid, UUID_SUBTYPE)}, session=session
        )
        actual = next((str(collection["name"]) for collection in collections), None)
    ns = f"{database.name}.{name}"
    fate = f"was renamed to {actual!r}" if actual else "was dropped, or renamed into another database"
    beginning = f"The collection {ns} that the run began with {fate}, and "
    if current.uuid is None:
        return f"{beginning}{'a view' if current.view else 'none'} has that name now. Rename or restore it and resume the run, or cancel the run: what was done in it is done."
    return f"{beginning}another one has that name now. Cancel the run, or go on with that one, planned afresh: resume it with --new-collection."
