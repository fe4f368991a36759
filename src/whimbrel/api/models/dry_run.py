"""Models of a dry run in the API."""

from typing import Any, Literal

from pydantic import Field

from whimbrel.api.models.envelope import Model
from whimbrel.api.models.run_parts import Warned

ID = "665f1f77bcf86cd799439011"


class SelectedDocuments(Model):
    """Which documents a run would evaluate, and how their number is known."""

    documents: int | None = Field(
        description="the exact number, if counting took up to half a second", examples=[1000]
    )
    estimated: int = Field(description="the same number, or about how many", examples=[1000])
    how: Literal["counted", "sampled"] = Field(description="how the number is known", examples=["counted"])
    index: str | None = Field(
        description="the index by which MongoDB finds them; null: it looks at every document",
        examples=["status_1__id_1"],
    )


class SampleSizes(Model):
    """Documents of the sample, by how they were chosen."""

    documents: int = Field(description="of all kinds, each once", examples=[40])
    largest: int = Field(default=0, description="the largest ones", examples=[10])
    oldest: int = Field(default=0, description="the first by `_id`", examples=[10])
    newest: int = Field(default=0, description="the last by `_id`", examples=[10])
    random: int = Field(default=0, description="at random", examples=[10])


class SampleOutcomes(Model):
    """Documents of the sample by what became of them."""

    changed: int = Field(description="that would be changed", examples=[38])
    unchanged: int = Field(description="that are right already", examples=[0])
    skipped: int = Field(description="that the function skips", examples=[1])
    failed: int = Field(description="that would fail", examples=[1])
    not_shown: int = Field(description="`notShown` says why", examples=[0])
    not_reached: int = Field(description="the time of the dry run was over", examples=[0])


class SampleFailure(Model):
    """Documents of the sample that failed for one cause."""

    group: str = Field(description="as a run's failures would be grouped", examples=["1f3a5c7e"])
    kind: str = Field(description="data, code, hang or death", examples=["code"])
    type: str = Field(
        description="the error's type, or what MongoDB calls its refusal", examples=["KeyError"]
    )
    message: str = Field(description="of one of them", examples=["'price'"])
    documents: int = Field(description="how many of the sample", examples=[1])
    example: Any = Field(description="`_id` of one of them, Extended JSON", examples=[ID])
    traceback: str = Field(description="its end, of a function", examples=[""])


class NotShown(Model):
    """Documents of the sample whose change cannot be shown without a write."""

    reason: str = Field(
        description="why", examples=["$pull cannot be written as a pipeline: it has no equivalent there."]
    )
    documents: int = Field(description="how many of the sample", examples=[40])


class Change(Model):
    """One difference. Values are canonical Extended JSON, which tells every type."""

    kind: Literal["added", "removed", "changed", "order"] = Field(
        description="what kind of difference", examples=["added"]
    )
    path: str = Field(
        description="dotted; names with dots, and empty ones, in quotes", examples=["data.processed"]
    )
    old: Any = Field(default=None, description="before; null where it was absent", examples=[None])
    new: Any = Field(default=None, description="afterwards; null where it is absent", examples=[True])
    order: list[str] = Field(
        default=[], description="of `order`: the names in their new order", examples=[[]]
    )


class DocumentDiff(Model):
    """One document before and after, mark included."""

    id: Any = Field(description="Extended JSON", examples=[ID])
    changes: list[Change] = Field(description="in the order of the document")


class GrowthOfDocuments(Model):
    """Bytes by which documents of the sample grow, mark included."""

    mean: float = Field(description="bytes, on average", examples=[112.5])
    largest: int = Field(description="bytes, of the one that grows most", examples=[140])
    largest_id: Any = Field(description="its `_id`, Extended JSON", examples=[ID])
    largest_document: int = Field(description="size of the largest document afterwards", examples=[912])
    projected_total: int = Field(description="of all selected documents together", examples=[112500])


class ValidatorResult(Model):
    """Documents of the sample that the collection's validator would refuse."""

    refused: int = Field(description="how many of the sample", examples=[0])
    ids: list[Any] = Field(description="`_id`s of up to ten", examples=[[]])
    refuses: bool = Field(description="false: the validator only warns", examples=[True])


class UniqueClash(Model):
    """Two documents that would have the same key in a unique index."""

    index: str = Field(description="name of the index", examples=["email_1"])
    id: Any = Field(description="`_id` of one, Extended JSON", examples=[ID])
    other: Any = Field(
        description="`_id` of the other one, Extended JSON", examples=["665f1f77bcf86cd799439012"]
    )
    stored: bool = Field(description="the other one is not in the sample", examples=[True])


class Verdict(Model):
    """Whether something holds for the sample."""

    holds: bool | None = Field(description="null: nothing could be compared", examples=[True])
    why: str = Field(
        description="what it was seen by", examples=["All 40 documents came out the same twice."]
    )


class FilterAfter(Model):
    """Whether the filter still selects the changed documents of the sample."""

    filtered: bool = Field(description="there is a filter", examples=[True])
    changed: int = Field(description="documents of the sample that are changed", examples=[38])
    still_selected: int = Field(description="of those: how many the filter selects once more", examples=[0])


class Guess(Model):
    """A number that is predicted, and what from."""

    value: float = Field(description="the number", examples=[12.5])
    basis: str = Field(description="what it was taken from", examples=["the last run of this migration"])


class Predicted(Model):
    """What a run would cost."""

    seconds: Guess = Field(description="until the end of the run")
    oplog_bytes: Guess | None = Field(description="that the run adds to the oplog; null: it cannot be said")


class Plan(Model):
    """What a run would do, shown on a sample of its documents."""

    migration: str = Field(description="name of the migration", examples=["some-model"])
    collection: str = Field(description="database and collection", examples=["whimbrel.somemodels"])
    mark: str = Field(description="how it knows what is done: status, marker or filter", examples=["status"])
    update: Any = Field(
        description="of a declared migration: its update as it is evaluated now, as relaxed Extended JSON; null: a function",
        examples=[[{"$set": {"status": "success"}}]],
    )
    filters: dict[str, Any] = Field(
        description="what selects the documents, but for their status and mark, as relaxed Extended JSON",
        examples=[{"country": "NL"}],
    )
    selected: SelectedDocuments = Field(description="which documents a run would evaluate")
    batches: int = Field(description="in about how many batches", examples=[1])
    batch_size: int = Field(description="documents in a batch", examples=[5000])
    sample: SampleSizes = Field(description="which documents were tried")
    outcomes: SampleOutcomes = Field(description="what became of the sample")
    failures: list[SampleFailure] = Field(description="those of the sample, by cause")
    not_shown: list[NotShown] = Field(description="what of the sample cannot be shown without a write")
    diffs: list[DocumentDiff] = Field(description="a few documents before and after")
    touched: list[str] = Field(description="paths that change in the sample", examples=[["data.processed"]])
    growth: GrowthOfDocuments | None = Field(
        description="bytes by which they grow; null where none is changed"
    )
    validator: ValidatorResult | None = Field(description="null: the collection has none")
    unique_indexes: list[UniqueClash] = Field(description="documents that would break a unique index")
    unchecked: list[str] = Field(description="what could not be looked at, and why", examples=[[]])
    deterministic: Verdict = Field(description="whether the same document always gives the same result")
    idempotent: Verdict = Field(description="whether a second time changes nothing")
    filter_after: FilterAfter = Field(description="whether what was changed is selected again")
    warnings: list[Warned] = Field(description="what preflight found", examples=[[]])
    predicted: Predicted = Field(description="how long it takes, and what it adds to the oplog")
