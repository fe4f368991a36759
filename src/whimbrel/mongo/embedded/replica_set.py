"""A replica set of one node, which lets nobody in without the secret of its home.

Transactions and change streams need a replica set. Its members know one another by the keyfile, and whoever has that may log in
as one: so there is no moment at which the first comer could make himself its administrator, and data from before there were users
needs no step of its own. That login is mutual (SCRAM): whatever else answers on the port cannot pass for the server.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from pymongo.errors import OperationFailure

NAME: Final = "whimbrel"
USER: Final = "whimbrel"
MECHANISM: Final = "SCRAM-SHA-256"  # named: a stranger on the port shall not choose
ROLES: Final = [{"role": "root", "db": "admin"}, {"role": "read", "db": "local"}]
_AUTHENTICATION_FAILED: Final = 18


class Unproven(Exception):
    """Whatever answers on the port does not know the secret of the home."""


def address(port: int, secret: str) -> str:
    """Not of a direct connection: so a client waits for a primary when the server comes back."""
    options = f"replicaSet={NAME}&authSource=admin&authMechanism={MECHANISM}"
    return f"mongodb://{USER}:{secret}@127.0.0.1:{port}/?{options}"


def connect(port: int, secret: str) -> MongoClient[dict[str, Any]]:
    """To that server whatever its state, as one of its kind; to nothing that is slow to answer."""
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


def settle(client: MongoClient[dict[str, Any]], port: int, data: Path, secret: str) -> bool:
    """One step towards a primary on `data` that lets our user in; says whether it is one. Raises Unproven."""
    try:
        options = client.admin.command("getCmdLineOpts")["parsed"]
    except OperationFailure as error:
        if error.code in (_AUTHENTICATION_FAILED, None):  # None: it could not prove itself to us
            raise Unproven from error
        raise
    if options.get("storage", {}).get("dbPath") != str(data):
        return False  # ours will say that it cannot have this port
    if client.admin.command("hello")["isWritablePrimary"]:
        _admit(client, secret)
        return True
    members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
    # Read from the collection, as the commands cannot tell "no config" from "not yet loaded".
    config = client.local["system.replset"].find_one()
    if config is None:
        client.admin.command("replSetInitiate", {"_id": NAME, "members": members})
    elif [member["host"] for member in config["members"]] != [members[0]["host"]]:
        # The port is another one than last time, so the node does not find itself in its config.
        moved = {**config, "version": config["version"] + 1, "members": members}
        client.admin.command("replSetReconfig", moved, force=True)
    return False


def _admit(client: MongoClient[dict[str, Any]], secret: str) -> None:
    """See that our user is there, with this secret and these roles. By a digest of them it is known whether it is."""
    known = {"digest": hashlib.sha256(f"{secret} {ROLES}".encode()).hexdigest()}
    users = client.admin.command("usersInfo", {"user": USER, "db": "admin"})["users"]
    if users and users[0].get("customData") == known:
        return
    client.admin.command(
        "updateUser" if users else "createUser",
        USER,
        pwd=secret,
        roles=ROLES,
        customData=known,
        mechanisms=[MECHANISM],
    )
