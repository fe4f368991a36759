"""Samples documents once for several checks: sizes, validity, what is at the parents of dotted paths."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from whimbrel.domain.migrations.updates import parents
from whimbrel.domain.runs.preflight_findings import CheckName, Finding, warning
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.preflight.subject import LOOK, Subject, size
from whimbrel.mongo.random_sample import with_smaller_samples

LIMIT = 16 * 1024 * 1024  # bytes of a document
NEAR = int(0.9 * LIMIT)
IMAGE = 150  # bytes of a before-image without the fields in it
PATHS = 20  # parents that are checked


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Counts of the documents in the sample. Sizes, `invalid` and `blocked` are of the eligible ones."""

    complete: bool  # whether these are all documents
    examined: int
    eligible: int
    mean: float  # bytes
    largest: int  # bytes
    image: float  # mean bytes of what a before-image keeps of a document; 0 where the run keeps none
    largest_with_image: int  # bytes
    invalid: int  # violate the validator already
    blocked: Mapping[str, int]  # by path: where something that is not a document is

    @property
    def share(self) -> float:
        """The share of the documents that is eligible."""
        return self.eligible / self.examined if self.examined else 0.0

    @property
    def basis(self) -> str:
        where = f"all {self.examined:,}" if self.complete else f"a random sample of {self.examined:,}"
        return f"the {self.eligible:,} eligible among {where} documents"


def take(subject: Subject, paths: Iterable[str] | None) -> Sample:
    """Takes the sample. `paths`: what the run changes, None where that is not known. Raises TooSlow, Systemic, Refused."""
    parent_paths = sorted(parents(subject.definition.update or {}))[:PATHS]
    eligible = {"$match": subject.eligible}
    weight = {"$bsonSize": "$$ROOT"}
    image = _image(subject, paths)
    sums = {
        "_id": None, "n": {"$sum": 1}, "mean": {"$avg": weight}, "largest": {"$max": weight},
        "image": {"$avg": image}, "both": {"$max": {"$add": [weight, image]}},
    }  # fmt: skip
    facets: dict[str, list[Any]] = {"all": [{"$count": "n"}], "eligible": [eligible, {"$group": sums}]}
    if subject.validator is not None:
        facets["invalid"] = [eligible, {"$match": {"$nor": [subject.validator]}}, {"$count": "n"}]
    for number, path in enumerate(parent_paths):
        fine = {"$in": [{"$type": f"${path}"}, ["missing", "object"]]}
        facets[f"above{number}"] = [eligible, {"$match": {"$expr": {"$not": [fine]}}}, {"$count": "n"}]
    pipeline: list[Mapping[str, Any]] = [*subject.drawn, {"$facet": facets}]
    with translated():
        row = with_smaller_samples(
            lambda stages: next(subject.collection.aggregate(stages, maxTimeMS=LOOK)), pipeline
        )
    sizes: Mapping[str, Any] = (
        row["eligible"][0] if row["eligible"] else dict.fromkeys(("n", "mean", "largest", "image", "both"), 0)
    )
    return Sample(
        complete=not subject.drawn, examined=_count(row["all"]), eligible=sizes["n"], mean=sizes["mean"], largest=sizes["largest"],
        image=sizes["image"], largest_with_image=sizes["both"],
        invalid=_count(row.get("invalid", [])),
        blocked={path: _count(row[f"above{number}"]) for number, path in enumerate(parent_paths)},
    )  # fmt: skip


def _image(subject: Subject, paths: Iterable[str] | None) -> dict[str, Any]:
    """Returns the size of a document's before-image: of what the run changes, before and after, or of all."""
    if not subject.run.undo:
        return {"$literal": 0}
    fields = None if paths is None else sorted({path.partition(".")[0] for path in paths})
    document_size = {"$bsonSize": "$$ROOT"}
    if not fields or any(not field or field[0] == "$" for field in fields):
        return {"$add": [IMAGE, document_size, document_size]}
    fields_size = {"$bsonSize": {f"f{number}": f"${field}" for number, field in enumerate(fields)}}
    return {"$add": [IMAGE, document_size if subject.run.undo == "document" else fields_size, fields_size]}


def _count(rows: list[Mapping[str, Any]]) -> int:
    return int(rows[0]["n"]) if rows else 0


def check(subject: Subject, sample: Sample, growth: int) -> Iterator[Finding]:
    """Yields findings from a sample. `growth`: bytes that a document gains, its before-image included."""
    with_image = " with its before-image" if subject.run.undo else ""
    if sample.largest + growth > NEAR:
        yield warning(
            CheckName.SIZE,
            f"A document of {subject.name} has {size(sample.largest)} and gains about {size(growth)}{with_image}; more than {size(LIMIT)} no document may have (largest of {sample.basis}).",
            "Those that grow too large become failures and stay as they are. Make them smaller first, or take them out by the filter.",
            largest=sample.largest, growth=growth, limit=LIMIT,
        )  # fmt: skip
    if sample.invalid and subject.options.get("validationLevel", "strict") == "strict":
        yield warning(
            CheckName.VALIDATOR,
            f"{subject.name} has a strict validator, which {sample.invalid:,} of {sample.basis} violate already. MongoDB refuses a change that leaves such a document invalid: it becomes a failure.",
            "Mend those documents first, let the migration mend them, or set validationLevel to moderate.",
            invalid=sample.invalid, eligible=sample.eligible, level="strict",
        )  # fmt: skip
    elif sample.invalid:
        yield warning(
            CheckName.VALIDATOR,
            f"{subject.name} has a moderate validator, which {sample.invalid:,} of {sample.basis} violate already. MongoDB does not check changes of those: they are changed, and may stay invalid.",
            "If the migration shall make them valid, look for what is still invalid at its end: {$nor: [the validator]}.",
            invalid=sample.invalid, eligible=sample.eligible, level="moderate",
        )  # fmt: skip
    for path, count in sample.blocked.items():
        if count:
            yield warning(
                CheckName.PARENT,
                f"The update sets a path under {path!r}, which is no document in {count:,} of {sample.basis}: MongoDB replaces what stands there without a word (in an array: of each element).",
                f"If that is not meant, refuse such documents by {{'$mergeObjects': ['${path}', ...]}}, which fails on them, or leave them out by the filter.",
                path=path, documents=count, eligible=sample.eligible,
            )  # fmt: skip
