"""What the page of a run says in figures: outcomes that add up to its total, when it ends, and since when it is as it is. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.run_view import RunView

WIDTH = 1000.0  # of a bar of parts, in its own units
WORDS_OF_OUTCOMES = {
    "changed": ("changed", "the migration changed them"),
    "unchanged": ("unchanged", "they were right already"),
    "skipped": ("skipped", "the function left them out"),
    "failed": ("failed", "they have an unresolved failure"),
    "conflict": ("conflicts", "the application kept changing them"),
    "rest": ("not evaluated", "still to do, by the estimate"),
}
OTHER_WORDS = {
    "rollback": {
        "changed": ("put back", "they are as they were before the run"),
        "conflict": ("left alone", "the application has changed them since"),
    },
    "cleanup": {"changed": ("cleaned up", "marks and before-images are gone")},
    "verification": {
        "unchanged": ("without a finding", "they are as the run left them"),
        "failed": ("with findings", "something about them is not as the run left them"),
    },
}
WORDS = {"completed_with_failures": "completed with failures"}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a whole. `start`, `width`: of its piece of the bar."""

    kind: str
    name: str
    number: int
    share: float
    said: str
    start: float = 0.0
    width: float = 0.0


@dataclass(frozen=True, slots=True)
class Ending:
    """When a run ends, in seconds from now: as it goes now, and as it would go otherwise. None: not known, for the reason in `why`."""

    now: float | None
    other: float | None
    other_name: str
    why: str = ""


def outcomes(run_view: RunView) -> list[Part]:
    """Returns what became of the documents of a run: the numbers add up to its total."""
    counts, failures = run_view.counts, run_view.failures
    rest = max(0, run_view.total - run_view.processed)
    over = run_view.run.status in ENDED
    numbers = {
        "changed": counts.changed, "unchanged": counts.unchanged, "skipped": counts.skipped, "failed": failures["failed"],
        "conflict": failures["conflict"], "rest": rest,
    }  # fmt: skip
    words = WORDS_OF_OUTCOMES | OTHER_WORDS.get(run_view.run.kind, {})
    named = [(kind, *words[kind], number) for kind, number in numbers.items()]
    if over:
        named[-1] = ("rest", "not evaluated", "the run ended before", rest)
    return list(_in_a_row(named, run_view.total))


def _in_a_row(named: Sequence[tuple[str, str, str, int]], total: int) -> Iterator[Part]:
    start = 0.0
    for kind, name, said, number in named:
        share = number / total if total else 0.0
        width = share * WIDTH
        yield Part(kind, name, number, share, said, round(start, 2), round(width, 2))
        start += width


def ending(run_view: RunView) -> Ending:
    """Returns when a run that is at work ends: at its present speed, and without what slows it, or else at its mean speed so far."""
    run, eta = run_view.run, run_view.eta
    share = run.allowance.share
    rest = max(0, run_view.total - run_view.processed)
    mean = run_view.processed / run_view.seconds if run_view.seconds else 0.0
    at_mean = rest / mean if mean and rest else None
    if run.status is not RunStatus.RUNNING:
        return Ending(None, at_mean, "at its mean speed so far", f"It is {said_status(run.status)}.")
    if run.phase == "follow":
        return Ending(None, None, "", "It follows the collection until it is told to end.")
    if run_view.next_retry is not None:
        return Ending(None, None, "", "Only failures are tried again.")
    if share == 0.0:
        return Ending(None, at_mean, "once it goes on, at its mean speed so far", "It waits.")
    if eta is None:
        return Ending(
            None,
            at_mean,
            "at its mean speed so far",
            "Its speed is not known yet, or changes, or its last batches are in hand.",
        )
    if share < 1.0:
        return Ending(eta, eta * share, "without what slows it")
    return Ending(eta, at_mean, "at its mean speed so far")


def said_status(status: RunStatus | str) -> str:
    """Returns a state in words."""
    return WORDS.get(str(status), str(status))
