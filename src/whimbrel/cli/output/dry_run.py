"""Shows a dry run: the figures, the failures, and documents before and after."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bson import json_util
from rich.console import RenderableType
from rich.text import Text as RichText

from whimbrel.cli.output.fact_tables import Facts, FactTable
from whimbrel.cli.output.progress_bar import clock
from whimbrel.cli.output.terminal_text import Paragraph, Text
from whimbrel.domain.bson.diffs import Edit, Value, dotted, readable
from whimbrel.domain.bson.document_ids import relaxed
from whimbrel.domain.migrations.marks import MARK_ROOT
from whimbrel.domain.text.printable import visible

if TYPE_CHECKING:  # other tables use a little of this module, and should not import dry runs
    from whimbrel.engine.rehearsing.determinism import Verdict
    from whimbrel.engine.rehearsing.dry_run import Difference, DryRun, FailedGroup, Growth
    from whimbrel.engine.rehearsing.selection import Selected

BESIDE = 100  # columns at which before and after are shown side by side
LONGEST = 400  # characters of a value that are shown
LONG = 300  # characters of a whole filter or update
LONGEST_OF_OURS = 80  # characters of what Whimbrel itself keeps in a document
SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow"), "order": ("=", "cyan")}
HOW = {
    "counted": "counted",
    "sampled": "about, from the share of a random sample",
}


def plan_table(dry_run: DryRun) -> Facts:
    """Returns the table of everything except the documents."""
    table = Facts(f"Plan of {dry_run.run.migration}")
    for name, value in _rows(dry_run):
        table.add(name, value)
    return table


def _rows(dry_run: DryRun) -> Iterator[tuple[str, str | RichText]]:
    yield "collection", dry_run.run.ns
    if dry_run.run.query:
        yield "selects", _filter_text(dry_run.run.query)
    if dry_run.run.declared is not None:
        yield "update", shortened(dry_run.run.declared)
    yield "documents", _selected(dry_run.selected)
    yield "batches", f"{dry_run.batches:,} of up to {dry_run.run.batch_size:,} documents"
    chosen = ", ".join(f"{count} {choice}" for choice, count in dry_run.sample.items() if count)
    yield "sample", f"{len(dry_run.rehearsed)} documents" + (f": {chosen}" if chosen else "")
    if dry_run.rehearsed:
        yield "outcomes", _outcomes(dry_run)
    for reason, count in dry_run.not_shown.items():
        yield "not shown", Text(f"{count}: {reason}", style="yellow")
    yield from _effects(dry_run)
    yield "deterministic", _verdict(dry_run.deterministic)
    yield "idempotent", _verdict(dry_run.idempotent)
    seconds, oplog = dry_run.predicted.seconds, dry_run.predicted.oplog
    yield "duration", f"about {clock(seconds.value)}, from {seconds.basis}"
    if oplog:
        yield "oplog", f"about {size(oplog.value)}, from {oplog.basis}"
    for check in dry_run.unchecked:
        yield "not checked", Text(check, style="yellow")


def shortened(value: Any) -> str:
    """Returns a value as Extended JSON, cut where it is long; --json has all of it."""
    text = json.dumps(relaxed(value), ensure_ascii=True)
    return text if len(text) <= LONG else f"{text[:LONG]}... ({len(text):,} characters in all)"


def _filter_text(query: Mapping[str, Any]) -> str:
    """Returns a filter as it can be given to --filter."""
    text = json.dumps(relaxed(query), ensure_ascii=False)
    return text if visible(text) == text else json.dumps(relaxed(query))


def _selected(selected: Selected) -> str:
    how_found = (
        f"found by the index {selected.index}" if selected.index else "found by looking at every document"
    )
    return f"{selected.estimated:,} ({HOW[selected.how]}), {how_found}"


def _outcomes(dry_run: DryRun) -> RichText:
    styles = {"changed": "green", "failed": "red", "not shown": "yellow", "not reached": "yellow"}
    parts = [
        Text(f"{count} {outcome}", style=styles.get(outcome, ""))
        for outcome, count in dry_run.outcomes.items()
        if count
    ]
    return Text(", ").join(parts)


def _effects(dry_run: DryRun) -> Iterator[tuple[str, str | RichText]]:
    """Yields the effects on size, validator, unique indexes and filter."""
    if dry_run.growth:
        yield "growth", _growth_text(dry_run.growth)
    if dry_run.validator:
        broken = len(dry_run.validator.keys)
        does = "refuses" if dry_run.validator.refuses else "warns of"
        first = f", for example _id {dry_run.validator.keys[0].value}" if broken else ""
        yield "validator", Text(f"{does} {broken} of the sample{first}", style="red" if broken else "")
    for clash in dry_run.clashes:
        where = "a document that is stored" if clash.stored else "another one of the sample"
        sentence = f"{clash.index}: _id {clash.key.value} gets the key of _id {clash.other.value}, {where}"
        yield "unique index", Text(sentence, style="red")
    after = dry_run.reselected
    if after.filtered and after.changed:
        stays = (
            f"still selects {after.still} of {after.changed} changed documents"
            if after.still
            else "selects no changed document any more"
        )
        wrong = after.still and dry_run.run.mark == "filter"
        yield "filter", Text(stays, style="red" if wrong else "")


def _growth_text(growth: Growth) -> str:
    most = f"at most {growth.largest:+,} (_id {growth.largest_key.value}); the largest becomes {size(growth.largest_document)}"
    return f"{growth.mean:+,.1f} bytes a document, {size(growth.projected)} in all; {most}"


def _verdict(verdict: Verdict) -> RichText:
    word = {True: ("yes", "green"), False: ("no", "yellow"), None: ("not known", "yellow")}[verdict.holds]
    return Text.assemble(word, f". {verdict.why}")


def size(count: float) -> str:
    """Formats bytes for people."""
    value, units = abs(count), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:  # noqa: PLR2004
        value, units = value / 1000, units[1:]
    text = f"{value:,.0f}" if units[0] == "bytes" else f"{value:,.1f}"
    return f"{'-' if count < 0 else ''}{text} {units[0]}"


def failed_table(groups: Sequence[FailedGroup]) -> FactTable:
    table = FactTable(("group", "documents", "cause"), right=("documents",), title="Failures on the sample")
    for group in groups:
        example = group.example
        tail = example.traceback[max(example.traceback.rfind("  File "), 0) :].rstrip()
        cause = f"{example.kind}, {example.type}: {example.message}\nfor example _id {example.key.value}"
        table.add(group.cause.id, str(group.count), Text(cause + (f"\n{tail}" if tail else "")))
    return table


def differences(dry_run: DryRun, width: int) -> Iterator[RenderableType]:
    """Shows documents before and after, side by side where there is room."""
    for difference in dry_run.differences:
        yield Text(f"_id {difference.key.value}", style="bold")
        beside = _side_by_side_table(difference)
        if width >= BESIDE and beside.fits(width):
            yield beside
        else:
            yield from _stacked_lines(difference)


def _side_by_side_table(difference: Difference) -> FactTable:
    table = FactTable(("", "path", "before", "after"))
    for edit in difference.edits:
        sign, style = SIGNS[edit.kind]
        old, new = _values(edit)
        table.add(Text(sign, style), Text(_path(edit), style), Text(old, "red"), Text(new, "green"))
    return table


def _stacked_lines(difference: Difference) -> Iterator[RenderableType]:
    for edit in difference.edits:
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
        return "", f"order: {', '.join(visible(name, '') for name in edit.names)}"
    old, new = _value_text(edit.old, exact=False), _value_text(edit.new, exact=False)
    if old == new:  # they differ in type only
        old, new = _value_text(edit.old, exact=True), _value_text(edit.new, exact=True)
    longest = LONGEST_OF_OURS if edit.path[:1] == (MARK_ROOT,) else LONGEST
    return _cut(old, longest), _cut(new, longest)


def _value_text(value: Value | None, *, exact: bool) -> str:
    if value is None:
        return ""
    options = json_util.CANONICAL_JSON_OPTIONS if exact else json_util.RELAXED_JSON_OPTIONS
    return visible(json_util.dumps(readable(value), json_options=options, ensure_ascii=False), "")


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest:,} characters more)"
