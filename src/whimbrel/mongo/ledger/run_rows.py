"""Converts between runs and their rows in the ledger."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.extended_json import parse_canonical
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.bson.uuids import UNSPECIFIED
from whimbrel.domain.health.signals import Level
from whimbrel.domain.runs.allowance import FULL, Allowance, Hold
from whimbrel.domain.runs.asked_options import options_of
from whimbrel.domain.runs.forecast import ProgressSample
from whimbrel.domain.runs.leg_counts import LegCounts
from whimbrel.domain.runs.preflight_findings import finding_object, finding_of
from whimbrel.domain.runs.requests import Request
from whimbrel.domain.runs.run import Run, RunAtWork, Scope
from whimbrel.domain.runs.sizing import Sizing
from whimbrel.domain.runs.stages import GateFinding, Stage, Stages, StageState
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.tiling import Tiling, TilingFault
from whimbrel.domain.runs.verification import Proof
from whimbrel.mongo.ledger.budget_rows import broken_of, budget_fields, budget_of, standing_of_row
from whimbrel.mongo.ledger.chunk_time_rows import chunk_times_of
from whimbrel.mongo.ledger.following import following_of, following_row
from whimbrel.mongo.ledger.rows import Row, counts_of, counts_row, key_of, raw_of


def proof_row(proof: Proof) -> dict[str, Any]:
    return {
        "check": proof.check,
        "proved": proof.proved,
        "said": proof.sentence,
        "numbers": dict(proof.numbers),
        "since": proof.since,
    }


def proof_of(row: Row) -> Proof:
    return Proof(row["check"], row["proved"], row["said"], dict(row["numbers"]), row.get("since", False))


def tiling_row(tiling: Tiling) -> dict[str, Any]:
    fault = tiling.fault and {
        "seq": tiling.fault.seq,
        "kind": tiling.fault.kind,
        "before": raw_of(tiling.fault.before),
    }
    return {"through": tiling.through, "leg": tiling.leg, "after": raw_of(tiling.after), "ended": list(tiling.ended), "fault": fault}  # fmt: skip


def tiling_of(row: Row | None) -> Tiling:
    if row is None:
        return Tiling()
    fault = row["fault"]
    tiling_fault = TilingFault(fault["seq"], fault["kind"], key_of(fault["before"])) if fault else None
    return Tiling(row["through"], row["leg"], key_of(row["after"]), tuple(row["ended"]), tiling_fault)


def request_row(request: Request | None) -> dict[str, Any] | None:
    """Returns the row of a request, with its ids as bytes that are not decoded."""
    if request is None:
        return None
    return {
        "route": request.route, "filter": request.filter, "limit": request.limit, "ids": [key.raw for key in request.ids], "named": request.named,
        "abridged": request.abridged,
    }  # fmt: skip


def request_of(row: Row | None) -> Request | None:
    if row is None:
        return None
    return Request(
        route=row["route"], filter=row["filter"], limit=row["limit"], ids=tuple(Key(bytes(key)) for key in row["ids"]),
        named=row["named"], abridged=row["abridged"],
    )  # fmt: skip


def sample_row(sample: ProgressSample) -> list[int]:
    return [int(sample.worked * 1000 + 0.5), sample.done, sample.total]


def sample_of(row: Sequence[int]) -> ProgressSample:
    return ProgressSample(row[0] / 1000, row[1], row[2])


def stages_row(stages: Stages | None) -> dict[str, Any] | None:
    """Returns the row of stages by their position, as text: so that a pipeline may set fields of one of them."""
    if stages is None:
        return None
    at = {
        str(position): {"asked": stage.asked, "state": str(stage.state)}
        for position, stage in enumerate(stages.stages)
    }
    return {"hold": stages.hold, "approve": stages.approve, "at": at}


def gate_row(findings: Sequence[GateFinding]) -> list[dict[str, Any]]:
    return [
        {"check": finding.check, "passed": finding.passed, "said": finding.sentence} for finding in findings
    ]


def stages_of(row: Row | None) -> Stages | None:
    if row is None:
        return None
    stages = tuple(_stage_of(row["at"][str(position)]) for position in range(len(row["at"])))
    return Stages(stages=stages, hold=row["hold"], approve=row["approve"])


def _stage_of(row: Row) -> Stage:
    return Stage(
        asked=row["asked"], state=StageState(row["state"]), evaluated=row.get("evaluated", 0), failed=row.get("failed", 0),
        conflicts=row.get("conflicts", 0), gate=tuple(GateFinding(each["check"], each["passed"], each["said"]) for each in row.get("gate", ())),
        looked_at=row.get("lookedAt"), held_until=row.get("heldUntil"), passed_at=row.get("passedAt"), approved_by=row.get("approvedBy"),
    )  # fmt: skip


def run_row(run: Run) -> dict[str, Any]:
    """Returns the row of a run as it starts; the ledger adds the times."""
    return {
        "_id": run.id, "migration": run.migration, "version": run.version, "database": run.database,
        "collection": run.collection, "ns": run.ns, "filter": run.filter, "mark": run.mark,
        "statusField": run.status_field, "collectionUuid": run.collection_uuid, "collated": run.collated, "declarative": run.declarative, "claim": run.claim, "adopt": run.adopt,
        "scope": {"kind": run.scope.kind, "limit": run.scope.limit}, "asked": run.asked, "request": request_row(run.request), "legs": list(run.legs), "leg": run.leg,
        "status": str(run.status), "batchSize": run.batch_size, "priority": run.priority, "rate": run.rate, "maxAttempts": run.max_attempts,
        "sizing": asdict(run.sizing), "documentBytes": run.document_bytes,
        "retryDelay": run.retry_delay, "timeout": run.timeout, "codeHash": run.code_hash,
        "update": run.update, "reads": None if run.reads is None else list(run.reads), "concurrency": run.concurrency, "needsCode": run.has_user_code,
        "kind": run.kind, "of": run.of, "undo": run.undo, "uuids": run.uuids, "sample": run.sample, "report": [proof_row(proof) for proof in run.report],
        "counts": counts_row(run.counts), "foldedThrough": run.folded_through, "planned": run.planned, "rowsUuid": run.rows, "inferred": run.inferred,
        "estimated": run.estimated, "retried": run.retried, "message": run.message, "error": run.error,
        # As text: a query plan has field names with a dollar.
        "warnings": json.dumps([finding_object(finding) for finding in run.warnings]),
        "startKey": run.start_key,
        "windows": list(run.windows), "nice": run.nice,
        **budget_fields(run),
        "follow": following_row(run.follow),
        "stages": stages_row(run.stages),
        "options": options_of(run),
    }  # fmt: skip


def filter_of(value: bytes | str) -> bytes:
    """Reads a stored filter: BSON, or canonical Extended JSON from earlier versions."""
    return encoded(parse_canonical(value)) if isinstance(value, str) else value


def _raw_uuid(value: bytes | None) -> bytes | None:
    """Removes the subtype, which makes a UUID unequal to its bytes."""
    return None if value is None else bytes(value)


def _plain(row: Row | None) -> dict[str, Any] | None:
    return None if row is None else dict(row)


def run_of(row: Row) -> Run:
    return Run(
        id=row["_id"], migration=row["migration"], version=row["version"], database=row["database"],
        collection=row["collection"], filter=filter_of(row["filter"]), mark=row["mark"], status_field=row["statusField"], collection_uuid=_raw_uuid(row.get("collectionUuid")), collated=row.get("collated", False),
        declarative=row["declarative"], claim=row["claim"], adopt=row["adopt"],
        scope=Scope(row["scope"]["kind"], row["scope"]["limit"]), asked=row["asked"], request=request_of(row.get("request")), abridged=row.get("abridged", False), legs=tuple(row["legs"]), leg=row["leg"],
        status=RunStatus(row["status"]), batch_size=row["batchSize"], sizing=Sizing(**row.get("sizing", {})), document_bytes=row.get("documentBytes", 0), priority=row.get("priority", 0), rate=row.get("rate"), max_attempts=row["maxAttempts"],
        retry_delay=row["retryDelay"], timeout=row["timeout"], code_hash=row["codeHash"],
        update=row.get("update"), reads=tuple(row["reads"]) if row.get("reads") is not None else None, concurrency=row.get("concurrency", 16),
        kind=row.get("kind", "migration"), of=row.get("of"), undo=row.get("undo", False), uuids=row.get("uuids", UNSPECIFIED), undone_by=row.get("undoneBy"),
        sample=row.get("sample", 0), report=tuple(proof_of(proof) for proof in row.get("report", ())),
        counts=counts_of(row["counts"]), folded_through=row["foldedThrough"], planned=row.get("planned", 0), rows=_raw_uuid(row.get("rowsUuid")),
        tiling=tiling_of(row.get("tiling")), checked=tiling_of(row.get("checked")), inferred=row["inferred"],
        estimated=row["estimated"], retried=row["retried"], message=row["message"], error=row["error"], failing=row.get("failing", False),
        warnings=tuple(map(finding_of, json.loads(row.get("warnings", "[]")))),
        created_at=row["createdAt"], updated_at=row["updatedAt"], started_at=row.get("startedAt"), working_since=row.get("workingSince"), worked=row.get("worked", 0) / 1000, samples=tuple(sample_of(sample) for sample in row.get("samples", ())), taken_over=row.get("takenOver", False), ended_at=row.get("endedAt"),
        start_key=row.get("startKey"),
        windows=tuple(row.get("windows", ())), nice=row.get("nice", 0), allowance=allowance_of(row.get("allowance")),
        chunk_times=chunk_times_of(row.get("chunkTimes")),
        budget=budget_of(row.get("budget")), forgiven=standing_of_row(row.get("forgiven")), over_budget=broken_of(row.get("overBudget")),
        follow=following_of(row.get("follow")),
        stages=stages_of(row.get("stages")),
        by_leg={int(leg): LegCounts(**counts) for leg, counts in row.get("byLeg", {}).items()},
        changes=row.get("changes", 0), changed_at=row.get("changedAt"), options=_plain(row.get("options")),
    )  # fmt: skip


AT_WORK_FIELDS = (
    "ns",
    "migration",
    "needsCode",
    "kind",
    "sample",
    "codeHash",
    "status",
    "leg",
    "priority",
    "windows",
    "nice",
    "changes",
)


def _needed_code(row: Row) -> bool:
    """Whether a run of an earlier version, whose row does not say so, needed code."""
    kind = row.get("kind", "migration")
    return bool(kind == "migration" or (kind == "verification" and row.get("sample", 0) != 0))


def at_work_of(row: Row) -> RunAtWork:
    return RunAtWork(
        id=row["_id"], ns=row["ns"], migration=row["migration"], has_user_code=row.get("needsCode", _needed_code(row)),
        code_hash=row["codeHash"], status=RunStatus(row["status"]), leg=row["leg"],
        priority=row.get("priority", 0), windows=tuple(row.get("windows", ())), nice=row.get("nice", 0),
        changes=row.get("changes", 0),
    )  # fmt: skip


def allowance_row(allowance: Allowance) -> dict[str, Any] | None:
    """Returns the row of an allowance; None for all of the speed."""
    if allowance == FULL:
        return None
    holds = [{**asdict(hold), "level": str(hold.level)} for hold in allowance.holds]
    return {"share": allowance.share, "holds": holds, "givesBack": allowance.gives_back}


def allowance_of(row: Row | None) -> Allowance:
    if row is None:
        return FULL
    holds = tuple(Hold(**{**dict(hold), "level": Level(hold["level"])}) for hold in row["holds"])
    return Allowance(row["share"], holds, row["givesBack"])
