"""Text of documents, functions and servers as it may be shown: what would act on a terminal can be read instead."""

import re
from itertools import chain

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

_NOT_PLAIN = re.compile(r"[^ -~]+")


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
    if text.isascii() and text.isprintable():
        return text
    return _NOT_PLAIN.sub(lambda found: _json_escaped(found[0]), text)


def _json_escaped(text: str) -> str:
    if text.isprintable() and _UNSEEN.isdisjoint(text):
        return text
    return "".join(each if _harmless(each) or each in "\n\r\t" else _json_escape(each) for each in text)


def _json_escape(each: str) -> str:
    units = each.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _harmless(each: str) -> bool:
    return each.isprintable() and each not in _UNSEEN


def _escape(each: str) -> str:
    return each.encode("unicode_escape").decode()
