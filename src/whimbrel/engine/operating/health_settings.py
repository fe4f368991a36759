"""What people set about the database's health: thresholds of a signal, and a signal that is ignored for a while."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from whimbrel.domain.health.signals import Signal, Thresholds, check_thresholds, find_signal
from whimbrel.errors import SettingsInvalid
from whimbrel.ports import Ledger
from whimbrel.ports.health import all_signals

LONGEST = timedelta(days=7)  # that a signal may be ignored: an override that nobody ends must end by itself


def known_signal(ledger: Ledger, name: str, own: Sequence[Signal] = ()) -> Signal:
    """Returns the signal of a name: of the table, of the sampler's checks, or of the checks that this process has (`own`). Raises SignalUnknown."""
    return find_signal(name, all_signals(own, ledger.health.verdict().checks))


def change_thresholds(
    ledger: Ledger,
    name: str,
    *,
    slow: float | None,
    stop: float | None,
    who: str,
    reset: bool = False,
    own: Sequence[Signal] = (),
) -> Thresholds:
    """Sets thresholds of a signal; the other stays as it is, or with `reset` becomes the table's. Returns both as they are set now.

    Raises SignalUnknown, and ThresholdsRefused where they do not fit.
    """
    signal = known_signal(ledger, name, own)
    known = Thresholds() if reset else ledger.health.settings().of(name)
    thresholds = Thresholds(known.slow if slow is None else slow, known.stop if stop is None else stop)
    check_thresholds(signal, thresholds)
    ledger.health.set_thresholds(name, thresholds, who=who)
    return thresholds


def ignore_signal(
    ledger: Ledger, name: str, *, seconds: float, who: str, why: str, own: Sequence[Signal] = ()
) -> datetime:
    """Ignores a signal for so long. Returns until when. Raises SignalUnknown, SettingsInvalid."""
    known_signal(ledger, name, own)
    if not 0 < seconds <= LONGEST.total_seconds():
        raise SettingsInvalid(
            f"A signal is ignored for a second to {LONGEST.days} days, not for {seconds:g} seconds."
        )
    # By the ledger server's clock, which the sampler goes by: that of this host may differ.
    until = ledger.freezes.look().now + timedelta(seconds=seconds)
    ledger.health.ignore(name, until, who=who, why=why)
    return until


def heed_signal(ledger: Ledger, name: str, *, who: str, own: Sequence[Signal] = ()) -> None:
    """Heeds a signal again. Raises SignalUnknown."""
    known_signal(ledger, name, own)
    ledger.health.ignore(name, None, who=who, why="")
