"""The numbered steps of the protocol (docs/protocol.md)."""

from collections.abc import Callable

Step = Callable[[str], None]
"""Called at each step; fault tests kill the process in it."""
