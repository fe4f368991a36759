"""A dry run as the API shows it."""

from typing import Any, Literal

from pydantic import Field

from whimbrel.api.answers import Model
from whimbrel.api.runs import Warned

ID = "665f1f77bcf86cd799439011"


class SelectedDocuments(Model):
    """Which documents a run would evaluate, and how their number is known."""

    documents: int | None = Field(
        description="the exact number, if counting took up to half a second", examples=[1000]
    )
    estimated: int = Field(description="the same number, or about how many", examples=[1000])
    how: Literal["counted", "sampled", "collection size"] = Field(examples=["counted"])
    index: str | None = Field(
        description="the index by which MongoDB finds them; null: it looks at every document",
        examples=["status_1__id_1"],
    )


class SampleSizes(Model):
    """Documents of the sample, by how they were chosen."""

    documents: int = Field(examples=[40])
    largest: int = Field(default=0, examples=[10])
    oldest: int = Field(default=0, examples=[10])
    newest: int = Field(default=0, examples=[10])
    random: int = Field(default=0, examples=[10])


class SampleOutcomes(Model):
    """Documents of the sample by what became of them."""

    changed: int = Field(examples=[38])
    unchanged: int = Field(examples=[0])
    skipped: int = Field(examples=[1])
    failed: int = Field(examples=[1])
    not_shown: int = Field(description="`notShown` says why", examples=[0])
    not_reached: int = Field(description="the time of the dry run was over", examples=[0])


class SampleFailure(Model):
    """Documents of the sample that failed for one cause."""

    group: str = Field(description="as a run's failures would be grouped", examples=["1f3a5c7e"])
    kind: str = Field(description="data, code, hang or death", examples=["code"])
    type: str = Field(examples=["KeyError"])
    message: str = Field(examples=["'price'"])
    documents: int = Field(examples=[1])
    example: Any = Field(description="`_id` of one of them, Extended JSON", examples=[ID])
    traceback: str = Field(description="its end, of a function", examples=[""])


class NotShown(Model):
    """Documents of the sample whose change cannot be shown without a write."""

    reason: str = Field(examples=["$pull cannot be written as a pipeline: it has no equivalent there."])
    documents: int = Field(examples=[40])


class Change(Model):
    """One difference. Values are canonical Extended JSON, which tells every type."""

    kind: Literal["added", "removed", "changed", "order"] = Field(examples=["added"])
    path: str = Field(
        description="dotted; names with dots, and empty ones, in quotes", examples=["data.processed"]
    )
    old: Any = Field(default=None, examples=[None])
    new: Any = Field(default=None, examples=[True])
    order: list[str] = Field(
        default=[], description="of `order`: the names in their new order", examples=[[]]
    )


class DocumentDiff(Model):
    """One document before and after, mark included."""

    id: Any = Field(description="Extended JSON", examples=[ID])
    changes: list[Change]


class GrowthOfDocuments(Model):
    """Bytes by which documents of the sample grow, mark included."""

    mean: float = Field(examples=[112.5])
    largest: int = Field(examples=[140])
    largest_id: Any = Field(examples=[ID])
    largest_document: int = Field(description="size of the largest document afterwards", examples=[912])
    projected_total: int = Field(description="of all selected documents together", examples=[112500])


class ValidatorResult(Model):
    """Documents of the sample that the collection's validator would refuse."""

    refused: int = Field(examples=[0])
    ids: list[Any] = Field(description="`_id`s of up to ten", examples=[[]])
    refuses: bool = Field(description="false: the validator only warns", examples=[True])


class UniqueClash(Model):
    """Two documents that would have the same key in a unique index."""

    index: str = Field(examples=["email_1"])
    id: Any = Field(examples=[ID])
    other: Any = Field(examples=["665f1f77bcf86cd799439012"])
    stored: bool = Field(description="the other one is not in the sample", examples=[True])


class Verdict(Model):
    holds: bool | None = Field(description="null: nothing could be compared", examples=[True])
    why: str = Field(examples=["All 40 documents came out the same twice."])


class FilterAfter(Model):
    """Whether the filter still selects the changed documents of the sample."""

    filtered: bool = Field(description="there is a filter", examples=[True])
    changed: int = Field(examples=[38])
    still_selected: int = Field(examples=[0])


class Guess(Model):
    value: float = Field(examples=[12.5])
    basis: str = Field(description="what it was taken from", examples=["the last run of this migration"])


class Predicted(Model):
    seconds: Guess
    oplog_bytes: Guess | None


class Plan(Model):
    """What a run would do, shown on a sample of its documents."""

    migration: str = Field(examples=["some-model"])
    collection: str = Field(examples=["whimbrel.somemodels"])
    mark: str = Field(examples=["status"])
    selected: SelectedDocuments
    batches: int = Field(examples=[1])
    batch_size: int = Field(examples=[5000])
    sample: SampleSizes
    outcomes: SampleOutcomes
    failures: list[SampleFailure]
    not_shown: list[NotShown]
    diffs: list[DocumentDiff]
    touched: list[str] = Field(description="paths that change in the sample", examples=[["data.processed"]])
    growth: GrowthOfDocuments | None
    validator: ValidatorResult | None = Field(description="null: the collection has none")
    unique_indexes: list[UniqueClash]
    unchecked: list[str] = Field(description="what could not be looked at, and why", examples=[[]])
    deterministic: Verdict
    idempotent: Verdict
    filter_after: FilterAfter
    warnings: list[Warned] = Field(description="what preflight found", examples=[[]])
    predicted: Predicted
