"""How a dry run looks: the figures, the failures, and documents before and after."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bson import json_util
from rich.console import RenderableType
from rich.text import Text as RichText

from whimbrel.cli.listing import Facts, Listing
from whimbrel.cli.progress import clock
from whimbrel.cli.text import Paragraph, Text
from whimbrel.domain.diffs import Edit, Value, dotted, readable
from whimbrel.domain.ids import relaxed
from whimbrel.domain.marks import MARK_ROOT
from whimbrel.domain.printable import visible
from whimbrel.engine.dryrun import Difference, DryRun, FailedGroup, Growth
from whimbrel.engine.selection import Selected
from whimbrel.engine.verdicts import Verdict

BESIDE = 100  # columns from which on before and after stand side by side
LONGEST = 400  # characters of a value that are shown
LONG = 300  # characters of a whole filter or update
LONGEST_OF_OURS = 80  # of what Whimbrel itself keeps in a document
SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "order": ("=", "cyan")}
HOW = {
    "counted": "counted",
    "sampled": "about, from the share of a random sample",
}


def plan_table(it: DryRun) -> Facts:
    """Everything but the documents."""
    table = Facts(f"Plan of {it.run.migration}")
    for name, value in _rows(it):
        table.add(name, value)
    return table


def _rows(it: DryRun) -> Iterator[tuple[str, str | RichText]]:
    yield "collection", it.run.ns
    if it.run.query:
        yield "selects", _pasted(it.run.query)
    if it.run.declared is not None:
        yield "update", shortened(it.run.declared)
    yield "documents", _selected(it.selected)
    yield "batches", f"{it.batches:,} of up to {it.run.batch_size:,} documents"
    chosen = ", ".join(f"{count} {choice}" for choice, count in it.sample.items() if count)
    yield "sample", f"{len(it.rehearsed)} documents" + (f": {chosen}" if chosen else "")
    if it.rehearsed:
        yield "outcomes", _outcomes(it)
    for reason, count in it.not_shown.items():
        yield "not shown", Text(f"{count}: {reason}", style="yellow")
    yield from _fits(it)
    yield "deterministic", _verdict(it.deterministic)
    yield "idempotent", _verdict(it.idempotent)
    seconds, oplog = it.predicted.seconds, it.predicted.oplog
    yield "duration", f"about {clock(seconds.value)}, from {seconds.basis}"
    if oplog:
        yield "oplog", f"about {size(oplog.value)}, from {oplog.basis}"
    for each in it.unchecked:
        yield "not checked", Text(each, style="yellow")


def shortened(value: Any) -> str:
    """A value as Extended JSON, as much of it as one looks at; --json has all of it."""
    text = json.dumps(relaxed(value), ensure_ascii=True)
    return text if len(text) <= LONG else f"{text[:LONG]}... ({len(text):,} characters in all)"


def _pasted(query: Mapping[str, Any]) -> str:
    """A filter as it can be given to --filter."""
    text = json.dumps(relaxed(query), ensure_ascii=False)
    return text if visible(text) == text else json.dumps(relaxed(query))


def _selected(it: Selected) -> str:
    by = f"found by the index {it.index}" if it.index else "found by looking at every document"
    return f"{it.estimated:,} ({HOW[it.how]}), {by}"


def _outcomes(it: DryRun) -> RichText:
    styles = {"changed": "green", "failed": "red", "not shown": "yellow", "not reached": "yellow"}
    parts = [
        Text(f"{count} {outcome}", style=styles.get(outcome, ""))
        for outcome, count in it.outcomes.items()
        if count
    ]
    return Text(", ").join(parts)


def _fits(it: DryRun) -> Iterator[tuple[str, str | RichText]]:
    """What becomes of size, validator, unique indexes and filter."""
    if it.growth:
        yield "growth", _grown(it.growth)
    if it.validator:
        broken = len(it.validator.keys)
        does = "refuses" if it.validator.refuses else "warns of"
        first = f", for example _id {it.validator.keys[0].value}" if broken else ""
        yield "validator", Text(f"{does} {broken} of the sample{first}", style="red" if broken else "")
    for clash in it.clashes:
        where = "a document that is stored" if clash.stored else "another one of the sample"
        told = f"{clash.index}: _id {clash.key.value} gets the key of _id {clash.other.value}, {where}"
        yield "unique index", Text(told, style="red")
    after = it.reselected
    if after.filtered and after.changed:
        stays = (
            f"still selects {after.still} of {after.changed} changed documents"
            if after.still
            else "selects no changed document any more"
        )
        wrong = after.still and it.run.mark == "filter"
        yield "filter", Text(stays, style="red" if wrong else "")


def _grown(it: Growth) -> str:
    most = f"at most {it.largest:+,} (_id {it.largest_key.value}); the largest becomes {size(it.largest_document)}"
    return f"{it.mean:+,.1f} bytes a document, {size(it.projected)} in all; {most}"


def _verdict(it: Verdict) -> RichText:
    word = {True: ("yes", "green"), False: ("no", "yellow"), None: ("not known", "yellow")}[it.holds]
    return Text.assemble(word, f". {it.why}")


def size(count: float) -> str:
    """Bytes for people."""
    value, units = abs(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:  # noqa: PLR2004
        value, units = value / 1000, units[1:]
    text = f"{value:,.0f}" if units[0] == "bytes" else f"{value:,.1f}"
    return f"{'-' if count < 0 else ''}{text} {units[0]}"


def failed_table(groups: Sequence[FailedGroup]) -> Listing:
    table = Listing(("group", "documents", "cause"), right=("documents",), title="Failures on the sample")
    for each in groups:
        it = each.example
        tail = it.traceback[max(it.traceback.rfind("  File "), 0) :].rstrip()
        cause = f"{it.kind}, {it.type}: {it.message}\nfor example _id {it.key.value}"
        table.add(each.cause.id, str(each.count), Text(cause + (f"\n{tail}" if tail else "")))
    return table


def differences(it: DryRun, width: int) -> Iterator[RenderableType]:
    """Documents before and after: beside one another where there is room."""
    for each in it.differences:
        yield Text(f"_id {each.key.value}", style="bold")
        beside = _beside(each)
        if width >= BESIDE and beside.fits(width):
            yield beside
        else:
            yield from _stacked(each)


def _beside(it: Difference) -> Listing:
    table = Listing(("", "path", "before", "after"))
    for edit in it.edits:
        sign, style = SIGNS[edit.kind]
        old, new = _values(edit)
        table.add(Text(sign, style), Text(_path(edit), style), Text(old, "red"), Text(new, "green"))
    return table


def _stacked(it: Difference) -> Iterator[RenderableType]:
    for edit in it.edits:
        sign, style = SIGNS[edit.kind]
        old, new = _values(edit)
        yield Text(f"{sign} {_path(edit)}", style)
        if old:
            yield Paragraph(Text(f"    before  {old}", "red"), hanging=12)
        if new:
            yield Paragraph(Text(f"    after   {new}", "green"), hanging=12)
    yield Text("")


def _path(edit: Edit) -> str:
    return visible(dotted(edit.path), "") or "(document)"


def _values(edit: Edit) -> tuple[str, str]:
    if edit.kind == "order":
        return "", f"order: {', '.join(visible(each, '') for each in edit.names)}"
    old, new = _told(edit.old, exact=False), _told(edit.new, exact=False)
    if old == new:  # they differ in type only
        old, new = _told(edit.old, exact=True), _told(edit.new, exact=True)
    longest = LONGEST_OF_OURS if edit.path[:1] == (MARK_ROOT,) else LONGEST
    return _short(old, longest), _short(new, longest)


def _told(value: Value | None, *, exact: bool) -> str:
    if value is None:
        return ""
    options = json_util.CANONICAL_JSON_OPTIONS if exact else json_util.RELAXED_JSON_OPTIONS
    return visible(json_util.dumps(readable(value), json_options=options, ensure_ascii=False), "")


def _short(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest:,} characters more)"
