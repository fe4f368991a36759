"""Models of failures and their causes in the API."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from whimbrel.api.models.envelope import Model
from whimbrel.api.models.example_ids import RUN
from whimbrel.domain.bson.document_ids import id_json
from whimbrel.domain.failures.failure import Failure, FailureGroup, FailureState
from whimbrel.domain.failures.known_causes import KnownCause
from whimbrel.domain.failures.trend import Trend
from whimbrel.engine.operating.failure_export import accepted_object
from whimbrel.engine.operating.run_view import iso_time

TAIL = 2000  # characters of a traceback: its last frame and the error
GROUP = "2f1a9c3e"
BRIEF = 200  # characters of a message in a line


class Acceptance(Model):
    """That a person lets a run go on in spite of a cause: its failures do not count for the failure budget."""

    by: str = Field(description="who", examples=["ops"])
    at: str | None = Field(description="when: RFC 3339", examples=["2026-11-24T12:00:00.000Z"])
    note: str = Field(description="why", examples=["known, see the wiki"])


class TrendOf(Model):
    """When failures of a cause were met. It is kept while they are met, not counted: a document that fails again counts again."""

    first_at: str | None = Field(
        description="when the first was met: RFC 3339", examples=["2026-11-24T12:00:00.000Z"]
    )
    last_at: str | None = Field(
        description="when the last was met: RFC 3339", examples=["2026-11-24T12:01:10.000Z"]
    )
    seconds: float = Field(
        description="of each period, the first of which begins with `firstAt`; they get longer as a run does",
        examples=[10.0],
    )
    counts: list[int] = Field(
        description="failures that were met in each period, up to that of `lastAt`: 60 at most",
        examples=[[1, 0, 7]],
    )


class Group(Model):
    """Failures of one cause."""

    group: str = Field(description="short name of the group", examples=[GROUP])
    signature: str = Field(
        description="what they have in common: kind, type, place, and the message without what varies",
        examples=["code:KeyError:prices.py:7 in cents:<text>"],
    )
    kind: str = Field(description="data, code, hang, death or conflict", examples=["code"])
    type: str = Field(
        description="the error's type, or what MongoDB calls its refusal", examples=["KeyError"]
    )
    place: str = Field(
        description="file, line and function of the migration's code that raised it; empty where none did",
        examples=["prices.py:7 in cents"],
    )
    message: str = Field(description="of one of them", examples=["KeyError: 'price'"])
    open: int = Field(description="that are tried again by themselves", examples=[0])
    dead: int = Field(description="that wait for a person", examples=[2])
    resolved: int = Field(description="that are over", examples=[1])
    example: Any = Field(
        description="the `_id` of one of them, as relaxed Extended JSON",
        examples=[{"$oid": "65a1b2c3d4e5f60718293a4b"}],
    )
    accepted: Acceptance | None = Field(
        description="who lets the run go on in spite of this cause; null: nobody", examples=[None]
    )
    code: int | None = Field(
        description="the number of MongoDB's error; null where it has none, or several", examples=[None]
    )
    trend: TrendOf | None = Field(
        description="when failures of it were met; null: an earlier version met them all", examples=[None]
    )


class FailureLine(Model):
    """The failure of one document in short."""

    id: Any = Field(
        description="the document's `_id`, as relaxed Extended JSON",
        examples=[{"$oid": "65a1b2c3d4e5f60718293a4b"}],
    )
    group: str = Field(description="short name of its group", examples=[GROUP])
    kind: str = Field(description="data, code, hang, death or conflict", examples=["code"])
    type: str = Field(
        description="the error's type, or what MongoDB calls its refusal", examples=["KeyError"]
    )
    code: int | None = Field(description="the number of MongoDB's error; null: none", examples=[None])
    message: str = Field(
        description=f"what went wrong, its first {BRIEF} characters", examples=["KeyError: 'price'"]
    )
    attempt: int = Field(description="tries so far", examples=[4])
    state: str = Field(description="open, dead or resolved", examples=["dead"])
    batch_id: str = Field(description="the batch that met it last", examples=[f"{RUN}.1"])
    last_at: str | None = Field(
        description="when it failed last, or was resolved", examples=["2026-11-24T12:00:00.000Z"]
    )


class FailureOf(FailureLine):
    """The failure of one document."""

    message: str = Field(description="what went wrong", examples=["KeyError: 'price'"])
    traceback: str = Field(
        description="its tail: the last frame and the error; empty where there is none",
        examples=['  File "prices.py", line 7, in cents\n    return doc["price"]\nKeyError: \'price\''],
    )
    resolution: str | None = Field(
        description="how it was resolved: changed, unchanged, skipped, gone or reset", examples=[None]
    )
    due_at: str | None = Field(
        description="when it is tried again; null unless it is open", examples=["2026-11-24T12:00:05.000Z"]
    )
    first_at: str | None = Field(description="when it failed first", examples=["2026-11-24T12:00:00.000Z"])


class Rest(Model):
    """What comes after the last group of a page."""

    groups: int = Field(description="groups", examples=[0])
    open: int = Field(description="documents in them that are tried again by themselves", examples=[0])
    dead: int = Field(description="documents in them that wait for a person", examples=[0])
    resolved: int = Field(description="documents in them that are over", examples=[0])


def group_model(group: FailureGroup, known: Mapping[str, KnownCause]) -> Group:
    return Group(
        group=group.group, signature=group.signature, kind=group.kind, type=group.type, place=group.place, message=group.message,
        open=group.open, dead=group.dead, resolved=group.resolved, example=id_json(group.example),
        accepted=Acceptance.model_validate(found) if (found := accepted_object(known.get(group.group))) else None,
        code=group.code, trend=_trend(group.trend) if group.trend else None,
    )  # fmt: skip


def _trend(trend: Trend) -> TrendOf:
    return TrendOf(
        first_at=iso_time(trend.since), last_at=iso_time(trend.last), seconds=trend.width, counts=list(trend.counts)
    )  # fmt: skip


def line_model(failure: Failure) -> FailureLine:
    return FailureLine(**_fields(failure), message=failure.message[:BRIEF])


def failure_model(failure: Failure) -> FailureOf:
    tail = failure.traceback[max(failure.traceback.rfind("  File "), 0) :].rstrip()[-TAIL:]
    return FailureOf(
        **_fields(failure), message=failure.message, traceback=tail, resolution=failure.resolution,
        due_at=iso_time(failure.due_at) if failure.state is FailureState.OPEN else None, first_at=iso_time(failure.first_at),
    )  # fmt: skip


def _fields(failure: Failure) -> dict[str, Any]:
    return {
        "id": id_json(failure.key), "group": failure.group, "kind": str(failure.kind), "type": failure.type, "code": failure.code,
        "attempt": failure.attempt, "state": str(failure.state), "batch_id": failure.batch, "last_at": iso_time(failure.last_at),
    }  # fmt: skip
