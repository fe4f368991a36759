"""The user's own checks, as a configuration file has them: each is a signal of its own name, with thresholds like any other."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from whimbrel.domain.health.signals import SIGNALS, Reads, Signal, Thresholds, check_thresholds
from whimbrel.errors import SettingsInvalid, ThresholdsRefused

LARGEST_FILE = 1_000_000  # bytes
MOST = 20  # checks: each is asked once a second
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LARGEST = 1e12  # threshold
LONGEST_NAME, LONGEST_UNIT, LONGEST_URL, LONGEST_QUERY = 40, 10, 2000, 10_000
UNIT = re.compile(r"[^\s\x00-\x1f\x7f]*")
URL = re.compile(r"[\x21-\x7e]+")
HTTP_FIELDS = ("url",)
QUERY_FIELDS = ("prometheus", "query", "slow", "stop", "unit", "low")
SHAPE = (
    'It has either url = "https://..." (200: go, 429 and 503: stop), or prometheus = "http://...:9090" and query = \'...\' with slow or stop, '
    'and where they are wanted unit = "s" and low = true.'
)


@dataclass(frozen=True, slots=True)
class OwnCheck:
    """A check. `url`: what is asked, with its secrets. `query`: of Prometheus at that address; None: the status of the answer counts."""

    signal: Signal
    url: str
    query: str | None = None


def own_checks(content: bytes) -> tuple[OwnCheck, ...]:
    """Reads a configuration file: TOML, with a table for each check. Raises SettingsInvalid: one sentence, without secrets."""
    if len(content) > LARGEST_FILE:
        raise SettingsInvalid(f"It has more than {LARGEST_FILE:,} bytes.")
    try:
        document = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise SettingsInvalid("It is no text in UTF-8.") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsInvalid(f"It is no TOML: {error}.") from error
    if len(document) > MOST:
        raise SettingsInvalid(f"There are {len(document)} checks; {MOST} at most are asked each second.")
    return tuple(_check(name, fields) for name, fields in document.items())


def shown(url: str) -> str:
    """Returns an address without what may be secret: user, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}{'?***' if parts.query else ''}"


def _check(name: str, fields: Any) -> OwnCheck:
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise SettingsInvalid(
            f"A check cannot be called {name!r}: take small letters and digits with hyphens between, {LONGEST_NAME} at most, such as checkout-p99."
        )
    if name in SIGNALS:
        raise SettingsInvalid(f"A check cannot be called {name!r}: a signal of Whimbrel has this name.")
    if not isinstance(fields, Mapping):
        raise SettingsInvalid(f"The check {name!r} is no table: begin it with a line [{name}]. {SHAPE}")
    by_query = "prometheus" in fields or "query" in fields
    for field in _strange(fields, QUERY_FIELDS if by_query else HTTP_FIELDS):
        raise SettingsInvalid(f"The check {name!r} cannot have {field!r}. {SHAPE}")
    if by_query:
        return _by_query(name, fields)
    signal = Signal(
        name=name, title=f"the check {name} says stop", unit="", slow=None, stop=0.5, needs=Reads.NOTHING, stop_after=1, state=True
    )  # fmt: skip
    return OwnCheck(signal, _address(name, fields, "url"))


def _strange(fields: Mapping[str, Any], allowed: tuple[str, ...]) -> Iterator[str]:
    return (field for field in fields if field not in allowed)


def _by_query(name: str, fields: Mapping[str, Any]) -> OwnCheck:
    query = fields.get("query")
    if not isinstance(query, str) or not query.strip() or len(query) > LONGEST_QUERY:
        raise SettingsInvalid(
            f"The check {name!r} has no query: give the PromQL that yields one number, of {LONGEST_QUERY:,} characters at most. {SHAPE}"
        )
    unit, low = fields.get("unit", ""), fields.get("low", False)
    if not isinstance(unit, str) or len(unit) > LONGEST_UNIT or not UNIT.fullmatch(unit):
        raise SettingsInvalid(f"The unit of the check {name!r} is to be a word of {LONGEST_UNIT} characters at most, such as s or ms.")  # fmt: skip
    if not isinstance(low, bool):
        raise SettingsInvalid(f"In the check {name!r}, low is to be true, where small values are the bad ones, or false.")  # fmt: skip
    slow, stop = (_threshold(name, fields, level) for level in ("slow", "stop"))
    if slow is None and stop is None:
        raise SettingsInvalid(f"The check {name!r} has no threshold: give slow, stop or both.")
    signal = Signal(name=name, title=f"the check {name}", unit=unit, slow=slow, stop=stop, needs=Reads.NOTHING, low=low)  # fmt: skip
    try:
        check_thresholds(signal, Thresholds(slow, stop))
    except ThresholdsRefused as error:
        raise SettingsInvalid(str(error)) from error
    return OwnCheck(signal, _address(name, fields, "prometheus"), query)


def _threshold(name: str, fields: Mapping[str, Any], level: str) -> float | None:
    value = fields.get(level)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > LARGEST:
        raise SettingsInvalid(f"In the check {name!r}, {level} is to be a number from 0 up.")
    return float(value)


def _address(name: str, fields: Mapping[str, Any], field: str) -> str:
    """Returns the address of a check. An error does not show it: it may hold a password."""
    url = fields.get(field)
    if not isinstance(url, str) or len(url) > LONGEST_URL or not URL.fullmatch(url) or not _is_http(url):
        raise SettingsInvalid(
            f"In the check {name!r}, {field} cannot be read: write it as http://host:port/path or https://user:password@host/path, "
            "with the characters @ : / ? # % in user and password as %40 %3A %2F %3F %23 %25."
        )
    if field == "prometheus" and urlsplit(url).query:
        raise SettingsInvalid(f"In the check {name!r}, prometheus is to be the address of the server, without a question mark.")  # fmt: skip
    return url


def _is_http(url: str) -> bool:
    try:
        parts: SplitResult = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    user = parts.netloc.rpartition("@")[0]
    return (
        parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in user and not parts.fragment
    )
