"""The address of MongoDB: which of its options are taken, which are Whimbrel's own whatever it says, and which are refused.

An address is often copied from the application, and what is right there is not right here: reads from secondaries would
show a ledger that was true a moment ago, and `w=1` would lose what it says was done. So only what it takes to reach the
server, and what is about the user's documents, is taken from it.
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
)  # in user or password: the driver would take pieces of them for hosts, and name these
PROPERTIES = re.compile(r"[A-Z_]+:[^,]+(,[A-Z_]+:[^,]+)*")

# By their names in small letters, as all options of addresses are compared.
TAKEN = frozenset({
    "authmechanism", "authmechanismproperties", "authsource",  # who we are
    "replicaset", "directconnection", "srvservicename", "srvmaxhosts", "srvallowedhostssuffix",  # where the server is
    "tls", "ssl", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames", "tlscafile", "tlscertificatekeyfile",
    "tlscertificatekeyfilepassword", "tlscrlfile", "tlsdisableocspendpointcheck", "tlsinsecure",
    "compressors", "zlibcompressionlevel", "maxidletimems", "servermonitoringmode",  # what the network wants
})  # fmt: skip
OWN = frozenset({
    "readpreference", "readpreferencetags", "maxstalenessseconds", "localthresholdms", "readconcernlevel",  # the primary
    "w", "wtimeoutms", "journal", "fsync",  # the majority, in the journal
    "retrywrites", "retryreads", "maxadaptiveretries", "enableoverloadretargeting",
    "connecttimeoutms", "serverselectiontimeoutms", "sockettimeoutms", "timeoutms", "heartbeatfrequencyms",
    "maxpoolsize", "minpoolsize", "maxconnecting", "waitqueuetimeoutms", "waitqueuemultiple", "connect",
    "tz_aware", "datetime_conversion", "unicode_decode_error_handler",  # functions get times in UTC, and no mended text
    "appname",  # by which the connections of a dead worker are found
    "uuidrepresentation",  # for documents, not for the connection: see `uuids_of`
})  # fmt: skip
REFUSED = {
    "loadbalanced": "it asks for a load balancer, which stands before routers of a sharded cluster: give the address of a replica set",
    "driver": "the option driver cannot stand in an address: leave it out",
    "server_api": "the option server_api cannot stand in an address: leave it out",
}


def reduced(uri: str) -> str:
    """An address with only those options that are taken from it, and those that nobody knows: the driver warns of them.

    Raises SettingsInvalid for what is no address, and for options that are refused.
    """
    if not uri.startswith(SCHEMES):
        raise unreadable(uri, f"it begins with none of {' and '.join(SCHEMES)}")
    if found := parsed(uri).unescaped & UNESCAPED:
        raise unreadable(
            uri,
            f"in its user name or password {' and '.join(sorted(found))} must be percent-encoded: {_encoded(found)}",
        )
    if parsed(uri).hosts_shown != parsed(uri).hosts:  # the driver would say it, and a piece of the password
        raise unreadable(
            uri, "what follows a colon is no port. Perhaps `@` and the host are missing behind a password"
        )
    before, options, sign = _parted(uri)
    taken = []
    for option in options:
        name, _, value = option.partition("=")
        if name.lower() in REFUSED and value.lower() != "false":
            raise unreadable(uri, REFUSED[name.lower()])
        if name.lower() == "authmechanismproperties" and not PROPERTIES.fullmatch(unquote_plus(value)):
            raise unreadable(  # in the driver's words pieces of a token would be names of properties
                uri, "authMechanismProperties is to be NAME:VALUE, several with commas between"
            )
        if name.lower() not in OWN | REFUSED.keys():
            taken.append(option)
    return f"{before}?{sign.join(taken)}" if taken else before


def uuids_of(uri: str) -> str:
    """How values of `uuid.UUID` are stored in the user's documents. Raises SettingsInvalid."""
    _, options, _ = _parted(uri)
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
    """A client whose preferences, concerns and times are ours, whatever the address says. Raises SettingsInvalid.

    `seconds`: to find a server, and to connect to it. `worker`: the name of the worker process that this is.
    """
    try:
        client: MongoClient[Any] = MongoClient(
            reduced(uri), appname=app_name(worker), event_listeners=[CommandMonitor()], readPreference="primary", w="majority", journal=True,
            serverSelectionTimeoutMS=int(seconds * 1000), connectTimeoutMS=int(seconds * 1000), **options,
        )  # fmt: skip
        load_balanced = client.options.load_balanced  # by what DNS says of the address
    except (InvalidURI, ConfigurationError, ValueError, TypeError) as error:
        raise unreadable(uri, sentence(error)) from error
    if load_balanced:
        client.close()
        raise unreadable(uri, REFUSED["loadbalanced"])
    return client


def unreadable(uri: str, why: str) -> SettingsInvalid:
    """What is said of an address that cannot be used."""
    return SettingsInvalid(
        f"MONGODB_URI={masked_address(uri)} cannot be read: {why.rstrip('.')}. Write it as mongodb://<user>:<password>@<host>:<port>/."
    )


def _encoded(characters: set[str]) -> str:
    return ", ".join(f"{each} as {quote(each, safe='')}" for each in sorted(characters))


def _parted(uri: str) -> tuple[str, list[str], str]:
    """What stands before the options, the options, and the sign between them."""
    found = parsed(uri)
    before, options = found.before_options, found.options
    sign = ";" if ";" in options and "&" not in options else "&"
    return before, options.split(sign) if options else [], sign
