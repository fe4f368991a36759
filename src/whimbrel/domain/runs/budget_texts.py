"""Reads the limits of a failure budget as people write them, and shows them."""

import re
from collections.abc import Sequence
from math import ceil

from whimbrel.domain.runs.failure_budget import BrokenRule, FailureBudget
from whimbrel.errors import SettingsInvalid

OFF = "off"
ALL = 100  # percent
MOST = 1_000_000_000  # failures that a limit may allow
PERCENT = r"(100(\.0{1,4})?|[0-9]{1,2}(\.[0-9]{1,4})?)%"  # of a rate
_PERCENT = re.compile(rf"{PERCENT}", re.ASCII)
_SHARE = re.compile(r"0(\.[0-9]{1,6})?|1\.0{1,6}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


def read_rate(text: str) -> float | None:
    """Reads a rate, such as 5% or 0.05; None where it is off. Raises SettingsInvalid."""
    given = text.strip().lower()
    if given == OFF:
        return None
    if _PERCENT.fullmatch(given):
        return float(given[:-1]) / 100
    if _SHARE.fullmatch(given):
        return float(given)
    raise SettingsInvalid("give a percentage such as 5%, a share such as 0.05, or off")


def read_limit(text: str, *, least: int = 0) -> int | None:
    """Reads a number of failures; None where there is no limit. Raises SettingsInvalid."""
    given = text.strip().lower()
    if given == OFF:
        return None
    if _NUMBER.fullmatch(given) and least <= int(given) <= MOST:
        return int(given)
    raise SettingsInvalid(f"give a whole number from {least} to {MOST:,}, or off")


def read_new_cause(text: str) -> int | None:
    """Reads how many failures of a new cause have a run pause; None where it is off. Raises SettingsInvalid."""
    return read_limit(text, least=1)


def percent(share: float) -> str:
    """Returns a share in percent, as exact as it is of use."""
    value = share * 100
    return f"{value:.1f}%" if 0.05 <= value < 99.95 and value % 1 else f"{value:.3g}%"  # noqa: PLR2004


def limits(budget: FailureBudget) -> str:
    """Returns a budget in words; an empty string where it has no limit."""
    parts = [
        "" if budget.failures is None else f"at most {budget.failures:,} failures",
        "" if budget.rate is None else f"at most {percent(budget.rate)} of the documents",
        "" if budget.new_cause is None else f"fewer than {budget.new_cause:,} of a new cause",
    ]
    return ", ".join(part for part in parts if part)


def rule_sentence(broken: BrokenRule) -> str:
    """Returns what has passed its limit, without the causes."""
    if broken.rule == "failures":
        return f"{broken.failures:,} documents have failed, more than the {int(broken.limit):,} allowed"
    if broken.rule == "rate":
        return (
            f"{percent(broken.value)} of the last {broken.documents:,} documents have failed ({broken.failures:,}), "
            f"more than the {percent(broken.limit)} allowed"
        )
    return f"{broken.failures:,} documents have failed by a cause that nobody has seen before ({int(broken.limit):,} are the limit)"


def larger_budget(broken: Sequence[BrokenRule]) -> str:
    """Returns the options of a budget that would let these rules hold no longer."""
    options = []
    for rule in broken:
        if rule.rule == "failures":
            options.append(f"--max-failures {2 * rule.failures}")
        elif rule.rule == "rate":
            share = ceil(rule.value * 100) + 1
            options.append(f"--max-failure-rate {f'{share}%' if share < ALL else OFF}")
    # Whoever gives another budget has seen the causes.
    return " ".join(options) or f"--max-new-cause {OFF}"
