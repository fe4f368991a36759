"""Lists failures of a run for people, by conditions on their causes, states and times."""

from collections.abc import Collection, Mapping, Sequence

from whimbrel.domain.failures.causes import GroupCount
from whimbrel.domain.failures.failure import FailurePlace, FailureState, GroupPage
from whimbrel.domain.failures.failure_query import CauseQuery, FailurePage, FailureQuery
from whimbrel.domain.failures.known_causes import KnownCause
from whimbrel.ports import Ledger


def group_page(
    ledger: Ledger,
    run_id: str,
    query: CauseQuery,
    *,
    known: Mapping[str, KnownCause],
    states: Sequence[FailureState] | None = None,
    after: str | None = None,
    limit: int = 100,
) -> GroupPage:
    """Returns a page of causes that have failures in one of these states; by time those of which failures may have been met in it. Raises CursorInvalid."""
    among: Collection[str] | None = None
    if query.restricts:
        seen = ledger.failures.causes_seen(run_id)
        chosen = query.chosen(seen, _accepted(known))
        among = {group for group in chosen if seen[group].may_be_of(query.since, query.until)}
    if states is not None and len(set(states)) > 1:
        counts = ledger.failures.by_cause(run_id)
        having = {group for group, count in counts.items() if any(_in(count, state) for state in states)}
        among, states = having if among is None else having & set(among), None
    state = states[0] if states else None
    return ledger.failures.groups(run_id, state=state, after=after, limit=limit, among=among)


def _in(count: GroupCount, state: FailureState) -> int:
    return {FailureState.DEAD: count.dead, FailureState.OPEN: count.open}.get(state, count.resolved)


def failure_page(
    ledger: Ledger,
    run_id: str,
    query: CauseQuery,
    *,
    states: Sequence[FailureState] | None = None,
    after: FailurePlace | None = None,
    limit: int = 100,
    slim: bool = False,
) -> FailurePage:
    """Returns a page of failures, by time those that failed last, or were resolved, in it. It may be short, or empty, though more comes."""
    groups: Collection[str] | None = None
    if query.restricts:
        accepted = _accepted(ledger.known_causes.of(run_id)) if query.accepted is not None else ()
        groups = query.chosen(ledger.failures.causes_seen(run_id), accepted)
    wanted = FailureQuery(states=states, groups=groups, code=query.code, since=query.since, until=query.until)
    return ledger.failures.search(run_id, wanted, after=after, limit=limit, slim=slim)


def _accepted(known: Mapping[str, KnownCause]) -> Collection[str]:
    return {group for group, cause in known.items() if cause.accepted}
