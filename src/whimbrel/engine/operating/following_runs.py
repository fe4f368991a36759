"""What people are told of a run that follows the changes of its collection, and how they end that."""

from datetime import datetime
from typing import Any

from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.errors import StateForbids

CLOSE = 3.0  # seconds behind that are not worth a word


def end_by(run: Run) -> str:
    """Returns the command that ends following."""
    return f"whimbrel set {run.id} --no-follow"


def is_following(run: Run) -> bool:
    """Whether a run goes on until it is told not to."""
    return run.follow is not None and run.follow.wanted and run.status not in ENDED


def note_for_others(run: Run) -> str:
    """Returns what those must know who wait for this run; an empty string where it ends by itself."""
    return f" It follows, and ends only when it is told to: {end_by(run)}" if is_following(run) else ""


def check_following(run: Run, *, follow: bool) -> None:
    """Checks whether a person may let a run follow, or end that. Raises StateForbids."""
    if run.follow is None:
        what = (
            f"could not begin to follow: a run does so from its start. Start another when it has ended: whimbrel run {run.migration} --follow"
            if follow
            else "does not follow: it ends by itself."
        )
        raise StateForbids(f"Run {run.id} {what}")
    if follow and not run.follow.wanted:
        raise StateForbids(
            f"Run {run.id} was told to end, and cannot follow again. Start another when it has ended: whimbrel run {run.migration} --follow"
        )


def behind(run: Run, now: datetime) -> float | None:
    """Returns for how many seconds what was written is not planned; None where a run does not follow now."""
    if run.follow is None or run.phase != "follow" or run.status in ENDED:
        return None
    return run.follow.behind(now)


def followed(run: Run, counts: Counts) -> int:
    """Returns how many documents were evaluated since a run has begun to follow."""
    follow = run.follow
    return max(0, counts.total - follow.counted) if follow is not None and follow.since is not None else 0


def following_object(run: Run, counts: Counts, now: datetime) -> dict[str, Any] | None:
    """Returns what the REST API and `--json` have of it; None: the run does not follow."""
    if run.follow is None:
        return None
    seconds = behind(run, now)
    return {
        "wanted": run.follow.wanted, "since": run.follow.since, "behindSeconds": None if seconds is None else round(seconds, 1),
        "documents": followed(run, counts), "lost": run.follow.lost,
    }  # fmt: skip


def following_sentence(run: Run, counts: Counts, now: datetime) -> str:
    """Returns the same in a few words for people; an empty string where there is nothing to tell."""
    follow = run.follow
    if follow is None:
        return ""
    if follow.since is None:
        will = "will follow after its sweep" if follow.wanted else "was told not to follow"
        return will if run.status not in ENDED else ""
    count = f"{followed(run, counts):,} documents since the sweep"
    lost = f", changes lost and swept for {follow.lost} times" if follow.lost else ""
    since = follow.since.astimezone()
    if run.status in ENDED:
        return f"followed since {since:%Y-%m-%d %H:%M}, {count}{lost}"
    if not follow.wanted:
        return f"was told to end: the last documents, and a last sweep; {count}{lost}"
    if run.phase != "follow":
        return f"sweeps, as it was not known any more what had changed; {count}{lost}"
    day = "" if since.date() == now.astimezone().date() else f"{since:%Y-%m-%d} "
    verb = "follows" if run.status is RunStatus.RUNNING else "followed"
    return f"{verb} since {day}{since:%H:%M}, {_behind(behind(run, now))}, {count}{lost}"


def _behind(seconds: float | None) -> str:
    if seconds is None or seconds < CLOSE:
        return "up to date"
    if seconds < 120:  # noqa: PLR2004  two minutes
        return f"{seconds:.0f} s behind"
    return f"{seconds / 60:,.0f} min behind"
