"""Models of the envelope that every answer has, of success and of failure, in camel case."""

import re
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from whimbrel.engine.operating.run_view import iso_time

NUMBER = re.compile(r"-?[0-9]{1,20}(\.0{1,20})?")


def now() -> str:
    return iso_time(datetime.now(UTC)) or ""


def _as_whole_number(value: Any) -> Any:
    """Turns 5.0 into 5, as JSON has one kind of number. The field then refuses other values and fractions."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _in_digits(value: Any) -> Any:
    """Refuses numbers that JSON would not write so: Python also reads `1_0`, `+5` and blanks."""
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        raise PydanticCustomError("int_parsing", "Input should be a whole number, in digits")
    return value


WholeNumber = BeforeValidator(_as_whole_number)  # after a field's limits, else they are not checked
WholeNumberText = BeforeValidator(_in_digits)  # for paths and queries, whose numbers are texts
EXACT = 2**53 - 1  # every reader of JSON keeps whole numbers up to this exact


class Model(BaseModel):
    """A part of a request or an answer. Unknown fields of a request are an error, not silence."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Answer(Model):
    """An answer to a request that was carried out."""

    success: Literal[True] = Field(default=True, description="that it was carried out")
    timestamp: str = Field(
        default_factory=now,
        description="when it was answered: RFC 3339, UTC, milliseconds",
        examples=["2026-11-24T12:00:00.000Z"],
    )


class Fault(Model):
    """One field of a request that cannot be used."""

    field: str = Field(description="where: `body.batchSize`, `query.limit`", examples=["body.batchSize"])
    message: str = Field(
        description="what is wrong with it", examples=["Input should be greater than or equal to 1"]
    )


class Failure(Model):
    """An answer to a request that was not carried out."""

    success: Literal[False] = Field(default=False, description="that it was not")
    error: str = Field(
        description="a sentence that says what to do", examples=["There is no run '20261124-abc234'."]
    )
    code: str = Field(description="the same for machines", examples=["run_unknown"])
    details: list[Fault] | None = Field(
        default=None,
        description="the fields at fault, up to 20 of them; left out where there is none",
        examples=[
            [{"field": "body.batchSize", "message": "Input should be greater than or equal to 1"}],
        ],
    )
    timestamp: str = Field(
        default_factory=now, description="as of success", examples=["2026-11-24T12:00:00.000Z"]
    )


MEANINGS = {
    400: "the body is no JSON, or a confirmation is missing",
    401: "no token, or an unknown one",
    403: "a page of another site sent this, or the token's scope does not allow it",
    404: "there is nothing of that id or name",
    409: "the state forbids it",
    408: "the body did not come in time",
    413: "the body is larger than 1 MiB (`/migrate/bulk`: 8 MiB; where none is taken: 64 KiB)",
    415: "the body is not `application/json`, or is compressed",
    422: "fields are out of range; the first 20 are named in `details`",
    429: "too many such requests; `Retry-After` says when to come back",
    503: "a dependency is down, or too much is asked at once; the sentence says which",
}


def failures(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Returns the `responses` of a route: those that all have, and these."""
    common = (401, 403, 429, 503)
    return {code: {"model": Failure, "description": MEANINGS[code]} for code in sorted({*common, *codes})}
