"""A batch of a verification looks at the failures on its range: each record must point to a document in that state."""

from collections.abc import Mapping, Sequence

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailureState
from whimbrel.domain.migrations.marks import DONE, read_stamp
from whimbrel.domain.runs.run import eligible
from whimbrel.domain.runs.verification import FAILURE_GONE, FAILURE_OVER, RESOLVED_UNMARKED
from whimbrel.engine.verifying.examine_documents import Examination, Findings


def examine_failures(examination: Examination) -> Findings:
    """Every failure record points to a document that is in that state."""
    found = Findings()
    if examination.run.undone_by is not None:
        return found
    for rows in examination.ledger.failures.standings(examination.run.id, examination.lease.batch.range):
        examination.pace.between_chunks()
        unresolved = [row.key for row in rows if row.state is not FailureState.RESOLVED]
        marked = [row.key for row in rows if row.resolution in DONE]
        if unresolved:
            _judge_unresolved(examination, unresolved, found)
        if marked and examination.run.marking.path:
            _judge_resolved(examination, marked, found)
    return found


def _judge_unresolved(examination: Examination, keys: Sequence[Key], found: Findings) -> None:
    still = eligible(examination.run, examination.run.legs[0], retry=True)
    there = set(examination.examiner.keys(keys, {}, len(keys)))
    failed = set(examination.examiner.keys(keys, still, len(keys)))
    found.count("failures", len(keys))
    gone, over = [key for key in keys if key not in there], [key for key in keys if key in there - failed]
    found.count("failures wrong", len(gone) + len(over))
    found.list(gone, FAILURE_GONE, "A failure is recorded for this document, but there is no such document.")
    message = "A failure is recorded for this document, but it is not in that state: it is marked, or the filter does not select it."
    found.list(over, FAILURE_OVER, message)


def _judge_resolved(examination: Examination, keys: Sequence[Key], found: Findings) -> None:
    path = examination.run.marking.path or ""
    tokens: Mapping[Key, object] = examination.documents.tokens(keys, path)
    there = examination.examiner.keys(keys, {}, len(keys))
    found.count("failures", len(there))
    bare = [key for key in there if read_stamp(str(tokens.get(key) or "/"))[1] not in DONE]
    found.count("failures wrong", len(bare))
    message = (
        "A failure of this document is recorded as resolved, but the document bears no mark that says so."
    )
    found.list(bare, RESOLVED_UNMARKED, message)
