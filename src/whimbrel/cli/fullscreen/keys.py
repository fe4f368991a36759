"""Reads keys from what a terminal sends: characters, and the escape sequences of the other keys."""

import codecs
import re

ESCAPE = "\x1b"
# A sequence is complete with its last character; what is unknown is dropped as a whole, so that it types nothing.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~]|\x1b|[^\[O\x1b])", re.DOTALL)
_NAMES = {
    "[A": "up", "[B": "down", "[C": "right", "[D": "left", "OA": "up", "OB": "down", "OC": "right", "OD": "left",
    "[5~": "page up", "[6~": "page down", "[H": "home", "[F": "end", "OH": "home", "OF": "end",
    "[1~": "home", "[4~": "end", "[7~": "home", "[8~": "end", "OM": "enter", ESCAPE: "escape",
}  # fmt: skip
_CONTROLS = {
    "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\t": "tab", "\x0c": "redraw",
    "\x02": "page up", "\x06": "page down", "\x10": "up", "\x0e": "down", "\x15": "erase line",
}  # fmt: skip
LONGEST = 64  # characters of a sequence: what goes on longer is none


class KeyReader:
    """Turns bytes into keys: a character, or a name such as `up`. An unfinished sequence is kept for the next bytes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    @property
    def unfinished(self) -> bool:
        """Whether a sequence has begun, or the Escape key was pressed: that is known when nothing follows."""
        return bool(self._rest)

    def feed(self, sent: bytes) -> list[str]:
        text = self._rest + self._decoder.decode(sent)
        self._rest = ""
        keys: list[str] = []
        while text:
            if not text.startswith(ESCAPE):
                keys += _key_of(text[0])
                text = text[1:]
            elif found := _SEQUENCE.match(text):
                keys += [_NAMES[name]] if (name := found[0][1:]) in _NAMES else []
                text = text[found.end() :]
            elif len(text) > LONGEST:
                text = ""
            else:
                self._rest, text = text, ""
        return keys

    def finish(self) -> list[str]:
        """Returns the Escape key where nothing followed it."""
        rest, self._rest = self._rest, ""
        return ["escape"] if rest == ESCAPE else []


def _key_of(character: str) -> list[str]:
    if character in _CONTROLS:
        return [_CONTROLS[character]]
    return [character] if character.isprintable() else []
