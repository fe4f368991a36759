"""Renders templates: everything that comes from documents, functions and people is text there, and never markup."""

import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from whimbrel.api.app import SECURITY
from whimbrel.api.authorization import Caller, ScopeName
from whimbrel.api.deployment import System
from whimbrel.dashboard.assets import assets
from whimbrel.dashboard.cluster import ClusterLine
from whimbrel.dashboard.formats import FILTERS
from whimbrel.domain.text.printable import visible
from whimbrel.engine.operating.run_view import iso_time

PARTS: Final = "X-Parts"  # header of a request for some blocks of a page, by their names with commas between
POLICY: Final = (
    "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    **SECURITY,
    # No other site learns an address. With no-referrer, browsers would not say either to this server which page has sent a form.
    "Referrer-Policy": "same-origin",
    "Content-Security-Policy": POLICY,
    "Vary": f"Cookie, Accept, Accept-Encoding, {PARTS}",
}
_SMALL: Final = 1000  # bytes that are not worth packing


HOME: Final = "/dashboard/runs"  # the page that browsers get at `/`


@dataclass(frozen=True, slots=True)
class Link:
    """An entry of the navigation."""

    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Frame:
    """What is the same on all pages of a process."""

    links: Sequence[Link]
    cluster: ClusterLine
    login: bool  # whether callers are known by tokens


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """Returns a page, or of a page that is shown already the blocks that the request names, as JSON.

    Asks the database for the head of the page: call it in a thread, as from a route without `async`.
    """
    frame, system = _frame(request), _system(request)
    cluster = frame.cluster.now() if system.ready else None
    found, context = environment().get_template(template), _context(request) | {"cluster": cluster} | values
    parts = request.headers.get(PARTS, "")
    if parts:
        return _unless_known(request, JSONResponse(_blocks(found, parts.split(","), context), status))
    return _packed(request, HTMLResponse(found.render(context), status, headers=dict(HEADERS)))


def render_alone(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """Returns a page that needs nothing of the database."""
    text = environment().get_template(template).render(_context(request) | {"cluster": None} | values)
    return _packed(request, HTMLResponse(text, status, headers=dict(HEADERS)))


def takes_gzip(request: Request) -> bool:
    """Whether the client reads answers packed by gzip."""
    codings = (part.partition(";") for part in request.headers.get("accept-encoding", "").lower().split(","))
    return any(
        name.strip() == "gzip" and quality.strip() not in ("q=0", "q=0.0") for name, _, quality in codings
    )


def _packed(request: Request, page: Response) -> Response:
    """Packs a page: much of it is the same in each row."""
    if len(page.body) > _SMALL and takes_gzip(request):
        page.body = gzip.compress(bytes(page.body), compresslevel=4, mtime=0)
        page.headers["Content-Encoding"] = "gzip"
        page.headers["Content-Length"] = str(len(page.body))
    return page


def _blocks(template: Template, names: Sequence[str], context: Mapping[str, Any]) -> dict[str, str]:
    """Renders only these blocks, whether the template has them or one that it extends; unknown names are left out."""
    scope = template.new_context(dict(context))
    next(iter(template.root_render_func(scope)), None)  # up to its first text: then all blocks are known
    return {name: "".join(scope.blocks[name][0](scope)) for name in names if name in scope.blocks}


def _unless_known(request: Request, response: JSONResponse) -> Response:
    """Returns the answer, or 304 where the page has the same already."""
    tag = f'"{hashlib.sha256(bytes(response.body)).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    response.headers["ETag"] = tag
    return response


def _context(request: Request) -> dict[str, Any]:
    caller: Caller | None = request.state.caller

    def may(scope: ScopeName) -> bool:
        return caller is not None and caller.may(scope)

    frame, system = _frame(request), _system(request)
    return {
        "path": "/" if request.url.path == HOME else request.url.path, "query": request.url.query, "caller": caller, "may": may, "links": frame.links, "login": frame.login,
        "version": system.version, "now": iso_time(datetime.now(UTC)),
        "where": _hosts(system.deployment.where) if system.ready else "",
        "database": system.deployment.store.database if system.ready else "",
    }  # fmt: skip


def _hosts(address: str) -> str:
    """Returns the hosts of an address of MongoDB, without user and options; other texts as they are."""
    hosts = re.fullmatch(r"mongodb(?:\+srv)?://(?:[^@]*@)?([^/?]+).*", address)
    return address if hosts is None else f"MongoDB on {hosts[1]}"


@cache
def environment() -> Environment:
    """Returns the templates of this installation."""
    made = Environment(
        loader=PackageLoader("whimbrel.dashboard"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=_readable, auto_reload=False,
    )  # fmt: skip
    made.filters.update(FILTERS)
    made.globals |= {"static": assets().address, "icon": _icon}
    return made


def _icon(name: str) -> Markup:
    """Returns a picture of `static/icons.svg`; the word beside it says the same."""
    return Markup('<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>').format(
        assets().address("icons.svg"), name
    )


def _readable(value: Any) -> Any:
    """Shows characters that would reverse or hide the text beside them as escapes; None as nothing."""
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _frame(request: Request) -> Frame:
    frame: Frame = request.app.state.frame
    return frame


def _system(request: Request) -> System:
    system: System = request.app.state.system
    return system
