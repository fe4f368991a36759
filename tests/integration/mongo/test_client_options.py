"""Whatever the address of MongoDB says, a run is right: our options are ours."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from bson.binary import Binary, UuidRepresentation
from pymongo import MongoClient
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from tests.servers.replicas import ReplicaSet
from whimbrel import Migration
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.start import draft_run
from whimbrel.engine.rehearsing.dry_run import dry_run
from whimbrel.errors import DatabaseUnreachable
from whimbrel.mongo.store import MongoStore, connected
from whimbrel.testing import check_migration
from whimbrel.workers.definition_catalog import describe
from whimbrel.workers.function_caller import callers
from whimbrel.workers.migration_loader import load

Docs = Database[dict[str, Any]]
HOSTILE = [
    "readPreference=secondaryPreferred&maxStalenessSeconds=90&readPreferenceTags=dc:nowhere",
    "readConcernLevel=linearizable&w=0&journal=false&wTimeoutMS=1",
    "retryWrites=false&retryReads=false&maxPoolSize=1&minPoolSize=50&waitQueueTimeoutMS=1&maxConnecting=1",
    "socketTimeoutMS=1&timeoutMS=1&serverSelectionTimeoutMS=1&connectTimeoutMS=1&heartbeatFrequencyMS=500000",
    "tz_aware=true&datetime_conversion=datetime_ms&unicode_decode_error_handler=ignore&appName=theirs&compressors=zlib",
]


@contextmanager
def at(uri: str, options: str, database: Docs) -> Iterator[MongoStore]:
    with connected(f"{uri}{'&' if '?' in uri else '?'}{options}", database.name, SHORT) as found:
        yield found


@pytest.mark.parametrize("options", HOSTILE)
def test_a_run_is_right_whatever_the_address_says(mongo_uri: str, database: Docs, options: str) -> None:
    database["things"].insert_many([{"_id": number, "n": 0} for number in range(1200)])
    both = [
        Migration(name="by-update", collection="things", update={"$inc": {"n": 1}}),
        Migration(name="by-function", collection="things", transform=lambda it: {"$set": {"n": it["n"] + 1}}),
    ]
    with at(mongo_uri, options, database) as store:
        for it in both:
            found = migrate(store, it)
            assert (found.run.status, found.counts) == (RunStatus.COMPLETED, Counts(changed=1200))
    assert database["things"].count_documents({"n": 2}) == 1200


def test_a_secondary_that_lags_is_not_asked() -> None:
    """Each of the two is asked sometimes, where reads go to secondaries."""
    with ReplicaSet(enableTestCommands=1) as replicas:
        uri = f"{replicas.uri}&readPreference=secondaryPreferred&localThresholdMS=1000"
        behind = replicas.secondaries()[0]
        with connected(uri, "lagging", SHORT) as store, MongoClient[dict[str, Any]](replicas.uri) as client:
            client["lagging"]["things"].insert_many([{"_id": number, "n": 0} for number in range(2000)])
            it = Migration(name="lagging", collection="things", transform=lambda _: {"$inc": {"n": 1}})
            with behind.client() as direct:
                direct.admin.command("configureFailPoint", "stopReplProducer", mode="alwaysOn")
            shown = [0]
            with system(store, [it]):
                run = start(store, it)
                while (found := until(store, run, *RunStatus)).run.status is not RunStatus.COMPLETED:
                    assert found.run.status in (RunStatus.QUEUED, RunStatus.RUNNING), found
                    shown.append(found.counts.changed)
            assert shown == sorted(shown)
            assert until(store, run).counts == Counts(changed=2000)
            assert client["lagging"]["things"].count_documents({"n": 1}) == 2000
            with pytest.raises(DatabaseUnreachable, match="takes no writes; the primary is"):
                connected(behind.uri, "lagging", SHORT).__enter__()


# UUIDs, which are the user's documents

LEGACY = {
    "standard": UuidRepresentation.STANDARD, "pythonLegacy": UuidRepresentation.PYTHON_LEGACY,
    "javaLegacy": UuidRepresentation.JAVA_LEGACY, "csharpLegacy": UuidRepresentation.CSHARP_LEGACY,
}  # fmt: skip
OWNER, NEW = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"), uuid.UUID(int=7)


def told(it: dict[str, Any]) -> dict[str, Any]:
    """A whole document comes back: with what was read, its text, and another UUID, nested too."""
    return {**it, "kind": type(it["owner"]).__name__, "new": NEW, "more": {"list": [NEW, it["owner"]]}}


def piecewise(it: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"$set": {"kind": type(it["owner"]).__name__, "new": NEW, "more.list": [NEW, it["owner"]]}}]


def nested(it: dict[str, Any]) -> dict[str, Any]:
    return {"$set": {"kind": type(it["owner"]).__name__, "new": NEW, "more.list": [NEW, it["owner"]]}}


@pytest.mark.parametrize(
    ("transform", "representation"),
    [
        *((told, each) for each in ("unspecified", *LEGACY)),
        (piecewise, "unspecified"),
        (piecewise, "javaLegacy"),
        (nested, "unspecified"),
        (nested, "pythonLegacy"),
    ],
)
def test_uuids_reach_functions_and_are_stored_as_the_address_says(
    mongo_uri: str, database: Docs, transform: Any, representation: str
) -> None:
    stored_as = LEGACY.get(representation, UuidRepresentation.STANDARD)
    owner, new = Binary.from_uuid(OWNER, stored_as), Binary.from_uuid(NEW, stored_as)
    things = database["things"]
    things.insert_many([{"_id": Binary.from_uuid(uuid.UUID(int=n), stored_as), "owner": owner, "more": {}} for n in range(50)])  # fmt: skip
    it = Migration(name="uuids", collection="things", filter={"owner": OWNER}, transform=transform)
    with at(mongo_uri, f"uuidRepresentation={representation}", database) as store:
        found = migrate(store, it, filter_={"owner": {"$in": [OWNER]}})
    assert (found.run.status, found.counts) == (RunStatus.COMPLETED, Counts(changed=50))
    kind = "Binary" if representation == "unspecified" else "UUID"
    for each in things.find({}, {"_whimbrel": 0}):
        assert each["owner"] == owner
        assert (each["kind"], each["new"], each["more"]) == (kind, new, {"list": [new, owner]})
        assert each["owner"].subtype == each["new"].subtype == (3 if "Legacy" in representation else 4)


def test_uuids_of_another_kind_come_back_as_they_were(mongo_uri: str, database: Docs) -> None:
    """Without a representation a stored UUID is what it is, and so is one of another than the configured kind."""
    kinds = {name: Binary.from_uuid(OWNER, value) for name, value in LEGACY.items()}
    for number, options in enumerate(["uuidRepresentation=unspecified", "uuidRepresentation=standard"]):
        database["things"].insert_one({"_id": number, **kinds})
        it = Migration(
            name=f"kept-{number}", collection="things", filter={"_id": number}, transform=lambda it: {**it, "n": 1}
        )  # fmt: skip
        with at(mongo_uri, options, database) as store:
            assert migrate(store, it).counts == Counts(changed=1)
        found = database["things"].find_one({"_id": number, "n": 1}, {"_whimbrel": 0, "n": 0})
        assert found == {"_id": number, **kinds}


@pytest.mark.parametrize("representation", ["unspecified", "javaLegacy"])
def test_a_declarative_update_may_hold_uuids(mongo_uri: str, database: Docs, representation: str) -> None:
    stored_as = LEGACY.get(representation, UuidRepresentation.STANDARD)
    old, new = Binary.from_uuid(OWNER, stored_as), Binary.from_uuid(NEW, stored_as)
    database["things"].insert_many([{"_id": number, "owner": old} for number in range(50)])
    it = Migration(
        name="given", collection="things", filter={"owner": OWNER}, mark="filter", update={"$set": {"owner": NEW}}
    )  # fmt: skip
    with at(mongo_uri, f"uuidRepresentation={representation}", database) as store:
        assert migrate(store, it).counts == Counts(changed=50)
    assert database["things"].count_documents({"owner": new}) == 50


def test_the_dry_run_and_the_kit_see_uuids_as_a_run_does(
    mongo_uri: str, database: Docs, tmp_path: Any
) -> None:
    code = (
        "import uuid\nfrom whimbrel import migration\n\n"
        f"@migration(collection='things', filter={{'owner': {{'$in': [uuid.UUID('{OWNER}')]}}}})\ndef naming(it):\n"
        "    assert isinstance(it['owner'], uuid.UUID)\n    return {'$set': {'name': str(it['owner']), 'new': uuid.UUID(int=7)}}\n"
    )
    source = tmp_path / "naming.py"
    source.write_text(code)
    it = load(str(source))["naming"]
    assert describe(str(source))["naming"] == it.definition  # by way of a process, as text
    options = "uuidRepresentation=csharpLegacy"
    owner, new = (Binary.from_uuid(each, UuidRepresentation.CSHARP_LEGACY) for each in (OWNER, NEW))
    database["things"].insert_many([{"_id": number, "owner": owner} for number in range(5)])
    with at(mongo_uri, options, database) as store:
        run = draft_run(store, it.definition, defaults=DEFAULTS)
        shown = dry_run(store, it.definition, run, callers(str(source)), workers=1)
    assert not shown.failures
    assert len(shown.rehearsed) == 5
    for each in shown.rehearsed:
        assert each.changed is not None
        assert bytes(new) in each.changed
        assert str(OWNER).encode() in each.changed
    check_migration(it, [{"_id": 1, "owner": OWNER}], uri=f"{mongo_uri}&{options}")
