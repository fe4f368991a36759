"""What is looked at before a run starts: whether this collection can be migrated in this way at all."""

from collections.abc import Mapping
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection

from whimbrel.domain.marks import MARK_ROOT, Mark, Marker
from whimbrel.domain.migration import Definition
from whimbrel.domain.raw import DOCUMENT_OPTIONS, Key, keys_under, split
from whimbrel.errors import CollectionUnsuitable, DefinitionInvalid, FilterRefused, Refused, TooSlow
from whimbrel.mongo.errors import sentence, translated

LOOK = 2000  # milliseconds that one look at the documents may take


def check_collection(client: MongoClient[Any], database: str, it: Definition, query: dict[str, Any]) -> None:
    """Raise, with the reason and what to do, where the run could not keep its promises on this collection.

    `query` is the run's filter as it will be used. Raises CollectionUnsuitable, FilterRefused, DefinitionInvalid.
    """
    collection = client[database].get_collection(it.collection, codec_options=DOCUMENT_OPTIONS)
    with translated():
        found = next(iter(client[database].list_collections(filter={"name": it.collection})), None)
    _check_kind(it.collection, database, found)
    options: Mapping[str, Any] = (found or {}).get("options", {})
    _check_filter(collection, query)
    if it.update is not None:
        _check_update(collection, it)
    _check_collation(collection, options)
    enforced = options.get("validationLevel") != "off" and options.get("validationAction") != "warn"
    _check_mark(collection, it.marking, options.get("validator") if enforced else None, query)


def _check_kind(name: str, database: str, found: Mapping[str, Any] | None) -> None:
    if found is None:
        raise CollectionUnsuitable(
            f"There is no collection {name!r} in the database {database!r}. Check the migration's collection and MONGODB_DB_NAME."
        )
    options = found.get("options", {})
    if found["type"] == "view":
        raise CollectionUnsuitable(
            f"{database}.{name} is a view of {options.get('viewOn')!r}. Migrate that collection instead."
        )
    if found["type"] == "timeseries":
        raise CollectionUnsuitable(
            f"{database}.{name} is a time-series collection, whose documents cannot be updated one by one."
        )
    if options.get("capped"):
        raise CollectionUnsuitable(
            f"{database}.{name} is capped: its documents cannot grow, so they cannot be marked."
        )
    if options.get("encryptedFields"):
        raise CollectionUnsuitable(
            f"{database}.{name} has encrypted fields, which only their client can change."
        )


def _check_filter(collection: Collection[Any], query: dict[str, Any]) -> None:
    """Ask MongoDB whether it understands the filter, without running it."""
    try:
        with translated():
            collection.database.command(
                "explain",
                {"find": collection.name, "filter": query},
                verbosity="queryPlanner",
                codec_options=DOCUMENT_OPTIONS,
            )
    except Refused as error:
        raise FilterRefused(f"MongoDB does not understand the filter: {sentence(error)}.") from error


def _check_update(collection: Collection[Any], it: Definition) -> None:
    update = it.update
    variables = {"run": "", "batch": "", "phase": "", "claimed_at": None}
    statement = {"q": {"_id": None}, "u": update, "multi": True}
    command = {"update": collection.name, "updates": [statement], "let": variables}
    try:
        with translated():
            collection.database.command(
                "explain", command, verbosity="queryPlanner", codec_options=DOCUMENT_OPTIONS
            )
    except Refused as error:
        raise DefinitionInvalid(
            f"MongoDB does not understand the update of migration {it.name!r}: {sentence(error)}"
        ) from error


def _check_collation(collection: Collection[Any], options: Mapping[str, Any]) -> None:
    """Guarded statements compare by the simple collation, which cannot use an index of another one (hole H31)."""
    locale = options.get("collation", {}).get("locale", "simple")
    if locale != "simple" and _glance(collection, {"_id": {"$type": ["string", "object", "symbol"]}}):
        raise CollectionUnsuitable(
            f"{collection.full_name} has the collation {locale!r} and text in _id. Its documents cannot be found by _id in a byte-exact comparison."
        )


def _check_mark(
    collection: Collection[Any], mark: Mark, validator: Mapping[str, Any] | None, query: dict[str, Any]
) -> None:
    if isinstance(mark, Marker):
        kind = {"$type": f"${MARK_ROOT}"}
        taken = _glance(collection, {"$expr": {"$not": [{"$in": [kind, ["missing", "object"]]}]}})
        if taken is not None:
            raise CollectionUnsuitable(
                f"{collection.full_name} uses the field {MARK_ROOT!r} itself (document {taken.value!r}). Choose mark='status' or mark='filter'."
            )
    if validator:
        _check_validator(collection, mark, validator, query)


def _check_validator(
    collection: Collection[Any], mark: Mark, validator: Mapping[str, Any], query: dict[str, Any]
) -> None:
    """Try the validator on one valid document with the mark added (hole H20)."""
    valid = _glance(collection, {"$and": [query, validator]} if query else dict(validator))
    if valid is None or not mark.path:
        return
    trial: list[Mapping[str, Any]] = [
        {"$match": {"_id": keys_under("$in", [valid])}},
        {"$set": mark.expression("trial.0")},
        {"$match": validator},
        {"$project": {"_id": 0, "accepted": {"$literal": True}}},
    ]
    with translated():
        accepted = next(iter(collection.aggregate(trial)), None)
    if accepted is None:
        raise CollectionUnsuitable(
            f"The validator of {collection.full_name} does not allow the field that marks a document as done ({mark.path!r}). "
            "Allow it in the validator, or choose another mark."
        )


def _glance(collection: Collection[Any], query: dict[str, Any]) -> Key | None:
    """A document that satisfies a query, if one turns up in bounded time."""
    try:
        with translated():
            found = collection.find_raw_batches(query, {"_id": 1}, limit=1, max_time_ms=LOOK)
            return next((Key(each) for batch in found for each in split(bytes(batch))), None)
    except TooSlow:
        return None
