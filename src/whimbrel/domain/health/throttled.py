"""How long runs were held back, and by what."""

from collections.abc import Mapping

from whimbrel.domain.health.verdict import STALE_SLOW, Verdict

RECOVERING = "recovering"  # the last bad signal is good again, and the share has to grow still
NO_VERDICT = "no-verdict"  # nobody had renewed it
LONGEST = 60.0  # seconds that one verdict counts for: after that probably no process is at work that it could hold back


def throttled_seconds(before: Verdict) -> Mapping[str, float]:
    """Returns for how long the verdict before has held runs back until now: by its worst signal, and by its age once it is old."""
    age = min(before.age or 0.0, LONGEST)
    throttled: dict[str, float] = {}
    if before.share < 1.0:
        throttled[before.reasons[0].signal if before.reasons else RECOVERING] = min(age, STALE_SLOW)
    if age > STALE_SLOW:
        throttled[NO_VERDICT] = age - STALE_SLOW
    return throttled
