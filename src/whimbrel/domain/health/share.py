"""The share of its speed that everything that writes may have, by additive increase and multiplicative decrease (AIMD).

It settles: near the share at which it was cut last it grows slowly, so that it stays below for most of the time.
"""

from dataclasses import dataclass

from whimbrel.domain.health.signals import Level

CUT = 0.5  # of the share, when a signal is slow
CUT_EVERY = 5.0  # seconds: lag answers late, and a cut each second would end at nothing
RAISE = 0.05
RAISE_EVERY = 2.0  # seconds
GROWTH = (
    0.5  # of the share, in a step at most: from a small share on it must not be ten times as much at once
)
NEAR = 0.7  # of the share that was too much: from there on it grows slowly
NEAR_EVERY, NEAR_GROWTH = 10.0, 0.1  # seconds, and the part of the share that it grows by
LEAST = 0.01  # of the speed, while no signal asks to stop
RESTART = 0.05  # at least, after a stop
START = 0.25  # of the first run, while others are at work


@dataclass(frozen=True, slots=True)
class Share:
    """The present share, from 0 to 1. Times are seconds since the epoch.

    `before`: the share before a stop. `changed`: when it was cut or raised last. `too_much`: the share at which it was cut last; None: none is known.
    """

    value: float = 1.0
    before: float = 1.0
    changed: float = 0.0
    too_much: float | None = None


def next_share(
    share: Share, level: Level, now: float, floor: float = LEAST, *, recovering: bool = False
) -> Share:
    """Returns the share after a sample whose worst signal asks for this level.

    `floor`: what the slow signals leave at least. `recovering`: all of them are good by now, and have only to stay so for a while: the cut was enough.
    """
    if level is Level.STOP:
        return Share(0.0, share.value or share.before, now, share.value or share.too_much)
    if share.value == 0.0:
        restart = max(RESTART, share.before / 2)
        return Share(restart, restart, now, share.too_much)
    waited = now - share.changed
    if level is Level.SLOW:
        if recovering or (waited < CUT_EVERY and share.value < 1.0):
            return share
        cut = max(LEAST, min(floor, share.value), share.value * CUT)
        return Share(cut, cut, now, share.value)
    return _raised(share, now, waited)


def _raised(share: Share, now: float, waited: float) -> Share:
    if share.value >= 1.0:
        return share
    near = share.too_much is not None and share.value >= NEAR * share.too_much
    if waited < (NEAR_EVERY if near else RAISE_EVERY):
        return share
    step = NEAR_GROWTH * share.value if near else min(RAISE, GROWTH * share.value)
    value = min(1.0, round(share.value + step, 4))
    passed = share.too_much is not None and value > share.too_much
    return Share(value, value, now, None if passed else share.too_much)


def first_share(share: Share, now: float) -> Share:
    """Returns the share that a first run begins with while others are at work: what it does to them is not known yet."""
    return share if share.value <= START else Share(START, START, now)
