"""Models of MongoDB in the API."""

from typing import Any, Literal

from pydantic import Field

from whimbrel.api.models.envelope import Answer, Model


class DatabaseHealth(Answer):
    """Whether MongoDB answers."""

    connection: Literal["connected", "disconnected"] = Field(
        description="whether MongoDB answers now", examples=["connected"]
    )
    detail: str = Field(
        description="the address that answers, its secrets masked; or why nothing does",
        examples=["mongodb://app:***@db.example.com:27017/"],
    )


class DatabaseStatus(Answer):
    """What answers."""

    is_connected: bool = Field(description="whether MongoDB answers now", examples=[True])
    host: str | None = Field(description="of the server that takes writes", examples=["127.0.0.1"])
    port: int | None = Field(description="of the server that takes writes", examples=[27017])
    name: str = Field(description="the database", examples=["whimbrel"])
    replica_set: str | None = Field(
        description="its name; null for a stand-alone server", examples=["whimbrel"]
    )
    primary: str | None = Field(
        description="address of the replica set's primary", examples=["127.0.0.1:27017"]
    )
    version: str | None = Field(description="of MongoDB", examples=["6.0.5"])
    reason: str | None = Field(description="why it is not connected", examples=[None])
    note: str | None = Field(
        description="what such a server cannot do: of a stand-alone one; null of a replica set",
        examples=[None],
    )


class DriverOptions(Model):
    """How the driver is set up."""

    app_name: str | None = Field(description="what the server's log calls us", examples=["whimbrel"])
    read_preference: str = Field(description="of the connection", examples=["Primary"])
    write_concern: dict[str, Any] = Field(
        description="of the connection; the ledger's own is majority, journaled", examples=[{}]
    )
    retry_writes: bool = Field(description="whether the driver sends a lost write once more", examples=[True])
    direct_connection: bool | None = Field(
        description="whether only one server is spoken to", examples=[True]
    )
    max_pool_size: int | None = Field(description="connections; null: without a limit", examples=[100])
    connect_timeout_ms: int | None = Field(description="for a connection", examples=[10000])
    server_selection_timeout_ms: int = Field(description="for a server to be found", examples=[10000])


class DatabaseInfo(Answer):
    """The configuration of the connection."""

    uri: str = Field(
        description="the address, its secrets masked", examples=["mongodb://app:***@db.example.com:27017/"]
    )
    name: str = Field(description="the database, of MONGODB_DB_NAME", examples=["whimbrel"])
    embedded: bool = Field(
        description="whether Whimbrel runs this MongoDB itself, because MONGODB_URI is not set",
        examples=[False],
    )
    ledger: list[str] = Field(
        description="collections of the ledger that are there",
        examples=[["whimbrel_batches", "whimbrel_runs"]],
    )
    sample_collection: str = Field(description="where /seed puts sample documents", examples=["somemodels"])
    options: DriverOptions = Field(description="how the driver is set up")


class DatabasePing(Answer):
    """How long one round trip took."""

    response_time_ms: float = Field(description="milliseconds of one round trip", examples=[0.8])


class DocumentCount(Answer):
    """How many documents there are, and how that is known."""

    count: int = Field(description="documents", examples=[1000])
    exact: bool = Field(description="whether they were counted", examples=[True])
    method: Literal["counted", "metadata", "sampled"] = Field(
        description="counted; or from the collection's metadata; or from 1,000 random documents, which miss what is rare",
        examples=["counted"],
    )
    meaning: str = Field(
        description="what was counted: each kind of mark has its own meaning of it",
        examples=["the status field 'status' is 'pending'"],
    )
    migration: str = Field(description="name of the migration", examples=["some-model"])
    collection: str = Field(description="database and collection", examples=["whimbrel.somemodels"])
