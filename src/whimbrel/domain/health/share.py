"""The share of its speed that everything that writes may have, by additive increase and multiplicative decrease (AIMD)."""

from dataclasses import dataclass

from whimbrel.domain.health.signals import Level

CUT = 0.5  # of the share, when a signal is slow
CUT_EVERY = 5.0  # seconds: lag answers late, and a cut each second would end at nothing
RAISE = 0.05
RAISE_EVERY = 2.0  # seconds
LEAST = 0.01  # of the speed, while no signal asks to stop
RESTART = 0.05  # at least, after a stop


@dataclass(frozen=True, slots=True)
class Share:
    """The present share, from 0 to 1. Times are seconds since the epoch.

    `before`: the share before a stop. `changed`: when it was cut or raised last.
    """

    value: float = 1.0
    before: float = 1.0
    changed: float = 0.0


def next_share(share: Share, level: Level, now: float, floor: float = LEAST) -> Share:
    """Returns the share after a sample whose worst signal asks for this level. `floor`: what the slow signals leave at least."""
    if level is Level.STOP:
        return Share(0.0, share.value or share.before, now)
    if share.value == 0.0:
        restart = max(RESTART, share.before / 2)
        return Share(restart, restart, now)
    waited = now - share.changed
    if level is Level.SLOW:
        if waited < CUT_EVERY and share.value < 1.0:
            return share
        cut = max(LEAST, min(floor, share.value), share.value * CUT)
        return Share(cut, cut, now)
    if share.value >= 1.0 or waited < RAISE_EVERY:
        return share
    raised = min(1.0, round(share.value + RAISE, 4))
    return Share(raised, raised, now)
