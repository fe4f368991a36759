"""A file with the user's own checks: what it may say, and one sentence about what it may not."""

import pytest

from whimbrel.domain.health.own_checks import own_checks, shown
from whimbrel.domain.health.signals import Reads
from whimbrel.errors import SettingsInvalid
from whimbrel.settings import Settings

GOOD = b"""
[payments]
url = "https://user:pass%40word@pay.example:8443/health?token=abc"

[checkout-p99]
prometheus = "http://prom:9090/prefix/"
query = 'histogram_quantile(0.99, sum(rate(seconds_bucket{job="shop"}[1m])) by (le))'
unit = "s"
slow = 0.3
stop = 1

[free-workers]
prometheus = "http://prom:9090"
query = "min(free)"
low = true
stop = 2
"""


def test_a_file_with_both_kinds_of_checks() -> None:
    payments, checkout, free = own_checks(GOOD)
    assert (payments.signal.name, payments.signal.slow, payments.signal.stop, payments.signal.stop_after, payments.query) == ("payments", None, 0.5, 1, None)  # fmt: skip
    assert payments.url.startswith("https://user:pass%40word@")
    assert (checkout.signal.slow, checkout.signal.stop, checkout.signal.unit, checkout.signal.low) == (0.3, 1, "s", False)  # fmt: skip
    assert checkout.query is not None
    assert checkout.query.startswith("histogram_quantile")
    assert (free.signal.slow, free.signal.stop, free.signal.low) == (None, 2, True)
    assert {check.signal.needs for check in (payments, checkout, free)} == {Reads.NOTHING}
    assert shown(payments.url) == "https://pay.example:8443/health?***"
    assert own_checks(b"") == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[payments", "no TOML"),
        ('url = "http://a"', "'url' is no table"),
        ("[[a]]\nurl = 'http://a'", "is no table"),
        ("[member-lag]\nurl = 'http://a'", "a signal of Whimbrel has this name"),
        ("[Payments]\nurl = 'http://a'", "cannot be called 'Payments'"),
        ("['a.b']\nurl = 'http://a'", "cannot be called 'a.b'"),
        ("['$a']\nurl = 'http://a'", "cannot be called"),
        (f"[{'a' * 41}]\nurl = 'http://a'", "cannot be called"),
        ("[a]", "url cannot be read"),
        ("[a]\nurl = 5", "url cannot be read"),
        ("[a]\nurl = 'ftp://a'", "url cannot be read"),
        ("[a]\nurl = 'http://'", "url cannot be read"),
        ("[a]\nurl = 'http://a:99999'", "url cannot be read"),
        ("[a]\nurl = 'http://a:secret'", "url cannot be read"),
        ("[a]\nurl = 'http://u:se@cret@a'", "url cannot be read"),
        ("[a]\nurl = 'http://a b'", "url cannot be read"),
        ('[a]\nurl = "http://a\\r\\nX: y"', "url cannot be read"),
        ("[a]\nurl = 'http://a'\nslow = 1", "cannot have 'slow'"),
        ("[a]\nuri = 'http://a'", "cannot have 'uri'"),
        ("[a]\nurl = 'http://a'\nquery = 'up'", "cannot have 'url'"),
        ("[a]\nprometheus = 'http://a'\nslow = 1", "has no query"),
        ("[a]\nprometheus = 'http://a'\nquery = ' '\nslow = 1", "has no query"),
        ("[a]\nquery = 'up'\nslow = 1", "prometheus cannot be read"),
        ("[a]\nprometheus = 'http://a/?q=1'\nquery = 'up'\nslow = 1", "without a question mark"),
        ("[a]\nprometheus = 'http://a'\nquery = 'up'", "has no threshold"),
        ("[a]\nprometheus = 'http://a'\nquery = 'up'\nslow = 2\nstop = 1", "slow=2 is above stop=1"),
        ("[a]\nprometheus = 'http://a'\nquery = 'up'\nslow = 1\nstop = 2\nlow = true", "slow=1 is below stop=2"),
        ("[a]\nprometheus = 'http://a'\nquery = 'up'\nslow = '1'", "slow is to be a number"),
        ("[a]\nprometheus = 'http://a'\nquery = 'up'\nslow = true", "slow is to be a number"),
        ("[a]\nprometheus = 'http://a'\nquery = 'up'\nslow = nan", "cannot be a threshold"),
        ("[a]\nprometheus = 'http://a'\nquery = 'up'\nslow = -1", "cannot be a threshold"),
        (f"[a]\nprometheus = 'http://a'\nquery = 'up'\nslow = 1{'0' * 400}", "slow is to be a number"),
        ("[a]\nprometheus = 'http://a'\nquery = 'up'\nslow = 1\nunit = 'requests a second'", "unit of the check"),
        ("[a]\nprometheus = 'http://a'\nquery = 'up'\nslow = 1\nlow = 'yes'", "low is to be true"),
        ("\n".join(f"[a{n}]\nurl = 'http://a'" for n in range(21)), "There are 21 checks; 20 at most"),
        ("#" * 1_000_001, "more than 1,000,000 bytes"),
    ],
)  # fmt: skip
def test_what_a_file_may_not_say(text: str, why: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        own_checks(text.encode())
    assert why in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "cret" not in str(caught.value)


def test_a_file_that_is_not_there_and_one_that_is_wrong_are_named(tmp_path: object) -> None:
    with pytest.raises(
        SettingsInvalid, match=r"WHIMBREL_HEALTH_CHECKS=/no/such.toml cannot be read: No such file"
    ):
        _ = Settings(whimbrel_health_checks="/no/such.toml").own_checks
    with pytest.raises(SettingsInvalid, match="cannot be read: Is a directory"):
        _ = Settings(whimbrel_health_checks=str(tmp_path)).own_checks
    assert Settings(whimbrel_health_checks="").own_checks == ()


def test_members_to_ignore_are_hosts_with_ports() -> None:
    def ignored(text: str) -> frozenset[str]:
        return Settings(whimbrel_health_ignore_members=text).ignored_members

    assert ignored("") == frozenset()
    assert ignored(" db1:27018, db2.example ,[::1]:27017") == {
        "db1:27018",
        "db2.example:27017",
        "[::1]:27017",
    }
    for text in ("mongodb://db1:27017", "db1:27017;db2", "db 1", "db1:port", "db1:"):
        with pytest.raises(SettingsInvalid, match="write host:port as"):
            ignored(text)
