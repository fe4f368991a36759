"""Preflight on servers of other kinds: a shard, a router, a stand-alone one with users, one with a dead member."""

import re
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.conftest import SHORT
from tests.servers.alone import stand_alone
from tests.servers.replicas import ReplicaSet
from tests.waiting import until
from whimbrel import Migration
from whimbrel.domain.runs.preflight_findings import Finding
from whimbrel.engine.operating.preflight import preflight
from whimbrel.engine.operating.start import Defaults, compose_run, draft_run
from whimbrel.errors import CollectionUnsuitable, DatabaseRefused
from whimbrel.mongo.connection_errors import check_server
from whimbrel.mongo.store import MongoStore, connected
from whimbrel.ports import Ahead

THINGS = Migration(name="m", collection="things", update={"$set": {"new": 1}}).definition


def findings(store: MongoStore, documents: int = 1000) -> dict[str, Finding]:
    found = preflight(
        store,
        THINGS,
        compose_run(store, THINGS, defaults=Defaults()),
        Ahead(documents=documents, touched=None),
    )
    return {each.check: each for each in found}


def assert_pointed(said: str) -> None:
    """The refusal has its reason, and names a page that is there."""
    assert "documents may be missed" in said
    page = re.search(r"docs/decisions/[\w-]+\.md", said)
    assert page is not None
    assert (Path(__file__).parents[3] / page[0]).is_file()


def test_h39_a_replica_set_that_is_a_shard_is_refused() -> None:
    with stand_alone("--replSet", "shard", "--shardsvr") as port:
        uri = f"mongodb://127.0.0.1:{port}/?directConnection=true"
        with MongoClient[dict[str, Any]](uri) as client:
            members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
            client.admin.command("replSetInitiate", {"_id": "shard", "members": members})
            until(lambda: client.admin.command("hello")["isWritablePrimary"])
            with connected(uri, "test", SHORT) as store:
                client.test.things.insert_one({})
                draft_run(store, THINGS, defaults=Defaults())
                # What a cluster's configuration server writes when the shard is added.
                identity = {
                    "_id": "shardIdentity", "shardName": "one", "clusterId": ObjectId(),
                    "configsvrConnectionString": "configuration/127.0.0.1:1",
                }  # fmt: skip
                client.admin["system.version"].insert_one(identity)
                with pytest.raises(CollectionUnsuitable, match="is a shard of a cluster") as caught:
                    draft_run(store, THINGS, defaults=Defaults())
                assert_pointed(str(caught.value))
                assert findings(store)["shard"].level == "error"


def test_h39_a_router_is_refused() -> None:
    """By the answer that the manual gives for one: no router comes with the embedded server."""
    hello = {"isWritablePrimary": True, "msg": "isdbgrid", "ok": 1.0}
    with pytest.raises(DatabaseRefused, match="is a router of a sharded cluster") as caught:
        check_server("mongodb://host/", hello, [6, 0, 5, 0])
    assert_pointed(str(caught.value))
    check_server("mongodb://host/", {"isWritablePrimary": True, "setName": "rs", "ok": 1.0}, [6, 0, 5, 0])


def test_a_stand_alone_server_and_a_user_who_may_not_look() -> None:
    with stand_alone("--auth") as port:
        with MongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{port}/") as client:
            client.admin.command("createUser", "root", pwd="root", roles=["root"])  # noqa: S106
        with MongoClient[dict[str, Any]](f"mongodb://root:root@127.0.0.1:{port}/") as client:
            client.test.command("createUser", "app", pwd="app", roles=["readWrite"])  # noqa: S106
            client.test.things.insert_one({})
        with connected(f"mongodb://app:app@127.0.0.1:{port}/test", "test", SHORT) as store:
            found = findings(store)
            with pytest.raises(CollectionUnsuitable, match="stand-alone, and has no change streams"):
                draft_run(store, THINGS, defaults=Defaults(), follow=True)
        with connected(f"mongodb://root:root@127.0.0.1:{port}/", "test", SHORT) as store:
            allowed = findings(store)

    assert {name: each.level for name, each in found.items()} == {
        "change-streams": "unknown", "replica-set": "warning",
    }  # fmt: skip
    assert (
        "Whether change streams are open on it is not known: MongoDB does not answer that ("
        in found["change-streams"].reason
    )
    assert "clusterMonitor" in found["change-streams"].remedy
    assert set(allowed) == {"replica-set"}


def test_a_member_that_is_down_and_an_oplog_too_short_for_the_others() -> None:
    with ReplicaSet() as replicas, connected(replicas.uri, "test", SHORT) as store:
        store.client.test.things.insert_one({})
        assert "members" not in findings(store)
        assert findings(store, documents=10**7)["oplog"].level == "warning"
        dead = replicas.secondaries()[0]
        dead.kill()

        def seen() -> Finding | None:
            try:
                return findings(store).get("members")
            except PyMongoError:
                return None

        it = until(seen)
    assert (it.level, (it.detail or {})["down"]) == ("warning", [f"127.0.0.1:{dead.port}"])
