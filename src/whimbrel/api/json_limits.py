"""Limits the depth and size of JSON while it arrives, before it is parsed.

One expression removes quoted text, and the rest is counted piece by piece: a megabyte takes some milliseconds, whatever it contains.
"""

import re
from itertools import accumulate
from typing import Final

_TEXT: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_FLAT: Final = re.compile(rb"[^\[\]{}]++")
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class JsonLimits:
    """Tracks the depth of nesting of what was fed so far, and a lower estimate of the number of values."""

    def __init__(self, deepest: int, most: int) -> None:
        self._deepest, self._most = deepest, most
        self._level, self.values, self.depth = 0, 1, 0
        self._quoted, self._held = False, b""

    @property
    def fault(self) -> str | None:
        """What is wrong, as the end of a sentence; None if nothing is."""
        if self.values > self._most:
            return f"has more than {self._most:,} values"
        return f"is nested deeper than {self._deepest} levels" if self.depth > self._deepest else None

    def feed(self, piece: bytes) -> None:
        """Takes the next piece. Not to be called after a fault."""
        bare = self._unquoted(piece)
        self.values += bare.count(b",") + bare.count(b"[") + bare.count(b"{")
        if self.values <= self._most:  # else a client could make this loop arbitrarily long
            levels = accumulate((_STEP[bracket] for bracket in _FLAT.sub(b"", bare)), initial=self._level)
            for self._level in levels:
                self.depth = max(self.depth, self._level)

    def _unquoted(self, piece: bytes) -> bytes:
        """Returns the piece without its texts. A text may begin in an earlier piece, and end in a later one."""
        piece = self._held + piece
        bare = piece.rstrip(b"\\")
        # Two backslashes are one character; a single one belongs to the next piece.
        self._held = b"\\" * ((len(piece) - len(bare)) % 2)
        # An added quote ends any open text; where none was open, that quote remains.
        structure = _TEXT.sub(b"", (b'"' if self._quoted else b"") + bare + b'"')
        self._quoted = not structure.endswith(b'"')
        return structure
