"""Answers whether MongoDB is there, what it is, and how many documents are in which state."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment, System, ThisSystem
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.databases import (
    DatabaseHealth,
    DatabaseInfo,
    DatabasePing,
    DatabaseStatus,
    DocumentCount,
    DriverOptions,
)
from whimbrel.api.models.envelope import failures
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.migrations.definition import Definition
from whimbrel.errors import TooSlow, WhimbrelError
from whimbrel.ports.store import Server
from whimbrel.samples.migration import SOME_MODEL

router = APIRouter(prefix="/db", tags=["database"])

ANSWERING = 3.0  # seconds that MongoDB has to answer
LONGEST = 30.0  # seconds that an exact count may take
STAND_ALONE = "This server is stand-alone: what it acknowledged is on one machine only, and a write that the network broke off is not sent again by the driver. A replica set, even of one member, does both."
QUICKLY = 1.0  # seconds after which an estimate is sampled instead of counted

Migration = Annotated[
    str,
    Query(
        max_length=200,
        description="name of the migration whose collection is counted",
        examples=["some-model"],
    ),
]
Exact = Annotated[
    bool,
    Query(
        description="false: the fast estimate. /db/count then takes the collection's metadata; the others count for at most one "
        "second, which an index on the filter and the mark makes likely to do, and otherwise look at 1,000 random documents."
    ),
]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What to count: documents that match, or all others."""

    query: dict[str, Any]
    words: str
    others: bool = False


def everything(definition: Definition) -> Meaning:
    return Meaning({}, f"all documents of {definition.collection}")


def pending(definition: Definition) -> Meaning:
    """Returns what a run of the migration would begin with."""
    parts = [part for part in (definition.filter, definition.marking.unmarked("pending")) if part]
    query = {"$and": parts} if len(parts) > 1 else parts[0] if parts else {}
    words = {
        "status": f"the status field {definition.status_field!r} is 'pending'",
        "marker": f"the mark {definition.marking.path} is absent",
        "filter": "the migration's filter is true",
    }[definition.mark]
    return Meaning(
        query,
        words + (", and the filter is true" if definition.filter and definition.mark != "filter" else ""),
    )


def succeeded(definition: Definition) -> Meaning:
    """Returns what the migration has done, whatever its filter selects since."""
    if definition.mark == "status":
        return Meaning(
            {definition.status_field: "success"}, f"the status field {definition.status_field!r} is 'success'"
        )
    if definition.mark == "marker":
        path = str(definition.marking.path)
        query = {path: {"$exists": True, "$not": {"$regex": "/[fc]$"}}}
        return Meaning(query, f"the mark {path} is there: changed, found right, or skipped by the function")
    words = "all documents but those for which the filter is true: this mark leaves no trace on documents, also those that were never of concern are in it"
    return Meaning(definition.filter, words, others=True)


def _server(system: System) -> Server | str:
    """Returns the server that answers, or why none does."""
    if not system.ready:
        return system.reason
    try:
        return system.deployment.store.server(ANSWERING)
    except WhimbrelError as error:
        return system.why(error)


@router.get("/health", responses={503: {"model": DatabaseHealth, "description": "MongoDB does not answer"}})
def health(system: ThisSystem, response: Response) -> DatabaseHealth:
    """Whether MongoDB answers now. Needs no token, as /health does not."""
    server = _server(system)
    if isinstance(server, str):
        response.status_code = 503
        return DatabaseHealth(connection="disconnected", detail=server)
    return DatabaseHealth(connection="connected", detail=system.deployment.address)


@router.get("/status", responses=failures())
def status(system: ThisSystem, _: Reader) -> DatabaseStatus:
    """What answers. Without an answer of MongoDB, this one says so: `isConnected` is false."""
    server = _server(system)
    name = system.settings.database
    if isinstance(server, str):
        return DatabaseStatus(
            is_connected=False, host=None, port=None, name=name, replica_set=None, primary=None, version=None, reason=server, note=None
        )  # fmt: skip
    return DatabaseStatus(
        is_connected=True, host=server.host, port=server.port, name=name, replica_set=server.replica_set,
        primary=server.primary, version=server.version, reason=None,
        note=None if server.replica_set else STAND_ALONE,
    )  # fmt: skip


@router.get("/info", responses=failures())
def info(system: ThisSystem, deployment: Deployment, _: Reader) -> DatabaseInfo:
    """The configuration, its secrets masked."""
    options = deployment.store.options
    connecting = options.connect_seconds
    return DatabaseInfo(
        uri=deployment.address, name=deployment.store.database, embedded=not system.settings.mongodb_uri,
        ledger=deployment.store.ledger_collections(), sample_collection=SOME_MODEL.definition.collection,
        options=DriverOptions(
            app_name=options.app_name, read_preference=options.read_preference, write_concern=options.write_concern,
            retry_writes=options.retry_writes, direct_connection=options.direct, max_pool_size=options.pool_size,
            connect_timeout_ms=None if connecting is None else int(connecting * 1000),
            server_selection_timeout_ms=int(options.selection_seconds * 1000),
        ),
    )  # fmt: skip


@router.get("/ping", responses=failures())
def ping(deployment: Deployment, _: Reader) -> DatabasePing:
    """One round trip to MongoDB."""
    began = time.perf_counter()
    deployment.store.ping()
    return DatabasePing(response_time_ms=round((time.perf_counter() - began) * 1000, 3))


@router.get("/count", responses=failures(404, 422))
def count(
    system: ThisSystem, _: Reader, migration: Migration = SOME_MODEL.name, exact: Exact = True
) -> DocumentCount:
    """All documents of a migration's collection."""
    return _count(system, migration, everything, exact=exact)


@router.get("/pending-count", responses=failures(404, 422))
def pending_count(
    system: ThisSystem, _: Reader, migration: Migration = SOME_MODEL.name, exact: Exact = True
) -> DocumentCount:
    """Documents that a migration has yet to do, by its own kind of mark; `meaning` says what that is."""
    return _count(system, migration, pending, exact=exact)


@router.get("/success-count", responses=failures(404, 422))
def success_count(
    system: ThisSystem, _: Reader, migration: Migration = SOME_MODEL.name, exact: Exact = True
) -> DocumentCount:
    """Documents that a migration has done, by its own kind of mark; `meaning` says what that is."""
    return _count(system, migration, succeeded, exact=exact)


def _count(
    system: System, name: str, meaning: Callable[[Definition], Meaning], *, exact: bool
) -> DocumentCount:
    definition = choose(system.loaded, name)
    what_to_count = meaning(definition)
    database = definition.database or system.deployment.store.database
    number, method = (_exactly if exact else _estimated)(
        system, database, definition.collection, what_to_count
    )
    return DocumentCount(
        count=number, exact=method == "counted", method=method, meaning=what_to_count.words, migration=definition.name,
        collection=f"{database}.{definition.collection}",
    )  # fmt: skip


CountAndMethod = tuple[int, Literal["counted", "metadata", "sampled"]]


def _exactly(system: System, database: str, collection: str, what: Meaning) -> CountAndMethod:
    number = _count_within(system, database, collection, what, LONGEST)
    if number is None:
        raise ApiError(
            503,
            "too_slow",
            f"Counting {database}.{collection} takes longer than {LONGEST:g} s. Ask with exact=false, or make an index that serves the query.",
        )
    return number, "counted"


def _estimated(system: System, database: str, collection: str, what: Meaning) -> CountAndMethod:
    store = system.deployment.store
    if not what.query:
        return store.estimate(database, collection), "metadata"
    number = _count_within(system, database, collection, what, QUICKLY)
    if number is not None:
        return number, "counted"
    try:
        share = store.survey_of(database, collection).share(what.query)
    except TooSlow as error:
        raise ApiError(
            503,
            "too_slow",
            f"Not even a random sample of {database}.{collection} was read in time: try again later.",
        ) from error
    return round(store.estimate(database, collection) * (1 - share if what.others else share)), "sampled"


def _count_within(
    system: System, database: str, collection: str, what: Meaning, seconds: float
) -> int | None:
    """Counts documents; None where that takes longer than `seconds`, both counts together if all others are wanted."""
    survey, end = system.deployment.store.survey_of(database, collection), time.monotonic() + seconds
    matching = survey.count(what.query, seconds)
    if matching is None or not what.others:
        return matching
    total = survey.count({}, max(0.0, end - time.monotonic()))
    return None if total is None else max(0, total - matching)
