"""Bodies that cost more than they weigh: by depth, by number, by name, by slowness, by coming together."""

import asyncio
import gzip
import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from tests.hostile.conftest import Doors
from whimbrel.api.json_limits import JsonLimits
from whimbrel.api.middleware.request_bodies import SMALL, RequestBodies
from whimbrel.api.route_requirements import Requirement

Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.sampled_from('ab"\\[]{},:é\u2028'), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text('a"\\{', max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def counted(value: Any) -> int:
    """Opened objects and arrays, and commas."""
    inner = list(value.values()) if isinstance(value, dict) else value
    return 1 + max(0, len(inner) - 1) + sum(map(counted, inner)) if isinstance(inner, list) else 0


@given(Json, st.booleans(), st.lists(st.integers(0, 400)))
def test_a_shape_is_told_however_it_is_cut(value: Any, ascii_only: bool, cuts: list[int]) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":") if ascii_only else None).encode()
    shape = JsonLimits(10_000, 10_000)
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    for begin, end in itertools.pairwise(places):
        shape.feed(text[begin:end])
    assert (shape.depth, shape.values, shape.fault) == (depth(value), 1 + counted(value), None)


def test_a_text_that_does_not_end_is_looked_at_once() -> None:
    """Looked for its end from each quote in it anew, it would take hours."""
    shape = JsonLimits(100, 100)
    shape.feed(b'["')
    for _ in range(128):
        shape.feed(b'\\"' * 32_768)
    assert shape.fault is None


BOMBS = {
    "empty arrays": (b"[" + b"[]," * 300_000 + b"[]]", "more than 100,000 values"),
    "empty objects": (b"[" + b"{}," * 300_000 + b"{}]", "more than 100,000 values"),
    "numbers": (b"[" + b"1," * 400_000 + b"1]", "more than 100,000 values"),
    "depth": (b"[" * 200_000 + b"]" * 200_000, "more than 100,000 values"),
    "a little depth": (b"[" * 101 + b"]" * 101, "nested deeper than 100 levels"),
    "depth behind a text": (b'{"a": "]]]]]\\"", "b": ' + b"[" * 100 + b"]" * 100 + b"}", "nested deeper than 100 levels"),
    "depth that does not end": (b'{"a":' * 50_000, "nested deeper than 100 levels"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_built(
    doors: Doors, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    body, said = BOMBS[name]
    monkeypatch.setattr("whimbrel.api.middleware.request_bodies.parse", None)
    answer = doors().post("/migrate", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert said in answer.json()["error"]


TYPE = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"priority": ' + b"9" * 60_000 + b"}", "more than 4,300 digits"),
        (b'{"filters": {"a": -' + b"1" * 4300 + b"}}", "more than 4,300 digits"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"{}\0", "Extra data"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
    ],
)
def test_what_only_some_readers_take_for_json_is_refused(doors: Doors, body: bytes, said: str) -> None:
    for path in ("/migrate", "/migrate/bulk", "/queue/consumers/stop"):
        answer = doors().post(path, content=body, headers=TYPE)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed"), path
        assert said in answer.json()["error"]
        assert "sys." not in answer.text


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "GZIP", "x"])
def test_nothing_is_unpacked(doors: Doors, coding: str) -> None:
    for content in (gzip.compress(b"{}"), b"{}", b""):
        answer = doors().post("/migrate", content=content, headers=TYPE | {"Content-Encoding": coding})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_type")
        assert answer.headers["accept-encoding"] == "identity"
    plain = doors().post("/migrate", content=b"{}", headers=TYPE | {"Content-Encoding": "identity"})
    assert plain.status_code == 503


@pytest.mark.parametrize("method", ["GET", "POST", "A" * 5000])
def test_of_a_long_path_little_is_said(doors: Doors, method: str) -> None:
    for path in ("/" + "x" * 50_000, "/migrate/status/" + "x" * 50_000):
        assert len(doors().request(method, path).content) < 1000


@pytest.mark.parametrize("count", [21, 80_000])
@pytest.mark.parametrize("path", ["/migrate", "/migrate/bulk"])
def test_of_many_unknown_fields_twenty_are_named(doors: Doors, path: str, count: int) -> None:
    fields: dict[str, Any] = {f"n{number}": 1 for number in range(count)}
    answer = doors().post(path, json=fields | {"migration": "some-model"})
    told = answer.json()
    assert (answer.status_code, told["code"]) == (422, "invalid")
    assert [each["field"] for each in told["details"]][:2] == ["body.n0", "body.n1"]
    assert len(told["details"]) == 20
    assert f"and {count - 20:,} more." in told["error"] or path == "/migrate/bulk"
    assert len(answer.content) < 10_000


def test_long_names_are_cut(doors: Doors) -> None:
    answer = doors().post("/migrate", json={f"{number}{'x' * 40_000}": 1 for number in range(25)})
    assert answer.status_code == 422
    assert len(answer.content) < 20_000


def test_of_many_unknown_parameters_twenty_are_named(doors: Doors) -> None:
    answer = doors().get("/migrate?" + "&".join(f"p{number}=1" for number in range(500)))
    assert len(answer.json()["details"]) == 20
    assert "and 480 more" in answer.json()["error"]


def test_a_route_without_a_body_takes_a_small_one(doors: Doors) -> None:
    for path in ("/queue/consumers/start", "/nothing"):
        answer = doors().post(path, json={"x": "y" * SMALL})
        assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert doors().post("/queue/consumers/start", json={}).status_code == 503


class Held:
    """An application that answers when it is let."""

    def __init__(self) -> None:
        self.inside, self.go_on = 0, asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        self.inside += 1
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Client:
    """One request: pieces of a body that come when they are asked for, and what is answered."""

    def __init__(self, *pieces: bytes, ends: bool = True) -> None:
        self.pieces, self.ends, self.taken = list(pieces), ends, 0
        self.status, self.headers, self.answered = 0, dict[bytes, bytes](), asyncio.Event()

    async def receive(self) -> Message:
        if self.taken == len(self.pieces):
            await asyncio.Event().wait()
        self.taken += 1
        more = self.taken < len(self.pieces) or not self.ends
        return {"type": "http.request", "body": self.pieces[self.taken - 1], "more_body": more}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
            self.answered.set()

    def scope(self) -> Scope:
        entry = Requirement("", None, frozenset({"POST"}), "operate", frozenset({"ids"}))  # type: ignore[arg-type]
        headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
        return {
            "type": "http",
            "method": "POST",
            "path": "/migrate",
            "headers": headers,
            "state": {"entry": entry},
        }


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(within())


async def until(what: Callable[[], bool]) -> None:
    while not what():  # noqa: ASYNC110  what others do, and tell nobody
        await asyncio.sleep(0.001)


LARGE = [b'{"ids": "' + b"x" * SMALL, b"x" * SMALL, b'"}']


def test_few_large_bodies_are_held_at_a_time() -> None:
    """The others are not read further than shows that they are large. Small ones pass."""

    async def scenario() -> None:
        app = Held()
        door = RequestBodies(app, patience=30)
        clients = [Client(*LARGE) for _ in range(6)]
        tasks = [asyncio.create_task(door(each.scope(), each.receive, each.send)) for each in clients]
        await until(lambda: app.inside == 4 and all(each.taken for each in clients))
        small = Client(b"{}")
        tasks.append(asyncio.create_task(door(small.scope(), small.receive, small.send)))
        await until(lambda: app.inside == 5)
        assert sorted(each.taken for each in clients) == [1, 1, 3, 3, 3, 3]
        app.go_on.set()
        await asyncio.gather(*tasks)
        assert [each.status for each in (*clients, small)] == [200] * 7

    run(scenario)


@pytest.mark.parametrize("pieces", [[], [b'{"ids": '], [b" "] * 3])
def test_a_body_that_does_not_come_is_not_waited_for(pieces: list[bytes]) -> None:
    async def scenario() -> None:
        app = Held()
        client = Client(*pieces, ends=False)
        await RequestBodies(app, patience=0.05)(client.scope(), client.receive, client.send)
        assert (client.status, app.inside) == (408, 0)
        assert client.headers[b"connection"] == b"close"

    run(scenario)
