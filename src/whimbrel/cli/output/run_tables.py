"""Builds the tables of runs, of their batches, and of what a verification has proved."""

import json
from collections.abc import Iterable, Iterator, Sequence

from rich.text import Text as RichText

from whimbrel.cli.output.fact_tables import Facts, FactTable
from whimbrel.cli.output.progress_bar import clock, retrying
from whimbrel.cli.output.terminal_text import Text, local_time
from whimbrel.domain.bson.document_ids import relaxed
from whimbrel.domain.health.verdict import SLOWER
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.budget_texts import limits
from whimbrel.domain.runs.requests import Request
from whimbrel.domain.runs.run import Run, work_of
from whimbrel.domain.runs.sizing import sizing_sentence
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.domain.runs.verification import Proof
from whimbrel.domain.runs.windows import windows_sentence
from whimbrel.engine.operating.run_view import RunView, run_object
from whimbrel.engine.operating.stage_view import stage_lines

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
    message = run_view.run.message if run_view.run.status is RunStatus.RUNNING else ""
    how = ", slower" if message.startswith(SLOWER) else ", waits" if message else ""
    return Text(
        f"{run_view.run.status}{how}",
        style=COLOURS.get(run_view.run.status, ""),
    )


def _phase(run_view: RunView) -> str:
    return "" if run_view.run.status in ENDED else run_view.run.phase


def _migration_cell(run_view: RunView) -> str:
    if run_view.run.undone_by is not None:
        return f"{run_view.run.migration}\nrolled back"
    # The longer word would fold at 80 columns.
    kind = "verify" if run_view.run.kind == "verification" else run_view.run.kind
    detail = kind if run_view.run.of is not None else asked_for(run_view.run)[:BRIEF]
    return f"{run_view.run.migration}\n{detail}" if detail else run_view.run.migration


def asked_for(run: Run) -> str:
    """Returns which documents a run is about, where that is not all of them."""
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
    documents_per_second = float(run_object(run_view)["throughput"])
    return f"{documents_per_second:,.0f}" if documents_per_second else ""


def _failures(run_view: RunView) -> int:
    return run_view.failures["failed"] + run_view.failures["conflict"]


def runs_table(views: Iterable[RunView]) -> FactTable:
    """Builds the table of runs, newest first."""
    names = ("run", "migration", "status", "phase", "done", "docs/s", "eta", "failures", "started")
    table = FactTable(names, right=("done", "docs/s", "eta", "failures"))
    for run_view in views:
        table.add(
            run_view.run.id, _migration_cell(run_view), _status(run_view), _phase(run_view), f"{run_view.progress:g}%", rate(run_view), _eta(run_view), f"{_failures(run_view):,}",
            local_time(run_view.run.started_at)[: len("2026-12-31 23:59")],
        )  # fmt: skip
    return table


def held_lines(views: Iterable[RunView]) -> Iterator[Text]:
    """Yields why runs at work go slower, or do not go on."""
    for run_view in views:
        if run_view.run.status is RunStatus.RUNNING and run_view.run.message:
            yield Text(f"{run_view.run.id}: {run_view.run.message}", style="yellow")


def _eta(run_view: RunView) -> str:
    if run_view.next_retry is not None:
        return f"retry {clock(max(0.0, run_view.next_retry))}"
    return clock(run_view.eta) if run_view.eta is not None else ""


def _batches(run_view: RunView) -> str:
    """Returns the batches of a run; of one that goes on, only planned ones can be counted."""
    so_far = "" if run_view.run.status in ENDED else " planned so far"
    cancelled = f", {run_view.cancelled_batches:,} cancelled" if run_view.cancelled_batches else ""
    return (
        f"{run_view.completed_batches:,} of {run_view.total_batches:,}{so_far} done{cancelled}, "
        f"of up to {run_view.run.batch_size:,} documents"
    )


def _inferred(run: Run) -> str:
    """Returns a note where counts are inferred, after a crash or another interruption."""
    if not run.inferred:
        return ""
    return f" (inferred from documents after {'a crash' if run.taken_over else 'an interruption'})"


def _request(run: Run) -> str:
    """Returns how a run was requested, and which documents it is about."""
    from whimbrel.cli.output.dry_run import LONG  # noqa: PLC0415  as in `run_table`

    request = run.request or Request()
    ids_named = ", ".join(str(key.value) for key in request.ids)
    and_more = ", ..." if request.named is not None and request.named > len(request.ids) else ""
    parts = [
        asked_for(run)[:LONG],
        f"by {request.route}" if request.route else "",
        f"ids {ids_named}{and_more}" if ids_named else "",
    ]
    return "; ".join(part for part in parts if part)


def _limit(run: Run) -> str:
    return f"at most {run.rate:,} documents a second" if run.rate else ""


def _budget(run: Run) -> str:
    """Returns the failure budget of a run that has not ended; afterwards it says nothing any more."""
    return "" if run.status in ENDED else limits(run.budget)


def run_table(run_view: RunView) -> Facts:
    """Builds the table of what happened in one run."""
    from whimbrel.cli.output.dry_run import shortened  # noqa: PLC0415  not needed for lists of runs

    table = Facts(f"Run {run_view.run.id} of {run_view.run.migration}")
    kind = f"{run_view.run.kind} of run {run_view.run.of}" if run_view.run.of else ""
    rows: dict[str, str | RichText] = {
        "status": _status(run_view), "kind": kind, "phase": _phase(run_view), "collection": run_view.run.ns,
        "asked for": _request(run_view.run), "filter": shortened(run_view.run.selecting) if run_view.run.selecting else "", "update": shortened(run_view.run.declared) if run_view.run.declared else "",
        "documents": f"{run_view.processed:,} of {run_view.total:,} evaluated",
        "changed": f"{run_view.counts.changed:,}{_inferred(run_view.run)}", "unchanged": f"{run_view.counts.unchanged:,}",
        "skipped": f"{run_view.counts.skipped:,}", "failed": f"{run_view.failures['failed']:,}",
        "conflict": f"{run_view.failures['conflict']:,}",
        "batches": _batches(run_view), "sizes": sizing_sentence(run_view.run.batch_size, run_view.run.sizing), "retries": retrying(run_view),
        "seconds": f"{run_view.seconds:,.1f}", "docs/s": rate(run_view), "eta": clock(run_view.eta) if run_view.eta is not None else "", "rate": _limit(run_view.run), "before-images": _images(run_view),
        "windows": windows_sentence(run_view.run.windows) if run_view.run.windows else "", "nice": str(run_view.run.nice or ""),
        "failure budget": _budget(run_view.run),
        "message": run_view.run.message, "error": run_view.run.error or "",
        "follow": run_view.following, "stages": "\n".join(stage_lines(run_view.run)),
    }  # fmt: skip
    if run_view.run.kind == "verification":  # it changes nothing; its findings are stored as failures
        rows = {"findings" if name == "failed" else name: rows[name] for name in rows if name not in OUTCOMES}
    for name, value in rows.items():
        if str(value):
            table.add(name, value)
    return table


def batches_table(batches: Sequence[Batch], total: int = 0) -> FactTable:
    """Builds the table of batches. `total`: how many there are, where that is more."""
    range_shown = f", {len(batches):,} of {total:,}" if total > len(batches) else ""
    table = FactTable(
        ("batch", "phase", "status", "documents", "chunks done", "changed", "claims", "seconds", "worker"),
        right=("documents", "chunks done", "changed", "claims", "seconds"), title=f"Batches{range_shown}",
    )  # fmt: skip
    for batch in batches:
        span = (
            f"{(batch.settled_at - batch.claimed_at).total_seconds():.1f}"
            if batch.settled_at and batch.claimed_at
            else ""
        )
        table.add(
            str(batch.seq), batch.phase, str(batch.status), f"{batch.estimated:,}", f"{batch.chunks_done} of {batch.chunks}",
            f"{batch.known.changed:,}", str(batch.claims), span, batch.worker or "",
        )  # fmt: skip
    return table


VERDICTS = {
    "proved": Text("proved", style="green"),
    "fault": Text("FAULT", style="bold red"),
    "changed since": Text("changed since", style="cyan"),
    "not proved": Text("not proved", style="yellow"),
}


def report_table(report: Iterable[Proof]) -> FactTable:
    """Builds the table of what a verification proved, and what not."""
    table = FactTable(("check", "", "what was found"), "Report", whole=("check", ""))
    for proof in report:
        table.add(proof.check, VERDICTS[proof.verdict], Text(proof.sentence))
    return table
