"""Connects to a MongoDB deployment, and opens the ledger and the collections in it."""

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pymongo
from pymongo import MongoClient
from pymongo.errors import (
    InvalidName,
)

from whimbrel.domain.bson.uuids import UNSPECIFIED
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.preflight_findings import Finding
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.run import Run, for_run
from whimbrel.errors import (
    Refused,
    SettingsInvalid,
    Systemic,
    TooSlow,
)
from whimbrel.masking import masked_address
from whimbrel.mongo.client_options import connecting, reduced, to_member, uuids_of
from whimbrel.mongo.collection_identity import identity_of
from whimbrel.mongo.connection_errors import check_server, explained_connection_errors, explained_refusals
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger import mongo_ledger
from whimbrel.ports.health import Watching
from whimbrel.ports.store import ClientOptions, Identity, Server

if TYPE_CHECKING:  # imported where they are needed: commands that only read need none of them
    from whimbrel.mongo.changes import MongoChanges
    from whimbrel.mongo.documents import MongoDocuments
    from whimbrel.mongo.health_reader import MongoHealthReader
    from whimbrel.mongo.rehearsal import MongoRehearsal
    from whimbrel.mongo.survey import MongoSurvey
    from whimbrel.ports import Ahead, Ledger

LARGEST_SLICE = 5000  # documents
METADATA_MS = 2000  # milliseconds that asking for a collection's metadata may take
SRV = "mongodb+srv://"


class MongoSession:
    """Implements `whimbrel.ports.Session`."""

    def __init__(self, client: MongoClient[Any], times: Times) -> None:
        self._session = client.start_session(causal_consistency=False)
        self._times = times
        self._opened: dict[str, MongoDocuments] = {}

    @property
    def lsid(self) -> bytes:
        return bytes(self._session.session_id["id"])

    def documents(self, run: Run) -> "MongoDocuments":
        from whimbrel.mongo.documents import MongoDocuments  # noqa: PLC0415

        if run.id not in self._opened:
            self._opened = {
                run.id: MongoDocuments(
                    self._session,
                    run.database,
                    run.collection,
                    statement_seconds=self._times.statement,
                    fence_seconds=self._times.lease + self._times.grace,
                    uuid=run.collection_uuid,
                    collated=run.collated,
                )
            }
        return self._opened[run.id]


class MongoStore:
    """Implements `whimbrel.ports.Store`."""

    def __init__(
        self,
        client: MongoClient[Any],
        database: str,
        times: Times,
        *,
        replica_set: bool,
        where: str,
        uuids: str = UNSPECIFIED,
        uri: str = "",
        watching: Watching | None = None,
    ) -> None:
        self.client, self.database, self.replica_set = client, database, replica_set
        self.uuids, self.watching = uuids, watching
        self._uri = uri
        self._times, self._where = times, where
        self._prepared = False
        try:
            ledger, self._format, self._create_indexes = mongo_ledger(
                client, database, times, replica_set=replica_set, prepare=self.prepare
            )
            self.ledger: Ledger = ledger
        except InvalidName as error:
            raise SettingsInvalid(
                f"MONGODB_DB_NAME={database!r} cannot be the name of a database: {error}."
            ) from error

    def upgrade(self) -> None:
        """Upgrades a ledger of an earlier format; writes nothing where there is none. Raises LedgerFormat, DatabaseRefused."""
        with explained_refusals(self._where, self.database):
            self._format.upgrade(f"upgrade by {secrets.token_hex(4)}", self.prepare)

    def prepare(self) -> None:
        if self._prepared:
            return
        with explained_refusals(self._where, self.database):
            self._create_indexes()
        self._prepared = True

    def session(self) -> MongoSession:
        return MongoSession(self.client, self._times)

    def health_reader(self) -> "MongoHealthReader":
        from whimbrel.mongo.health_reader import MongoHealthReader  # noqa: PLC0415

        ignored = self.watching.ignored_members if self.watching is not None else frozenset()
        return MongoHealthReader(
            self.client, self.database, partial(to_member, self._uri), replica_set=self.replica_set, ignored=ignored
        )  # fmt: skip

    def changes(self, run: Run, position: bytes | None = None) -> "MongoChanges":
        from whimbrel.mongo.changes import MongoChanges  # noqa: PLC0415

        return MongoChanges(self.client[run.database][run.collection], run, position)

    def rehearsal(self, run: Run) -> "MongoRehearsal":
        from whimbrel.mongo.rehearsal import MongoRehearsal  # noqa: PLC0415

        return MongoRehearsal(
            self.client, run.database, run.collection, seconds=self._times.statement, slice_=min(run.batch_size, LARGEST_SLICE)
        )  # fmt: skip

    def ping(self) -> None:
        with translated():
            self.client.admin.command("ping")

    def server(self, seconds: float) -> Server:
        with translated(), pymongo.timeout(seconds):
            hello = self.client.admin.command("hello")
            version = str(self.client.server_info()["version"])
            host, port = self.client.address or ("", 0)
        return Server(host, port, hello.get("setName"), hello.get("primary"), version)

    def within(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        return pymongo.timeout(seconds)

    @property
    def options(self) -> ClientOptions:
        client_options = self.client.options
        pool = client_options.pool_options
        size = int(pool.max_pool_size) or None  # 0: without a limit
        return ClientOptions(
            pool.appname, self.client.read_preference.name, dict(self.client.write_concern.document),
            client_options.retry_writes, client_options.direct_connection, size, pool.connect_timeout,
            client_options.server_selection_timeout,
        )  # fmt: skip

    def ledger_collections(self) -> list[str]:
        with translated():
            names = self.client[self.database].list_collection_names(
                filter={"name": {"$regex": "^whimbrel_"}}
            )
        return sorted(names)

    def survey(self, run: Run) -> "MongoSurvey":
        return self.survey_of(run.database, run.collection, min(run.batch_size, LARGEST_SLICE))

    def survey_of(self, database: str, collection: str, size: int = LARGEST_SLICE) -> "MongoSurvey":
        from whimbrel.mongo.survey import LONGER, MongoSurvey  # noqa: PLC0415

        limit = int(LONGER * self._times.statement * 1000)
        return MongoSurvey(self.client[database][collection], None, milliseconds=limit, slice_=size)

    def identity(self, database: str, collection: str) -> Identity:
        return identity_of(self.client[database], collection)

    def estimate(self, database: str, collection: str) -> int:
        with translated():
            return self.client[database][collection].estimated_document_count()

    def document_bytes(self, database: str, collection: str) -> int:
        statistics: Sequence[Any] = [
            {"$collStats": {"storageStats": {}}},
            {"$project": {"mean": "$storageStats.avgObjSize"}},
        ]
        try:
            with translated():
                row: Any = next(
                    iter(self.client[database][collection].aggregate(statistics, maxTimeMS=METADATA_MS)), {}
                )
        except (
            TooSlow,
            Refused,
            Systemic,
        ):  # it is not there, or the user may not ask: statements are sized by their time alone
            return 0
        return int(row.get("mean") or 0)

    def errors(self, run: Run, definition: Definition) -> list[Finding]:
        from whimbrel.mongo import preflight  # noqa: PLC0415

        return preflight.errors(self.client, run, for_run(definition, run))

    def warnings(self, run: Run, definition: Definition, ahead: "Ahead") -> list[Finding]:
        from whimbrel.mongo import preflight  # noqa: PLC0415

        return preflight.warnings(
            self.client, run, for_run(definition, run), ahead, replica_set=self.replica_set
        )


@contextlib.contextmanager
def connected(
    uri: str,
    database: str,
    times: Times,
    *,
    seconds: float = 10.0,
    worker: str | None = None,
    watching: Watching | None = None,
) -> Iterator[MongoStore]:
    """Connects, checks the server, and upgrades an older ledger.

    `worker`: the name of this worker process. `watching`: how this process watches the deployment's health; None: it does not.

    Raises DatabaseUnreachable when nothing answers within `seconds`, or only a member that takes no writes, DatabaseRefused when the server
    cannot be used: credentials, permissions, a version before 6.0, a router of a sharded cluster.
    """
    check_uri(uri)
    client = connecting(uri, seconds, worker)
    try:
        with explained_connection_errors(uri, seconds):
            hello = client.admin.command("hello")
            version = client.server_info()["versionArray"]
            check_server(uri, hello, version)
            if "setName" not in hello:
                client.close()
                # A stand-alone server has no transaction numbers.
                client = connecting(uri, seconds, worker, retryWrites=False)
            store = MongoStore(
                client,
                database,
                times,
                replica_set="setName" in hello,
                where=masked_address(uri),
                uuids=uuids_of(uri),
                uri=uri,
                watching=watching,
            )
            store.upgrade()
        yield store
    finally:
        client.close()


def check_uri(uri: str) -> None:
    """Raises SettingsInvalid for an address that cannot be read, whether a server is there or not."""
    uuids_of(uri)
    if not reduced(uri).startswith(SRV):  # an srv address is complete only with what DNS says
        connecting(uri, 1.0, connect=False).close()
