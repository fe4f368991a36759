"""Names of parametrized tests: the same in every process that collects them."""

import re


def named(value: object) -> str:
    """A value as text, without addresses in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
