"""Finds out in advance what the routes need: the scope of a token, and the fields of a body."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.routing import BaseRoute
from starlette.types import Scope

from whimbrel.api.authorization import RANKS, RequiredScope, ScopeName, is_form, is_open_to_all


@dataclass(frozen=True, slots=True)
class Requirement:
    """The requirements of one route. `operation`: its id. `needs` None: no scope. `fields`: of its body; None where it takes none.

    `open`: it never needs a token. `form`: its body is one of a form, not JSON.
    """

    operation: str

    path: re.Pattern[str]
    methods: frozenset[str]
    needs: ScopeName | None
    fields: frozenset[str] | None
    open: bool = False
    form: bool = False


class RouteRequirements:
    """The requirements of all routes, as they are when the first request comes."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes
        self._entries: Sequence[Requirement] | None = None

    @property
    def entries(self) -> Sequence[Requirement]:
        if self._entries is None:
            self._entries = tuple(_entries(self._routes))
        return self._entries

    def at(self, scope: Scope) -> Requirement | None:
        """Returns the requirements of the route that a request will reach; None where none has this path and method."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        return next((requirement for requirement in self._of(scope) if method in requirement.methods), None)

    def methods(self, scope: Scope) -> frozenset[str]:
        """Returns the methods of all routes of a request's path; empty where there is no such path."""
        return frozenset().union(*(requirement.methods for requirement in self._of(scope)))

    def _of(self, scope: Scope) -> Iterator[Requirement]:
        return (requirement for requirement in self.entries if requirement.path.match(scope["path"]))


def _entries(routes: Sequence[BaseRoute]) -> Iterator[Requirement]:
    for route in iter_route_contexts(routes):
        dependant = getattr(route.original_route, "dependant", None)
        if isinstance(dependant, Dependant):
            scopes = sorted(_scopes(dependant), key=lambda scope: RANKS[scope])
            yield Requirement(
                str(route.operation_id or route.unique_id),
                route.path_regex,
                frozenset(route.methods or ()),
                scopes[-1] if scopes else None,
                _fields(dependant),
                any(is_open_to_all(dependency.call) for dependency in dependant.dependencies),
                any(is_form(dependency.call) for dependency in dependant.dependencies),
            )


def _scopes(dependant: Dependant) -> Iterator[ScopeName]:
    if isinstance(dependant.call, RequiredScope):
        yield dependant.call.scope
    for dependency in dependant.dependencies:
        yield from _scopes(dependency)


def _fields(dependant: Dependant) -> frozenset[str] | None:
    """Returns the names of the fields that its body may have."""
    if len(dependant.body_params) != 1:
        return None
    kind = dependant.body_params[0].field_info.annotation
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return None
    fields = kind.model_fields
    return frozenset(fields) | {field.alias for field in fields.values() if field.alias}
