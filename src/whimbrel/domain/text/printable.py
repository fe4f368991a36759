"""Text of documents, functions and servers as it may be shown: what would act on a terminal can be read instead."""

import re
from functools import cache, lru_cache
from itertools import chain, groupby

# Letters and marks, says Unicode, that nobody sees: joiners, fillers, selectors of variants.
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

# Beyond the first plane: of its few formats, and of what has no meaning yet nothing, for each range there costs time at each character.
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
    """`1 batch`, `2 batches`, `1,234 failures`."""
    plural = f"{noun}es" if noun.endswith(("ch", "s", "x")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def visible(text: str, kept: str = "\n\t") -> str:
    """A text with an escape, as Python writes it, for each character that acts on a terminal or cannot be seen.

    Controls, format characters (those of bidirectional text too), lone surrogates, line separators, odd blanks. `kept`: those that stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if _harmless(each) or each in kept else _escape(each) for each in text)


def visible_json(text: str) -> str:
    """The same of JSON, or of lines of it, by JSON's own escapes: whoever reads it gets the same values.

    JSON escapes only the first 32 characters by itself. All others stand in its texts, where each may be an escape.
    """
    return _acting().sub(lambda found: "".join(map(_json_escape, found[0])), text)


@cache
def _acting() -> re.Pattern[str]:
    """Runs of such characters, found as fast as the text can be read: it is read in the API's event loop, and may be long."""
    runs = groupby(range(0x7F, _PLANE), lambda each: _harmless(chr(each)))
    found = [list(run) for harmless, run in runs if not harmless]
    ranges = [*((run[0], run[-1]) for run in found), *_FORMATS]
    return re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in ranges)}]+")


@lru_cache(maxsize=1024)
def _json_escape(each: str) -> str:
    units = each.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _harmless(each: str) -> bool:
    return each.isprintable() and each not in _UNSEEN


def _escape(each: str) -> str:
    return each.encode("unicode_escape").decode()
