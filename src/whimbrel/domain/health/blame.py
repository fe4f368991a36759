"""Whether a signal that all runs wait for is bad because of them: if it is, it gets better while they wait."""

from dataclasses import replace

from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import Level, Signal

WAITED = 60.0  # seconds of waiting after which a signal that is no better has another cause
BETTER = 0.01  # of the value: less than that a minute is noise, or would take hours
ASKED = 600.0  # seconds of waiting after which a person is told what may be done
NOT_OURS = "not caused by this run: it is no better after a minute in which all runs waited"


def blamed(signal: Signal, state: SignalState, now: float, *, waits: bool) -> SignalState:
    """Returns the state with what waiting says about its cause. `waits`: the share is 0.

    Each minute is compared with the one before it: a lag that has grown for an hour, and falls now, gets better.
    """
    if not waits or state.asks is not Level.STOP or state.value is None:
        return replace(state, marked_at=None, marked=None, not_ours=False)
    if state.marked_at is None or state.marked is None:
        return replace(state, marked_at=now, marked=state.value)
    gained = state.value - state.marked if signal.low else state.marked - state.value
    better = gained > BETTER * abs(state.marked)
    if now - state.marked_at < WAITED:
        return replace(state, not_ours=state.not_ours and not better)
    return replace(state, marked_at=now, marked=state.value, not_ours=not better)


def advice(signal: str, waited: float) -> str:
    """Returns what a person may do after all runs have waited so long, in seconds, for a signal; empty where it is too early."""
    if waited < ASKED:
        return ""
    return (
        f"This takes long: wait on, or let runs go on without this signal for a while: whimbrel health {signal} --ignore 1h --note WHY. "
        "It is heeded again by itself."
    )
