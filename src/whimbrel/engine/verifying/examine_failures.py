"""A batch of a verification examines the failures in its range: each record must point to a document in that state."""

from collections.abc import Mapping, Sequence

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailureState
from whimbrel.domain.migrations.marks import DONE, read_stamp
from whimbrel.domain.runs.run import eligible
from whimbrel.domain.runs.verification import FAILURE_GONE, FAILURE_OVER, RESOLVED_UNMARKED
from whimbrel.engine.verifying.examine_documents import Examination, Findings


def examine_failures(examination: Examination) -> Findings:
    """Checks that every failure record points to a document in that state."""
    findings = Findings()
    if examination.run.undone_by is not None:
        return findings
    for rows in examination.ledger.failures.standings(examination.run.id, examination.lease.batch.range):
        examination.pace.between_chunks()
        unresolved = [row.key for row in rows if row.state is not FailureState.RESOLVED]
        marked = [row.key for row in rows if row.resolution in DONE]
        if unresolved:
            _check_unresolved(examination, unresolved, findings)
        if marked and examination.run.marking.path:
            _check_resolved(examination, marked, findings)
    return findings


def _check_unresolved(examination: Examination, keys: Sequence[Key], findings: Findings) -> None:
    failing = eligible(examination.run, examination.run.legs[0], retry=True)
    existing = set(examination.examiner.keys(keys, {}, len(keys)))
    failed = set(examination.examiner.keys(keys, failing, len(keys)))
    findings.count("failures", len(keys))
    missing, outdated = (
        [key for key in keys if key not in existing],
        [key for key in keys if key in existing - failed],
    )
    findings.count("failures wrong", len(missing) + len(outdated))
    findings.list(
        missing, FAILURE_GONE, "A failure is recorded for this document, but there is no such document."
    )
    message = "A failure is recorded for this document, but it is not in that state: it is marked, or the filter does not select it."
    findings.list(outdated, FAILURE_OVER, message)


def _check_resolved(examination: Examination, keys: Sequence[Key], findings: Findings) -> None:
    path = examination.run.marking.path or ""
    tokens: Mapping[Key, object] = examination.documents.tokens(keys, path)
    existing = examination.examiner.keys(keys, {}, len(keys))
    findings.count("failures", len(existing))
    unmarked = [key for key in existing if read_stamp(str(tokens.get(key) or "/"))[1] not in DONE]
    findings.count("failures wrong", len(unmarked))
    message = (
        "A failure of this document is recorded as resolved, but the document bears no mark that says so."
    )
    findings.list(unmarked, RESOLVED_UNMARKED, message)
