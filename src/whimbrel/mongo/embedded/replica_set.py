"""A replica set of one node: transactions and change streams need one."""

from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient

NAME: Final = "whimbrel"


def connect(port: int) -> MongoClient[dict[str, Any]]:
    """To that server whatever its state; to nothing that is slow to answer."""
    return MongoClient(
        "127.0.0.1",
        port,
        directConnection=True,
        serverSelectionTimeoutMS=2000,
        connectTimeoutMS=2000,
        socketTimeoutMS=10_000,
    )


def settle(client: MongoClient[dict[str, Any]], port: int, data: Path) -> bool:
    """One step towards a primary on `data`; says whether it is one."""
    options = client.admin.command("getCmdLineOpts")["parsed"]
    if options.get("storage", {}).get("dbPath") != str(data):
        return False  # somebody else answers on this port; ours will say that it cannot have it
    if client.admin.command("hello")["isWritablePrimary"]:
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
