"""Which database is meant: MONGODB_DB_NAME, else the one of the address, else `whimbrel`."""

import pytest

from whimbrel import Migration
from whimbrel.errors import DefinitionInvalid, SettingsInvalid
from whimbrel.settings import Settings

ADDRESSED = [
    ("mongodb://h/shop", "shop"),
    ("mongodb://h:27017/shop?replicaSet=rs0", "shop"),
    ("mongodb://u:p%2Fq@h1:1,h2:2/shop?authSource=admin", "shop"),
    ("mongodb://u:p@h/shop.orders", "shop"),  # a collection, as drivers read it
    ("mongodb://%2Ftmp%2Fmongodb-27017.sock/shop", "shop"),
    ("mongodb://h/s%68op", "shop"),
    ("mongodb+srv://cluster.example.org/shop?retryWrites=true", "shop"),
    ("mongodb+srv://u:p@cluster.example.org/shop", "shop"),
    ("mongodb://h", "whimbrel"),
    ("mongodb://h/", "whimbrel"),
    ("mongodb://h/?authSource=admin", "whimbrel"),
    ("mongodb://h?authSource=admin", "whimbrel"),
    ("mongodb+srv://cluster.example.org", "whimbrel"),
]


def settings(uri: str | None, name: str | None = None) -> Settings:
    return Settings(mongodb_uri=uri, mongodb_db_name=name)


@pytest.mark.parametrize(("uri", "database"), ADDRESSED)
def test_the_database_of_the_address_is_used(uri: str, database: str) -> None:
    assert settings(uri).database == database
    assert settings(uri).overruled == ""


@pytest.mark.parametrize("uri", [uri for uri, _ in ADDRESSED])
def test_a_name_of_its_own_wins_and_says_so_where_it_differs(uri: str) -> None:
    found = settings(uri, "crm")
    assert found.database == "crm"
    differs = settings(uri).database == "shop"
    assert bool(found.overruled) == differs
    if differs:
        assert "'shop'" in found.overruled
        assert "'crm' is used" in found.overruled
        assert "\n" not in found.overruled
    assert settings(uri, "shop").overruled == ""


def test_without_an_address_it_is_whimbrel() -> None:
    assert settings(None).database == "whimbrel"
    assert settings(None, "crm").database == "crm"


@pytest.mark.parametrize("name", ["admin", "local", "config", "Admin", "CONFIG"])
def test_what_is_mongodbs_own_is_refused(name: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"MONGODB_DB_NAME='{name}' is MongoDB's own"):
        _ = settings("mongodb://h/shop", name).database
    with pytest.raises(
        SettingsInvalid, match=f"The database '{name}' in MONGODB_URI is MongoDB's own.*authSource={name}"
    ):
        _ = settings(f"mongodb://h/{name}").database
    with pytest.raises(DefinitionInvalid, match=f"the database '{name}' is MongoDB's own"):
        Migration(name="m", collection="c", database=name, update={"$set": {"a": 1}})


def test_an_address_that_holds_the_users_may_name_admin() -> None:
    found = settings("mongodb://u:p@h/admin", "shop")
    assert (found.database, found.overruled) == ("shop", "")


@pytest.mark.parametrize("name", ["a b", "a/b", "a$b", 'a"b', "x" * 64, "ü" * 32])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(SettingsInvalid, match="cannot be the name of a database"):
        _ = settings("mongodb://h", name).database


@pytest.mark.parametrize("name", ["x" * 63, "ü" * 31])
def test_a_name_may_take_63_bytes(name: str) -> None:
    assert settings("mongodb://h", name).database == name
    assert Migration(name="m", collection="c", database=name, update={"$set": {"a": 1}})


@pytest.mark.parametrize("name", ["ü" * 32, "a\udcff"])
def test_what_cannot_be_a_name_is_refused_in_a_migration_too(name: str) -> None:
    with pytest.raises(DefinitionInvalid, match="cannot be the name of a database"):
        Migration(name="m", collection="c", database=name, update={"$set": {"a": 1}})
