"""Translates the driver's errors into Whimbrel's."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from whimbrel.errors import (
    AWAY,
    FULL,
    NO_ADDRESS,
    NO_TLS,
    CollectionReplaced,
    Refused,
    Systemic,
    TooSlow,
    Transient,
    WhimbrelError,
)
from whimbrel.masking import masked

# Codes of https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
TIME_LIMIT = 50  # MaxTimeMSExpired
DUPLICATE_KEY = 11000
OTHER_COLLECTION = 361  # CollectionUUIDMismatch
TRANSIENT = frozenset({
    6, 7, 89,  # HostUnreachable, HostNotFound, NetworkTimeout
    133,  # FailedToSatisfyReadPreference: no member that may answer
    24, 46,  # LockTimeout, LockBusy
    64, 100, 79,  # WriteConcernFailed (timeout), UnsatisfiableWriteConcern, UnknownReplWriteConcern
    91, 189, 10107, 13435, 13436, 11600, 11602, 10058,  # shutdown and failover
    112, 246, 251, 262, 290,  # WriteConflict, SnapshotUnavailable, NoSuchTransaction, ExceededTimeLimit, TransactionExceededLifetimeLimit
    43, 136, 175, 237,  # cursors that are gone
    11601, 314,  # Interrupted, ended by killSessions
    9001, 317,  # SocketException, ConnectionPoolExpired
})  # fmt: skip
NO_PRIMARY = frozenset(
    {10107, 13435, 13436, 10058, 189, 11602, 91, 11600}
)  # NotWritablePrimary and similar, a step-down, a shutdown
NO_MAJORITY = frozenset({64, 79, 100})  # of those above: of the write concern
NO_SPACE = 14031  # OutOfDiskSpace
UNKNOWN_USER = frozenset({18, 8000})  # AuthenticationFailed, AtlasError
NO_RIGHT = UNKNOWN_USER | {13, 33}  # Unauthorized, wrong authentication
SYSTEMIC = NO_RIGHT | frozenset({
    NO_SPACE,
    20,  # IllegalOperation, such as a write concern of a stand-alone server
    26,  # NamespaceNotFound
    166,  # CommandNotSupportedOnView
})  # fmt: skip


CHANGING = "MongoDB could not carry that out at this moment: try again."
SLOW = "MongoDB took too long for that: try again, or ask for less."
NOT_ALLOWED = "MongoDB does not allow this user to do that: grant it readWrite on the database."
WRONG_USER = "MongoDB refuses the user name or password: check MONGODB_URI."
ELECTING = "MongoDB has no primary at this moment: its members choose one. Try again."
WAITING = "Too few members of MongoDB's replica set have answered in time: check that they run."
DIFFERENT_TLS = (
    "MongoDB and Whimbrel do not agree on TLS: check the certificates, and the tls options in MONGODB_URI."
)
UNKNOWN_HOST = "The name of MongoDB's host is not known to the network: check MONGODB_URI."
# Parts of the driver's messages about servers that it cannot use; without one of these, no server answers.
FOUND_NONE = (
    ("No primary available", ELECTING),
    ("members match selector", ELECTING),
    *((part, DIFFERENT_TLS) for part in NO_TLS),
    *((part, UNKNOWN_HOST) for part in NO_ADDRESS),
)


def sentence(error: BaseException) -> str:
    """Returns an error's message in one line, masked and of limited length."""
    details = error.details if isinstance(error, OperationFailure) else None
    text = str((details or {}).get("errmsg") or error)
    if "\n" in text:  # MongoDB puts a query that cannot be planned before the reason
        text = text.rpartition(" :: caused by :: ")[2]
    return masked(text).partition("\n")[0][:500]


@contextmanager
def translated() -> Iterator[None]:
    """Turns the driver's errors into Transient, Systemic, TooSlow, or Refused."""
    try:
        yield
    except OperationFailure as error:
        if error.has_error_label("RetryableWriteError"):
            raise Transient(sentence(error)).in_short(_transient_sentence(error.code)) from error
        raise of_code(error.code or 0, sentence(error)) from error
    except NotPrimaryError as error:
        raise Transient(sentence(error)).in_short(ELECTING) from error
    except (ServerSelectionTimeoutError, ConnectionFailure) as error:
        raise Transient(f"MongoDB does not answer: {sentence(error)}").in_short(why_away(error)) from error
    except ConfigurationError as error:
        raise Systemic(f"MongoDB cannot be used like this: {sentence(error)}") from error
    except PyMongoError as error:
        raise Transient(sentence(error)).in_short(CHANGING) from error


def why_away(error: BaseException) -> str:
    """Returns one plain sentence that says why servers cannot be reached or used."""
    message = str(error)
    return next((plain for part, plain in FOUND_NONE if part in message), AWAY)


def of_code(code: int, message: str) -> WhimbrelError:
    if code == TIME_LIMIT:
        return TooSlow(message).in_short(SLOW)
    if code == OTHER_COLLECTION:
        return CollectionReplaced(message)
    if code in TRANSIENT:
        return Transient(f"{message} (code {code})").in_short(_transient_sentence(code))
    if code == NO_SPACE or "No space left" in message:
        return Systemic(f"{message} (code {code})").in_short(FULL)
    if code in SYSTEMIC:
        plain = WRONG_USER if code in UNKNOWN_USER else NOT_ALLOWED if code in NO_RIGHT else ""
        return Systemic(f"{message} (code {code})").in_short(plain)
    return Refused(f"{message} (code {code})")


def _transient_sentence(code: int | None) -> str:
    """Returns one plain sentence about an error that will pass by itself."""
    return ELECTING if code in NO_PRIMARY else WAITING if code in NO_MAJORITY else CHANGING


def check_reply(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the errors of single documents in the reply to an `update` command, which the driver does not raise.

    Raises where the reply has a write concern error, or a transient or systemic one.
    """
    if concern := reply.get("writeConcernError"):
        raise Transient(f"Not acknowledged by a majority: {concern.get('errmsg', '')}").in_short(WAITING)
    errors = list(reply.get("writeErrors", ()))
    for row in errors:
        error = of_code(row.get("code", 0), row.get("errmsg", ""))
        if not isinstance(error, Refused):
            raise error
    return errors
