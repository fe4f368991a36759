"""Models of what a person has seen before they start a run."""

from typing import Annotated

from pydantic import Field

from whimbrel.api.models.envelope import EXACT, Model, WholeNumber
from whimbrel.engine.operating import expectations

NS, HOST = "whimbrel.somemodels", "db1.example:27017"


class Seen(Model):
    """What the caller has seen. Where it is not so any more, nothing is started: 409 `not_as_seen`."""

    documents: Annotated[int, Field(strict=True, ge=0, le=EXACT), WholeNumber] = Field(
        description="how many documents it would be about; a tenth more, or a hundred, is no difference",
        examples=[1000],
    )
    collection: str = Field(max_length=1000, description="database and collection", examples=[NS])
    host: str = Field(max_length=4000, description="hosts of MongoDB, or `embedded`", examples=[HOST])


def seen_of(seen: Seen | None) -> expectations.Seen | None:
    return None if seen is None else expectations.Seen(seen.documents, seen.collection, seen.host)
