"""Lists the migrations that are loaded, and those that are broken."""

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import Field

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import ThisSystem
from whimbrel.api.models.envelope import Answer, Model, failures
from whimbrel.engine.operating.definition_view import definitions_object

router = APIRouter(prefix="/migrate", tags=["migration"])


class DefinitionOf(Model):
    """A migration that is loaded."""

    name: str = Field(description="unique", examples=["some-model"])
    version: int = Field(description="as its author counts", examples=[1])
    collection: str = Field(description="where its documents are", examples=["somemodels"])
    database: str | None = Field(description="null: the one of MONGODB_DB_NAME", examples=[None])
    ns: str = Field(
        description="database and collection, as its runs show it", examples=["whimbrel.somemodels"]
    )
    mark: Literal["status", "marker", "filter"] = Field(
        description="how it knows what is done: status, marker or filter", examples=["status"]
    )
    status_field: str | None = Field(
        description="of the mark `status`: the field that holds it; null: another mark", examples=["status"]
    )
    declarative: bool = Field(
        description="whether MongoDB itself does it, without a function", examples=[True]
    )
    filter: dict[str, Any] | None = Field(
        description="which documents it is about, as relaxed Extended JSON, as its file was evaluated when this process began; null where it takes more than 2,000 bytes",
        examples=[{"currency": "EUR"}],
    )
    abridged: bool = Field(description="whether `filter` is null because it is too long", examples=[False])
    undo: bool | Literal["document"] = Field(
        description="whether its runs keep before-images: of the fields that they touch, or of the whole document",
        examples=[False],
    )
    batch_size: int | None = Field(
        description="documents in a batch; null: it says nothing, and batches are sized by the settings, or by what they take",
        examples=[None],
    )
    source: str = Field(description="file or module; `Whimbrel` for the built-in one", examples=["people.py"])
    summary: str = Field(description="what its author says of it", examples=["Splits names in two."])
    code_hash: str = Field(
        description="of its code: a run goes on only by the code that it began with",
        examples=["5721c65e8e6cd6f5"],
    )
    depends_on: list[str] = Field(
        description="migrations that must be complete before a run of it may start, each as `name` or `name@version`",
        examples=[[]],
    )


class BrokenOf(Model):
    """A migration that cannot be used. The others of its file and folder can."""

    name: str | None = Field(description="null: all that the file defines", examples=["split-name"])
    source: str = Field(description="file or module", examples=["people.py"])
    reason: str = Field(
        description="why, and what to do",
        examples=[
            "people.py cannot be loaded: No module named 'shop'. Install what it imports beside Whimbrel."
        ],
    )


class Definitions(Answer):
    """The migrations that are loaded."""

    migrations: list[DefinitionOf] = Field(description="the built-in one first")
    broken: list[BrokenOf] = Field(description="those that cannot be used")


@router.get("/definitions", responses=failures())
def definitions(system: ThisSystem, _: Reader) -> Definitions:
    """The migrations that are loaded: what each is about, and how its runs go about it."""
    return Definitions(**definitions_object(system.loaded, system.settings.database))
