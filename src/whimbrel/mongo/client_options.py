"""Decides which options of MongoDB's address are used, which Whimbrel sets itself, and which are refused.

An address is often copied from the application, and its options do not suit Whimbrel: reads from secondaries would
show an old state of the ledger, and `w=1` could lose acknowledged writes. So Whimbrel takes from it only what is needed to
reach the server, and what concerns the user's documents.
"""

import re
from typing import Any
from urllib.parse import quote, unquote_plus

from pymongo import MongoClient
from pymongo.errors import ConfigurationError, InvalidURI

from whimbrel.domain.bson.uuids import UNSPECIFIED, UUIDS
from whimbrel.errors import SettingsInvalid
from whimbrel.masking import masked_address, parsed
from whimbrel.mongo.driver_errors import sentence
from whimbrel.mongo.unanswered_statements import CommandMonitor, app_name

SCHEMES = ("mongodb://", "mongodb+srv://")
UNESCAPED = set(
    "@:/?%"
)  # in user or password: the driver would take parts of them for hosts, and name these in its errors
PROPERTIES = re.compile(r"[A-Z_]+:[^,]+(,[A-Z_]+:[^,]+)*")

# Names in lower case: options of addresses are compared without regard to case.
TAKEN = frozenset({
    "authmechanism", "authmechanismproperties", "authsource",  # authentication
    "replicaset", "directconnection", "srvservicename", "srvmaxhosts", "srvallowedhostssuffix",  # where the server is
    "tls", "ssl", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames", "tlscafile", "tlscertificatekeyfile",
    "tlscertificatekeyfilepassword", "tlscrlfile", "tlsdisableocspendpointcheck", "tlsinsecure",
    "compressors", "zlibcompressionlevel", "maxidletimems", "servermonitoringmode",  # what the network needs
})  # fmt: skip
TLS = frozenset(name for name in TAKEN if name.startswith("tls")) | {"ssl"}
OWN = frozenset({
    "readpreference", "readpreferencetags", "maxstalenessseconds", "localthresholdms", "readconcernlevel",  # the primary
    "w", "wtimeoutms", "journal", "fsync",  # the majority, in the journal
    "retrywrites", "retryreads", "maxadaptiveretries", "enableoverloadretargeting",
    "connecttimeoutms", "serverselectiontimeoutms", "sockettimeoutms", "timeoutms", "heartbeatfrequencyms",
    "maxpoolsize", "minpoolsize", "maxconnecting", "waitqueuetimeoutms", "waitqueuemultiple", "connect",
    "tz_aware", "datetime_conversion", "unicode_decode_error_handler",  # functions get times in UTC, and no repaired text
    "appname",  # identifies the connections of a dead worker
    "uuidrepresentation",  # for documents, not for the connection: see `uuids_of`
})  # fmt: skip
REFUSED = {
    "loadbalanced": "it asks for a load balancer, which stands before routers of a sharded cluster: give the address of a replica set",
    "driver": "the option driver cannot stand in an address: leave it out",
    "server_api": "the option server_api cannot stand in an address: leave it out",
}


def reduced(uri: str) -> str:
    """Returns the address with only the options that are used, and unknown ones: the driver warns of them.

    Raises SettingsInvalid for an invalid address, and for options that are refused.
    """
    if not uri.startswith(SCHEMES):
        raise unreadable(uri, f"it begins with none of {' and '.join(SCHEMES)}")
    if unescaped := parsed(uri).unescaped & UNESCAPED:
        raise unreadable(
            uri,
            f"in its user name or password {' and '.join(sorted(unescaped))} must be percent-encoded: {_encoded(unescaped)}",
        )
    if parsed(uri).hosts_shown != parsed(uri).hosts:  # the driver's error would show a part of the password
        raise unreadable(
            uri, "what follows a colon is no port. Perhaps `@` and the host are missing behind a password"
        )
    before, options, separator = _split_options(uri)
    kept_options = []
    for option in options:
        name, _, value = option.partition("=")
        if name.lower() in REFUSED and value.lower() != "false":
            raise unreadable(uri, REFUSED[name.lower()])
        if name.lower() == "authmechanismproperties" and not PROPERTIES.fullmatch(unquote_plus(value)):
            raise unreadable(  # the driver's error would show parts of a token as names of properties
                uri, "authMechanismProperties is to be NAME:VALUE, several with commas between"
            )
        if name.lower() not in OWN | REFUSED.keys():
            kept_options.append(option)
    return f"{before}?{separator.join(kept_options)}" if kept_options else before


def uuids_of(uri: str) -> str:
    """Returns how values of `uuid.UUID` are stored in the user's documents. Raises SettingsInvalid."""
    _, options, _ = _split_options(uri)
    for option in options:
        name, _, value = option.partition("=")
        if name.lower() == "uuidrepresentation":
            if value not in UUIDS:
                raise unreadable(
                    uri,
                    f"uuidRepresentation={value} is none of {', '.join(UUIDS)}: take the one of the application",
                )
            return value
    return UNSPECIFIED


def connecting(uri: str, seconds: float, worker: str | None = None, **options: Any) -> MongoClient[Any]:
    """Returns a client whose preferences, concerns and timeouts are ours, whatever the address says. Raises SettingsInvalid.

    `seconds`: to find a server, and to connect to it. `worker`: the name of this worker process.
    """
    try:
        client: MongoClient[Any] = MongoClient(
            reduced(uri), appname=app_name(worker), event_listeners=[CommandMonitor()], readPreference="primary", w="majority", journal=True,
            serverSelectionTimeoutMS=int(seconds * 1000), connectTimeoutMS=int(seconds * 1000), **options,
        )  # fmt: skip
        load_balanced = client.options.load_balanced  # DNS may say so too
    except (InvalidURI, ConfigurationError, ValueError, TypeError) as error:
        raise unreadable(uri, sentence(error)) from error
    if load_balanced:
        client.close()
        raise unreadable(uri, REFUSED["loadbalanced"])
    return client


def to_member(uri: str, host: str, seconds: float) -> MongoClient[Any]:
    """Returns a client of one member alone, whatever its state, for `hello`. `uri`: the deployment's address."""
    milliseconds = int(seconds * 1000)
    return MongoClient(
        member_address(uri, host), appname=app_name(None), serverSelectionTimeoutMS=milliseconds, connectTimeoutMS=milliseconds,
        socketTimeoutMS=milliseconds,
    )  # fmt: skip


def member_address(uri: str, host: str) -> str:
    """Returns the address of one member: with the deployment's options of TLS, and without its user, as `hello` needs none."""
    _, options, _ = _split_options(reduced(uri))
    kept = [option for option in options if option.partition("=")[0].lower() in TLS]
    named = {option.partition("=")[0].lower() for option in kept}
    if uri.startswith("mongodb+srv://") and not named & {"tls", "ssl"}:  # there it is the default
        kept.append("tls=true")
    return f"mongodb://{host}/?{'&'.join([*kept, 'directConnection=true'])}"


def unreadable(uri: str, why: str) -> SettingsInvalid:
    """Returns the error for an address that cannot be used."""
    return SettingsInvalid(
        f"MONGODB_URI={masked_address(uri)} cannot be read: {why.rstrip('.')}. Write it as mongodb://<user>:<password>@<host>:<port>/."
    )


def _encoded(characters: set[str]) -> str:
    return ", ".join(f"{character} as {quote(character, safe='')}" for character in sorted(characters))


def _split_options(uri: str) -> tuple[str, list[str], str]:
    """Returns the part before the options, the options, and their separator."""
    address = parsed(uri)
    before, options = address.before_options, address.options
    separator = ";" if ";" in options and "&" not in options else "&"
    return before, options.split(separator) if options else [], separator
