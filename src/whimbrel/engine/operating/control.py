"""Pause, resume, cancel, retry: what a person does to a run."""

from collections.abc import Callable, Mapping, Sequence

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.run import Run, code_fields
from whimbrel.domain.runs.states import ENDED, RunStatus, check_run_edge
from whimbrel.domain.runs.windows import check_windows
from whimbrel.domain.text.safe_text import storable
from whimbrel.engine.operating.code_differences import differing_code
from whimbrel.engine.operating.failure_budget import FIELDS, Change, note_looked_at, prepare_to_resume
from whimbrel.engine.operating.following_runs import check_following
from whimbrel.errors import GroupUnknown, RunUnknown, StateForbids
from whimbrel.ports import Ledger

NAMED = 5  # groups of failures named where an unknown one was asked for
LONGEST_NAME = 2000  # characters of a signature; it may come from a command line in another encoding


def find_run(ledger: Ledger, run_id: str) -> Run:
    """Returns the run of this id. Raises RunUnknown."""
    run = ledger.runs.get(run_id)
    if run is None:
        recent_ids = [recent.id for recent in ledger.runs.list(limit=5)]
        hint = f"The newest are {', '.join(recent_ids)}." if recent_ids else "There are no runs yet."
        raise RunUnknown(f"There is no run {run_id!r}. {hint}")
    return run


def pause(ledger: Ledger, run_id: str, *, who: str, why: str = "") -> Run:
    """Stops a run within a chunk; a run that has not begun stops at once. Raises RunUnknown, StateForbids."""
    run = find_run(ledger, run_id)

    def target(now: Run) -> RunStatus:
        return RunStatus.PAUSED if now.status is RunStatus.QUEUED else RunStatus.PAUSING

    return _move(ledger, run, target, "be paused", who=who, why=why, fields={"error": why or run.error})


def cancel(ledger: Ledger, run_id: str, *, who: str) -> Run:
    """Stops a run for good, within a chunk. Raises RunUnknown, StateForbids."""

    def target(now: Run) -> RunStatus:
        untouched = now.status is RunStatus.QUEUED and now.started_at is None
        return RunStatus.CANCELLED if untouched else RunStatus.CANCELLING

    return _move(ledger, find_run(ledger, run_id), target, "be cancelled", who=who)


def resume(
    ledger: Ledger, run_id: str, *, who: str, code: Definition | None = None, budget: Change | None = None
) -> Run:
    """Continues a run where it stopped, by the code that is loaded now: `code`. Raises RunUnknown, StateForbids.

    `budget`: what changes of its failure budget. A run that went over it is refused while it would pause at once again.
    """
    run = find_run(ledger, run_id)
    if run.status is RunStatus.COMPLETED_WITH_FAILURES:
        raise StateForbids(
            f"Run {run.id} has ended. Open its dead failures again with: whimbrel retry {run.id}"
        )
    _refuse_undone(ledger, run, "be resumed")
    if run.kind == "verification":
        _refuse_other_code(run, code)
        code = None
    check_run_edge(run.id, run.status, _after_waiting(run), "be resumed")
    prepare_to_resume(ledger, run, budget or {}, who=who, other_code=_is_other(code, run))
    return _requeue(ledger, run, "be resumed", who=who, code=code)


def _is_other(code: Definition | None, run: Run) -> bool:
    return code is not None and code.code_hash != run.code_hash


def _refuse_undone(ledger: Ledger, run: Run, verb: str) -> None:
    """Refuses a run whose work was rolled back, or whose marks are gone before it finished: it would do again what it has done."""
    if run.undone_by is not None:
        raise StateForbids(
            f"Run {run.id} could not {verb}: it was rolled back by run {run.undone_by}. Start a new run of {run.migration}."
        )
    if run.mark != "marker" or run.status is RunStatus.COMPLETED_WITH_FAILURES:  # only its failures continue
        return
    for cleanup in ledger.runs.followers(run.id, kind="cleanup"):
        if cleanup.started_at is not None:
            raise StateForbids(
                f"Run {run.id} could not {verb}: run {cleanup.id} has removed its marks, and it would change again what it has changed."
                f" Start a new run of {run.migration}, with a filter that selects only what is left."
            )


def _refuse_other_code(run: Run, code: Definition | None) -> None:
    if run.has_user_code and code is not None and code.code_hash != run.code_hash:
        raise StateForbids(
            f"Run {run.id} verifies run {run.of} by its code, and that of {run.migration} has changed since. Start another: whimbrel verify {run.of}"
        )


def retry(
    ledger: Ledger, run_id: str, *, who: str, group: str | None = None, code: Definition | None = None
) -> tuple[Run, int]:
    """Reopens dead failures, all or those of one group, and continues the run. Returns the run, and how many were reopened.

    Raises RunUnknown; StateForbids where the run cannot continue, or has no dead failures.
    """
    run = find_run(ledger, run_id)
    if run.kind == "verification":
        raise StateForbids(
            f"Run {run.id} is a verification: what it found is no work to be tried again. Mend it, then: whimbrel verify {run.of}"
        )
    check_run_edge(run.id, run.status, RunStatus.QUEUED, "be retried")
    _refuse_undone(ledger, run, "be retried")
    opened = ledger.failures.reopen(run.id, group=group)
    if not opened and not _has_open_failures(ledger, run):
        raise StateForbids(
            f"Run {run.id} has no dead failures{' of that group' if group else ''} to try again."
        )
    ledger.leases.audit(f"{opened} dead failures opened", run=run.id, who=who, why=group or "")
    prepare_to_resume(ledger, run, {}, who=who, other_code=False, anew=True)
    fields: dict[str, object] = {"retried": run.retried + 1}
    if run.status is RunStatus.COMPLETED_WITH_FAILURES:
        fields["leg"] = len(run.legs) - 1
    try:
        return _requeue(ledger, run, "be retried", who=who, code=code, **fields), opened
    except StateForbids:
        now = find_run(ledger, run.id)
        changed_code = code is not None and code.code_hash != now.code_hash
        if now.status not in (RunStatus.QUEUED, RunStatus.RUNNING) or changed_code:
            raise
        return now, opened  # another retry has started it, and these failures are retried with it


def _has_open_failures(ledger: Ledger, run: Run) -> bool:
    """Whether there are failures to be tried again: of a run that its budget had pause, or that an interrupted retry has reopened."""
    waits = run.status is RunStatus.COMPLETED_WITH_FAILURES or bool(run.over_budget)
    return waits and ledger.failures.counts(run.id)["open"] > 0


def group_of(ledger: Ledger, run_id: str, name: str) -> str:
    """Returns the group of failures with this short name or signature. Raises GroupUnknown."""
    group = ledger.failures.group_of(run_id, storable(name, LONGEST_NAME))
    if group is not None:
        return group
    page = ledger.failures.groups(run_id, limit=NAMED)
    names = ", ".join(group_row.group for group_row in page.groups)
    others = f", and {page.rest:,} more: whimbrel failures {run_id}" if page.rest else "."
    hint = f"There are: {names}{others}" if names else "It has no failures."
    raise GroupUnknown(f"Run {run_id} has no group of failures {name!r}. {hint}")


def adjust(ledger: Ledger, run_id: str, *, who: str, **settings: float | Sequence[str] | None) -> Run:
    """Changes `batch_size`, `rate`, `priority`, `windows`, `nice` or limits of the failure budget of a run that has not ended. Audited.

    Raises RunUnknown, StateForbids; SettingsInvalid for windows that cannot be.
    """
    run = find_run(ledger, run_id)
    if isinstance(windows := settings.get("windows"), Sequence):
        settings["windows"] = list(check_windows(windows))
    if settings.get("follow") is not None and run.status not in ENDED:
        check_following(run, follow=bool(settings["follow"]))
    if run.status in ENDED or not ledger.runs.adjust(run_id, settings, who=who):
        now = find_run(ledger, run_id)
        raise StateForbids(f"Run {run_id} is {now.status}: its settings change nothing any more.")
    if run.over_budget and settings.keys() & FIELDS.keys():
        note_looked_at(ledger, run, who=who)
    return find_run(ledger, run_id)


def _requeue(
    ledger: Ledger, run: Run, verb: str, *, who: str, code: Definition | None, **fields: object
) -> Run:
    why = ""
    if code is not None and _is_other(code, run):
        why = f"code {run.code_hash} replaced by {code.code_hash}: {differing_code(ledger, run.code_hash, code)}"
        fields |= _fields_of_code(run, code, verb)
        ledger.codes.keep(code.code_hash, code.code)
    forgotten = ledger.codes.forget(run.id) if code is not None and run.kind == "migration" else ()
    # Whoever resumes it has looked at the ledger.
    fields |= {"error": None, "failing": False, "rowsUuid": None, "overBudget": []}
    moved = _move(ledger, run, _after_waiting, verb, who=who, fields=fields)
    if why:
        ledger.leases.audit(why, run=run.id, who=who)
    if forgotten:
        named = ", ".join(forgotten[:NAMED]) + (
            f" and {len(forgotten) - NAMED} more" if len(forgotten) > NAMED else ""
        )
        ledger.leases.audit(f"taken as they are now: files that calls load: {named}", run=run.id, who=who)
    return moved


def _after_waiting(now: Run) -> RunStatus:
    return RunStatus.RUNNING if now.status is RunStatus.PAUSING else RunStatus.QUEUED


def _fields_of_code(run: Run, code: Definition, verb: str) -> dict[str, object]:
    """Returns the fields that a run takes from new code. Its filter stays, because it decides which documents are the run's."""
    if code.declarative != run.declarative:
        now = "an update" if code.declarative else "a function"
        raise StateForbids(
            f"Run {run.id} could not {verb}: {run.migration} is {now} now, which it was not when the run began. Start a new run."
        )
    stored = code_fields(code, run.uuids)
    return {
        "codeHash": code.code_hash, "update": stored["update"], "concurrency": code.concurrency, "timeout": code.timeout,
        "reads": None if code.reads is None else list(code.reads), "needsCode": stored["update"] is None,
    }  # fmt: skip


def _move(
    ledger: Ledger,
    run: Run,
    target: Callable[[Run], RunStatus],
    verb: str,
    *,
    who: str,
    why: str = "",
    fields: Mapping[str, object] | None = None,
) -> Run:
    """Changes the run from the state in which it was seen, and reads it again where it has changed meanwhile: it may just have begun."""
    while True:
        target_status = target(run)
        check_run_edge(run.id, run.status, target_status, verb)
        if ledger.runs.move(run.id, target_status, seen=run.status, who=who, why=why, fields=fields):
            return find_run(ledger, run.id)
        now = find_run(ledger, run.id)
        if (now.status, now.started_at) == (run.status, run.started_at):
            raise StateForbids(
                f"Run {run.id} could not {verb}: it changed at the same moment. It is {now.status} now; try again."
            )
        run = now
