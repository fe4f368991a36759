"""How much memory a worker process may have, and how much it has."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from whimbrel.errors import SettingsInvalid

MB = 1024 * 1024
LEAST, MOST = 512 * MB, 2048 * MB  # that a process may have where nobody says
SHARE = 0.8  # of the machine's memory, or the container's, for all processes together
MUCH = 1.5  # times what it may hold, at which a process is ended within its chunk
FACTOR = {"": MB, "K": 1024, "M": MB, "G": 1024 * MB, "T": 1024 * 1024 * MB}
CONTAINER = Path("/sys/fs/cgroup/memory.max")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)


def read_size(text: str) -> int:
    """Bytes of a size such as 800 (megabytes), 512M, 1.5G or 2GiB; 0 for `none`: no limit. Raises SettingsInvalid."""
    if text.strip().lower() in ("none", "infinity"):
        return 0
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * FACTOR[found[2].upper()]) if found else 0
    if size < MB:
        raise SettingsInvalid(
            f"--max-memory {text!r} is no size: write megabytes, such as 800, or a unit, such as 512M or 2G; or none."
        )
    return size


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """Bytes that a worker process may hold: past `ends` it ends after its chunk, past `killed` within it.

    `said`: by a person; else what a process holds as soon as it has loaded the migrations comes on top.
    """

    ends: int
    killed: int
    said: bool

    def above(self, base: int) -> "MemoryLimit":
        """The limit of a process that held `base` when it had loaded the migrations."""
        return self if self.said else replace(self, ends=self.ends + base, killed=self.killed + base)


def limit_of(given: int | None, processes: int) -> MemoryLimit | None:
    """The limit of each of so many processes. `given`: bytes, 0 for none; None where nobody says."""
    if given is not None:
        return MemoryLimit(given, int(given * MUCH), said=True) if given else None
    share = int(_machine() * SHARE / processes)
    ends = max(LEAST, min(MOST, share))
    return MemoryLimit(ends, max(int(ends * MUCH), share), said=False)


def _machine() -> int:
    """Bytes of memory that there are for this process and its children."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        allowed = CONTAINER.read_text().strip()
    except OSError:
        return physical
    return min(physical, int(allowed)) if allowed.isdigit() else physical


def memory_of(pid: int) -> int:
    """Bytes that a process holds for itself alone, without what it shares with others, such as files; 0 where no system tells."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def shown(size: int) -> str:
    """Megabytes, for people."""
    return f"{size / MB:,.0f} MB"
