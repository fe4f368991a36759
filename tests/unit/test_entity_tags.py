"""Entity tags: of contents, not of the moment; only what a client has already is left out."""

import asyncio

import pytest
from fastapi import Request, Response

from whimbrel.api.answer_cache import AnswerCache, CachedAnswers
from whimbrel.api.entity_tags import tag_of
from whimbrel.api.models.envelope import Answer


class Numbered(Answer):
    number: int


def ask(number: int, status: int = 200, if_none_match: str | None = None) -> Response:
    """An answer that has just been worked out, as a request gets it."""

    async def answered() -> Response:
        headers = [] if if_none_match is None else [(b"if-none-match", if_none_match.encode())]
        request = Request({"type": "http", "headers": headers})
        return await CachedAnswers(AnswerCache(), request).answer(
            "it", lambda: (status, Numbered(number=number))
        )

    return asyncio.run(answered())


def test_a_tag_is_that_of_the_contents() -> None:
    one = tag_of(Numbered(number=1, timestamp="2026-01-01T00:00:00.000Z"))
    assert one == tag_of(Numbered(number=1, timestamp="2026-02-02T00:00:00.000Z"))
    assert one != tag_of(Numbered(number=2, timestamp="2026-01-01T00:00:00.000Z"))
    assert ask(1).headers["ETag"] == one


@pytest.mark.parametrize("named", ["{tag}", "W/{tag}", '"a", {tag},"b"', "*"])
def test_what_the_client_has_is_not_sent_again(named: str) -> None:
    tag = ask(1).headers["ETag"]
    again = ask(1, if_none_match=named.replace("{tag}", tag))
    assert (again.status_code, again.body, again.headers["ETag"]) == (304, b"", tag)
    assert ask(2, if_none_match=tag).status_code == 200
    assert ask(1, if_none_match='"other"').status_code == 200


def test_only_a_good_answer_has_a_tag() -> None:
    bad = ask(1, status=503, if_none_match="*")
    assert (bad.status_code, "ETag" in bad.headers) == (503, False)
