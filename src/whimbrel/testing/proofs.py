"""The proofs: each runs the migration in its own way, and says what it has shown, or raises what is wrong."""

from collections.abc import Mapping
from typing import Any

import bson
from bson import json_util

from whimbrel.domain.bson.diffs import difference, dotted, readable
from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS, Key, document, element, iterate_fields
from whimbrel.domain.failures.failure import FailedDocument, FailureState
from whimbrel.domain.migrations.changes import Change, Paths, Row, Single
from whimbrel.domain.migrations.migration import with_undo
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.run_view import RunView
from whimbrel.engine.operating.start import draft_run
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.rehearsing.determinism import deterministic as looked_the_same
from whimbrel.engine.rehearsing.determinism import idempotent
from whimbrel.errors import DefinitionInvalid
from whimbrel.testing.expected import Expected, called, rehearsed
from whimbrel.testing.trial import DEFAULTS, Trial

STEPS = ("S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S10", "S11", "S12")
WRITTEN = "whimbrelCheckWritten"  # the field that the concurrent application writes
SHOWN = 3  # documents that a fault shows


class Fault(Exception):
    """What a proof has found wrong."""


class NotApplicable(Exception):
    """What a proof could not look at, with the reason."""


def one_run(room: Trial, expected: Expected) -> str:
    """A run does what the transform says."""
    room.afresh()
    found = room.finish(room.start())
    _check_failures(room, expected, found)
    _check_documents(room, expected)
    counts = found.counts
    fails = f", {len(expected.failing)} fail as they must" if expected.failing else ""
    return f"one run does what the transform says: {counts.changed} changed, {counts.unchanged} unchanged, {counts.skipped} skipped{fails}"


def deterministic(room: Trial, expected: Expected) -> str:
    """The same document gives the same result."""
    verdict = looked_the_same(room.definition, list(expected.rehearsed.values()))
    if verdict.holds is False and expected.deterministic:
        raise Fault(f"{verdict.why} If that is meant, say deterministic=False.")
    if verdict.holds is None:
        raise NotApplicable(verdict.why)
    if not verdict.holds:
        raise NotApplicable(f"it need not be: {verdict.why}")
    return "deterministic: the same document gives the same result twice"


def once(room: Trial, expected: Expected) -> str:
    """However often it runs, each document is changed once."""
    room.afresh()
    room.finish(room.start())
    room.finish(room.start())
    _check_documents(room, expected, "After a second run")
    run = draft_run(room.store, room.definition, defaults=DEFAULTS)
    if idempotent(run, list(expected.rehearsed.values())).holds:
        return "idempotent: applied to its own output it changes nothing"
    guard = f"the mark {run.marking.path!r}" if run.marking.path else "its filter, which becomes false"
    return f"not idempotent, but guarded by {guard}: a second run changes nothing"


def killed(room: Trial, expected: Expected) -> str:
    """Killed at any step and resumed, it ends as if nothing had been."""
    reached = []
    for step in STEPS:
        room.afresh()
        run = room.start()
        if room.killed_at(run, step):
            reached.append(step)
        found = room.finish(run)
        _check_failures(room, expected, found)
        _check_documents(room, expected, f"Killed at {step} and resumed")
    return f"killed at every step that it reaches ({', '.join(reached)}) and resumed, it ends as if nothing had been"


def concurrent_writer(room: Trial, expected: Expected) -> str:
    """What an application writes between our read and our write stays, and the result is that of the new document."""
    room.afresh()
    run = room.start()
    wanted = rehearsed(room, run, {key: _written(raw) for key, raw in expected.before.items()})
    at = "S3" if room.definition.declarative else "S5"
    writes = 0

    def step(name: str) -> None:
        nonlocal writes
        if name == at and not writes:
            writes = room.collection.update_many({}, {"$set": {WRITTEN: True}}).modified_count

    found = room.finish(run, step)
    _check_failures(room, expected, found)
    for key, raw in room.stored().items():
        new = wanted.get(key)
        after = _written(expected.before[key]) if new is None or new.changed is None else new.changed
        _compare(
            key, expected.comparable(after), expected.comparable(raw), "Written by the application meanwhile"
        )
    return f"a concurrent writer wins: its {writes} writes between read and write are all there, and the results are of the documents as it left them"


def reads(room: Trial, expected: Expected) -> str:
    """The function looks at no field that it does not declare."""
    declared = room.definition.reads
    if declared is None:
        raise NotApplicable("it declares none")
    for key, each in expected.rehearsed.items():
        if each.failure is not None:
            continue
        whole, part = called(room, each.before), called(room, _only(each.before, ("_id", *declared)))
        if isinstance(part, FailedDocument):
            raise Fault(
                f"With the fields {', '.join(declared)} alone it fails on document {_name(key)}: {part.type}: {part.message}"
            )
        if not isinstance(whole, FailedDocument) and _told(whole.change) != _told(part.change):
            raise Fault(
                f"With the fields {', '.join(declared)} alone it makes something else of document {_name(key)}: declare all that it reads."
            )
    return f"the declared reads are true: {', '.join(declared)} alone give the same changes"


def undo(room: Trial, expected: Expected) -> str:
    """A run with undo can be rolled back byte for byte."""
    try:
        definition = with_undo(room.definition)
    except DefinitionInvalid as error:
        raise NotApplicable(str(error)) from error
    before = room.afresh()
    found = room.finish(room.start(definition))
    _check_failures(room, expected, found)
    _check_documents(room, expected, "With undo")
    back = room.finish(start_rollback(room.store, found.run.id, who="check", defaults=DEFAULTS))
    if back.run.status is not RunStatus.COMPLETED:
        raise Fault(f"The rollback ended {back.run.status}: {back.run.message}")
    for key, raw in room.stored().items():
        _compare(key, before[key], raw, "After run and rollback")
    return f"undo: after run and rollback all {len(before)} documents are byte for byte what they were"


# comparing


def _check_documents(room: Trial, expected: Expected, when: str = "After a run") -> None:
    stored = room.stored()
    gone = [_name(key) for key in expected.before if key not in stored]
    if gone:
        raise Fault(f"{when} documents are gone: {', '.join(gone[:SHOWN])}.")
    for key, raw in stored.items():
        _compare(key, expected.after(key), expected.comparable(raw), when)


def _check_failures(room: Trial, expected: Expected, run_view: RunView) -> None:
    failures = {
        each.key: each
        for each in room.store.ledger.failures.list(run_view.run.id, state=FailureState.DEAD, limit=1000)
    }
    strange = [
        f"{_name(key)}: {each.type}: {each.message}"
        for key, each in failures.items()
        if key not in expected.failing
    ]
    if strange:
        raise Fault(
            f"{len(strange)} documents fail, such as {'; '.join(strange[:SHOWN])}. If they must, name them in failing=[...]."
        )
    missing = [_name(key) for key in expected.failing if key not in failures]
    if missing:
        raise Fault(f"Documents that must fail do not: {', '.join(missing[:SHOWN])}.")


def _compare(key: Key, wanted: bytes, found: bytes, when: str) -> None:
    if wanted == found:
        return
    edits = difference(wanted, found)
    shown = "; ".join(
        f"{dotted(edit.path) or 'the document'} is {_value(edit.new)} instead of {_value(edit.old)}" if edit.kind != "order"
        else f"the fields stand in another order: {', '.join(edit.names)}"
        for edit in edits[:SHOWN]
    )  # fmt: skip
    raise Fault(f"{when} document {_name(key)} is not what it should be: {shown}.")


def _value(value: Any) -> str:
    return "missing" if value is None else json_util.dumps(readable(value))[:200]


def _name(key: Key) -> str:
    return json_util.dumps(key.value)


def _written(raw: bytes) -> bytes:
    return bytes(
        document(
            [
                *(element(kind, name, payload) for name, kind, payload in iterate_fields(raw)),
                element(0x08, WRITTEN.encode(), b"\1"),
            ]
        ).raw
    )


def _only(raw: bytes, names: tuple[str, ...]) -> bytes:
    wanted = {name.encode() for name in names}
    return bytes(
        document(
            [element(kind, name, payload) for name, kind, payload in iterate_fields(raw) if name in wanted]
        ).raw
    )


def _told(change: Change) -> Mapping[str, Any]:
    """A change in a form that can be compared."""
    match change:
        case Row(values, unset):
            return {"set": bson.decode(values, DOCUMENT_OPTIONS), "unset": unset}
        case Paths():
            return {"set": change.values, "unset": change.unset}
        case Single():
            return {"update": change.update}
        case _:
            return {"outcome": type(change).__name__}
