"""No part of a password in anything that is said of an address, however it is written; and its hosts can still be read.

Passwords are made of letters that occur nowhere else: one such letter in what is said is a leak.
"""

import io
import json
import logging
import warnings
from urllib.parse import quote

import pytest
import structlog
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from whimbrel.brokers.rabbitmq.addresses import urls_of
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.text.mongodb_addresses import hosts_of
from whimbrel.domain.text.safe_text import exception_message, exception_traceback
from whimbrel.errors import SettingsInvalid
from whimbrel.logs import configure_logs
from whimbrel.masking import masked, masked_address
from whimbrel.mongo.store import check_uri
from whimbrel.settings import Settings

LETTERS = "XJ"
SIGNS = "@:/?#%[]&;=+,.<>~!"
BLANKS = " \t'\""
MONGODB = st.sampled_from(["mongodb", "mongodb+srv", "MONGODB", "MongoDB+SRV", "mongod"])
AMQP = st.sampled_from(["amqp", "amqps", "AMQP", "Amqps"])
HOST = st.sampled_from(
    ["alpha.example.com", "10.0.0.7:27017", "[2001:db8::1]:27017", "beta-1:5672", "%2Ftmp%2Fm.sock"]
)
PATH = st.sampled_from(
    [
        "",
        "/",
        "/shop",
        "/?w=1",
        "/shop?replicaSet=rs0&tls=true",
        "?w=1",
        "/%2Fhost",
        "/?appName=ops@corp",
        "/?heartbeat=3",
    ]
)
SECRET_OPTIONS = [
    "tlsCertificateKeyFilePassword",
    "proxyPassword",
    "TLSCERTIFICATEKEYFILEPASSWORD",
    "sslPEMPassphrase",
]


def secrets(signs: str) -> st.SearchStrategy[str]:
    """Text with some of the letters that tell."""
    return st.text(LETTERS + signs, min_size=1, max_size=14).filter(lambda text: set(text) & set(LETTERS))


def users(signs: str = "@ .-/") -> st.SearchStrategy[str]:
    return st.text("johnsmith" + signs, min_size=1, max_size=12)


@st.composite
def addresses(
    draw: st.DrawFn, scheme: st.SearchStrategy[str], signs: str, user: str
) -> tuple[str, list[str]]:
    """An address as somebody may type it, and its hosts."""
    hosts = draw(st.lists(HOST, min_size=1, max_size=3, unique=True))
    password = draw(secrets(signs))
    if draw(st.booleans()):
        password = quote(password, safe="")
    path = draw(PATH)
    if draw(st.booleans()):
        sign = "&" if "?" in path else "?" if "/" in path else "/?"
        name = draw(st.sampled_from(SECRET_OPTIONS))
        path += f"{sign}{name}={draw(secrets('@:/?%+.'))}"
    elif draw(st.booleans()):
        sign = "&" if "?" in path else "?" if "/" in path else "/?"
        path += f"{sign}authMechanismProperties=AWS_SESSION_TOKEN:{draw(secrets('@:/+='))}&retryWrites=true"
    return f"{draw(scheme)}://{draw(users(user))}:{password}@{','.join(hosts)}{path}", hosts


def clean(text: str) -> None:
    assert not set(text) & set(LETTERS), text


@settings(max_examples=60)
@given(addresses(MONGODB | AMQP, SIGNS + BLANKS, "@ .-/"))
@example(("mongodb://john@corp.com:XJX@alpha.example.com/", ["alpha.example.com"]))
@example(("mongodb+srv://john smith:X@J/X?J#%@alpha.example.com/?appName=a@b", ["alpha.example.com"]))
@example(("mongodb://@//:XJX@alpha.example.com/", ["alpha.example.com"]))
def test_an_address_is_shown_without_its_secrets(given: tuple[str, list[str]]) -> None:
    address, hosts = given
    shown = masked_address(address)
    clean(shown)
    assert all(host in shown for host in hosts), shown
    assert masked(shown) == shown, "what is masked already stays"


@settings(max_examples=60)
@given(
    st.sampled_from(["at {} there is nobody", "'{}' (code 18)", '{{"uri": "{}"}}', "<{}>\nnext: line", "{}"]),
    addresses(MONGODB | AMQP, SIGNS.replace("<", "").replace(">", ""), "@.-"),
)
def test_a_text_is_told_without_the_secrets_of_addresses_in_it(
    frame: str, given: tuple[str, list[str]]
) -> None:
    address, hosts = given
    assume("://" not in address.partition("://")[2])  # it would be where the next address begins
    shown = masked(frame.format(address))
    clean(shown)
    assert all(host in shown for host in hosts), shown
    before, _, after = frame.format("\0").partition("\0")
    assert shown.startswith(before)
    assert shown.endswith(after)


@settings(max_examples=30)
@given(addresses(MONGODB, "@:/?", ".-"), addresses(AMQP, "@:/?", ".-"))
def test_several_addresses_in_a_text(one: tuple[str, list[str]], two: tuple[str, list[str]]) -> None:
    assume("://" not in one[0].partition("://")[2] + two[0].partition("://")[2])
    for text in (f"{one[0]},{two[0]}", f"{one[0]} and {two[0]}", f"from {two[0]}\nto {one[0]}"):
        shown = masked(text)
        clean(shown)
        assert all(host in shown for host in one[1] + two[1]), shown


def test_a_blank_in_a_user_name_and_a_password() -> None:
    for address in (
        "mongodb://john smith:XJX@host.example.com/",
        "mongodb://john:X XJ@host.example.com/?w=1",
    ):
        shown = masked(f"MongoDB at {address} did not answer")
        clean(shown)
        assert "host.example.com" in shown
        assert "MongoDB at mongodb://john" in shown


@pytest.mark.parametrize("text", [
    "no address at all, but joe@corp.com: call him", "https://pypi.org:443/@scope/name", "http://host/path?a=b@c",
    "mongodb://one,two:2/db?replicaSet=rs", "amqp://host/v", "mongodb://host:27017 did not answer, ask joe@corp.com",
    "mongodb://john@host/ is without a password", "a = b, c=d", "mongodb://host:27017: it did not answer", "Write mongodb://host:port/.",
    "MongoDB: host:27017, ask joe@corp.com", "see https://a.example/x//y:z@1.2", "// a comment: joe@corp.com",
])  # fmt: skip
def test_what_holds_no_secret_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("mongodb://app:pa:ss@one:1,two:2/db?ssl=true", "mongodb://app:***@one:1,two:2/db?ssl=true"),
        ("amqp://user:XJX@host:5672/v", "amqp://***@host:5672/v"),
        ("mongodb://:XJX@host/", "mongodb://:***@host/"),
        ("mongodb://user%3AXJX@host/", "mongodb://***@host/"),
        ("guest:XJX@host:5672", "guest:***@host:5672"),
        ("XJX", "***"),
        ("mongodb:/john:XJX@host/", "mongodb:***@host/"),
        # Without any @ what stands behind a colon is no port, and so a password whose host was forgotten
        ("mongodb://john:XJX", "mongodb://john:***"),
        ("mongodb+srv://john:XJX/shop", "mongodb+srv://john:***/shop"),
        ("mongodb://john:1234XJX/", "mongodb://john:***/"),
        ("mongodb://john:XJX%40host.example.com/", "mongodb://john:***/"),
        ("amqps://john:XJX", "amqps://john:***"),
        ("mongodb://one:1,two:XJX/", "mongodb://one:1,two:***/"),
        ("mongodb://[::1]:27017,fe80::1,one:27018/", "mongodb://[::1]:27017,fe80::1,one:27018/"),
    ],
)
def test_addresses_right_and_wrong(address: str, shown: str) -> None:
    assert masked_address(address) == shown
    if "@" in address or "://" not in address or shown == address:
        return
    clean(hosts_of(address))
    clean(masked(f"cannot use {address}: no port"))
    with pytest.raises(SettingsInvalid) as caught:
        check_uri(address) if address.startswith("mongodb") else urls_of(address)
    clean(f"{caught.value} {caught.value!r}")


@pytest.mark.parametrize("address", [
    "mongodb:/john:XJX@host", "mongodb:john:XJX@host", "MongoDB+srv:/john:XJX@host/db", "amqp:/john:XJX@host", "//john:XJX@host:27017",
])  # fmt: skip
def test_a_text_is_told_without_the_secrets_of_what_is_nearly_an_address(address: str) -> None:
    for frame in (
        "{}",
        "cannot use {}: it is none",
        "'{}'",
        '{{"uri": "{}"}}',
        "<{}>",
        "URI={} and mongodb://two/",
    ):
        shown = masked(frame.format(address))
        clean(shown)
        assert "host" in shown
        assert frame.partition("{")[0] in shown


@settings(max_examples=30)
@given(addresses(MONGODB, SIGNS + BLANKS, "@ .-/"))
def test_an_address_of_mongodb_that_cannot_be_used_is_refused_without_its_secrets(
    given: tuple[str, list[str]],
) -> None:
    address = given[0]
    clean(Settings(mongodb_uri=address, mongodb_db_name="crm").overruled)
    with warnings.catch_warnings(record=True) as told:  # of options that the driver does not know
        warnings.simplefilter("always")
        try:
            _ = Settings(mongodb_uri=address).database
            check_uri(address)
        except SettingsInvalid as error:
            clean(f"{error} {error!r} {error.args}")
    clean(" ".join(str(each.message) for each in told))


@settings(max_examples=50)
@given(addresses(AMQP, SIGNS + BLANKS, "@ .-/"))
def test_an_address_of_rabbitmq_that_cannot_be_used_is_refused_without_its_secrets(
    given: tuple[str, list[str]],
) -> None:
    try:
        urls_of(given[0])
    except SettingsInvalid as error:
        clean(f"{error} {error!r}")


def test_a_password_that_would_be_looked_for_in_the_network_is_refused() -> None:
    for address in (
        "mongodb://u:1234/XJX@host/",
        "mongodb://u:1234?XJX@host/",
        "mongodb://a@b:XJX@host/",
        "mongodb://u:X%ZX@host/",
    ):
        with pytest.raises(SettingsInvalid, match=r"must be percent-encoded: . as %") as caught:
            check_uri(address)
        clean(str(caught.value))
    with pytest.raises(SettingsInvalid, match="RABBITMQ_URL=amqp://\\*\\*\\*@host/"):
        urls_of("amqp://u:1234/XJX@host/")
    with pytest.raises(SettingsInvalid, match="authMechanismProperties is to be NAME:VALUE") as caught:
        check_uri(
            "mongodb://u:p@host/?authMechanism=MONGODB-AWS&authMechanismProperties=AWS_SESSION_TOKEN:XJ,X"
        )
    clean(str(caught.value))


ADDRESS = "mongodb://john@corp.com:XJX@host.example.com/"


class DriverError(Exception):
    """As drivers do."""


def read() -> None:
    raise ValueError(f"cannot read {ADDRESS}")


def connect() -> None:
    try:
        read()
    except ValueError as error:
        raise DriverError(f"gave up at '{ADDRESS}'") from error


def raised() -> Exception:
    try:
        connect()
    except DriverError as found:
        return found
    raise AssertionError


def test_what_is_stored_of_an_exception() -> None:
    error = raised()
    trouble = FailedDocument(
        key=Key.of_document(b"\x0e\0\0\0\x10_id\0\1\0\0\0\0"),
        kind=FailureKind.CODE,
        type="DriverError",
        message=str(error),
        traceback=exception_traceback(error, 4000),
    )
    for text in (
        exception_message(error),
        exception_message(error, 30),
        exception_traceback(error, 4000),
        trouble.message,
        trouble.traceback,
    ):
        clean(text)
    assert "host.example.com" in exception_message(error)
    cut = FailedDocument(
        key=trouble.key, kind=FailureKind.CODE, type="DriverError", message="x" * 1960 + ADDRESS
    )
    clean(cut.message)


@pytest.mark.parametrize("style", ["json", "console"])
def test_what_is_logged(style: str) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    before = list(root.handlers)
    root.handlers.clear()
    try:
        configure_logs(style, "info", stream)
        log = structlog.get_logger("test")
        log.warning("lost", where=ADDRESS, error=raised(), several=[ADDRESS, {"a": ADDRESS}])
        try:
            connect()
        except DriverError:
            log.exception("broke")
            logging.getLogger("foreign").exception("of %s", ADDRESS)
    finally:
        structlog.reset_defaults()
        for each in list(root.handlers):
            root.removeHandler(each)
        root.handlers.extend(before)
    text = stream.getvalue()
    clean(text)
    assert text.count("host.example.com") >= 8
    assert "Traceback" in text
    if style == "json":
        first = json.loads(text.partition("\n")[0])
        assert first["several"] == [
            "mongodb://john@corp.com:***@host.example.com/",
            {"a": "mongodb://john@corp.com:***@host.example.com/"},
        ]
