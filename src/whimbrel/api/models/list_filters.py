"""Query parameters by which lists are filtered."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from whimbrel.api.http_errors import ApiError

SEVERAL = "; several: repeat it, or separate them by commas"


def _split(value: Any) -> Any:
    """Separates what stands between commas, so that an address stays short."""
    if not isinstance(value, list):
        return value
    return [part for each in value for part in (each.split(",") if isinstance(each, str) else [each])]


Several = BeforeValidator(_split)


def _moment(text: str) -> datetime:
    # A plus sign that is not escaped arrives as a blank.
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise PydanticCustomError(
            "moment", "Give a time such as 2026-11-24T12:00:00Z, or a day such as 2026-11-24"
        ) from error


def checked_moment(text: str) -> str:
    """Refuses what is no time."""
    _moment(text)
    return text


Moment = Annotated[
    str, Field(max_length=40, json_schema_extra={"format": "moment"}), AfterValidator(checked_moment)
]
_AT = ["2026-11-24T12:00:00Z"]
From = Annotated[
    Moment | None,
    Query(
        alias="from",
        description="only what is of this time or later: RFC 3339, or a day; without a zone in UTC",
        examples=_AT,
    ),
]
To = Annotated[
    Moment | None,
    Query(
        alias="to",
        description="only what is earlier than this time: RFC 3339, or a day; without a zone in UTC",
        examples=_AT,
    ),
]


def span_of(begin: str | None, end: str | None) -> tuple[datetime | None, datetime | None]:
    """Returns both ends as times. Raises ApiError where the second is not after the first."""
    since, until = (None if text is None else _moment(text) for text in (begin, end))
    if since is not None and until is not None and since >= until:
        raise ApiError(422, "invalid", "query.to: nothing is between from and to: `to` must be later.")
    return since, until
