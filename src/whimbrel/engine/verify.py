"""Executing a batch of a verification: every document of its range is looked at, and some are transformed again."""

from whimbrel.engine.again import transform_again
from whimbrel.engine.examine import look_through, looking_at, settled_counts
from whimbrel.engine.examine_failures import look_at_failures
from whimbrel.engine.patience import patiently
from whimbrel.engine.work import Work


def verify(work: Work) -> None:
    """Look, list what is wrong, settle. Worked through again after a crash, it begins anew: it has changed nothing.

    Raises what `execute` raises.
    """
    at = patiently(work, lambda: looking_at(work))
    found = look_through(at)
    found.add(patiently(work, lambda: look_at_failures(at)))
    found.add(transform_again(at))
    troubles = list(found.troubles.values())
    patiently(work, lambda: work.ledger.failures.record(work.run, work.batch, troubles))
    work.step("S7")
    patiently(work, lambda: work.ledger.batches.settle(work.batch, settled_counts(found), tally=found.tally))
    work.step("S8")
