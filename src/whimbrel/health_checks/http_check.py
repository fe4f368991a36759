"""Asks one of the user's own checks: a service by the status of its answer, or Prometheus for a number.

Redirections are not followed: they would take a password, and trust, to another host. https://prometheus.io/docs/prometheus/latest/querying/api/
"""

import base64
import contextlib
import http.client
import json
import math
import socket
import ssl
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

from whimbrel.domain.health.own_checks import OwnCheck, shown
from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.signals import Signal
from whimbrel.domain.text.printable import visible

ANSWER_SECONDS = 1.0  # that connecting, and each part of an answer, may take
LARGEST = 1_000_000  # bytes of an answer: a query that yields one number needs a few hundred
GO, STOP = (200,), (429, 503)
OK = 200
LONGEST_REASON = 200  # characters of what another server says


class NoValue(Exception):
    """The answer says nothing; its message is why."""


class HttpCheck:
    """Implements `whimbrel.ports.health.HealthCheck`."""

    def __init__(self, check: OwnCheck) -> None:
        self._check = check
        self._parts: SplitResult = urlsplit(check.url)
        self._connection: http.client.HTTPConnection | None = None

    @property
    def signal(self) -> Signal:
        return self._check.signal

    def read(self) -> Reading:
        name, host = self._check.signal.name, self._parts.netloc.rpartition("@")[2]
        how = (
            f"GET {shown(self._check.url)}"
            if self._check.query is None
            else f"PromQL at {shown(self._check.url)}"
        )
        try:
            return Reading(name, self._value(), host, how)
        except NoValue as error:
            problem = str(error)
        except TimeoutError:
            problem = f"it did not answer within {ANSWER_SECONDS:g} s"
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that can be no name
            problem = f"it cannot be asked: {_quoted(str(error) or type(error).__name__)}"
        except http.client.HTTPException:
            # Its text is the answer's, which may repeat the request and its secrets.
            problem = "its answer is no HTTP that can be read"
        return Reading(name, None, host, how, problem)

    def abandon(self) -> None:
        sock = self._connection.sock if self._connection is not None else None
        with contextlib.suppress(OSError):
            if sock is not None:
                sock.shutdown(socket.SHUT_RDWR)

    def _value(self) -> float:
        query = self._check.query
        if query is None:
            status, _ = self._get(self._parts.path or "/", self._parts.query, 0)
            return _said(status)
        path = f"{self._parts.path.rstrip('/')}/api/v1/query"
        status, body = self._get(path, urlencode({"query": query}), LARGEST)
        return _number(status, body, low=self._check.signal.low)

    def _get(self, path: str, query: str, most: int) -> tuple[int, bytes]:
        """Returns status and body of an answer. Raises NoValue where the body is longer than `most` bytes; OSError, HTTPException."""
        connection = self._connection = self._connect()
        try:
            connection.request("GET", f"{path}?{query}" if query else path, headers=self._headers)
            answer = connection.getresponse()
            body = answer.read(most + 1) if most else b""
        finally:
            connection.close()
        if most and len(body) > most:
            raise NoValue(f"its answer is longer than {most:,} bytes: let the query yield one number")
        return answer.status, body

    def _connect(self) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, self._parts.port, timeout=ANSWER_SECONDS, context=self._tls)  # fmt: skip
        return http.client.HTTPConnection(host, self._parts.port, timeout=ANSWER_SECONDS)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    @cached_property
    def _headers(self) -> Mapping[str, str]:
        headers = {"User-Agent": "whimbrel", "Connection": "close"}
        user, at, _ = self._parts.netloc.rpartition("@")
        if at:
            name, _, password = user.partition(":")
            pair = f"{unquote(name)}:{unquote(password)}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return headers


def _said(status: int) -> float:
    """Returns 0 for go and 1 for stop. Raises NoValue for any other status."""
    if status in GO:
        return 0.0
    if status in STOP:
        return 1.0
    raise NoValue(f"it answers {status}, which is neither 200 (go) nor 429 or 503 (stop)")


def _number(status: int, body: bytes, *, low: bool) -> float:
    """Returns the number that Prometheus has answered; of several the worst. Raises NoValue."""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or answer.get("status") != "success" or status != OK:
        said = answer.get("error") if isinstance(answer, dict) else None
        why = f": {_quoted(str(said))}" if said else ""
        raise NoValue(f"Prometheus answers {status} without a result{why}")
    values = list(_values(answer.get("data")))
    if not values:
        raise NoValue("the query yields nothing now")
    if not all(map(math.isfinite, values)):
        raise NoValue("the query yields no finite number")
    return min(values) if low else max(values)


def _values(data: Any) -> list[float]:
    """Returns the numbers of a scalar or of an instant vector. Raises NoValue."""
    found: Mapping[str, Any] = data if isinstance(data, dict) else {}
    kind, result = found.get("resultType"), found.get("result", ())
    try:
        if kind == "scalar":
            return [float(result[1])]
        if kind == "vector":
            return [float(row["value"][1]) for row in result]
    except (TypeError, ValueError, OverflowError, LookupError) as error:
        raise NoValue("Prometheus answers in a way that cannot be read") from error
    raise NoValue(f"the query yields a {_quoted(str(kind))}: let it yield a number, or a vector of them")


def _quoted(text: str) -> str:
    """Returns what another server says, in one line of limited length."""
    return visible(text[:LONGEST_REASON], allowed="")
