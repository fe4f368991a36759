"""What is taken from an address of MongoDB, and what is not."""

import pytest
from pymongo import common

from whimbrel.errors import SettingsInvalid
from whimbrel.mongo.client_options import OWN, REFUSED, TAKEN, connecting, member_address, reduced, uuids_of
from whimbrel.mongo.store import check_uri
from whimbrel.mongo.unanswered_statements import app_name


def test_every_option_that_the_driver_knows_is_decided_upon() -> None:
    """A newer driver may bring more: decide on each."""
    known = {*common.URI_OPTIONS_VALIDATOR_MAP, *common.NONSPEC_OPTIONS_VALIDATOR_MAP}
    assert known - (TAKEN | OWN | REFUSED.keys()) == set()
    assert not TAKEN & OWN


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("mongodb://one/", "mongodb://one/"),
        ("mongodb://one", "mongodb://one"),
        ("mongodb://one/?w=0", "mongodb://one/"),
        ("mongodb://u:p%3F@one,two:2/db?w=1&replicaSet=rs&READPREFERENCE=secondary", "mongodb://u:p%3F@one,two:2/db?replicaSet=rs"),
        ("mongodb://one/?tls=true;journal=false;authSource=admin", "mongodb://one/?tls=true;authSource=admin"),
        ("mongodb://one/?readPreferenceTags=a:b&readPreferenceTags=&compressors=zlib", "mongodb://one/?compressors=zlib"),
        ("mongodb://one?socketTimeoutMS=100&streamType=netty", "mongodb://one?streamType=netty"),
        ("mongodb+srv://u@one/db?retryWrites=false&appName=theirs", "mongodb+srv://u@one/db"),
        ("mongodb://one/?loadBalanced=false&uuidRepresentation=standard", "mongodb://one/"),
    ],
)  # fmt: skip
def test_what_is_left_of_an_address(given: str, taken: str) -> None:
    assert reduced(given) == taken


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mongodb://one/?loadBalanced=true", "routers of a sharded cluster"),
        ("mongodb://one/?uuidRepresentation=modern", "none of unspecified, standard, pythonLegacy"),
        ("mongodb://one/?server_api=1", "cannot stand in an address"),
        ("http://one/", "begins with none of"),
        ("mongodb://one,two/?directConnection=true", "directConnection"),
        ("mongodb+srv://one.example.com/?loadBalanced=true", "routers of a sharded cluster"),
    ],
)
def test_an_address_that_cannot_be_used_says_why(uri: str, said: str) -> None:
    with pytest.raises(SettingsInvalid, match=said):
        check_uri(uri)


@pytest.mark.parametrize("value", ["w=banana", "maxPoolSize=-1", "socketTimeoutMS=x", "minPoolSize=500"])
def test_nonsense_in_an_option_that_is_not_taken_does_no_harm(value: str) -> None:
    check_uri(f"mongodb://one/?{value}")


def test_the_client_has_our_preferences_whatever_the_address_says() -> None:
    uri = "mongodb://one/?readPreference=nearest&readConcernLevel=available&w=0&journal=false&retryWrites=false&timeoutMS=9"
    uri += "&tz_aware=true&uuidRepresentation=javaLegacy&maxPoolSize=1&socketTimeoutMS=1&appName=theirs&maxIdleTimeMS=7000"
    with connecting(uri, 3.0, connect=False) as client:
        options = client.options
        assert (client.read_preference.name, client.write_concern.document) == (
            "Primary",
            {"w": "majority", "j": True},
        )
        assert client.read_concern.document == {}
        assert (options.retry_writes, options.retry_reads, options.timeout) == (True, True, None)
        assert (options.server_selection_timeout, options.pool_options.socket_timeout) == (3.0, None)
        assert (options.pool_options.max_pool_size, options.pool_options.appname) == (100, "whimbrel")
        assert options.pool_options.max_idle_time_seconds == 7.0
        assert client.codec_options.tz_aware is False
    assert uuids_of(uri) == "javaLegacy"


def test_names_of_workers_fit_and_differ() -> None:
    longest = "h" * 200
    one, two = app_name(f"{longest}:1:aa"), app_name(f"{longest}:1:ab")
    assert one != two
    assert max(len(one), len(two)) == 128
    assert app_name("host:1:aa") == "whimbrel host:1:aa"


@pytest.mark.parametrize(
    ("given", "member"),
    [
        ("mongodb://u:secret@one,two/db?replicaSet=rs&authSource=admin", "mongodb://host:1/?directConnection=true"),
        ("mongodb://one/?TLS=true&tlsCAFile=/ca.pem&w=1", "mongodb://host:1/?TLS=true&tlsCAFile=/ca.pem&directConnection=true"),
        ("mongodb+srv://u:secret@cluster.example/db", "mongodb://host:1/?tls=true&directConnection=true"),
        ("mongodb+srv://u:secret@cluster.example/?ssl=false", "mongodb://host:1/?ssl=false&directConnection=true"),
    ],
)  # fmt: skip
def test_a_member_is_asked_with_the_options_of_tls_and_without_the_user(given: str, member: str) -> None:
    assert member_address(given, "host:1") == member
