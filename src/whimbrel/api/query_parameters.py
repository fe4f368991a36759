"""Checks query parameters: only those that the route knows, each once, but for lists."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from fastapi import Request
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from whimbrel.api.http_errors import ApiError, bad_fields
from whimbrel.api.models.envelope import Fault
from whimbrel.api.suggestions import unknown


async def check_query(request: Request) -> None:
    """Dependency of all routes: refuses unknown parameters, such as a misspelt `?limti=5`. Raises ApiError.

    It is async, as a sync one would take a thread for each request.
    """
    route: APIRoute = request.scope["route"]
    parameters = list(_parameters(route.dependant))
    names = sorted(str(parameter.alias) for parameter in parameters)
    lists = {str(each.alias) for each in parameters if _is_list(each.field_info.annotation)}
    parameter_counts = Counter(name for name, _ in request.query_params.multi_items())
    faults = [
        Fault(
            field=f"query.{name[:100]}", message=unknown(name, names) if name not in names else "Given twice"
        )
        for name, times in parameter_counts.items()
        if name not in names or (times > 1 and name not in lists)
    ]
    if faults:
        sentence, details = bad_fields(faults, len(faults))
        hint = f"This route knows: {', '.join(names)}." if names else "This route knows none."
        raise ApiError(422, "invalid", f"These query parameters cannot be used: {sentence} {hint}", details)


def _parameters(dependant: Dependant) -> Iterator[ModelField]:
    yield from dependant.query_params
    for dependency in dependant.dependencies:
        yield from _parameters(dependency)


def _is_list(annotation: Any) -> bool:
    """Whether a parameter may be given several times."""
    return get_origin(annotation) is list or any(map(_is_list, get_args(annotation)))
