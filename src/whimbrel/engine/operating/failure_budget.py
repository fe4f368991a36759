"""Applies failure budgets: where a run stands, why it pauses, what lets it go on, and the causes that people accept."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from whimbrel.domain.bson.document_ids import id_json
from whimbrel.domain.failures.causes import GroupCount
from whimbrel.domain.runs.budget_texts import larger_budget, rule_sentence
from whimbrel.domain.runs.failure_budget import (
    BrokenRule,
    FailureBudget,
    Known,
    Standing,
    still_broken,
)
from whimbrel.domain.runs.protocol_times import CHUNK_DOCUMENTS
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.text.printable import counted
from whimbrel.errors import StateForbids
from whimbrel.ports import Ledger

NAMED = 3  # causes, and broken rules, that a sentence names
LONGEST = 200  # characters of a cause's message in a sentence
FIELDS = {"max_failures": "failures", "max_failure_rate": "rate", "max_new_cause": "new_cause"}
Change = Mapping[str, float | None]
"""What somebody changes of a budget, by the names of `FIELDS`; None: that limit is off."""


def changed(budget: FailureBudget, change: Change) -> FailureBudget:
    """Returns the budget with what was given; the rest stays."""
    return replace(budget, **{FIELDS[name]: value for name, value in change.items()})  # type: ignore[arg-type]


def with_budget(run: Run, change: Change) -> Run:
    """Returns a run that is not in the ledger yet with another failure budget than by default."""
    return replace(run, budget=changed(run.budget, change))


def standing_of(ledger: Ledger, run: Run) -> Standing:
    """Returns where a run stands, by a few queries, however many failures or batches it has."""
    # In this order a batch that settles meanwhile counts as more documents, never as fewer.
    causes = ledger.failures.by_cause(run.id)
    # Those of a process that has died too: its failures are recorded, and its documents are told by whoever claims them again.
    begun = ledger.batches.begun(run.id)
    since = ledger.batches.after(run.id, run.folded_through)
    done = (run.counts + since.counts + since.begun).total
    return Standing(
        batches=run.folded_through + since.settled,
        documents=done + sum(count.unresolved for count in causes.values()),
        causes=causes,
        untold=begun * min(run.batch_size, CHUNK_DOCUMENTS),
    )


def known_of(ledger: Ledger, run_id: str) -> Known:
    known = ledger.known_causes.of(run_id).values()
    return Known(
        accepted=frozenset(cause.group for cause in known if cause.accepted),
        seen=frozenset(cause.group for cause in known),
    )


def causes_before(ledger: Ledger, run: Run) -> frozenset[str]:
    """Returns the causes of the last run of the migration and version that ended on the collection: people have had them before their eyes."""
    ended = [RunStatus.COMPLETED_WITH_FAILURES]
    for earlier in ledger.runs.list(statuses=ended, migration=run.migration, kind="migration", limit=NAMED):
        if (earlier.ns, earlier.version) == (run.ns, run.version) and earlier.id != run.id:
            return frozenset(ledger.failures.causes(earlier.id))
    return frozenset()


def pause_over_budget(ledger: Ledger, run: Run, broken: Sequence[BrokenRule], *, who: str) -> None:
    """Pauses a running run, with the reason."""
    why = _explanation(ledger, run, broken)
    ledger.runs.note_over_budget(run.id, broken)
    ledger.runs.move(
        run.id, RunStatus.PAUSING, seen=RunStatus.RUNNING, who=who, why=why, fields={"error": why}
    )


def _explanation(ledger: Ledger, run: Run, broken: Sequence[BrokenRule]) -> str:
    told = "; ".join(rule_sentence(rule) for rule in broken[:NAMED])
    causes = dict(cause for rule in broken for cause in rule.causes)
    largest = sorted(causes.items(), key=lambda cause: -cause[1])[:NAMED]
    most = "; ".join(_cause(ledger, run.id, group, number) for group, number in largest)
    return f"It has gone over its failure budget: {told}. Most: {most}. {_way_out(run, broken)}"


def _cause(ledger: Ledger, run_id: str, group: str, number: int) -> str:
    page = ledger.failures.groups(run_id, group=group, limit=1)
    told = f"{group}, {counted(number, 'document')}"
    for found in page.groups:
        first_line = found.message.partition("\n")[0][:LONGEST]
        told += f", {found.type}: {first_line}, for example _id {json.dumps(id_json(found.example))}"
    return told


def _way_out(run: Run, broken: Sequence[BrokenRule]) -> str:
    group = next((cause for rule in broken for cause, _ in rule.causes), "GROUP")
    return (
        f"Accept the cause: whimbrel failures {run.id} --accept {group} --note WHY, then whimbrel resume {run.id}; or give another budget: "
        f"whimbrel resume {run.id} {larger_budget(broken)}; or mend what fails, then: whimbrel retry {run.id}"
    )


def prepare_to_resume(
    ledger: Ledger, run: Run, change: Change, *, who: str, other_code: bool, anew: bool = False
) -> None:
    """Stores the budget by which a run goes on. Raises StateForbids where it would pause at once again.

    By other code, or `anew`, what has failed so far counts no more. Whoever gives another budget has looked at the causes: they are not new.
    """
    budget, forgiven = changed(run.budget, change), run.forgiven
    if (other_code or anew) and not budget.off:
        forgiven = _all_forgiven(standing_of(ledger, run))
    elif run.over_budget and not budget.off:
        _refuse_over_budget(ledger, run, budget, looked=bool(change))
    if change and run.over_budget:
        note_looked_at(ledger, run, who=who)
    if (budget, forgiven) != (run.budget, run.forgiven):
        ledger.runs.set_budget(run.id, budget, forgiven, who=who)


def _all_forgiven(standing: Standing) -> Standing:
    """Returns a standing from which on failures are counted: none of those before it counts, whether it is tried again or not."""
    causes = {group: GroupCount(dead=count.unresolved) for group, count in standing.causes.items()}
    return replace(standing, causes={group: count for group, count in causes.items() if count.dead})


def _refuse_over_budget(ledger: Ledger, run: Run, budget: FailureBudget, *, looked: bool) -> None:
    known = known_of(ledger, run.id)
    if looked:
        known = replace(known, seen=known.seen | _causes_of(run))
    remaining = still_broken(run.over_budget, budget, known)
    if remaining:
        told = "; ".join(rule_sentence(rule) for rule in remaining[:NAMED])
        raise StateForbids(f"Run {run.id} would pause at once again: {told}. {_way_out(run, remaining)}")


def note_looked_at(ledger: Ledger, run: Run, *, who: str) -> None:
    """Notes that whoever changes the budget of a run that went over it has looked at the causes."""
    ledger.known_causes.see(run.id, sorted(_causes_of(run)), who=who, note="another budget was given")


def note_seen(
    ledger: Ledger, run_id: str, groups: Sequence[str], *, who: str, where: str = "a dry run"
) -> None:
    """Notes that causes were seen before a run met them: they are not new to it."""
    if groups:
        ledger.known_causes.see(run_id, list(dict.fromkeys(groups)), who=who, note=f"seen in {where}")


def note_all_seen(ledger: Ledger, run_id: str, *, who: str, where: str) -> None:
    """Notes that all causes that a run has met so far were seen there: they are not new to what comes."""
    note_seen(ledger, run_id, sorted(ledger.failures.causes(run_id)), who=who, where=where)


def _causes_of(run: Run) -> frozenset[str]:
    return frozenset(cause for rule in run.over_budget for cause, _ in rule.causes)
