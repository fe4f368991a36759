"""Explains why a MongoDB deployment cannot be reached, or used: what is wrong, and what to do."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from pymongo.errors import OperationFailure, PyMongoError, ServerSelectionTimeoutError

from whimbrel.errors import AWAY, DatabaseRefused, DatabaseUnreachable, Refused, Systemic
from whimbrel.masking import masked_address
from whimbrel.mongo.driver_errors import NOT_ALLOWED, sentence, why_away

OLDEST = (6, 0)
DIFFERENT_CASE = 13297  # the code of MongoDB's error
NAMELESS = "requires authentication"  # MongoDB's words to a client that gave no user name


@contextlib.contextmanager
def explained_connection_errors(uri: str, seconds: float) -> Iterator[None]:
    """Explains why nothing answers, around the first words to a server. Raises DatabaseUnreachable and DatabaseRefused."""
    where = masked_address(uri)
    try:
        yield
    except ServerSelectionTimeoutError as error:
        why = sentence(error).partition(" (configured timeouts")[0].partition(", Timeout:")[0]
        raise DatabaseUnreachable(
            f"MongoDB at {where} did not answer within {seconds:g} seconds ({why[:200]}). Is it running, and is MONGODB_URI right?"
        ).in_short(_short_reason(error, where, seconds)) from error
    except OperationFailure as error:
        if error.code in (18, 8000):
            raise DatabaseRefused(
                f"MongoDB at {where} refused the user name or password. Check MONGODB_URI."
            ) from error
        if error.code == 13:  # noqa: PLR2004  Unauthorized
            raise DatabaseRefused(
                f"MongoDB at {where} does not allow this user to do that: {sentence(error)}. Grant it readWrite on the database."
            ).in_short(NOT_ALLOWED) from error
        raise DatabaseRefused(f"MongoDB at {where} refused: {sentence(error)}") from error
    except PyMongoError as error:
        why = f"MongoDB at {where} cannot be used: {sentence(error)}"
        short = f"MongoDB at {where} cannot be used: is it running, and is MONGODB_URI right?"
        raise DatabaseUnreachable(why).in_short(short) from error


def _short_reason(error: ServerSelectionTimeoutError, where: str, seconds: float) -> str:
    why = why_away(error)
    if why != AWAY:
        return why
    return f"MongoDB at {where} did not answer within {seconds:g} seconds: is it running, and is MONGODB_URI right?"


@contextlib.contextmanager
def explained_refusals(where: str, database: str) -> Iterator[None]:
    """Explains why the ledger cannot be kept there, around the first writes to it."""
    try:
        yield
    except Systemic as error:
        why = str(error).partition(" to execute command")[0]
        if NAMELESS in why:
            raise DatabaseRefused(
                f"MongoDB at {where} asks for a user name and password, and MONGODB_URI has none. "
                "Write it as mongodb://<user>:<password>@<host>:<port>/."
            ) from error
        raise DatabaseRefused(
            f"MongoDB at {where} does not let this user keep the ledger: {why}. Grant it readWrite on the database, or name another user in MONGODB_URI."
        ).in_short(error.plain) from error
    except Refused as error:
        if str(DIFFERENT_CASE) not in str(error):
            raise
        existing = re.search(r"already have: \[(.+?)\]", str(error))
        name = existing[1] if existing else "one"
        raise DatabaseRefused(
            f"MongoDB at {where} has a database {name!r} already, and keeps no other whose name differs from it in small and capital letters only, "
            f"as {database!r} does. Set MONGODB_DB_NAME={name}."
        ) from error


def check_server(uri: str, hello: dict[str, Any], version: list[int]) -> None:
    """Raises DatabaseRefused for a server that Whimbrel cannot work with, DatabaseUnreachable for a member that takes no writes yet."""
    if tuple(version[:2]) < OLDEST:
        raise DatabaseRefused(
            f"MongoDB at {masked_address(uri)} is version {'.'.join(map(str, version[:3]))}. Whimbrel needs 6.0 or newer: upgrade the server."
        )
    if "setName" in hello and not hello["isWritablePrimary"]:
        raise DatabaseUnreachable(  # it may still become the primary
            f"{masked_address(uri)} is a member of the replica set {hello['setName']} that takes no writes; the primary is {hello.get('primary') or 'not known'}. "
            "Name all members in MONGODB_URI, without directConnection, so that the primary is found."
        )
    if hello.get("msg") == "isdbgrid":
        from whimbrel.mongo.preflight import NOT_SHARDED  # noqa: PLC0415

        raise DatabaseRefused(
            f"{masked_address(uri)} is a router of a sharded cluster. {NOT_SHARDED} Give the address of a replica set."
        )
