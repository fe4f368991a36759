"""Shows text of documents, functions and servers: what would act on a terminal becomes readable instead."""

import re
from functools import cache, lru_cache
from itertools import chain, groupby

# Letters and marks, according to Unicode, that nobody sees: joiners, fillers, variation selectors.
_UNSEEN = frozenset(
    map(
        chr,
        chain(
            (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
            range(0x180B, 0x1810),
            range(0xFE00, 0xFE10),
            range(0xE0100, 0xE01F0),
        ),
    )
)

# Beyond the first plane: its few format characters; unassigned characters are left out, for each range there costs time at each character.
_PLANE = 0x10000
_FORMATS = (
    (0x110BD, 0x110BD),
    (0x110CD, 0x110CD),
    (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)


def counted(number: int, noun: str) -> str:
    """Returns `1 batch`, `2 batches`, `1,234 failures`."""
    plural = f"{noun}es" if noun.endswith(("ch", "s", "x")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def visible(text: str, allowed: str = "\n\t") -> str:
    """Returns a text with an escape, as Python writes it, for each character that acts on a terminal or cannot be seen.

    Controls, format characters (also those of bidirectional text), lone surrogates, line separators, odd blanks. `allowed`: characters that stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if _harmless(character) or character in allowed else _escape(character)
        for character in text
    )


def is_whole(text: str) -> bool:
    """Whether a text can be stored: it has no half of a surrogate pair, as which bytes that are no UTF-8 come from a command line."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def visible_json(text: str) -> str:
    """Does the same for JSON, or lines of it, by JSON's own escapes: its reader gets the same values.

    JSON itself escapes only the first 32 characters. All others are in its texts, where each may be an escape.
    """
    return _acting_pattern().sub(lambda match: "".join(map(_json_escape, match[0])), text)


@cache
def _acting_pattern() -> re.Pattern[str]:
    """Returns a pattern for such characters that is as fast as reading: the API's event loop runs it, and texts may be long."""
    runs = groupby(range(0x7F, _PLANE), lambda code: _harmless(chr(code)))
    acting = [list(run) for harmless, run in runs if not harmless]
    ranges = [*((run[0], run[-1]) for run in acting), *_FORMATS]
    return re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in ranges)}]+")


@lru_cache(maxsize=1024)
def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def _harmless(character: str) -> bool:
    return character.isprintable() and character not in _UNSEEN


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()
