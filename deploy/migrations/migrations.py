"""An example to replace: the migrations that the workers serve. Other files beside it can be imported."""

from typing import Any

from whimbrel import SKIP, Migration, migration

cents = Migration(
    name="price-in-cents",
    collection="products",
    filter={"currency": "EUR"},
    update=[{"$set": {"cents": {"$multiply": ["$price", 100]}}}],
)


@migration(collection="people", filter={"name": {"$exists": True}})
def split_name(person: dict[str, Any]) -> Any:
    first, _, last = person["name"].partition(" ")
    if not last:
        return SKIP
    return {"$set": {"first": first, "last": last}, "$unset": {"name": ""}}
