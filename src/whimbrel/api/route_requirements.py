"""What the routes need, known before any of them is asked: the scope of a token, and the fields of a body."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.routing import BaseRoute
from starlette.types import Scope

from whimbrel.api.authorization import RANKS, RequiredScope, ScopeName


@dataclass(frozen=True, slots=True)
class Requirement:
    """One route. `operation`: its id. `needs` None: open to all. `fields`: those of its body; None where it takes none."""

    operation: str

    path: re.Pattern[str]
    methods: frozenset[str]
    needs: ScopeName | None
    fields: frozenset[str] | None


class RouteRequirements:
    """All routes, as they are when the first request comes."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes
        self._entries: Sequence[Requirement] | None = None

    @property
    def entries(self) -> Sequence[Requirement]:
        if self._entries is None:
            self._entries = tuple(_entries(self._routes))
        return self._entries

    def at(self, scope: Scope) -> Requirement | None:
        """The route that a request will reach; None where none is of this path and method."""
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        return next((each for each in self._of(scope) if method in each.methods), None)

    def methods(self, scope: Scope) -> frozenset[str]:
        """Those of all routes of the path that a request has; none where there is no such path."""
        return frozenset().union(*(each.methods for each in self._of(scope)))

    def _of(self, scope: Scope) -> Iterator[Requirement]:
        return (each for each in self.entries if each.path.match(scope["path"]))


def _entries(routes: Sequence[BaseRoute]) -> Iterator[Requirement]:
    for route in iter_route_contexts(routes):
        dependant = getattr(route.original_route, "dependant", None)
        if isinstance(dependant, Dependant):
            scopes = sorted(_scopes(dependant), key=lambda each: RANKS[each])
            yield Requirement(
                str(route.operation_id or route.unique_id),
                route.path_regex,
                frozenset(route.methods or ()),
                scopes[-1] if scopes else None,
                _fields(dependant),
            )


def _scopes(dependant: Dependant) -> Iterator[ScopeName]:
    if isinstance(dependant.call, RequiredScope):
        yield dependant.call.scope
    for each in dependant.dependencies:
        yield from _scopes(each)


def _fields(dependant: Dependant) -> frozenset[str] | None:
    """The names that its body may have."""
    if len(dependant.body_params) != 1:
        return None
    kind = dependant.body_params[0].field_info.annotation
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return None
    fields = kind.model_fields
    return frozenset(fields) | {each.alias for each in fields.values() if each.alias}
