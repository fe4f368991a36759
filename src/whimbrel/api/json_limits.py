"""How deep and how large JSON is, told while it arrives and before anything is built of it.

Text in quotes is taken out by one expression and the rest counted, a piece at a time: a megabyte costs some milliseconds, whatever it holds.
"""

import re
from itertools import accumulate
from typing import Final

_TEXT: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_FLAT: Final = re.compile(rb"[^\[\]{}]++")
_STEP: Final = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class JsonLimits:
    """Of what was fed so far: how deep objects and arrays were in one another, and about how many values there are, at least."""

    def __init__(self, deepest: int, most: int) -> None:
        self._deepest, self._most = deepest, most
        self._level, self.values, self.depth = 0, 1, 0
        self._quoted, self._held = False, b""

    @property
    def fault(self) -> str | None:
        """What is wrong with it, as the end of a sentence."""
        if self.values > self._most:
            return f"has more than {self._most:,} values"
        return f"is nested deeper than {self._deepest} levels" if self.depth > self._deepest else None

    def feed(self, piece: bytes) -> None:
        """The next piece; nothing more where there is a fault already."""
        bare = self._unquoted(piece)
        self.values += bare.count(b",") + bare.count(b"[") + bare.count(b"{")
        if self.values <= self._most:  # else one loop would be as long as somebody likes
            levels = accumulate((_STEP[each] for each in _FLAT.sub(b"", bare)), initial=self._level)
            for self._level in levels:
                self.depth = max(self.depth, self._level)

    def _unquoted(self, piece: bytes) -> bytes:
        """The piece without its texts. A text may begin in an earlier piece, and end in a later one."""
        piece = self._held + piece
        bare = piece.rstrip(b"\\")
        # Two backslashes are one in the text; a single one belongs to what comes next.
        self._held = b"\\" * ((len(piece) - len(bare)) % 2)
        # With a quote behind it every text ends; where none was open that quote is left.
        rest = _TEXT.sub(b"", (b'"' if self._quoted else b"") + bare + b'"')
        self._quoted = not rest.endswith(b'"')
        return rest
