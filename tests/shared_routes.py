"""The routes of the API, built once for all applications of a test process.

FastAPI builds what stands behind each of the routes anew for each application, with its first request. That takes a quarter of a second,
more than most tests do with their application; and nothing of it depends on the application, as Whimbrel overrides no dependencies.
"""

from typing import Any

import pytest
from fastapi import routing

_BUILD = "_build_effective_context"


def share_routes(patch: pytest.MonkeyPatch) -> None:
    included: Any = routing._IncludedRouter
    build = getattr(included, _BUILD)
    built: dict[tuple[Any, ...], Any] = {}

    def shared(self: Any, route: Any) -> Any:
        context = self.include_context
        key = (id(route), context.prefix, *(each.dependency for each in context.dependencies))
        if key not in built:
            built[key] = build(self, route), route  # which keeps its id its own
        return built[key][0]

    patch.setattr(included, _BUILD, shared)
