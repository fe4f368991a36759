"""The head of all pages alone: each page asks for it, and so learns whether the server is there, and the session holds."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from whimbrel.api.authorization import OpenToAll, Reader
from whimbrel.api.deployment import Deployment
from whimbrel.dashboard.rendering import render

router = APIRouter()


@router.get("/dashboard", dependencies=[OpenToAll])
@router.get("/dashboard/", dependencies=[OpenToAll])
async def front() -> Response:
    """Whoever types the address without the name of a page."""
    return RedirectResponse("/", 303)


@router.get("/dashboard/frame")
def frame(request: Request, _deployment: Deployment, _: Reader) -> Response:
    """A page without content, of which others ask for the parts."""
    return render(request, "base.html")
