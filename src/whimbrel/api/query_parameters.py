"""Checks query parameters: only those that the route knows, each once."""

from collections import Counter

from fastapi import Request
from fastapi.routing import APIRoute

from whimbrel.api.http_errors import ApiError, bad_fields
from whimbrel.api.models.envelope import Fault
from whimbrel.api.suggestions import unknown


async def check_query(request: Request) -> None:
    """Dependency of all routes: refuses unknown parameters, such as a misspelt `?limti=5`. Raises ApiError.

    It is async, as a sync one would take a thread for each request.
    """
    route: APIRoute = request.scope["route"]
    names = sorted(str(parameter.alias) for parameter in route.dependant.query_params)
    parameter_counts = Counter(name for name, _ in request.query_params.multi_items())
    faults = [
        Fault(
            field=f"query.{name[:100]}", message=unknown(name, names) if name not in names else "Given twice"
        )
        for name, times in parameter_counts.items()
        if name not in names or times > 1
    ]
    if faults:
        sentence, details = bad_fields(faults, len(faults))
        hint = f"This route knows: {', '.join(names)}." if names else "This route knows none."
        raise ApiError(422, "invalid", f"These query parameters cannot be used: {sentence} {hint}", details)
