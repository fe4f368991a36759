"""How much memory a worker process may hold, and how much it holds."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from whimbrel.errors import SettingsInvalid

MB = 1024 * 1024
LEAST, MOST = 512 * MB, 2048 * MB  # that a process may hold by default
SHARE = 0.8  # of the machine's or the container's memory, for all processes together
KILL_FACTOR = 1.5  # times what it may hold, at which a process is ended within its chunk
FACTOR = {"": MB, "K": 1024, "M": MB, "G": 1024 * MB, "T": 1024 * 1024 * MB}
CONTAINER = Path("/sys/fs/cgroup/memory.max")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)


def read_size(text: str) -> int:
    """Returns the bytes of a size such as 800 (megabytes), 512M, 1.5G or 2GiB; 0 for `none`: no limit. Raises SettingsInvalid."""
    if text.strip().lower() in ("none", "infinity"):
        return 0
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * FACTOR[match[2].upper()]) if match else 0
    if size < MB:
        raise SettingsInvalid(
            f"--max-memory {text!r} is no size: write megabytes, such as 800, or a unit, such as 512M or 2G; or none."
        )
    return size


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """Bytes that a worker process may hold: past `ends` it ends after its chunk, past `killed` within it.

    `explicit`: set by a person; otherwise what a process holds after loading the migrations is added.
    """

    ends: int
    killed: int
    explicit: bool

    def above(self, base: int) -> "MemoryLimit":
        """Returns the limit of a process that held `base` after loading the migrations."""
        return self if self.explicit else replace(self, ends=self.ends + base, killed=self.killed + base)


def limit_of(explicit: int | None, processes: int) -> MemoryLimit | None:
    """Returns the limit of each of so many processes. `explicit`: bytes, 0 for none; None where nobody has set it."""
    if explicit is not None:
        return MemoryLimit(explicit, int(explicit * KILL_FACTOR), explicit=True) if explicit else None
    share = int(_available_memory() * SHARE / processes)
    ends = max(LEAST, min(MOST, share))
    return MemoryLimit(ends, max(int(ends * KILL_FACTOR), share), explicit=False)


def _available_memory() -> int:
    """Returns the bytes of memory available to this process and its children."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        allowed = CONTAINER.read_text().strip()
    except OSError:
        return physical
    return min(physical, int(allowed)) if allowed.isdigit() else physical


def memory_of(pid: int) -> int:
    """Returns the bytes that a process holds for itself alone, without what it shares, such as files; 0 where the system does not tell."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def shown(size: int) -> str:
    """Returns a size in megabytes, for people."""
    return f"{size / MB:,.0f} MB"
