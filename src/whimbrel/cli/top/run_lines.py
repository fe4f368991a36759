"""The lines on one run: where it is, why not faster, what failed, who works on it, and how it is set."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Console
from rich.text import Text as RichText

from whimbrel.cli.output.progress_bar import clock, moment
from whimbrel.cli.output.run_rows import bar, one_line, reason_of, short_time, state_of
from whimbrel.cli.output.run_tables import asked_for
from whimbrel.cli.output.sparklines import sparkline
from whimbrel.cli.output.terminal_text import Text, wrapped_text
from whimbrel.cli.top.snapshot import RunDetail
from whimbrel.cli.top.worker_lines import seconds_since
from whimbrel.domain.failures.failure import FailureGroup
from whimbrel.domain.runs.budget_texts import limits
from whimbrel.domain.runs.sizing import sizing_sentence
from whimbrel.domain.runs.states import ENDED
from whimbrel.domain.runs.windows import windows_sentence
from whimbrel.domain.runs.workers import Worker
from whimbrel.domain.text.printable import counted
from whimbrel.engine.operating.run_view import RunView
from whimbrel.engine.operating.stage_view import stage_lines

NAMES = 14  # columns of the names of facts
TWO_COLUMNS = 140  # columns of a terminal from which on two stand beside one another
BETWEEN = 3
BESIDE_RATE = 18  # columns for the present rate, beside those before
WORKERS = 20  # that are listed of a run
Lines = list[RichText]


def run_lines(
    console: Console, detail: RunDetail, workers: Sequence[Worker], now: datetime, width: int
) -> Lines:
    """Returns all lines on a run, at most so wide."""
    head = _head(console, detail.view, width)
    if width < TWO_COLUMNS:
        return [*head, *_left(console, detail, width), *_right(console, detail.view, workers, now, width)]
    half = (width - BETWEEN) // 2
    left, right = _left(console, detail, half), _right(console, detail.view, workers, now, half)
    return [*head, *_beside(left, right, half)]


def _beside(left: Lines, right: Lines, half: int) -> Iterator[RichText]:
    for number in range(max(len(left), len(right))):
        one = left[number].copy() if number < len(left) else RichText()
        one.truncate(half, overflow="ellipsis", pad=True)
        other = right[number] if number < len(right) else RichText()
        yield Text.assemble(one, " " * BETWEEN, other)


def _head(console: Console, run_view: RunView, width: int) -> Iterator[RichText]:
    run = run_view.run
    kind = f", {run.kind} of run {run.of}" if run.of else ""
    yield Text.assemble((f"Run {run.id} of {one_line(run.migration)}{kind} on {one_line(run.ns)}", "bold"))
    yield Text.assemble("is ", state_of(run_view), f"; {_since(run_view)}")
    if why := reason_of(run_view):
        yield from _wrapped(console, Text(why, "yellow"), width)
    share = f" {run_view.progress:5.1f}%"
    yield Text.assemble((bar(run_view.progress, max(1, width - len(share))), "cyan"), share)
    yield Text(moment(run_view, 0.0).line, "dim")


def _since(run_view: RunView) -> str:
    run = run_view.run
    if run.ended_at is not None:
        return f"ended {run.ended_at.astimezone():%Y-%m-%d %H:%M:%S} after {short_time(run_view.seconds)} of work"
    if run.started_at is None:
        return f"added {run.created_at.astimezone():%Y-%m-%d %H:%M:%S}"
    return f"began {run.started_at.astimezone():%Y-%m-%d %H:%M:%S}, {short_time(run_view.seconds)} of work"


def _left(console: Console, detail: RunDetail, width: int) -> Lines:
    run_view = detail.view
    lines = [*_title("Phases"), *_wrapped(console, _phases(run_view), width)]
    drawn = sparkline(run_view.run.samples, run_view.seconds, min(60, width - NAMES - BESIDE_RATE))
    if drawn:
        lines += _fact(console, "rate", Text(f"{drawn}│ {run_view.throughput:,.0f} docs/s", "cyan"), width)
    batches = f"{run_view.completed_batches:,} of {run_view.total_batches:,} done"
    if run_view.run.status not in ENDED:
        batches = f"{run_view.completed_batches:,} of {run_view.total_batches:,} planned so far are done"
    lines += _fact(console, "batches", batches, width)
    lines += [*_title("Outcomes"), *_outcomes(console, run_view, width)]
    holds = run_view.run.allowance.holds if run_view.run.status not in ENDED else ()
    if holds:
        lines += _title("Why not faster")
        for hold in holds:
            lines += _wrapped(console, Text(f"{hold.share:4.0%}  {one_line(hold.sentence)}", "yellow"), width)
    if detail.causes.groups:
        lines += [
            *_title("Findings" if run_view.run.report else "Causes"),
            *cause_lines(detail, width),
        ]
    return lines


def _phases(run_view: RunView) -> RichText:
    run = run_view.run
    parts = []
    for number, phase in enumerate(run.legs):
        done = number < run.leg or run.status in ENDED
        parts.append(
            Text(f"✓ {phase}", "dim")
            if done
            else Text(f"▶ {phase}", "bold")
            if number == run.leg
            else Text(phase)
        )
    return Text(" → ").join(parts)


def _outcomes(console: Console, run_view: RunView, width: int) -> Iterator[RichText]:
    counts, failures = run_view.counts, run_view.failures
    found = {
        "changed": counts.changed, "unchanged": counts.unchanged, "skipped": counts.skipped,
        "failed": failures["failed"], "conflict": failures["conflict"],
    }  # fmt: skip
    if run_view.run.kind == "verification":
        found = {"findings": failures["failed"]}
    text = Text(" · ").join(
        Text(f"{number:,} {name}", "red" if number and name in ("failed", "conflict", "findings") else "")
        for name, number in found.items()
    )
    yield from _wrapped(console, text, width)
    yield from _wrapped(
        console, Text(f"= {run_view.processed:,} of {run_view.total:,} documents evaluated"), width
    )


def cause_lines(detail: RunDetail, width: int) -> Iterator[RichText]:
    """Yields the largest causes of a run's failures, two lines each, and how much is in the others."""
    for group in detail.causes.groups:
        known = detail.known.get(group.group)
        accepted = f", accepted by {one_line(known.who)}" if known is not None and known.accepted else ""
        yield _cut(Text.assemble((_numbers(group), "red"), f" {group.group} {_what(group)}{accepted}"), width)
        yield _cut(
            Text(f"  {one_line(group.message)}; for example _id {one_line(str(group.example.value))}", "dim"),
            width,
        )
    page = detail.causes
    if page.after is not None:
        yield Text(
            f"and {page.dead + page.open:,} in {counted(page.rest, 'more group')}: whimbrel failures {detail.view.run.id}"
        )


def _numbers(group: FailureGroup) -> str:
    parts = [f"{number:,} {name}" for name, number in (("dead", group.dead), ("open", group.open)) if number]
    return ", ".join(parts) or f"{group.resolved:,} resolved"


def _what(group: FailureGroup) -> str:
    place = f" at {group.place}" if group.place else ""
    return one_line(f"{group.kind}, {group.type}{place}")


def _right(
    console: Console, run_view: RunView, workers: Sequence[Worker], now: datetime, width: int
) -> Lines:
    run = run_view.run
    lines = _title("Settings")
    facts = {
        "asked for": asked_for(run), "batch size": sizing_sentence(run.batch_size, run.sizing) or f"{run.batch_size:,} documents",
        "rate": f"at most {run.rate:,} documents a second" if run.rate else "no limit",
        "priority": f"{run.priority}, nice {run.nice}", "windows": windows_sentence(run.windows) if run.windows else "",
        "before-images": f"kept, of the {'whole documents' if run.undo == 'document' else 'fields that are touched'}" if run.undo else "",
        "failure budget": "" if run.status in ENDED else limits(run.budget), "follow": run_view.following,
        "code": run.code_hash[:12],
    }  # fmt: skip
    for name, value in facts.items():
        if value:
            lines += _fact(console, name, one_line(value), width)
    if stages := stage_lines(run):
        lines += _title("Stages")
        for stage in stages:
            lines += _wrapped(console, Text(one_line(stage)), width)
    return [*lines, *_title("Workers on it"), *_workers(console, run_view, workers, now, width)]


def _workers(
    console: Console, run_view: RunView, workers: Sequence[Worker], now: datetime, width: int
) -> Iterator[RichText]:
    prefix = f"{run_view.run.id}."
    on_it = [
        (worker, batch) for worker in workers for batch in worker.in_hand if batch.batch.startswith(prefix)
    ]
    if not on_it:
        yield Text("none now", "dim")
    for worker, batch in on_it[:WORKERS]:
        number = batch.batch.removeprefix(prefix)
        yield _cut(
            Text(
                f"{one_line(worker.host)}:{worker.pid} on batch {number} for {clock(seconds_since(batch.since, now))}"
            ),
            width,
        )
    if len(on_it) > WORKERS:
        yield Text(f"and {counted(len(on_it) - WORKERS, 'more batch')}")
    for worker in workers:
        for refusal in worker.refuses:
            if refusal.run == run_view.run.id:
                why = f"{one_line(worker.host)}:{worker.pid} refuses it: its code is {refusal.pinned}, here {refusal.here}"
                yield from _wrapped(console, Text(one_line(why), "yellow"), width)


def _title(text: str) -> Lines:
    return [Text(), Text(text, "bold underline")]


def _fact(console: Console, name: str, value: str | RichText, width: int) -> Iterator[RichText]:
    text = value if isinstance(value, RichText) else Text(value)
    for number, line in enumerate(wrapped_text(console, text, width - NAMES - 1, fold=True)):
        yield Text.assemble((("" if number else name).ljust(NAMES + 1), "dim"), line)


def _wrapped(console: Console, text: RichText, width: int) -> Iterator[RichText]:
    yield from wrapped_text(console, text, width, fold=True)


def _cut(text: RichText, width: int) -> RichText:
    text.truncate(width, overflow="ellipsis")
    return text
