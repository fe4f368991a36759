"""A batch of a verification looks at the failures on its range: each record must point to a document in that state."""

from collections.abc import Mapping, Sequence

from whimbrel.domain.failures import FailureState
from whimbrel.domain.marks import DONE, read_stamp
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import eligible
from whimbrel.domain.verification import FAILURE_GONE, FAILURE_OVER, RESOLVED_UNMARKED
from whimbrel.engine.examine import Found, Looking


def look_at_failures(at: Looking) -> Found:
    """Every failure record points to a document that is in that state."""
    found = Found()
    if at.run.undone_by is not None:
        return found
    for rows in at.ledger.failures.standings(at.run.id, at.lease.batch.range):
        at.pace.between_chunks()
        unresolved = [row.key for row in rows if row.state is not FailureState.RESOLVED]
        marked = [row.key for row in rows if row.resolution in DONE]
        if unresolved:
            _judge_unresolved(at, unresolved, found)
        if marked and at.run.marking.path:
            _judge_resolved(at, marked, found)
    return found


def _judge_unresolved(at: Looking, keys: Sequence[Key], found: Found) -> None:
    still = eligible(at.run, at.run.legs[0], retry=True)
    there = set(at.examiner.keys(keys, {}, len(keys)))
    failed = set(at.examiner.keys(keys, still, len(keys)))
    found.count("failures", len(keys))
    gone, over = [key for key in keys if key not in there], [key for key in keys if key in there - failed]
    found.count("failures wrong", len(gone) + len(over))
    found.list(gone, FAILURE_GONE, "A failure is recorded for this document, but there is no such document.")
    message = "A failure is recorded for this document, but it is not in that state: it is marked, or the filter does not select it."
    found.list(over, FAILURE_OVER, message)


def _judge_resolved(at: Looking, keys: Sequence[Key], found: Found) -> None:
    path = at.run.marking.path or ""
    tokens: Mapping[Key, object] = at.documents.tokens(keys, path)
    there = at.examiner.keys(keys, {}, len(keys))
    found.count("failures", len(there))
    bare = [key for key in there if read_stamp(str(tokens.get(key) or "/"))[1] not in DONE]
    found.count("failures wrong", len(bare))
    message = (
        "A failure of this document is recorded as resolved, but the document bears no mark that says so."
    )
    found.list(bare, RESOLVED_UNMARKED, message)
