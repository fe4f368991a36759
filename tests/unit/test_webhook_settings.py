"""What cannot be a webhook is refused at the start, in one sentence that holds no secret; what is sent is signed as the page says."""

import hashlib
import hmac
import re
from ipaddress import ip_address
from pathlib import Path

import pytest
from pydantic import SecretStr

from whimbrel.bootstrap import check_addresses
from whimbrel.domain.webhooks.addresses import is_public, read_webhooks
from whimbrel.domain.webhooks.signature import headers_of
from whimbrel.errors import SettingsInvalid
from whimbrel.settings import Settings, read_settings

KEY = "a secret of the tests"
PAGE = (Path(__file__).parents[2] / "docs/observability.md").read_text(encoding="utf-8")


def settings(addresses: str, secret: str = KEY, *, allow_private: bool = False) -> Settings:
    return Settings(
        whimbrel_webhooks=SecretStr(addresses), whimbrel_webhook_secret=SecretStr(secret), whimbrel_webhook_allow_private=allow_private
    )  # fmt: skip


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ("hooks.example.org/hidden", "address 1 is no http:// or https://"),
        ("https://example.org/a, ftp://example.org/hidden", "address 2 is no http:// or https://"),
        ("https://a..hidden/b", "address 1 is no http:// or https://"),
        ("https://-a.hidden", "address 1 is no http:// or https://"),
        (f"https://{'a' * 64}.hidden", "address 1 is no http:// or https://"),
        (f"https://{'a.' * 130}hidden", "address 1 is no http:// or https://"),
        ("https:///hidden", "address 1 is no http:// or https://"),
        ("https://example.org:99999/hidden", "address 1 cannot be read"),
        ("https://user:hidden@example.org/", "address 1 has a user or a password"),
        ("https://example.org/#hidden", "address 1 has a part behind #"),
        ("https://example.org/hid den", "address 1 is no http:// or https://"),
        ("https://example.org/hidden,https://example.org/hidden", "names an address twice"),
        ("https://example.org/" + "hidden" * 400, "2,000 is the most"),
        (",".join(f"https://example.org/hidden{n}" for n in range(11)), "11 addresses: 10 is the most"),
        ("http://127.0.0.1:9/hidden", "private, loopback"), ("http://10.1.2.3/hidden", "private, loopback"),
        ("http://[::1]/hidden", "private, loopback"), ("http://169.254.169.254/hidden", "private, loopback"),
        ("http://[::ffff:10.0.0.1]/hidden", "private, loopback"), ("http://0.0.0.0/hidden", "private, loopback"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused_without_being_shown(addresses: str, said: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        check_addresses(settings(addresses))
    assert said in str(refused.value)
    assert "hid" not in str(refused.value).replace("hidden address", "")


@pytest.mark.parametrize("secret", ["", "fifteen letters"])
def test_without_a_secret_nothing_is_sent(secret: str) -> None:
    with pytest.raises(
        SettingsInvalid, match="WHIMBREL_WEBHOOK_SECRET, of at least 16 characters"
    ) as refused:
        check_addresses(settings("https://example.org/", secret))
    assert not secret or secret not in str(refused.value)


def test_a_secret_that_cannot_sign_is_refused() -> None:
    """Bytes of another encoding in the environment: each try would have broken."""
    with pytest.raises(SettingsInvalid, match="WHIMBREL_WEBHOOK_SECRET is no text in UTF-8") as refused:
        read_webhooks("https://example.org/", f"{KEY}\udcff", allow_private=False, no_progress=0)
    assert KEY not in str(refused.value)


def test_private_addresses_are_taken_where_they_are_allowed() -> None:
    found = settings("http://127.0.0.1:9/a?b=c, https://example.org", allow_private=True).webhooks
    assert found is not None
    assert found.no_progress == 15 * 60
    one, two = found.receivers
    assert (one.shown, one.target, two.shown, two.target) == (
        "http://127.0.0.1:9",
        "/a?b=c",
        "https://example.org",
        "/",
    )
    assert (two.authority, two.port, two.secure) == ("example.org", 443, True)


@pytest.mark.parametrize(
    "host", ["a_b.example.org.", "bücher.example", "localhost", "1and1.example", f"{'a' * 63}.example"]
)
def test_names_that_networks_have_are_taken(host: str) -> None:
    assert settings(f"https://{host}:8443/").webhooks


def test_no_addresses_are_no_webhooks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings(" , ").webhooks is None
    assert settings("", "").webhooks is None
    assert KEY not in repr(settings("https://example.org/"))
    monkeypatch.setenv("WHIMBREL_WEBHOOK_NO_PROGRESS", "-1")
    monkeypatch.setenv("WHIMBREL_WEBHOOK_SECRET", KEY)
    with pytest.raises(SettingsInvalid, match="WHIMBREL_WEBHOOK_NO_PROGRESS") as refused:
        read_settings()
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True), ("2606:2800:220:1::1", True), ("10.0.0.1", False), ("172.16.0.1", False), ("192.168.1.1", False),
        ("127.0.0.1", False), ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.0", False), ("224.0.0.1", False),  # noqa: S104
        ("255.255.255.255", False), ("240.0.0.1", False), ("198.18.0.1", False), ("::", False), ("::1", False), ("fe80::1", False),
        ("fc00::1", False), ("fec0::1", False), ("ff02::1", False), ("::ffff:10.0.0.1", False), ("::ffff:93.184.215.14", True),
        ("192.0.0.192", False), ("192.88.99.1", False), ("168.63.129.16", False), ("64:ff9b:1::808:808", False), ("3fff::1", False), ("::a00:1", False),
        ("64:ff9b::a00:1", False), ("64:ff9b::5db8:d70e", True), ("2002:a00:1::", False), ("2001:0:1::f5ff:fffe", False),
    ],
)  # fmt: skip
def test_which_addresses_are_of_the_internet(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


def test_the_snippet_of_the_page_verifies_what_is_sent() -> None:
    (snippet,) = re.findall(r"```python\n(import hashlib.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    exec(snippet, names)  # noqa: S102  the page's own words
    body = '{"id":"a:1","reason":"ü"}'.encode()
    sent = headers_of(
        secret=KEY, timestamp="1796047320", body=body, event_id="a:1", type_="run.paused", version="1"
    )
    verified = names["verified"]
    assert callable(verified)
    assert verified(KEY, sent, body, now=1796047330)
    assert not verified("another secret of the tests", sent, body, now=1796047330)
    assert not verified(KEY, sent, body + b" ", now=1796047330)
    assert not verified(KEY, {**sent, "Whimbrel-Timestamp": "1796047321"}, body, now=1796047330)
    assert not verified(KEY, sent, body, now=1796047320 + 301)


def test_the_signature_is_the_documented_one() -> None:
    sent = headers_of(secret=KEY, timestamp="5", body=b"{}", event_id="a:1", type_="run.paused", version="1")
    assert sent["Whimbrel-Signature"] == "v1=" + hmac.new(KEY.encode(), b"5.{}", hashlib.sha256).hexdigest()
    assert set(sent) <= set(re.findall(r"`([A-Z][A-Za-z-]+)`", PAGE))
