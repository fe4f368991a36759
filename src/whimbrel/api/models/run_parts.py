"""Models of what a run in the API is made of: its warnings, stages, phases, options and sizes."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from whimbrel.api.models.envelope import Model
from whimbrel.domain.runs.preflight_findings import Finding, finding_object


class Warned(Model):
    """What preflight found before a run started; docs/preflight.md lists the checks."""

    check: str = Field(description="what was looked at", examples=["index"])
    level: str = Field(
        description="warning; unknown, where the check could not be done; error, of a dry run whose function changes `_id`; info, which asks nothing",
        examples=["warning"],
    )
    reason: str = Field(description="what was found", examples=["No index yields the eligible documents."])
    remedy: str = Field(description="what to do", examples=["Build one first."])
    detail: dict[str, Any] | None = Field(
        description="the same for machines; of the check `index`: `winningPlan` of MongoDB's explain, and `build`, the command that builds the index",
        examples=[{"winningPlan": {"stage": "COLLSCAN"}}],
    )


def warned_models(findings: Iterable[Finding]) -> list[Warned]:
    return [Warned(**finding_object(finding)) for finding in findings]


class GateFindingOf(Model):
    """What the gate of a stage found in one respect."""

    check: str = Field(description="failures, conflicts, canary or sample", examples=["failures"])
    passed: bool | None = Field(description="null: it could not be told", examples=[True])
    said: str = Field(description="the same for people", examples=["0 of 1,000 documents failed."])


class StageOf(Model):
    """One stage of a run. The numbers are those of all stages so far, when the gate was looked at."""

    stage: int = Field(description="its number, from 1", examples=[1])
    asked: str = Field(description="as it was asked for: documents, or a percentage", examples=["1%"])
    documents: int = Field(description="about how many documents the stages so far have", examples=[1000])
    state: str = Field(
        description="waiting, running, holding (until `heldUntil`), approval (a person must approve it), refused (by its gate; the run pauses), or passed",
        examples=["passed"],
    )
    evaluated: int = Field(description="documents evaluated", examples=[1000])
    failed: int = Field(description="documents with an unresolved failure", examples=[0])
    conflicts: int = Field(description="documents that the application kept changing", examples=[0])
    gate: list[GateFindingOf] = Field(description="what the gate found", examples=[[]])
    looked_at: str | None = Field(description="when the gate was looked at: RFC 3339", examples=[None])
    held_until: str | None = Field(description="RFC 3339", examples=[None])
    passed_at: str | None = Field(description="when the run was let go on: RFC 3339", examples=[None])
    approved_by: str | None = Field(description="who let it go on", examples=[None])


class StagesOf(Model):
    """The stages of a run."""

    current: int = Field(description="number of the stage that it is in, or was in at its end", examples=[1])
    hold: float = Field(description="seconds that each gate waits", examples=[600])
    approve: bool = Field(description="whether a person must approve each stage", examples=[False])
    stages: list[StageOf] = Field(description="each of them; the last one is everything, and has no gate")


class ProofOf(Model):
    """One sentence of a verification."""

    check: str = Field(description="what was looked at", examples=["ranges tile"])
    proved: bool | None = Field(
        description="true; false where a fault was found; null where nothing can prove it", examples=[True]
    )
    verdict: str = Field(
        description="proved, fault, changed since (by others, after the run) or not proved",
        examples=["proved"],
    )
    said: str = Field(
        description="the same for people",
        examples=["The batches' ranges tile the key space without gap or overlap."],
    )
    numbers: dict[str, int] = Field(description="what it rests on", examples=[{"looked": 1000}])


class OptionsOf(Model):
    """The options that a run was started with; those that nobody named are as the migration or the configuration has them."""

    batch_size: int | None = Field(
        description="documents in a batch; null: as it is measured", examples=[None]
    )
    max_docs_per_second: int | None = Field(description="null: as fast as it can", examples=[2000])
    priority: int = Field(description="0 to 10", examples=[0])
    windows: list[str] = Field(description="hours in which it works; empty: at any time", examples=[[]])
    nice: int = Field(description="0 to 100", examples=[0])
    max_failures: int | None = Field(description="null: any number", examples=[None])
    max_failure_rate: float | None = Field(description="null: any", examples=[0.05])
    max_new_cause: int | None = Field(description="null: any number", examples=[20])
    follow: bool = Field(description="whether it goes on with what changes after its sweep", examples=[False])
    undo: bool | Literal["document"] = Field(description="whether it keeps before-images", examples=[False])
    adopt: str = Field(
        description="which documents left in `processing` it takes: ours or all", examples=["ours"]
    )
    stages: list[str] = Field(description="its stages; empty: all at once", examples=[["1%"]])
    hold: float | None = Field(description="seconds that each gate waits; null: no stages", examples=[None])
    approve: bool = Field(description="whether a person must approve each stage", examples=[False])


class PhaseOf(Model):
    """A leg of a run: one phase, or one of the phases of a stage. Numbers are null where an earlier version has not kept them."""

    leg: int = Field(description="its number, from 0", examples=[0])
    phase: str = Field(description="pending, processing, failed, sweep or follow", examples=["pending"])
    stage: int | None = Field(description="the stage that it belongs to, from 1; null: none", examples=[None])
    state: Literal["waiting", "current", "done"] = Field(description="how far it is", examples=["current"])
    processed_items: int | None = Field(
        description="documents that it has settled: changed, unchanged and skipped. Failed ones belong to no phase: the next one tries them",
        examples=[498],
    )
    changed: int | None = Field(description="documents changed", examples=[498])
    unchanged: int | None = Field(description="documents that were right already", examples=[0])
    skipped: int | None = Field(description="documents that the function skipped", examples=[0])
    total_batches: int | None = Field(description="batches planned so far", examples=[4])
    completed_batches: int | None = Field(description="batches that are settled", examples=[2])


class RequestOf(Model):
    """What somebody asked for when the run was started."""

    route: str | None = Field(
        description="through which door: a route of this API, `whimbrel run`, `whimbrel demo`, or `schedule` and its name; null: not kept, as of rollbacks, cleanups and verifications, which `kind` and `of` tell",
        examples=["POST /migrate/retry-failed"],
    )
    phase: str = Field(description="pending, processing or failed, or all of them", examples=["failed"])
    filters: dict[str, Any] | None = Field(
        description="the query as it was given, as relaxed Extended JSON; null: none was", examples=[None]
    )
    limit: int | None = Field(description="only so many documents; null: all that match", examples=[None])
    ids: list[Any] = Field(
        description="up to ten of the `_id`s that were named, as relaxed Extended JSON", examples=[[]]
    )
    id_count: int | None = Field(description="how many were named; null: a run of no ids", examples=[None])
    abridged: bool = Field(description="whether `filters` is null because it is too long", examples=[False])
    options: OptionsOf | None = Field(
        description="the options that it was started with, whatever they are now; null: not kept, by an earlier version"
    )


class SizingOf(Model):
    """What the sizes of batches and statements follow, as measured over the last batches."""

    measured: bool = Field(
        description="whether batches get larger or smaller by what they take; false where somebody has set a size",
        examples=[True],
    )
    docs_per_second_of_a_slot: float | None = Field(
        description="documents a second of one slot, without rests and waits; null: too little was measured yet",
        examples=[640.0],
    )
    statement_size: int | None = Field(description="documents that a statement may have", examples=[320])
    limited_by: Literal["planned", "time", "bytes", "rate", "share"] | None = Field(
        description="what bounds the documents of a statement: 1,000 as planned, half a second, 8 MB, the run's rate, or its share of its speed",
        examples=["time"],
    )
    why: str | None = Field(
        description="the same as a sentence",
        examples=[
            "batches of 12,000: about 19 s of work each at 640 documents/s a slot; statements of up to 320 to take half a second"
        ],
    )


class FailuresOfCause(Model):
    """How many failures of a cause count for a failure budget."""

    group: str = Field(description="short name of the cause's group", examples=["2f1a9c3e"])
    failures: int = Field(description="documents", examples=[812])


class PassedLimit(Model):
    """A limit of the failure budget that the run has passed."""

    rule: Literal["failures", "rate", "newCause"] = Field(
        description="which limit: maxFailures, maxFailureRate or maxNewCause", examples=["rate"]
    )
    value: float = Field(description="how far it got: documents, or a share", examples=[0.073])
    limit: float = Field(description="what is allowed", examples=[0.05])
    failures: int = Field(description="failed documents that count", examples=[901])
    documents: int = Field(description="evaluated documents that they are among", examples=[12345])
    causes: list[FailuresOfCause] = Field(description="those with most of them")


class FollowOf(Model):
    """How far a run has followed the changes of its collection after its sweep."""

    wanted: bool = Field(description="false: it was told to end", examples=[True])
    since: str | None = Field(
        description="when it began to follow: RFC 3339; null: not yet", examples=["2026-11-24T14:02:00.000Z"]
    )
    behind_seconds: float | None = Field(
        description="for so long what was written is not planned yet; null while it does not follow",
        examples=[0.4],
    )
    documents: int = Field(description="documents evaluated since then", examples=[1204])
    lost: int = Field(
        description="how often MongoDB did not know any more what had changed, so that another sweep came",
        examples=[0],
    )
