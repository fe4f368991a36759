"""Answers can be printed: what acts on a terminal goes out as an escape of JSON, and its readers get the same values."""

import asyncio
import json
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from tests.hostile.conftest import Doors
from whimbrel.api.middleware.readable_json import ReadableJson
from whimbrel.domain.text import printable
from whimbrel.domain.text.printable import visible_json

HOSTILE = "\x1b[2J\x7f\x9b2J\u202e\u2066\u200b\u2028\ufeff\U000e0041\U000e0101\u3164\u00ad"
ACTING = {"Cc", "Cf", "Zl", "Zp"}
Json = st.recursive(
    st.none()
    | st.text(st.sampled_from(HOSTILE + 'a"\\/\u00e9\u65e5\U0001f426') | st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def acts(text: str) -> list[str]:
    return [each for each in text if unicodedata.category(each) in ACTING and each not in "\n\r\t"]


@given(Json, st.sampled_from([None, 2]))
@example({HOSTILE: HOSTILE}, None)
def test_values_stay_and_nothing_acts(value: Any, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    shown = visible_json(text)
    assert json.loads(shown) == value
    assert acts(shown) == []


def test_what_can_be_read_is_left_as_it_is() -> None:
    text = json.dumps("caf\u00e9 \u65e5\u672c \U0001f426 \u2014 \u20ac", ensure_ascii=False)
    assert visible_json(text) == text


def test_no_character_of_a_long_answer_costs_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """It happens in the event loop: with a call for each, 900 kB of Japanese stood in the way of all others for 200 ms."""
    visible_json("")

    def called(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(printable, "_harmless", called)
    visible_json(json.dumps("\u65e5\u672c caf\u00e9\u202e" * 1000, ensure_ascii=False))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_refusals_too(doors: Doors, method: str) -> None:
    answer = doors().request(method, "/a%E2%80%AEb%C2%9B2J")
    assert acts(answer.text) == []
    assert "\u202e" in answer.json()["error"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert doors().head("/a%E2%80%AEb").headers["content-length"] == str(
        len(doors().get("/a%E2%80%AEb").content)
    )


class Answering:
    """An application that answers in these pieces."""

    def __init__(self, kind: bytes, pieces: list[str]) -> None:
        self.kind, self.pieces = kind, pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        headers = [(b"content-type", self.kind), (b"content-length", b"7")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, each in enumerate(self.pieces, 1):
            more = number < len(self.pieces)
            await send({"type": "http.response.body", "body": each.encode(), "more_body": more})


def sent(kind: bytes, *pieces: str) -> tuple[dict[bytes, bytes], list[str]]:
    told: list[Message] = []

    async def send(message: Message) -> None:
        told.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    asyncio.run(ReadableJson(Answering(kind, list(pieces)))({"type": "http"}, receive, send))
    return dict(told[0]["headers"]), [each["body"].decode() for each in told[1:]]


def test_events_go_out_one_by_one() -> None:
    events = [f'event: progress\ndata: {{"a": "{each}"}}\n\n' for each in ("\u202e", "b", "\x7f")]
    _, found = sent(b"text/event-stream", *events)
    assert found == [each.replace("\u202e", "\\u202e").replace("\x7f", "\\u007f") for each in events]


def test_json_in_pieces_has_the_right_length_and_other_kinds_are_not_touched() -> None:
    headers, found = sent(b"application/json; charset=utf-8", '["\u202e', '"]')
    assert (headers[b"content-length"], found) == (b"10", ['["\\u202e"]'])
    headers, found = sent(b"text/html", "\u202e")
    assert (headers[b"content-length"], found) == (b"7", ["\u202e"])
