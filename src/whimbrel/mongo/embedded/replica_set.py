"""Configures a replica set of one node, which no client can use without the secret of its home.

Transactions and change streams need a replica set. Its members authenticate by the keyfile, and a client that has it may log in
as a member: so at no moment can the first client make itself the administrator, and data from before there were users
needs no extra step. That login is mutual (SCRAM): another process on the port cannot pass for the server.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure

NAME: Final = "whimbrel"
USER: Final = "whimbrel"
MECHANISM: Final = "SCRAM-SHA-256"  # set here, so that another process on the port cannot choose
ROLES: Final = [{"role": "root", "db": "admin"}, {"role": "read", "db": "local"}]
_AUTHENTICATION_FAILED: Final = 18


class Unproven(Exception):
    """The process that answers on the port does not know the secret of the home."""


def address(port: int, secret: str) -> str:
    """Returns the URI, without a direct connection: so a client waits for a primary when the server comes back."""
    options = f"replicaSet={NAME}&authSource=admin&authMechanism={MECHANISM}"
    return f"mongodb://{USER}:{secret}@127.0.0.1:{port}/?{options}"


def connect(port: int, secret: str) -> MongoClient[dict[str, Any]]:
    """Connects to that server as a member, whatever its state; a server that is slow to answer counts as away."""
    return MongoClient(
        "127.0.0.1",
        port,
        username="__system",
        password=secret,
        authSource="local",
        authMechanism=MECHANISM,
        directConnection=True,
        serverSelectionTimeoutMS=2000,
        connectTimeoutMS=2000,
        socketTimeoutMS=10_000,
    )


def advance(client: MongoClient[dict[str, Any]], port: int, data: Path, secret: str) -> bool:
    """Takes one step towards a primary on `data` that accepts our user; returns whether it is one. Raises Unproven."""
    try:
        options = client.admin.command("getCmdLineOpts")["parsed"]
    except OperationFailure as error:
        if error.code in (_AUTHENTICATION_FAILED, None):  # None: the server did not authenticate to us
            raise Unproven from error
        raise
    if options.get("storage", {}).get("dbPath") != str(data):
        return False  # our server will report that this port is taken
    if client.admin.command("hello")["isWritablePrimary"]:
        _ensure_user(client, secret)
        return True
    members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
    # Read from the collection, as the commands cannot tell "no config" from "not yet loaded".
    config = client.local["system.replset"].find_one()
    if config is None:
        client.admin.command("replSetInitiate", {"_id": NAME, "members": members})
    elif [member["host"] for member in config["members"]] != [members[0]["host"]]:
        # The port differs from last time, so the node does not find itself in its config.
        moved = {**config, "version": config["version"] + 1, "members": members}
        client.admin.command("replSetReconfig", moved, force=True)
    return False


def _ensure_user(client: MongoClient[dict[str, Any]], secret: str) -> None:
    """Creates or updates our user, unless the digest in it says that secret and roles are right."""
    expected = {"digest": hashlib.sha256(f"{secret} {ROLES}".encode()).hexdigest()}
    users = client.admin.command("usersInfo", {"user": USER, "db": "admin"})["users"]
    if users and users[0].get("customData") == expected:
        return
    client.admin.command(
        "updateUser" if users else "createUser",
        USER,
        pwd=secret,
        roles=ROLES,
        customData=expected,
        mechanisms=[MECHANISM],
    )
