"""Explains from mongod's log why it ended before it was ready."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from whimbrel.errors import EMBEDDED_FULL, EmbeddedUnavailable

_TAIL: Final = 1_000_000
_CAUSES: Final = (
    (
        r"No space left on device",
        "the disk of {data} is full: free some space",
        EMBEDDED_FULL,
    ),
    (
        r"featureCompatibilityVersion|unsupported WiredTiger file version|Wrong mongod version|WT_TRY_SALVAGE.*version",
        "the files in {data} belong to another version of MongoDB: set WHIMBREL_MONGOD to a mongod of that version, or move {data} away",
        "The files of the embedded MongoDB belong to another version of it: set WHIMBREL_MONGOD, or choose another home.",
    ),
    (
        r"Read-only file system|[Pp]ermission denied|not writable",
        "{data} cannot be written: see to its owner and permissions",
        "The embedded MongoDB cannot write to its folder: see to its owner and permissions.",
    ),
    (
        r"Too many open files",
        "too few files may be open: raise the limit (`ulimit -n 64000`)",
        "The embedded MongoDB may open too few files: raise the limit (`ulimit -n 64000`).",
    ),
    (
        r"permissions on .* are too open",
        "the file system of {data} does not keep permissions: choose a home on another one (WHIMBREL_HOME)",
        "The file system of the embedded MongoDB does not keep permissions: choose a home on another one (WHIMBREL_HOME).",
    ),
)
_SIGNALS: Final = {
    -9: "it was killed, perhaps for lack of memory: free some memory",
    -4: "this processor lacks instructions (AVX) that it needs: set MONGODB_URI to a running replica set",
}
_NEEDS_OTHER_VERSION: Final = 62
_ANOTHER_OPEN: Final = "Another mongod instance is already running"
_PORT_TAKEN: Final = "Address already in use"


class Contended(EmbeddedUnavailable):
    """Another server has just taken the port or the data folder; trying again may help."""


def failure(log: Path, start: int, data: Path, code: int | None) -> EmbeddedUnavailable:
    """Returns the error for a mongod that ended with `code` after it had written `log` from `start` on."""
    problems = list(_problems(log, start))
    text = "\n".join(problems)
    if _ANOTHER_OPEN in text:
        return Contended(
            f"Another mongod, of another user or container, has {data} open: stop it, or choose another home."
        )
    if _PORT_TAKEN in text:
        return Contended(
            "The embedded MongoDB found no free port on 127.0.0.1: end what takes them, or set MONGODB_URI."
        )
    if code == _NEEDS_OTHER_VERSION:
        text += "Wrong mongod version"
    for pattern, sentence, short in _CAUSES:
        if re.search(pattern, text):
            why = f"The embedded MongoDB did not start, as {sentence.format(data=data)} ({log} has the details)."
            return EmbeddedUnavailable(why).in_short(short)
    # The first error is the cause, the others follow from it.
    reason = _SIGNALS.get(code or 0) or (problems[0] if problems else f"it ended with exit code {code}")
    why = f"The embedded MongoDB did not start ({reason}): {log} says why."
    return EmbeddedUnavailable(why).in_short(
        "The embedded MongoDB does not start: the log of this process says more."
    )


def _problems(log: Path, start: int) -> Iterator[str]:
    """Yields errors among the JSON lines, and lines that are not JSON (such as the dynamic linker's)."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(start, size - _TAIL))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            entry = json.loads(line)
            if entry["s"] in {"E", "F"}:
                yield _description(entry["msg"], entry.get("attr", {}))
        except (ValueError, LookupError, TypeError, AttributeError):
            if line.strip():
                yield line.strip()


def _description(message: str, details: dict[str, Any]) -> str:
    reason = details.get("message") or details.get("error") or details.get("reason")
    if isinstance(reason, dict):  # WiredTiger's, or the network's
        reason = reason.get("msg") or reason.get("error_str") or reason.get("errmsg")
    return f"{message}: {reason}" if reason else message
