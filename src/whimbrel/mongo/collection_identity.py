"""Which collection a name means now: by its UUID, which a rename keeps and a new collection of the same name does not have."""

from typing import Any

from bson.binary import Binary
from pymongo.client_session import ClientSession
from pymongo.database import Database

from whimbrel.errors import CollectionReplaced
from whimbrel.mongo.driver_errors import translated
from whimbrel.ports.store import Identity

UUID_SUBTYPE = 4


def identity_of(database: Database[Any], name: str, session: ClientSession | None = None) -> Identity:
    """What there is under a name now. Raises Transient, Systemic."""
    with translated():
        for found in database.list_collections(filter={"name": name}, session=session):
            uuid = found.get("info", {}).get("uuid")
            collated, view = "collation" in found.get("options", {}), found.get("type") == "view"
            return Identity(bytes(uuid) if uuid else None, collated, view)
    return Identity(None, collated=False)


def check_identity(
    database: Database[Any], name: str, uuid: bytes | None, session: ClientSession | None = None
) -> None:
    """Raise CollectionReplaced where a name does not mean the collection of this UUID any more. None: it may be any."""
    if uuid is None:
        return
    now = identity_of(database, name, session)
    if now.uuid != uuid:
        raise CollectionReplaced(_what_happened(database, name, uuid, now, session))


def _what_happened(
    database: Database[Any], name: str, uuid: bytes, now: Identity, session: ClientSession | None
) -> str:
    with translated():
        found = database.list_collections(filter={"info.uuid": Binary(uuid, UUID_SUBTYPE)}, session=session)
        actual = next((str(each["name"]) for each in found), None)
    ns = f"{database.name}.{name}"
    fate = f"was renamed to {actual!r}" if actual else "was dropped, or renamed into another database"
    begun = f"The collection {ns} that the run began with {fate}, and "
    if now.uuid is None:
        return f"{begun}{'a view' if now.view else 'none'} has that name now. Rename or restore it and resume the run, or cancel the run: what was done in it is done."
    return f"{begun}another one has that name now. Cancel the run, or go on with that one, planned afresh: resume it with --new-collection."
