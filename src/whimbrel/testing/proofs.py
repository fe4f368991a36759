"""The proofs: each runs the migration in its own way, and returns what it has shown, or raises what is wrong."""

from collections.abc import Mapping
from typing import Any

import bson
from bson import json_util

from whimbrel.domain.bson.diffs import difference, dotted, readable
from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS, Key, document, element, iterate_fields
from whimbrel.domain.failures.failure import FailedDocument, FailureState
from whimbrel.domain.migrations.changes import Change, Paths, Row, Single
from whimbrel.domain.migrations.definition_checks import with_undo
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.run_view import RunView
from whimbrel.engine.operating.start import draft_run
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.rehearsing.determinism import deterministic as compare_results
from whimbrel.engine.rehearsing.determinism import idempotent
from whimbrel.errors import DefinitionInvalid
from whimbrel.testing.expected import Expected, call_function, rehearse_documents
from whimbrel.testing.trial import DEFAULTS, Trial

STEPS = ("S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S10", "S11", "S12")
WRITTEN = "whimbrelCheckWritten"  # the field that the concurrent application writes
SHOWN = 3  # documents that a fault shows


class Fault(Exception):
    """A proof has found something wrong."""


class NotApplicable(Exception):
    """A proof could not be done; the error's text is the reason."""


def one_run(trial: Trial, expected: Expected) -> str:
    """Proves that a run does what the transform says."""
    trial.insert_afresh()
    run_view = trial.finish(trial.start())
    _check_failures(trial, expected, run_view)
    _check_documents(trial, expected)
    counts = run_view.counts
    fails = f", {len(expected.failing)} fail as they must" if expected.failing else ""
    return f"one run does what the transform says: {counts.changed} changed, {counts.unchanged} unchanged, {counts.skipped} skipped{fails}"


def deterministic(trial: Trial, expected: Expected) -> str:
    """Proves that the same document gives the same result."""
    verdict = compare_results(trial.definition, list(expected.rehearsed.values()))
    if verdict.holds is False and expected.deterministic:
        raise Fault(f"{verdict.why} If that is meant, say deterministic=False.")
    if verdict.holds is None:
        raise NotApplicable(verdict.why)
    if not verdict.holds:
        raise NotApplicable(f"it need not be: {verdict.why}")
    return "deterministic: the same document gives the same result twice"


def idempotent_or_guarded(trial: Trial, expected: Expected) -> str:
    """Proves that each document is changed once, however often the migration runs."""
    trial.insert_afresh()
    trial.finish(trial.start())
    trial.finish(trial.start())
    _check_documents(trial, expected, "After a second run")
    run = draft_run(trial.store, trial.definition, defaults=DEFAULTS)
    if idempotent(run, list(expected.rehearsed.values())).holds:
        return "idempotent: applied to its own output it changes nothing"
    guard = f"the mark {run.marking.path!r}" if run.marking.path else "its filter, which becomes false"
    return f"not idempotent, but guarded by {guard}: a second run changes nothing"


def killed_at_every_step(trial: Trial, expected: Expected) -> str:
    """Proves that a run killed at any step and resumed ends as if nothing had happened."""
    reached = []
    for step in STEPS:
        trial.insert_afresh()
        run = trial.start()
        if trial.killed_at(run, step):
            reached.append(step)
        run_view = trial.finish(run)
        _check_failures(trial, expected, run_view)
        _check_documents(trial, expected, f"Killed at {step} and resumed")
    return f"killed at every step that it reaches ({', '.join(reached)}) and resumed, it ends as if nothing had been"


def concurrent_writer(trial: Trial, expected: Expected) -> str:
    """Proves that what an application writes between our read and write stays, and the result is that of the new document."""
    trial.insert_afresh()
    run = trial.start()
    expected_after_write = rehearse_documents(
        trial, run, {key: _with_written_field(raw) for key, raw in expected.before.items()}
    )
    write_step = "S3" if trial.definition.declarative else "S5"
    writes = 0

    def step(name: str) -> None:
        nonlocal writes
        if name == write_step and not writes:
            writes = trial.collection.update_many({}, {"$set": {WRITTEN: True}}).modified_count

    run_view = trial.finish(run, step)
    _check_failures(trial, expected, run_view)
    for key, raw in trial.stored().items():
        new = expected_after_write.get(key)
        after = (
            _with_written_field(expected.before[key]) if new is None or new.changed is None else new.changed
        )
        _compare(
            key, expected.comparable(after), expected.comparable(raw), "Written by the application meanwhile"
        )
    return f"a concurrent writer wins: its {writes} writes between read and write are all there, and the results are of the documents as it left them"


def reads(trial: Trial, expected: Expected) -> str:
    """Proves that the function reads only the fields that it declares."""
    declared = trial.definition.reads
    if declared is None:
        raise NotApplicable("it declares none")
    for key, rehearsed in expected.rehearsed.items():
        if rehearsed.failure is not None:
            continue
        from_all, from_declared = (
            call_function(trial, rehearsed.before),
            call_function(trial, _with_only(rehearsed.before, ("_id", *declared))),
        )
        if isinstance(from_declared, FailedDocument):
            raise Fault(
                f"With the fields {', '.join(declared)} alone it fails on document {_name(key)}: {from_declared.type}: {from_declared.message}"
            )
        if not isinstance(from_all, FailedDocument) and _comparable(from_all.change) != _comparable(
            from_declared.change
        ):
            raise Fault(
                f"With the fields {', '.join(declared)} alone it makes something else of document {_name(key)}: declare all that it reads."
            )
    return f"the declared reads are true: {', '.join(declared)} alone give the same changes"


def undo(trial: Trial, expected: Expected) -> str:
    """Proves that a run with undo can be rolled back byte for byte."""
    try:
        definition = with_undo(trial.definition)
    except DefinitionInvalid as error:
        raise NotApplicable(str(error)) from error
    before = trial.insert_afresh()
    run_view = trial.finish(trial.start(definition))
    _check_failures(trial, expected, run_view)
    _check_documents(trial, expected, "With undo")
    rolled_back = trial.finish(start_rollback(trial.store, run_view.run.id, who="check", defaults=DEFAULTS))
    if rolled_back.run.status is not RunStatus.COMPLETED:
        raise Fault(f"The rollback ended {rolled_back.run.status}: {rolled_back.run.message}")
    for key, raw in trial.stored().items():
        _compare(key, before[key], raw, "After run and rollback")
    return f"undo: after run and rollback all {len(before)} documents are byte for byte what they were"


# comparing


def _check_documents(trial: Trial, expected: Expected, when: str = "After a run") -> None:
    stored = trial.stored()
    missing = [_name(key) for key in expected.before if key not in stored]
    if missing:
        raise Fault(f"{when} documents are gone: {', '.join(missing[:SHOWN])}.")
    for key, raw in stored.items():
        _compare(key, expected.after(key), expected.comparable(raw), when)


def _check_failures(trial: Trial, expected: Expected, run_view: RunView) -> None:
    failures = {
        failure.key: failure
        for failure in trial.store.ledger.failures.list(run_view.run.id, state=FailureState.DEAD, limit=1000)
    }
    strange = [
        f"{_name(key)}: {failure.type}: {failure.message}"
        for key, failure in failures.items()
        if key not in expected.failing
    ]
    if strange:
        raise Fault(
            f"{len(strange)} documents fail, such as {'; '.join(strange[:SHOWN])}. If they must, name them in failing=[...]."
        )
    missing = [_name(key) for key in expected.failing if key not in failures]
    if missing:
        raise Fault(f"Documents that must fail do not: {', '.join(missing[:SHOWN])}.")


def _compare(key: Key, expected: bytes, stored: bytes, when: str) -> None:
    if expected == stored:
        return
    edits = difference(expected, stored)
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


def _with_written_field(raw: bytes) -> bytes:
    return bytes(
        document(
            [
                *(element(kind, name, payload) for name, kind, payload in iterate_fields(raw)),
                element(0x08, WRITTEN.encode(), b"\1"),
            ]
        ).raw
    )


def _with_only(raw: bytes, names: tuple[str, ...]) -> bytes:
    wanted_names = {name.encode() for name in names}
    return bytes(
        document(
            [
                element(kind, name, payload)
                for name, kind, payload in iterate_fields(raw)
                if name in wanted_names
            ]
        ).raw
    )


def _comparable(change: Change) -> Mapping[str, Any]:
    """Returns a change in a form that can be compared."""
    match change:
        case Row(values, unset):
            return {"set": bson.decode(values, DOCUMENT_OPTIONS), "unset": unset}
        case Paths():
            return {"set": change.values, "unset": change.unset}
        case Single():
            return {"update": change.update}
        case _:
            return {"outcome": type(change).__name__}
