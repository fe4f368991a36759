"""Serves the dashboard's own files, which browsers keep: an address belongs to one content."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from whimbrel.api.authorization import OpenToAll
from whimbrel.api.http_errors import ApiError
from whimbrel.dashboard.assets import PREFIX, assets
from whimbrel.dashboard.rendering import takes_gzip

router = APIRouter()
FOR_EVER = "public, max-age=31536000, immutable"
NOT_AT_ALL = "no-cache"


@router.get(f"{PREFIX}/{{version}}/{{name}}", dependencies=[OpenToAll])
async def own_file(
    request: Request,
    version: Annotated[str, Path(max_length=100)],
    name: Annotated[str, Path(max_length=100)],
) -> Response:
    """One file. Another version than ours, as while instances are upgraded, gets ours, but may not keep it."""
    found = assets().files.get(name)
    if found is None:
        raise ApiError(404, "not_found", f"The dashboard has no file {name!r}.")
    headers = {
        "Cache-Control": FOR_EVER if version == assets().version else NOT_AT_ALL,
        "Vary": "Accept-Encoding",
    }
    if not takes_gzip(request):
        return Response(found.content, media_type=found.type, headers=headers)
    return Response(found.packed, media_type=found.type, headers=headers | {"Content-Encoding": "gzip"})
