"""Tables for people's eyes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text as RichText

from whimbrel.cli.output.fact_tables import Facts, FactTable
from whimbrel.cli.output.progress_bar import clock, retrying
from whimbrel.cli.output.terminal_text import Text
from whimbrel.domain.bson.document_ids import relaxed
from whimbrel.domain.bson.uuids import UNSPECIFIED, stored, writing
from whimbrel.domain.failures.causes import VARIOUS
from whimbrel.domain.failures.failure import Failure, FailureGroup
from whimbrel.domain.migrations.catalog import Broken
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.requests import Request
from whimbrel.domain.runs.run import Run, work_of
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.domain.runs.verification import Proof
from whimbrel.domain.runs.workers import Worker
from whimbrel.engine.operating.run_view import RunView, iso_time, run_object

BRIEF = 40  # characters of what was asked for, in a list
OUTCOMES = ("changed", "unchanged", "skipped", "conflict")
COLOURS = {
    RunStatus.COMPLETED: "green",
    RunStatus.COMPLETED_WITH_FAILURES: "yellow",
    RunStatus.FAILED: "red",
    RunStatus.CANCELLED: "red",
    RunStatus.RUNNING: "cyan",
}


def _status(run_view: RunView) -> Text:
    waits = run_view.run.status is RunStatus.RUNNING and run_view.run.message
    return Text(
        f"{run_view.run.status}, waits" if waits else str(run_view.run.status),
        style=COLOURS.get(run_view.run.status, ""),
    )


def _phase(run_view: RunView) -> str:
    return "" if run_view.run.status in ENDED else run_view.run.phase


def _time(at: datetime | None) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def _what(run_view: RunView) -> str:
    if run_view.run.undone_by is not None:
        return f"{run_view.run.migration}\nrolled back"
    kind = (
        "verify" if run_view.run.kind == "verification" else run_view.run.kind
    )  # the longer word folds at 80 columns
    asked = kind if run_view.run.of is not None else asked_for(run_view.run)[:BRIEF]
    return f"{run_view.run.migration}\n{asked}" if asked else run_view.run.migration


def asked_for(run: Run) -> str:
    """What of the documents a run is about, where that is not all of them."""
    request, phase = run.request or Request(), work_of(run)
    parts = [phase] if run.mark == "status" and phase != "all" else []
    parts += [f"first {run.scope.limit:,}"] if run.scope.kind == "first" else []
    parts += [f"{request.named:,} ids"] if request.named is not None else []
    parts += [json.dumps(relaxed(request.query), ensure_ascii=True)] if request.query else []
    return ", ".join(parts)


def _images(run_view: RunView) -> str:
    if run_view.run.undone_by is not None:
        return f"used by run {run_view.run.undone_by}, the rollback of this one"
    if not run_view.run.undo:
        return ""
    return "of whole documents" if run_view.run.undo == "document" else "of the fields that are touched"


def rate(run_view: RunView) -> str:
    found = float(run_object(run_view)["throughput"])
    return f"{found:,.0f}" if found else ""


def _failures(run_view: RunView) -> int:
    return run_view.failures["failed"] + run_view.failures["conflict"]


def runs_table(views: Iterable[RunView], *, fold: bool = False) -> FactTable:
    """Newest first."""
    names = ("run", "migration", "status", "phase", "done", "docs/s", "eta", "failures", "started")
    table = FactTable(names, right=("done", "docs/s", "eta", "failures"), fold=fold)
    for it in views:
        table.add(
            it.run.id, _what(it), _status(it), _phase(it), f"{it.progress:g}%", rate(it), _eta(it), f"{_failures(it):,}",
            _time(it.run.started_at)[: len("2026-12-31 23:59")],
        )  # fmt: skip
    return table


def _eta(run_view: RunView) -> str:
    if run_view.next_retry is not None:
        return f"retry {clock(max(0.0, run_view.next_retry))}"
    return clock(run_view.eta) if run_view.eta is not None else ""


def _batches(run_view: RunView) -> str:
    """Of a run that goes on, only what is planned can be counted."""
    so_far = "" if run_view.run.status in ENDED else " planned so far"
    cancelled = f", {run_view.cancelled_batches:,} cancelled" if run_view.cancelled_batches else ""
    return (
        f"{run_view.completed_batches:,} of {run_view.total_batches:,}{so_far} done{cancelled}, "
        f"of up to {run_view.run.batch_size:,} documents"
    )


def _inferred(run: Run) -> str:
    """Where counts are differences: a crash is no other interruption."""
    if not run.inferred:
        return ""
    return f" (inferred from documents after {'a crash' if run.taken_over else 'an interruption'})"


def _request(run: Run) -> str:
    """Through which door a run was asked for, and what of the documents it is about."""
    from whimbrel.cli.output.dry_run import LONG  # noqa: PLC0415  as in `run_table`

    request = run.request or Request()
    named = ", ".join(str(key.value) for key in request.ids)
    more = ", ..." if request.named is not None and request.named > len(request.ids) else ""
    parts = [
        asked_for(run)[:LONG],
        f"by {request.route}" if request.route else "",
        f"ids {named}{more}" if named else "",
    ]
    return "; ".join(part for part in parts if part)


def _limit(run: Run) -> str:
    return f"at most {run.rate:,} documents a second" if run.rate else ""


def run_table(run_view: RunView) -> Facts:
    """What happened in one run."""
    from whimbrel.cli.output.dry_run import shortened  # noqa: PLC0415  lists of runs need none of it

    table = Facts(f"Run {run_view.run.id} of {run_view.run.migration}")
    kind = f"{run_view.run.kind} of run {run_view.run.of}" if run_view.run.of else ""
    rows: dict[str, str | RichText] = {
        "status": _status(run_view), "kind": kind, "phase": _phase(run_view), "collection": run_view.run.ns,
        "asked for": _request(run_view.run), "filter": shortened(run_view.run.selecting) if run_view.run.selecting else "", "update": shortened(run_view.run.declared) if run_view.run.declared else "",
        "documents": f"{run_view.processed:,} of {run_view.total:,} evaluated",
        "changed": f"{run_view.counts.changed:,}{_inferred(run_view.run)}", "unchanged": f"{run_view.counts.unchanged:,}",
        "skipped": f"{run_view.counts.skipped:,}", "failed": f"{run_view.failures['failed']:,}",
        "conflict": f"{run_view.failures['conflict']:,}",
        "batches": _batches(run_view), "retries": retrying(run_view),
        "seconds": f"{run_view.seconds:,.1f}", "docs/s": rate(run_view), "eta": clock(run_view.eta) if run_view.eta is not None else "", "rate": _limit(run_view.run), "before-images": _images(run_view),
        "message": run_view.run.message, "error": run_view.run.error or "",
    }  # fmt: skip
    if (
        run_view.run.kind == "verification"
    ):  # it changes nothing; what it finds at documents is kept as failures are
        rows = {"findings" if name == "failed" else name: rows[name] for name in rows if name not in OUTCOMES}
    for name, value in rows.items():
        if str(value):
            table.add(name, value)
    return table


def batches_table(batches: Sequence[Batch], total: int = 0) -> FactTable:
    """`total`: how many there are, where that is more."""
    some = f", {len(batches):,} of {total:,}" if total > len(batches) else ""
    table = FactTable(
        ("batch", "phase", "status", "documents", "chunks done", "changed", "claims", "seconds", "worker"),
        right=("documents", "chunks done", "changed", "claims", "seconds"), title=f"Batches{some}",
    )  # fmt: skip
    for each in batches:
        span = (
            f"{(each.settled_at - each.claimed_at).total_seconds():.1f}"
            if each.settled_at and each.claimed_at
            else ""
        )
        table.add(
            str(each.seq), each.phase, str(each.status), f"{each.estimated:,}", f"{each.chunks_done} of {each.chunks}",
            f"{each.known.changed:,}", str(each.claims), span, each.worker or "",
        )  # fmt: skip
    return table


def groups_table(groups: Iterable[FailureGroup], title: str = "Failures by cause") -> FactTable:
    table = FactTable(
        ("group", "open", "dead", "resolved", "cause"), title, right=("open", "dead", "resolved")
    )
    for each in groups:
        at = f" at {each.place}" if each.place else ""
        various = "various messages, such as: " if each.signature.endswith(VARIOUS) else ""
        table.add(
            each.group, f"{each.open:,}", f"{each.dead:,}", f"{each.resolved:,}",
            Text(f"{each.kind}, {each.type}{at}: {various}{each.message}\nfor example _id {each.example.value}"),
        )  # fmt: skip
    return table


def failures_table(failures: Iterable[Failure]) -> FactTable:
    table = FactTable(("_id", "state", "attempt", "due", "group", "what"), "Failures by document")
    for each in failures:
        due = _time(each.due_at) if each.state == "open" else ""
        what = f"{each.type}: {each.message}"
        # The last frame, whole: each begins with a line of its own.
        tail = each.traceback[max(each.traceback.rfind("  File "), 0) :].rstrip()
        table.add(
            Text(str(each.key.value)), str(each.state), str(each.attempt), due, each.group,
            Text(f"{what}\n{tail}" if tail else what),
        )  # fmt: skip
    return table


VERDICTS = {
    "proved": Text("proved", style="green"),
    "fault": Text("FAULT", style="bold red"),
    "changed since": Text("changed since", style="cyan"),
    "not proved": Text("not proved", style="yellow"),
}


def report_table(report: Iterable[Proof]) -> FactTable:
    """What a verification proved, and what not."""
    table = FactTable(("check", "", "what was found"), "Report", whole=("check", ""))
    for each in report:
        table.add(each.check, VERDICTS[each.verdict], Text(each.sentence))
    return table


def migrations_table(found: Mapping[str, Definition]) -> FactTable:
    table = FactTable(("name", "version", "collection", "mark", "kind", "summary"), right=("version",))
    for it in found.values():
        where = f"{it.database}.{it.collection}" if it.database else it.collection
        table.add(
            it.name,
            str(it.version),
            where,
            it.mark,
            "declarative" if it.declarative else "function",
            it.summary,
        )
    return table


def broken_table(found: Iterable[Broken]) -> FactTable:
    table = FactTable(("broken", "in", "why"), "Broken: not run, nor served")
    for it in found:
        table.add(it.name or "(the whole file)", it.source, Text(it.reason, style="red"))
    return table


def broken_object(broken: Broken) -> dict[str, Any]:
    """In the list of those that can be used; of those `broken` is null."""
    return {"name": broken.name or None, "source": broken.source, "broken": broken.reason}


def group_object(group: FailureGroup) -> dict[str, Any]:
    return {
        "group": group.group, "signature": group.signature, "kind": group.kind, "type": group.type, "place": group.place,
        "message": group.message, "open": group.open, "dead": group.dead, "resolved": group.resolved,
        "example": group.example.value,
    }  # fmt: skip


def failure_object(failure: Failure) -> dict[str, Any]:
    return {
        "_id": failure.key.value, "batch": failure.batch, "phase": failure.phase, "state": str(failure.state), "outcome": failure.outcome,
        "kind": str(failure.kind), "type": failure.type, "message": failure.message, "code": failure.code, "attempt": failure.attempt,
        "group": failure.group, "due": _stamp(failure.due_at),
        "first": _stamp(failure.first_at), "last": _stamp(failure.last_at), "resolution": failure.resolution,
        "traceback": failure.traceback, "cursor": failure.place.cursor,
    }  # fmt: skip


def definition_object(definition: Definition) -> dict[str, Any]:
    return {
        "name": definition.name, "version": definition.version, "database": definition.database, "collection": definition.collection,
        "mark": definition.mark, "kind": "declarative" if definition.declarative else "function",
        "filter": stored(definition.filter, writing(UNSPECIFIED)),
        "summary": definition.summary, "codeHash": definition.code_hash, "broken": None,
    }  # fmt: skip


def _stamp(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def workers_table(found: Iterable[Worker], now: datetime) -> FactTable:
    table = FactTable(
        ("host", "pid", "slots", "batches done", "at work on", "up since", "refuses"),
        right=("pid", "slots", "batches done"), title="Workers",
    )  # fmt: skip
    for each in found:
        at_work = ["loads the migrations"] * each.loading
        at_work += [f"{it.batch} for {clock(_seconds(it.since, now))}" for it in each.in_hand]
        refuses = [f"run {it.run}: its code is {it.pinned}, here {it.here}" for it in each.refuses]
        table.add(
            each.host, str(each.pid), str(each.slots), f"{each.done:,}", "\n".join(at_work),
            _time(each.started_at), Text("\n".join(refuses), style="yellow"),
        )  # fmt: skip
    return table


def _seconds(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds()) if since else 0.0


def worker_object(worker: Worker) -> dict[str, Any]:
    return {
        "name": worker.name, "host": worker.host, "pid": worker.pid, "version": worker.version, "slots": worker.slots, "only": worker.only,
        "code": worker.code, "batchesDone": worker.done,
        "current": [{"batch": each.batch, "since": iso_time(each.since)} for each in worker.in_hand],
        "refuses": [{"run": each.run, "pinned": each.pinned, "here": each.here} for each in worker.refuses],
        "startedAt": iso_time(worker.started_at), "seenAt": iso_time(worker.seen_at),
    }  # fmt: skip
