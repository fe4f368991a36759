"""Entity tags: a client that has the newest answer already is told so, instead of getting it again."""

from hashlib import blake2b
from typing import Any

from fastapi import Request, Response

from whimbrel.api.models.envelope import Answer

UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "what `If-None-Match` names is still the answer; no body"}
}


def tag_of(answer: Answer) -> str:
    """Returns the tag of an answer: equal for equal contents, whenever they were worked out."""
    body = answer.model_dump_json(by_alias=True, exclude={"timestamp"}).encode()
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'


def tagged(request: Request, response: Response) -> Response:
    """Returns the response, or 304 where the client has it already."""
    tag = response.headers.get("ETag")
    named = {each.strip().removeprefix("W/") for each in request.headers.get("If-None-Match", "").split(",")}
    if tag is None or not named & {tag, "*"}:
        return response
    return Response(status_code=304, headers={"ETag": tag})
