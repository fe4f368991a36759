"""Tables for people's eyes."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.text import Text as RichText

from whimbrel.cli.listing import Facts, Listing
from whimbrel.cli.progress import clock, retrying
from whimbrel.cli.text import Text
from whimbrel.domain.batches import Batch
from whimbrel.domain.catalog import Broken
from whimbrel.domain.causes import VARIOUS
from whimbrel.domain.failures import Failure, FailureGroup
from whimbrel.domain.ids import relaxed
from whimbrel.domain.migration import Definition
from whimbrel.domain.requests import Request
from whimbrel.domain.runs import Run, work_of
from whimbrel.domain.states import ENDED, RunStatus
from whimbrel.domain.uuids import UNSPECIFIED, stored, writing
from whimbrel.domain.verification import Proof
from whimbrel.domain.workers import Worker
from whimbrel.engine.view import RunView, iso_time, run_object

BRIEF = 40  # characters of what was asked for, in a list
OUTCOMES = ("changed", "unchanged", "skipped", "conflict")
COLOURS = {
    RunStatus.COMPLETED: "green",
    RunStatus.COMPLETED_WITH_FAILURES: "yellow",
    RunStatus.FAILED: "red",
    RunStatus.CANCELLED: "red",
    RunStatus.RUNNING: "cyan",
}


def _status(it: RunView) -> Text:
    waits = it.run.status is RunStatus.RUNNING and it.run.message
    return Text(
        f"{it.run.status}, waits" if waits else str(it.run.status), style=COLOURS.get(it.run.status, "")
    )


def _phase(it: RunView) -> str:
    return "" if it.run.status in ENDED else it.run.phase


def _time(at: datetime | None) -> str:
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""


def _what(it: RunView) -> str:
    if it.run.undone_by is not None:
        return f"{it.run.migration}\nrolled back"
    kind = "verify" if it.run.kind == "verification" else it.run.kind  # the longer word folds at 80 columns
    asked = kind if it.run.of is not None else asked_for(it.run)[:BRIEF]
    return f"{it.run.migration}\n{asked}" if asked else it.run.migration


def asked_for(run: Run) -> str:
    """What of the documents a run is about, where that is not all of them."""
    request, phase = run.request or Request(), work_of(run)
    parts = [phase] if run.mark == "status" and phase != "all" else []
    parts += [f"first {run.scope.limit:,}"] if run.scope.kind == "first" else []
    parts += [f"{request.named:,} ids"] if request.named is not None else []
    parts += [json.dumps(relaxed(request.query), ensure_ascii=True)] if request.query else []
    return ", ".join(parts)


def _images(it: RunView) -> str:
    if it.run.undone_by is not None:
        return f"used by run {it.run.undone_by}, the rollback of this one"
    if not it.run.undo:
        return ""
    return "of whole documents" if it.run.undo == "document" else "of the fields that are touched"


def rate(it: RunView) -> str:
    found = float(run_object(it)["throughput"])
    return f"{found:,.0f}" if found else ""


def _failures(it: RunView) -> int:
    return it.failures["failed"] + it.failures["conflict"]


def runs_table(views: Iterable[RunView], *, fold: bool = False) -> Listing:
    """Newest first."""
    names = ("run", "migration", "status", "phase", "done", "docs/s", "eta", "failures", "started")
    table = Listing(names, right=("done", "docs/s", "eta", "failures"), fold=fold)
    for it in views:
        table.add(
            it.run.id, _what(it), _status(it), _phase(it), f"{it.progress:g}%", rate(it), _eta(it), f"{_failures(it):,}",
            _time(it.run.started_at)[: len("2026-12-31 23:59")],
        )  # fmt: skip
    return table


def _eta(it: RunView) -> str:
    if it.next_retry is not None:
        return f"retry {clock(max(0.0, it.next_retry))}"
    return clock(it.eta) if it.eta is not None else ""


def _batches(it: RunView) -> str:
    """Of a run that goes on, only what is planned can be counted."""
    so_far = "" if it.run.status in ENDED else " planned so far"
    cancelled = f", {it.cancelled_batches:,} cancelled" if it.cancelled_batches else ""
    return (
        f"{it.completed_batches:,} of {it.total_batches:,}{so_far} done{cancelled}, "
        f"of up to {it.run.batch_size:,} documents"
    )


def _inferred(run: Run) -> str:
    """Where counts are differences: a crash is no other interruption."""
    if not run.inferred:
        return ""
    return f" (inferred from documents after {'a crash' if run.taken_over else 'an interruption'})"


def _request(run: Run) -> str:
    """Through which door a run was asked for, and what of the documents it is about."""
    from whimbrel.cli.plans import LONG  # noqa: PLC0415  as in `run_table`

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


def run_table(it: RunView) -> Facts:
    """What happened in one run."""
    from whimbrel.cli.plans import shortened  # noqa: PLC0415  lists of runs need none of it

    table = Facts(f"Run {it.run.id} of {it.run.migration}")
    kind = f"{it.run.kind} of run {it.run.of}" if it.run.of else ""
    rows: dict[str, str | RichText] = {
        "status": _status(it), "kind": kind, "phase": _phase(it), "collection": it.run.ns,
        "asked for": _request(it.run), "filter": shortened(it.run.selecting) if it.run.selecting else "", "update": shortened(it.run.declared) if it.run.declared else "",
        "documents": f"{it.processed:,} of {it.total:,} evaluated",
        "changed": f"{it.counts.changed:,}{_inferred(it.run)}", "unchanged": f"{it.counts.unchanged:,}",
        "skipped": f"{it.counts.skipped:,}", "failed": f"{it.failures['failed']:,}",
        "conflict": f"{it.failures['conflict']:,}",
        "batches": _batches(it), "retries": retrying(it),
        "seconds": f"{it.seconds:,.1f}", "docs/s": rate(it), "eta": clock(it.eta) if it.eta is not None else "", "rate": _limit(it.run), "before-images": _images(it),
        "message": it.run.message, "error": it.run.error or "",
    }  # fmt: skip
    if (
        it.run.kind == "verification"
    ):  # it changes nothing; what it finds at documents is kept as failures are
        rows = {"findings" if name == "failed" else name: rows[name] for name in rows if name not in OUTCOMES}
    for name, value in rows.items():
        if str(value):
            table.add(name, value)
    return table


def batches_table(batches: Sequence[Batch], total: int = 0) -> Listing:
    """`total`: how many there are, where that is more."""
    some = f", {len(batches):,} of {total:,}" if total > len(batches) else ""
    table = Listing(
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


def groups_table(groups: Iterable[FailureGroup], title: str = "Failures by cause") -> Listing:
    table = Listing(("group", "open", "dead", "resolved", "cause"), title, right=("open", "dead", "resolved"))
    for each in groups:
        at = f" at {each.place}" if each.place else ""
        various = "various messages, such as: " if each.signature.endswith(VARIOUS) else ""
        table.add(
            each.group, f"{each.open:,}", f"{each.dead:,}", f"{each.resolved:,}",
            Text(f"{each.kind}, {each.type}{at}: {various}{each.message}\nfor example _id {each.example.value}"),
        )  # fmt: skip
    return table


def failures_table(failures: Iterable[Failure]) -> Listing:
    table = Listing(("_id", "state", "attempt", "due", "group", "what"), "Failures by document")
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


def report_table(report: Iterable[Proof]) -> Listing:
    """What a verification proved, and what not."""
    table = Listing(("check", "", "what was found"), "Report", whole=("check", ""))
    for each in report:
        table.add(each.check, VERDICTS[each.verdict], Text(each.said))
    return table


def migrations_table(found: Mapping[str, Definition]) -> Listing:
    table = Listing(("name", "version", "collection", "mark", "kind", "summary"), right=("version",))
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


def broken_table(found: Iterable[Broken]) -> Listing:
    table = Listing(("broken", "in", "why"), "Broken: not run, nor served")
    for it in found:
        table.add(it.name or "(the whole file)", it.source, Text(it.reason, style="red"))
    return table


def broken_object(it: Broken) -> dict[str, Any]:
    """In the list of those that can be used; of those `broken` is null."""
    return {"name": it.name or None, "source": it.source, "broken": it.reason}


def group_object(it: FailureGroup) -> dict[str, Any]:
    return {
        "group": it.group, "signature": it.signature, "kind": it.kind, "type": it.type, "place": it.place,
        "message": it.message, "open": it.open, "dead": it.dead, "resolved": it.resolved,
        "example": it.example.value,
    }  # fmt: skip


def failure_object(it: Failure) -> dict[str, Any]:
    return {
        "_id": it.key.value, "batch": it.batch, "phase": it.phase, "state": str(it.state), "outcome": it.outcome,
        "kind": str(it.kind), "type": it.type, "message": it.message, "code": it.code, "attempt": it.attempt,
        "group": it.group, "due": _stamp(it.due_at),
        "first": _stamp(it.first_at), "last": _stamp(it.last_at), "resolution": it.resolution,
        "traceback": it.traceback, "cursor": it.place.cursor,
    }  # fmt: skip


def definition_object(it: Definition) -> dict[str, Any]:
    return {
        "name": it.name, "version": it.version, "database": it.database, "collection": it.collection,
        "mark": it.mark, "kind": "declarative" if it.declarative else "function",
        "filter": stored(it.filter, writing(UNSPECIFIED)),
        "summary": it.summary, "codeHash": it.code_hash, "broken": None,
    }  # fmt: skip


def _stamp(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def workers_table(found: Iterable[Worker], now: datetime) -> Listing:
    table = Listing(
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


def worker_object(it: Worker) -> dict[str, Any]:
    return {
        "name": it.name, "host": it.host, "pid": it.pid, "version": it.version, "slots": it.slots, "only": it.only,
        "code": it.code, "batchesDone": it.done,
        "current": [{"batch": each.batch, "since": iso_time(each.since)} for each in it.in_hand],
        "refuses": [{"run": each.run, "pinned": each.pinned, "here": each.here} for each in it.refuses],
        "startedAt": iso_time(it.started_at), "seenAt": iso_time(it.seen_at),
    }  # fmt: skip
